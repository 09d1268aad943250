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
from fastnoisy.training.labels import Labels, read_labels

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


# Corrections


def corrections(run: Path, text: str) -> str:
    path = run.parent / "fixes.csv"
    path.write_text(text)
    return f"labels={path}"


def drawn(data: Path, *words: str) -> tuple[Labels, dict[str, int]]:
    with open_store(data) as opened:
        split = opened.split("train")
        labels = Labels.draw(setup.resolve("folder-ce", [*WORDS, *words], str(data)), split)
        return labels, {path: row for row, path in enumerate(split.sources)}


def test_dropped_rows_are_in_no_population_and_noise_is_drawn_over_the_others(tmp_path: Path) -> None:
    data = store(photographs(tmp_path / "source"), tmp_path / "own")
    text = "path,label\ntrain/a/0.png,drop\ntrain/b/1.png,drop\ntrain/c/2.png,a\ntrain/a/3.png,b\n"
    word = corrections(data, text)
    labels, row = drawn(data, word, "data.holdout=0.25", "noise=symmetric:0.5")
    used = set(labels.train.tolist()) | set(labels.holdout.tolist())
    assert used == set(range(24)) - {row["train/a/0.png"], row["train/b/1.png"]}
    assert labels.clean is not None
    assert labels.clean[row["train/c/2.png"]] == 0
    changed = (labels.given != labels.clean)[sorted(used)]
    assert 0 < changed.sum() < len(used)
    without, _ = drawn(data, word, "data.subset=22")
    assert len(without.train) == 22
    with pytest.raises(FastnoisyError, match=r"data\.subset=23 exceeds the 22 training images"):
        drawn(data, word, "data.subset=23")
    same, _ = drawn(data, word, "data.holdout=0.25", "noise=symmetric:0.5")
    assert same.digest == labels.digest


def test_noise_from_a_file_goes_on_top_of_corrections(tmp_path: Path) -> None:
    data = store(photographs(tmp_path / "source"), tmp_path / "own")
    (tmp_path / "noise.csv").write_text("path,label\ntrain/a/0.png,c\ntrain/c/2.png,\n")
    word = corrections(data, "path,label\ntrain/a/0.png,b\ntrain/c/2.png,a\n")
    labels, row = drawn(data, word, f"noise=file:{tmp_path / 'noise.csv'}")
    assert [labels.given[row[name]] for name in ("train/a/0.png", "train/c/2.png")] == [2, 0]
    assert labels.clean is None  # nobody vouches for either
    assert ["2 changed" in line or "1 changed, 1 unchanged" in line for line in labels.notes] == [True, True]


def test_all_rows_dropped_is_an_error(tmp_path: Path) -> None:
    data = store(photographs(tmp_path / "source"), tmp_path / "own")
    word = corrections(data, "index,label\n" + "".join(f"{row},drop\n" for row in range(24)))
    with pytest.raises(FastnoisyError, match="no training images are left"):
        loop.start(setup.resolve("folder-ce", [*WORDS, word], str(data)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_corrected_test_labels_belong_to_the_test_split_they_were_made_for(tmp_path: Path) -> None:
    source = photographs(tmp_path / "source")
    (source / "test/a").mkdir(parents=True)
    for name in ("0.png", "3.png"):
        (source / "train/a" / name).rename(source / "test/a" / name)
    data = store(source, tmp_path / "own")
    word = corrections(data, "path,label\ntest/a/0.png,b\n")
    loop.start(setup.resolve("folder-ce", [*WORDS, word], str(data)), tmp_path / "run")
    kept = read_labels(tmp_path / "run/labels.npz")
    assert kept.truths["test"].labels.tolist() == [1, 0]
    (source / "test/a/3.png").rename(source / "test/a/4.png")
    other = store(source, tmp_path / "other")
    with pytest.raises(FastnoisyError, match=r"other/test\.beton is not the split whose labels the run has corrected"):
        loop.resume(tmp_path / "run", ["epochs=2"], store=str(other))
    assert loop.resume(tmp_path / "run", ["epochs=2"])["epochs"] == 2
