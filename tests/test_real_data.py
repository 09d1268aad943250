"""Real CIFAR-10 pickles, real photographs and broken files through the commands a user types."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastnoisy.data.store import open_store
from fastnoisy.data.store.verify import verify

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def unpacked(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real")
    subprocess.run(
        [sys.executable, real_data / "unpack.py", out, "cifar10", "cifar100", "cifar-n", "caltech101", "oddities"],
        check=True,
    )
    return out


def fastnoisy(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastnoisy", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=560)


def final(run: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])  # type: ignore[no-any-return]


def test_cifar10_from_the_published_pickles(unpacked: Path, tmp_path: Path) -> None:
    done = fastnoisy("convert", f"cifar10:{unpacked}", tmp_path / "store")
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


HUMAN = {
    "cifar10": {"worse": "40.21", "aggre": "9.01", "random1": "17.23", "random2": "18.12", "random3": "17.64"},
    "cifar100": {"noisy": "40.20"},
    "cifar100-coarse": {"noisy_coarse": "26.40"},
}


@pytest.mark.parametrize("data", list(HUMAN))
def test_human_labels_report_their_published_rates(data: str, unpacked: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = fastnoisy("convert", f"{data}:{unpacked}", store)
    assert done.returncode == 0, done.stderr
    labels = unpacked / "cifar-n" / ("CIFAR-10_human.pt" if data == "cifar10" else "CIFAR-100_human.pt")
    done = fastnoisy("noise", f"human:{next(iter(HUMAN[data]))}", "--data", store)
    assert done.returncode == 2
    assert labels.name in done.stderr, "says which file belongs into the store"
    shutil.copy(labels, store)
    for key, rate in HUMAN[data].items():
        done = fastnoisy("noise", f"human:{key}", "--data", store)
        assert done.returncode == 0, done.stderr
        assert f"{rate} %" in next(line for line in done.stdout.splitlines() if line.startswith("effective rate"))
    words = ["data.subset=2000", "model=preact_small(width=4)", "epochs=1", f"noise=human:{key}", "threads=1"]
    recipe = f"{data.partition('-')[0]}-gce"
    done = fastnoisy("train", recipe, *words, "--data", store, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert f"(there is no row for human:{key})" in done.stderr
    assert final(tmp_path / "run")["suspects_found"] > 0


def test_cifar100_with_asymmetric_noise_in_both_suites(unpacked: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert fastnoisy("convert", f"cifar100:{unpacked}", store).returncode == 0
    words = ["noise=asymmetric:0.4", "model=preact_small(width=4)", "threads=1", "--data", store, "--dry-run"]
    done = fastnoisy("train", "cifar100-gjs", *words)
    assert done.returncode == 0, done.stderr
    assert "50,000 images, 100 classes, noise asymmetric:0.4:superclass, 40.00% of the labels wrong" in done.stderr
    assert "NRD Table 5, cifar100 gjs, asymmetric 40 %" in done.stderr
    done = fastnoisy("train", "cifar100-alasca", *words)
    assert done.returncode == 0, done.stderr
    assert "45,000 images, 100 classes, noise asymmetric:0.4:index_blocks" in done.stderr
    assert "5,000 held out" in done.stderr


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
    assert split.num_samples == 89  # which: test_oddities
    assert all(row["reason"] for row in rejected)
    split.close()
    assert verify(out) == []
