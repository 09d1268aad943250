"""The published CIFAR-N files and CIFAR-100's pickles: hashes, rates, and both labellings converted."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnoisy import noise
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.noise import NoiseSpec, cifar, cifarn

pytestmark = pytest.mark.data
FILES = ("CIFAR-10_human.pt", "CIFAR-100_human.pt")
# of the pixels as planar bytes, and of the fine labels as uint8
PIXELS = {
    "train": "de64658905c6b161606e3649ddafce7cf86c7634a0cf9116d518e64ef46a33c5",
    "test": "83c56492b2c11211ad1bb2dbd4f2eef4170a0441e41a41f3039c3144b1f5a511",
}
FINE_LABELS = {
    "train": "9f11b9f97aad759ba6df0a33e3218b01d8deaf4ed3a14aa1185d69b9ad7ebcb3",
    "test": "4dad7d09c7c97d33f6cb928d705cf4196221316fd6e31bdd978a08ed9103ee0b",
}


@pytest.fixture(scope="module")
def unpacked(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, real_data / "unpack.py", out, "cifar100", "cifar-n"], check=True)
    return out


def sha256(labels: np.ndarray, dtype: str = "<i8") -> str:
    return hashlib.sha256(labels.astype(dtype).tobytes()).hexdigest()


@pytest.mark.parametrize("name", FILES)
def test_the_published_files(unpacked: Path, golden: Callable[[str], Any], name: str) -> None:
    path = unpacked / "cifar-n" / name
    expected = golden("cifarn")["files"][name]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected["sha256"]
    content = cifarn._load(path)
    clean = {
        key: cifarn._vector(content[key], path, key) for key in ("clean_label", "clean_coarse_label") if key in content
    }
    held = [labels for labels in cifarn.LABEL_SETS.values() if labels.official in expected]
    assert len(held) == len(expected["keys"]) - len(clean)
    for labels in held:
        given, truth = noise.human(path, labels.official, clean[labels.clean]), clean[labels.clean]
        numbers = expected[labels.official]
        assert given.dtype == np.int64
        assert given[:20].tolist() == numbers["first_20"]
        assert sha256(given) == numbers["sha256_int64_le"]
        assert sha256(truth) == expected[labels.clean]["sha256_int64_le"]
        assert (given != truth).mean() == pytest.approx(numbers["noise_rate_vs_clean"], abs=1e-9)


def test_rates_on_cifar10(unpacked: Path, real_data: Path) -> None:
    labels = np.load(real_data / "cifar10" / "train_labels.npy").astype(np.int64)
    rows = np.arange(50_000)
    for key, percent in {"aggre": 9.01, "worst": 40.21, "rand1": 17.23, "rand2": 18.12, "rand3": 17.64}.items():
        spec = NoiseSpec.parse(f"human:{key}")
        given = spec.apply(labels, cifar.CIFAR10_CLASSES, 1, rows, folder=unpacked / "cifar-n")
        assert round(100 * (given != labels).mean(), 2) == percent
    order = np.load(real_data / "cifar-n" / "image_order_c10.npy")  # the same images as TensorFlow orders them
    with pytest.raises(FastnoisyError, match="another order"):
        NoiseSpec.parse("human:worse").apply(labels[order], cifar.CIFAR10_CLASSES, 1, rows, folder=unpacked / "cifar-n")


@pytest.mark.parametrize(
    ("kind", "key", "percent"), [("cifar100", "noisy", 40.20), ("cifar100-coarse", "noisy_coarse", 26.40)]
)
def test_cifar100_converted(unpacked: Path, tmp_path: Path, kind: str, key: str, percent: float) -> None:
    source = str(unpacked) if kind == "cifar100" else f"{kind}:{unpacked}"
    assert convert(source, tmp_path / "store", options=ConvertOptions()).source == f"{kind}:{unpacked}"
    with open_store(tmp_path / "store") as store:
        names = cifar.CIFAR100_CLASSES if kind == "cifar100" else cifar.CIFAR100_SUPERCLASSES
        assert store.class_names == list(names)
        for split, expected in PIXELS.items():
            images = store.split(split).read_all_raw()
            assert images is not None
            planar = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).tobytes()
            assert hashlib.sha256(planar).hexdigest() == expected
            if kind == "cifar100":
                assert sha256(store.split(split).given_labels, "u1") == FINE_LABELS[split]
        train = store.split("train")
        labels, rows = train.given_labels, np.arange(train.num_samples)
        given = NoiseSpec.parse(f"human:{key}").apply(labels, store.class_names, 1, rows, folder=unpacked / "cifar-n")
        assert round(100 * (given != labels).mean(), 2) == percent
        if kind == "cifar100":
            coarse = np.array(cifar.CIFAR100_COARSE_OF_FINE)[labels]
            assert (noise.human(unpacked / "cifar-n" / FILES[1], "noisy_coarse", coarse) != coarse).mean() < 0.3
            pixels = train.read_all_raw()
            assert pixels is not None
            for variant in noise.INSTANCE_VARIANTS:
                spec = NoiseSpec.parse(f"instance:0.4:{variant}")
                noisy = spec.apply(labels, store.class_names, 1, rows, images=lambda part: pixels[part])
                assert (noisy != labels).mean() == pytest.approx(0.4, abs=0.01)
