"""Noise against the published codes' labels, and label files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnoisy import noise
from fastnoisy.errors import FastnoisyError


def test_symmetric_equals_published_labels(golden: Callable[[str], Any]) -> None:
    data = golden("noise_class_conditional")
    for case in data["symmetric_uniform_incl_true"]:
        labels = np.array(data["inputs"]["labels_c10" if case["dataset"] == "C10" else "labels_c100"])
        noisy = noise.symmetric(labels, case["rate"], 10 if case["dataset"] == "C10" else 100, case["seed"])
        assert noisy.tolist() == case["noisy"]
        assert (noisy != labels).mean() == pytest.approx(case["actual_noise"])


def test_symmetric_at_full_size_equals_published_hash(golden: Callable[[str], Any]) -> None:
    for case in golden("noise_class_conditional")["symmetric_full_size"]:
        count = case["N"]
        classes = 10 if case["dataset"] == "C10" else 100
        noisy = noise.symmetric(np.zeros(count, np.int64), case["rate"], classes, case["seed"])
        twin = noise.symmetric(np.ones(count, np.int64), case["rate"], classes, case["seed"])
        redrawn = np.where(noisy == twin, noisy, -1)  # only untouched rows differ between the two
        assert redrawn[:24].tolist() == case["first_24_values(-1=untouched)"]
        assert (redrawn >= 0).sum() == case["n_redrawn"]
        assert hashlib.sha256(redrawn.astype("<i8").tobytes()).hexdigest() == case["sha256_int64_le"]


def test_exclude_true_equals_published_labels(golden: Callable[[str], Any]) -> None:
    data = golden("noise_class_conditional")
    labels = np.array(data["inputs"]["labels_c10"])
    cases = [c for c in data["other_rules"] if c["rule"].startswith("symmetric excluding")]
    assert cases
    for case in cases:
        assert noise.symmetric(labels, case["rate"], 10, 0, exclude_true=True).tolist() == case["noisy"]


def test_spec_round_trips_and_rows_limit_the_noise() -> None:
    for text in ("none", "symmetric:0.4", "symmetric:0.25:exclude_true", "file:a/b.npy"):
        assert str(noise.NoiseSpec.parse(text)) == text
    labels = np.arange(100) % 10
    rows = np.arange(0, 100, 2)
    noisy = noise.NoiseSpec.parse("symmetric:1.0").apply(labels, 10, 3, rows)
    assert (noisy[1::2] == labels[1::2]).all()
    assert (noisy[rows] != labels[rows]).any()
    assert (labels == np.arange(100) % 10).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("symmetric:1.5", "between 0 and 1"),
        ("symmetric:", "between 0 and 1"),
        ("symetric:0.4", "did you mean symmetric"),
        ("symmetric:0.4:exclude", "exclude_true"),
        ("file:", "names no file"),
    ],
)
def test_wrong_specs_say_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(FastnoisyError, match=words):
        noise.NoiseSpec.parse(text)


def test_label_files(tmp_path: Path) -> None:
    labels = np.array([2, 0, 1, 1])
    np.save(tmp_path / "a.npy", labels)
    np.savez(tmp_path / "b.npz", given=labels)
    (tmp_path / "c.csv").write_text("index,label\n0,2\n1,0\n2,1\n3,1\n")
    (tmp_path / "d.txt").write_text("2\n0\n1\n1\n")
    for name in ("a.npy", "b.npz", "c.csv", "d.txt"):
        spec = noise.NoiseSpec.parse(f"file:{tmp_path / name}")
        assert spec.apply(np.zeros(4, np.int64), 3, 1, np.arange(4)).tolist() == labels.tolist()
    with pytest.raises(FastnoisyError, match="does not exist"):
        noise.from_file(tmp_path / "none.npy", 4, 3)
    with pytest.raises(FastnoisyError, match="holds 4 labels, the training split has 5"):
        noise.from_file(tmp_path / "a.npy", 5, 3)
    with pytest.raises(FastnoisyError, match="out of range: row 0 is 2, allowed are 0 to 1"):
        noise.from_file(tmp_path / "a.npy", 4, 2)
    np.save(tmp_path / "o.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    with pytest.raises(FastnoisyError, match="cannot be read"):
        noise.from_file(tmp_path / "o.npy", 2, 2)
    (tmp_path / "e.txt").write_text("two\n")
    with pytest.raises(FastnoisyError, match="cannot be read"):
        noise.from_file(tmp_path / "e.txt", 1, 3)
