"""CIFAR-N files: every key and form, and files that are wrong, damaged or hostile."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastnoisy import noise
from fastnoisy.errors import FastnoisyError
from fastnoisy.noise import cifarn

CLEAN = np.arange(50) % 10


def content10() -> dict[str, Any]:
    keys = [labels.official for labels in cifarn.LABEL_SETS.values() if labels.dataset == "cifar10"]
    return {"clean_label": CLEAN} | {key: (CLEAN + i) % 10 for i, key in enumerate(keys, 1)}


def content100() -> dict[str, Any]:
    return {
        "clean_label": np.arange(50),
        "noisy_label": np.arange(50) + 1,
        "clean_coarse_label": [i % 20 for i in range(50)],
        "noisy_coarse_label": [(i + 1) % 20 for i in range(50)],
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save(content10(), tmp_path / "CIFAR-10_human.pt")
    return tmp_path / "CIFAR-10_human.pt"


@pytest.mark.parametrize(
    ("keys", "shift"),
    [
        (("aggre", "aggre_label"), 1),
        (("worse", "worst", "worse_label"), 2),
        (("random1", "rand1", "random_label1"), 3),
        (("random2", "rand2", "random_label2"), 4),
        (("random3", "rand3", "random_label3"), 5),
    ],
)
def test_every_name_of_a_key(path: Path, keys: tuple[str, ...], shift: int) -> None:
    for key in keys:
        labels = noise.human(path, key, CLEAN)
        assert labels.dtype == np.int64
        assert labels.tolist() == ((CLEAN + shift) % 10).tolist()
        assert cifarn.short_key(key) == keys[0]


def test_cifar100_and_lists(tmp_path: Path) -> None:
    torch.save(content100(), tmp_path / "a.pt")
    for key in ("noisy", "noisy100", "noisy_label"):
        assert noise.human(str(tmp_path / "a.pt"), key, np.arange(50)).tolist() == list(range(1, 51))
    for key in ("noisy_coarse", "noisy_coarse_label"):
        coarse = noise.human(tmp_path / "a.pt", key, np.arange(50) % 20)
        assert coarse.dtype == np.int64
        assert coarse.tolist() == [(i + 1) % 20 for i in range(50)]


@pytest.mark.parametrize("form", ["npz", "tensors", "big-endian", "uint8"])
def test_other_forms_of_the_same(tmp_path: Path, form: str) -> None:
    content = content10()
    path = tmp_path / ("a.npz" if form == "npz" else "a.pt")
    if form == "npz":
        np.savez_compressed(path, **content)
    else:
        change = {"tensors": torch.from_numpy, "big-endian": lambda x: x.astype(">i4"), "uint8": np.uint8}[form]
        torch.save({key: change(value) for key, value in content.items()}, path)
    labels = noise.human(path, "worse", CLEAN)
    assert labels.dtype == np.int64
    assert labels.tolist() == content["worse_label"].tolist()


def test_numpys_old_name_of_its_module(tmp_path: Path, path: Path) -> None:
    """The published files were written by numpy 1."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for name in old.namelist():
            data = old.read(name).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            new.writestr(name, data)
    assert noise.human(tmp_path / "b.pt", "aggre").tolist() == ((CLEAN + 1) % 10).tolist()


def test_nothing_stays_allowed_after_reading(path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    noise.human(path, "aggre")
    assert set(torch.serialization.get_safe_globals()) == before


def test_keys_that_the_file_lacks(path: Path) -> None:
    with pytest.raises(
        FastnoisyError, match=r"'wrose': did you mean worse\? known: aggre, random1, random2, random3, worse"
    ):
        noise.human(path, "wrose")
    for key in ("noisy", "clean_label", "clean"):
        with pytest.raises(FastnoisyError, match=f"CIFAR-10_human.pt '{key}'.*known: aggre, "):
            noise.human(path, key)


def test_true_labels_that_differ(path: Path) -> None:
    shuffled = CLEAN[::-1].copy()
    with pytest.raises(FastnoisyError) as caught:
        noise.human(path, "worse", shuffled)
    assert re.search(
        r"clean_label of .* differs from .* on 50 of 50 rows, first on row 0: 0 there, 9 here", str(caught.value)
    )
    assert "another order (TensorFlow's, for example) or of another data set" in caught.value.remedy
    one = CLEAN.copy()
    one[7] = 0
    with pytest.raises(FastnoisyError, match="on 1 of 50 rows, first on row 7: 7 there, 0 here"):
        noise.human(path, "worse", one)
    with pytest.raises(FastnoisyError, match="has 50 labels, the training split has 40 rows"):
        noise.human(path, "worse", CLEAN[:40])


def test_coarse_labels_are_compared_with_coarse_ones(tmp_path: Path) -> None:
    torch.save(content100(), tmp_path / "a.pt")
    with pytest.raises(FastnoisyError, match=r"clean_coarse_label of .* differs .* on 30 of 50 rows"):
        noise.human(tmp_path / "a.pt", "noisy_coarse", np.arange(50))


def test_files_without_the_means_to_check(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", worse_label=CLEAN)
    assert noise.human(tmp_path / "a.npz", "worse").tolist() == CLEAN.tolist()
    with pytest.raises(FastnoisyError, match="holds no clean_label, so the order of its rows cannot be checked"):
        noise.human(tmp_path / "a.npz", "worse", CLEAN)
    np.savez(tmp_path / "b.npz", worse_label=CLEAN[:9], clean_label=CLEAN)
    with pytest.raises(FastnoisyError, match="worse_label has 9 labels, clean_label 50"):
        noise.human(tmp_path / "b.npz", "worse", CLEAN)


def test_missing_and_other_files(tmp_path: Path) -> None:
    for name in ("none.pt", "."):
        with pytest.raises(FastnoisyError, match=r"does not exist.*cifar-10-100n"):
            noise.human(tmp_path / name, "worse")
    (tmp_path / "a.npy").touch()
    with pytest.raises(FastnoisyError, match=r"unknown ending '\.npy', known: \.pt \.pth \.npz"):
        noise.human(tmp_path / "a.npy", "worse")
    torch.save([1, 2], tmp_path / "b.pt")
    with pytest.raises(FastnoisyError, match="holds no dictionary"):
        noise.human(tmp_path / "b.pt", "worse")


@pytest.mark.parametrize(
    "value",
    [np.zeros(3), np.zeros((2, 2), np.int64), np.array(["a"]), ["a"], [1.5], [[1], [2, 3]], {"a": 1}, None, "worse"],
    ids=repr,
)
@pytest.mark.parametrize("ending", [".pt", ".npz"])
def test_values_that_are_no_labels(tmp_path: Path, value: Any, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    if ending == ".pt":
        torch.save({"worse_label": value}, path)
    elif isinstance(value, np.ndarray):
        np.savez(path, worse_label=value)
    else:
        np.savez(path, worse_label=np.array(value, dtype=object))
    with pytest.raises(FastnoisyError, match=r"a\.(pt|npz)"):
        noise.human(path, "worse")


class _Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_a_hostile_file_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "made-by-the-pickle"
    torch.save({"worse_label": _Hostile(target)}, tmp_path / "a.pt")
    with pytest.raises(
        FastnoisyError, match=r"a\.pt names (posix|os|nt)\.system, which no such file needs; nothing was run"
    ):
        noise.human(tmp_path / "a.pt", "worse")
    np.savez(tmp_path / "b.npz", worse_label=np.array([_Hostile(target)], dtype=object))
    with pytest.raises(FastnoisyError, match=r"b\.npz is damaged"):
        noise.human(tmp_path / "b.npz", "worse")
    (tmp_path / "c.pt").write_bytes(pickle.dumps({"worse_label": _Hostile(target)}))
    with pytest.raises(FastnoisyError, match=r"c\.pt is damaged"):
        noise.human(tmp_path / "c.pt", "worse")
    assert not target.exists()


def _with_pickle(path: Path, out: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, data if name.endswith("data.pkl") else old.read(name))
    return out


def test_damaged_pickles_raise_only_our_error(tmp_path: Path, path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    for place in [*range(0, 250, 3), *range(len(data) - 30, len(data), 2)]:
        for flip in (0x01, 0x10, 0xFF):
            damaged = data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]
            try:
                noise.human(_with_pickle(path, tmp_path / "b.pt", damaged), "aggre", CLEAN)
            except FastnoisyError:
                continue  # any other exception fails the test


@pytest.mark.parametrize("keep", [0, 1, 100, 1000, -1, -30])
@pytest.mark.parametrize("ending", [".pt", ".npz"])
def test_cut_off_files_are_named(tmp_path: Path, path: Path, keep: int, ending: str) -> None:
    cut = tmp_path / f"cut{ending}"
    np.savez(tmp_path / "whole.npz", **content10())
    data = (path if ending == ".pt" else tmp_path / "whole.npz").read_bytes()
    cut.write_bytes(data[:keep])
    with pytest.raises(FastnoisyError, match=r"cut\.(pt|npz) is damaged \(.*\)") as caught:
        noise.human(cut, "worse")
    assert "\n" not in str(caught.value)
    assert "cifar-10-100n" in caught.value.remedy


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", worse_label=np.zeros(1_000_000, np.int64))
    monkeypatch.setattr(cifarn, "MAX_BYTES", 1_000_000)
    with pytest.raises(FastnoisyError, match="unpacks to"):
        noise.human(tmp_path / "a.npz", "worse")


@pytest.mark.parametrize("form", ["pt", "npz"])
def test_a_damaged_file_never_gives_other_labels(path: Path, tmp_path: Path, form: str) -> None:
    """torch does not test the checksums of its zip: bits, bytes and cuts anywhere in the file."""
    if form == "npz":
        np.savez(tmp_path / "CIFAR-10_human.npz", **content10())
        path = tmp_path / "CIFAR-10_human.npz"
    content, expected = path.read_bytes(), noise.human(path, "worse").tolist()
    draw = np.random.default_rng(5)
    refused = 0
    for number in range(400):
        changed = bytearray(content)
        at = int(draw.integers(len(content)))
        if number % 4 == 3:
            changed[at : at + 8] = draw.bytes(8)
        else:
            changed[at] ^= 1 << int(draw.integers(8))
        path.write_bytes(changed[:at] if number % 40 == 39 else changed)
        try:
            assert noise.human(path, "worse").tolist() == expected
        except FastnoisyError:
            refused += 1
    assert refused > 200


def test_a_name_that_is_twice_in_the_archive_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "a") as archive:
        for name, data in members.items():
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr(name, data)
    with pytest.raises(FastnoisyError, match="twice"):
        noise.human(path, "worse")
