"""What every pipeline owes the loop: run on each that is found, on raw records of one size and on JPEGs of many."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from fastnoisy import pipelines
from fastnoisy.data.convert import ConvertOptions, convert
from fastnoisy.data.store import Split, open_store

NAMES = pipelines.names()


@pytest.fixture(scope="module", params=["raw, one size", "jpeg, many sizes"])
def split(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Split]:
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    many = request.param.startswith("jpeg")
    for number in range(37):
        height, width = (int(v) for v in rng.integers(65, 90, 2)) if many else (12, 12)
        pixels = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        path = folder / "train" / "ab"[number % 2] / f"{number:02d}.{'jpg' if many else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((width, height)).save(path)
    out = folder / "store"
    options = ConvertOptions(resize="max=96" if many else None)
    convert(f"folder:{folder / 'train'}", out, options=options, progress=None)
    store = open_store(out)
    yield store.split("train")
    store.split("train").close()


def cut() -> list[np.ndarray]:
    order = np.random.default_rng(1).permutation(37).astype(np.int64)
    return [order[i : i + 8] for i in range(0, 37, 8)]


def test_every_file_of_the_folder_is_a_pipeline() -> None:
    assert {"resident", "torch-loader"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_batches_are_the_rows_asked_for(name: str, split: Split) -> None:
    labels = (split.given_labels + 1) % 2  # not the store's own: a run's noisy labels
    with pipelines.open_pipeline(name, split, labels, torch.device("cpu")) as pipeline:
        for rows, batch in zip(cut(), pipeline.iterate(cut()), strict=True):
            assert batch.images.dtype == torch.uint8
            assert batch.images.shape == (len(rows), 3, *split.canvas)
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
            assert batch.indices.tolist() == rows.tolist()
            assert batch.labels.tolist() == labels[rows].tolist()
            assert batch.sizes.dtype == torch.int32
            for slot, row in enumerate(rows):
                height, width = batch.sizes[slot].tolist()
                expected = split.read_image(int(row))
                assert expected.shape == (height, width, 3)
                found = batch.images[slot, :, :height, :width].permute(1, 2, 0).numpy()
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_can_be_left_early_and_started_again(name: str, split: Split) -> None:
    threads = threading.active_count()
    pipeline = pipelines.open_pipeline(name, split, split.given_labels, torch.device("cpu"))
    for _ in range(3):
        for batch in pipeline.iterate(cut()):
            assert len(batch.indices) == 8
            break
    first = [b.indices.tolist() for b in pipeline.iterate(cut())]
    assert first == [rows.tolist() for rows in cut()]
    assert list(pipeline.iterate([])) == []
    pipeline.close()
    pipeline.close()
    assert threading.active_count() == threads


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_announced(name: str, split: Split) -> None:
    held = sum(split.read_image(row).nbytes for row in range(split.num_samples))
    assert pipelines.find(name).bytes_needed(split) == {"resident": held}.get(name, 0)


def test_auto_takes_what_fits(split: Split) -> None:
    cpu = torch.device("cpu")
    assert pipelines.choose("auto", [split], cpu, 2**30)[0] == "resident"
    name, why = pipelines.choose("auto", [split], cpu, 1000)
    assert name == "torch-loader"
    assert "MiB" in why


def test_torch_loader_with_a_worker_gives_the_same(split: Split) -> None:
    with pipelines.open_pipeline("torch-loader", split, split.given_labels, torch.device("cpu"), 1) as pipeline:
        alone = pipelines.open_pipeline("torch-loader", split, split.given_labels, torch.device("cpu"))
        for a, b in zip(pipeline.iterate(cut()), alone.iterate(cut()), strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.indices, b.indices)


def test_gather_on_a_device_by_index_equals_the_copy(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """The branch that a GPU takes is plain tensor code: run it on the CPU and compare."""
    pipeline = pipelines.open_pipeline("resident", split, split.given_labels, torch.device("cpu"))
    rows = torch.from_numpy(cut()[0])
    out = torch.empty(len(rows), *split.canvas, 3, dtype=torch.uint8)
    by_copy = pipeline.gather(rows, out).clone()  # type: ignore[attr-defined]
    monkeypatch.setattr(pipeline, "uniform", False)

    class Elsewhere:
        type = "meta"

    original = pipeline.device
    monkeypatch.setattr(pipeline, "device", Elsewhere())
    monkeypatch.setattr(torch, "arange", lambda n, device=None, _f=torch.arange: _f(n))
    by_index = pipeline.gather(rows, out)  # type: ignore[attr-defined]
    assert torch.equal(by_copy, by_index)
    assert original.type == "cpu"
