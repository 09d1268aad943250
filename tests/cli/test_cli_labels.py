"""Corrections end to end: a folder is converted, trained with labels=, resumed, evaluated, and converted corrected."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import fastnoisy
from fastnoisy.data.store import open_store
from fastnoisy.training.labels import read_labels

Call = Callable[..., tuple[int, str, str]]
SMALL = ["model=preact_small(width=4)", "epochs=1", "batch_size=8", "threads=1", "device=cpu", "views.size=32"]
FIXES = """path,label
train/owl/3.png,cat
./train/owl/4.png,
train\\cat\\0.png,drop
test/owl/0.png,cat
test/cat/0.png,drop
"""


@pytest.fixture(scope="module")
def place(animals: Path) -> Path:
    """Corrections of five images beside them."""
    (animals / "fixes.csv").write_text(FIXES)
    return animals


def test_trained_resumed_and_evaluated_with_corrections(call: Call, place: Path, tmp_path: Path) -> None:
    fixes = tmp_path / "fixes.csv"
    shutil.copy(place / "fixes.csv", fixes)
    run = tmp_path / "run"
    code, out, err = call(
        "train", "folder-ce", f"labels={fixes}", "noise=symmetric:0.5", *SMALL, "--data", place / "store", "--out", run
    )
    assert code == 0, err
    line = "train: 1 changed, 1 unchanged, 1 dropped; test: 1 changed, 0 unchanged, 1 dropped (by path)"
    assert f"labels {fixes}: {line}" in err
    assert "23 images" in err
    with open_store(place / "store") as store:
        split = store.split("train")
        row = {path: number for number, path in enumerate(split.sources)}
    kept = read_labels(run / "labels.npz")
    assert row["train/cat/0.png"] not in kept.train
    assert len(kept.train) == 23
    assert kept.clean is not None
    assert kept.clean[row["train/owl/3.png"]] == 0  # noise was put on the corrected labels
    assert kept.given.tolist() != kept.clean.tolist()
    assert kept.truths["test"].labels.tolist() == [-1, 0, 0, 1, 1, 1, 0, 2, 2]
    with (run / "issues.csv").open(newline="") as file:
        assert "train/cat/0.png" not in {line["path"] for line in csv.DictReader(file)}
    fixes.unlink()  # neither is it needed to go on, nor to evaluate
    code, out, err = call("train", "--resume", run, "epochs=2")
    assert code == 0, err
    code, out, err = call("evaluate", run)
    assert code == 0, err
    assert "test: 1 changed, 1 dropped" in out
    assert "8 images" in out
    final = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    found = fastnoisy.load(run).evaluate()
    assert found.accuracy == pytest.approx(final["eval"]["test"]["main"]["accuracy"])
    assert [row["images"] for row in found.classes] == [3, 3, 2]
    assert call("train", "--resume", run, "labels=other.csv")[0] == 2


def test_evaluation_by_corrections_of_its_own(call: Call, place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fastnoisy.train("folder-ce", *SMALL, data=place / "store", out=run, progress=lambda event: None)
    code, out, err = call("evaluate", run, "--labels", place / "fixes.csv")
    assert code == 0, err
    assert "test: 1 changed, 0 unchanged, 1 dropped" in out
    assert "8 images" in out
    logits_right = fastnoisy.load(run).evaluate(labels=place / "fixes.csv")
    assert [row["images"] for row in logits_right.classes] == [3, 3, 2]
    assert [row["images"] for row in fastnoisy.load(run).evaluate().classes] == [3, 3, 3]
    (tmp_path / "train.csv").write_text("index,label\n0,dog\n")
    code, _, err = call("evaluate", run, "--labels", tmp_path / "train.csv")
    assert code == 2
    assert "names no row of test" in err
    code, _, err = call("evaluate", run, "--labels-as", "index")
    assert code == 2


def test_converted_with_corrections(call: Call, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "corrected"
    code, _, err = call("convert", place / "photos", out, "--labels", place / "fixes.csv", "--workers", 1)
    assert code == 0, err
    assert "train: 1 changed, 1 unchanged, 1 dropped; test: 1 changed, 0 unchanged, 1 dropped" in err
    with open_store(out) as store, open_store(place / "store") as before:
        for name in ("train", "test"):
            new, old = store.split(name), before.split(name)
            labels = dict(zip(old.sources, old.given_labels.tolist(), strict=True))
            labels |= {"train/owl/3.png": 0, "test/owl/0.png": 0}
            del labels["train/cat/0.png" if name == "train" else "test/cat/0.png"]
            known = {path: label for path, label in labels.items() if path.startswith(name)}
            assert dict(zip(new.sources, new.given_labels.tolist(), strict=True)) == known
        assert store.split("train").info["options"]["labels"] == str(place / "fixes.csv")
        assert "labels" not in before.split("train").info["options"]


def test_the_test_images_that_are_set_aside_do_not_depend_on_corrections(place: Path, tmp_path: Path) -> None:
    source = place / "photos" / "train"
    (tmp_path / "fixes.csv").write_text("path,label\ncat/1.png,dog\ncat/2.png,dog\ncat/3.png,drop\n")
    fastnoisy.convert(source, tmp_path / "a", test_fraction=0.25, workers=1)
    fastnoisy.convert(source, tmp_path / "b", test_fraction=0.25, workers=1, labels=tmp_path / "fixes.csv", say=print)
    with open_store(tmp_path / "a") as a, open_store(tmp_path / "b") as b:
        left = set(a.split("test").sources) - {"cat/3.png"}
        assert set(b.split("test").sources) == left
        assert b.split("train").num_samples + b.split("test").num_samples == 23


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["labels=none.csv"], "none.csv does not exist"),
        (["labels_as=index"], "labels_as=index: there is no label file"),
        (["labels_columns=path"], "labels_columns: "),
        (["labels_as=number"], "labels_as"),
    ],
)
def test_wrong_words_are_one_clear_error_and_nothing_is_written(
    call: Call, place: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    code, _, err = call("train", "folder-ce", *words, *SMALL, "--data", place / "store", "--out", tmp_path / "run")
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_list_with_columns_of_other_names(call: Call, place: Path, tmp_path: Path) -> None:
    rows = [f"photos/train/{name}/{i}.png,{name}" for i in range(2) for name in ("cat", "dog")]
    (place / "export.csv").write_text("asset,verdict\n" + "\n".join(rows) + "\n")
    words = ("convert", place / "export.csv", tmp_path / "store", "--workers", 1)
    code, _, err = call(*words)
    assert code == 2
    assert "--columns path=...,label=..." in err
    code, _, err = call(*words, "--columns", "path=asset,label=verdict")
    assert code == 0, err
    with open_store(tmp_path / "store") as store:
        assert store.class_names == ["cat", "dog"]
        assert store.split("train").given_labels.tolist() == [0, 1, 0, 1]
