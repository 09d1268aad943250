"""Features: what they are of, and where they are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from fastnoisy.data.conversion.convert import convert
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.features import extract as module
from fastnoisy.features.extract import extract
from fastnoisy.features.network import Network, open_network
from fastnoisy.workers import Status

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "digits"
    convert("digits", path)
    return path


@pytest.fixture(scope="module")
def network() -> Network:
    return open_network(CPU, precision="fp32", side=32)


def files(store: Path) -> list[Path]:
    return sorted((store / "features").iterdir())


def test_they_are_the_networks_of_the_evaluation_view_and_are_kept(
    store: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIECE", 200)
    with open_store(store) as opened:
        splits = list(opened.splits.values())
        told: list[Status] = []
        found = extract(splits, network, say=print, progress=told.append)
        assert [part.shape for part in found] == [(split.num_samples, 1280) for split in splits]
        assert told[-1] == Status(sum(len(part) for part in found), told[-1].total)
        rows = np.array([3, 501])
        images = torch.from_numpy(splits[0].read_rows(rows)).permute(0, 3, 1, 2)
        expected = network(network.build_view()(images, None, torch.from_numpy(rows), 0)).numpy()
        np.testing.assert_allclose(found[0][rows], expected, rtol=1e-4, atol=1e-5)
        monkeypatch.setattr(module, "_compute", None)  # nothing is computed again
        again = extract(splits, network, say=print)
        assert all((a == b).all() for a, b in zip(found, again, strict=True))


def test_a_size_that_the_network_does_not_take(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit", num_classes=1000).state_dict(), tmp_path / "weights.pth")
    assert open_network(CPU, "test_vit", str(tmp_path / "weights.pth"), side=160).view.startswith("resize_shorter(182)")
    with pytest.raises(FastnoisyError, match="size: test_vit takes images of 160 pixels and no others, not of 96"):
        open_network(CPU, "test_vit", str(tmp_path / "weights.pth"), side=96)


def test_an_interrupted_one_goes_on_and_a_damaged_piece_is_made_again(
    store: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIECE", 200)
    with open_store(store) as opened:
        splits = [opened.split("train")]
        before = extract(splits, network, say=print)
        pieces = [path for path in files(store) if path.name.startswith("train-")]
        content = bytearray(pieces[1].read_bytes())
        content[len(content) // 2] ^= 1
        pieces[1].write_bytes(content)
        pieces[2].unlink()
        rows = []
        compute = module._compute
        monkeypatch.setattr(module, "_compute", lambda *given: (rows.append(given[2]), compute(*given))[1])
        after = extract(splits, network, say=print)
        assert [part[0] for part in rows] == [200, 400]
        np.testing.assert_allclose(before[0], after[0], rtol=1e-4, atol=1e-5)


def test_another_network_precision_or_size_has_features_of_its_own(store: Path, network: Network) -> None:
    with open_store(store) as opened:
        splits = [opened.split("test")]
        extract(splits, network, say=print)
        before = len(files(store))
        extract(splits, open_network(CPU, precision="bf16", side=32), say=print)
        extract(splits, open_network(CPU, precision="fp32", side=40), say=print)
        assert len(files(store)) == before + 2


def test_a_store_that_may_not_be_written_is_said_once(
    store: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLDER", "train.beton/features")  # below a file
    lines: list[str] = []
    with open_store(store) as opened:
        (found,) = extract([opened.split("test")], network, say=lines.append)
    assert len(found) == opened.split("test").num_samples
    (line,) = lines
    assert line.startswith("note: features are not kept for the next time: ")


def test_a_network_of_our_own_has_no_weights_to_be_frozen() -> None:
    with pytest.raises(FastnoisyError, match="gjs_preact34 has no published weights"):
        open_network(CPU, "gjs_preact34")


def test_opening_one_draws_nothing() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    open_network(CPU, side=32)
    assert torch.equal(torch.rand(3), expected)


def test_bf16_is_near_fp32(store: Path, network: Network) -> None:
    with open_store(store) as opened:
        (a,) = extract([opened.split("test")], network, say=print)
        (b,) = extract([opened.split("test")], open_network(CPU, precision="bf16", side=32), say=print)
    assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(a)
    assert (a != b).any()
