"""labels.npz: a run that goes on takes its labels for the rows they were drawn for, and for no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.training import loop, setup
from fastnoisy.training.labels import read_labels

WORDS = ["model=preact_small(width=4)", "epochs=1", "batch_size=8", "threads=1", "device=cpu", "views.size=32"]


def photographs(folder: Path) -> Path:
    """Three classes of eight images each, of which no two are alike."""
    rng = np.random.default_rng(5)
    for number in range(24):
        path = folder / "train" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
    return folder


def store(source: Path, out: Path, resize: str = "none") -> Path:
    convert(f"folder:{source}", out, options=ConvertOptions(resize=resize), progress=None)
    return out


@pytest.fixture
def run(tmp_path: Path) -> Path:
    data = store(photographs(tmp_path / "source"), tmp_path / "own")
    loop.start(setup.resolve("folder-ce", WORDS, str(data)), tmp_path / "run")
    return tmp_path / "run"


def relabelled(source: Path) -> None:
    (source / "train/a/0.png").rename(source / "train/b/0.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda source: (source / "train/a").rename(source / "train/z"), "the class names differ"),
        (relabelled, "its rows are other images, or the same in another order"),
    ],
)
def test_a_store_with_other_rows_is_refused(change: Any, said: str, run: Path, tmp_path: Path) -> None:
    """As many rows, so that nothing but the digests tells; trained on, they would carry other images' labels."""
    before = (run / "config.toml").read_bytes()
    change(tmp_path / "source")
    other = store(tmp_path / "source", tmp_path / "other")
    with pytest.raises(FastnoisyError, match=rf"other data than .*other/train.beton: {said}.*--data"):
        loop.resume(run, ["epochs=2"], store=str(other))
    assert (run / "config.toml").read_bytes() == before
    assert loop.resume(run, ["epochs=2"])["epochs"] == 2


def test_other_published_labels_are_refused(run: Path, tmp_path: Path) -> None:
    opened = open_store(tmp_path / "own").split("train")
    opened.given_labels = np.roll(opened.given_labels, 1)
    with pytest.raises(FastnoisyError, match="the labels it was published with differ"):
        read_labels(run / "labels.npz").origin.check(opened)


def test_the_same_images_of_another_size_are_the_same_data(run: Path, tmp_path: Path) -> None:
    smaller = store(tmp_path / "source", tmp_path / "smaller", "square=24")
    assert loop.resume(run, ["epochs=2"], store=str(smaller))["epochs"] == 2
