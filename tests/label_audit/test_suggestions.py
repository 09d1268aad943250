"""suggestions.csv: what an audit would do by itself, read back as the label file that it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastnoisy.confident_learning import Flags
from fastnoisy.label_audit import output
from fastnoisy.label_audit.audit import Audit
from fastnoisy.label_audit.judgement import Images, Judgement
from fastnoisy.label_files.corrections import Rows, correct

PROBABILITIES = np.array([[0.1, 0.9, 0], [0.1, 0.45, 0.45], [0.0, 0.5, 0.5], [0.9, 0.1, 0], [0, 0.2, 0.8]], np.float32)


@pytest.mark.parametrize(
    "names", [("cat", "dog", "owl"), ("cat", "Drop", "drop"), ("7", "1", "0"), ('a "b"', "c,d", "é")]
)
def test_sure_ones_are_relabelled_and_others_dropped(names: tuple[str, ...], tmp_path: Path) -> None:
    """Flagged are rows 0 to 2, the same file twice among them, and row 4, of the test split, whose labels stay."""
    given, paths = np.array([0, 0, 0, 0, 2]), ("same.jpg", "b.jpg", "same.jpg", " d,.jpg", "e.jpg")
    everything = np.ones(5, bool)
    audit = Audit(
        out=tmp_path, store=tmp_path,
        images=Images(("train", "test"), np.array([0, 0, 0, 0, 1]), np.array([0, 1, 2, 3, 0]), paths, given, names),
        judgement=Judgement(PROBABILITIES, PROBABILITIES[np.arange(5), given], everything, everything, {}),
        flags=Flags(np.eye(3), 4, np.arange(5) != 3), groups=[], oddities=[], network="", digest="", seconds={},
    )  # fmt: skip
    output.write(audit)
    rows = {"train": Rows(given[:4], paths[:4]), "test": Rows(given[4:], paths[4:])}
    found, _ = correct(tmp_path / "suggestions.csv", rows, names)
    assert list(found) == ["train"]
    assert found["train"].labels.tolist() == [1, 0, 1, 0]
    assert found["train"].changed.tolist() == [0, 2]
    assert found["train"].dropped.tolist() == [1]


def test_a_store_without_a_training_split_has_no_suggestions() -> None:
    everything = np.ones(5, bool)
    images = Images(("val", "test"), np.arange(5) % 2, np.arange(5), tuple("abcde"), np.zeros(5, np.int64), ("x", "y"))
    assert not images.training.any()
    assert replace(images, split_names=("val", "train")).training.tolist() == [False, True, False, True, False]
    audit = Audit(
        out=Path(), store=Path(), images=images,
        judgement=Judgement(PROBABILITIES, PROBABILITIES[:, 0], everything, everything, {}),
        flags=Flags(np.eye(2), 5, everything), groups=[], oddities=[], network="", digest="", seconds={},
    )  # fmt: skip
    assert not audit.correctable.any()
