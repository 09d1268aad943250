"""Real CIFAR-10 pickles, real photographs and broken files through the commands a user types."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastnoisy.data.store import open_store

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def unpacked(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, real_data / "unpack.py", out, "cifar10", "caltech101", "oddities"], check=True)
    return out


def fastnoisy(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastnoisy", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=560)


def final(run: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])  # type: ignore[no-any-return]


def test_cifar10_from_the_published_pickles(unpacked: Path, tmp_path: Path) -> None:
    done = fastnoisy("convert", unpacked, tmp_path / "store")
    assert done.returncode == 0, done.stderr
    store = open_store(tmp_path / "store")
    images = store.split("train").read_all_raw()
    assert images is not None
    planar = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).tobytes()
    # of the reassembled set, whose 93 inexact images its documentation names
    assert hashlib.sha256(planar).hexdigest() == "5d78d296514afc215fbac0176ae07bd32c8523eb12470c6f8527f22266e2e197"
    assert store.class_names[0] == "airplane"
    store.close()
    words = ["data.subset=2000", "model=preact_small(width=8)", "epochs=2", "noise=symmetric:0.4"]
    for method in ("ce", "nrd", "alasca"):
        run = tmp_path / method
        done = fastnoisy("train", f"cifar10-{method}", *words, "--data", tmp_path / "store", "--out", run)
        assert done.returncode == 0, done.stderr
        assert final(run)["eval"]["test"][final(run)["reported"]]["accuracy"] > 0.12
    done = fastnoisy("evaluate", tmp_path / "alasca")
    assert done.returncode == 0, done.stderr
    assert "airplane" in done.stdout


def test_a_folder_of_photographs(unpacked: Path, tmp_path: Path) -> None:
    store, run = tmp_path / "store", tmp_path / "run"
    done = fastnoisy("convert", unpacked / "caltech101", store, "--test-fraction", 0.2)
    assert done.returncode == 0, done.stderr
    opened = open_store(store)
    assert sum(split.num_samples for split in opened.splits.values()) == 2103
    assert opened.split("train").canvas == (512, 512)
    opened.close()
    words = ["data.subset=200", "model=preact_small(width=8)", "epochs=2", "batch_size=32", "noise=symmetric:0.2"]
    done = fastnoisy("train", "folder-nrd", *words, "--data", store, "--out", run)
    assert done.returncode == 0, done.stderr
    done = fastnoisy("predict", run, unpacked / "caltech101" / "airplanes")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert len(rows) == len(list((unpacked / "caltech101" / "airplanes").iterdir()))


def test_broken_and_exotic_files_are_sorted_out(unpacked: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    folder = next(p for p in (unpacked / "oddities", unpacked / "image-oddities") if p.is_dir())
    done = fastnoisy("convert", f"folder:{folder}", out, "--max-rejected", 0.9)
    assert done.returncode == 0, done.stderr
    split = open_store(out).split("train")
    with (out / "train.meta" / "rejected.csv").open() as file:
        rejected = list(csv.DictReader(file))
    assert split.num_samples + len(rejected) == 169
    assert split.num_samples >= 90
    assert all(row["reason"] for row in rejected)
    assert split.problems() == []
    split.close()
