"""`fastnoisy correct` end to end: what it writes is trained on, verified and converted again; what it says."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import fastnoisy
from fastnoisy.data.store import open_store
from fastnoisy.training.labels import read_labels

Call = Callable[..., tuple[int, str, str]]
SMALL = ["model=preact_small(width=4)", "epochs=1", "batch_size=8", "threads=1", "device=cpu", "views.size=32"]


@pytest.fixture(scope="module")
def place(animals: Path) -> Path:
    """Corrections of four images beside them."""
    (animals / "fixes.csv").write_text(
        "path,label\ntrain/owl/3.png,cat\ntrain/cat/0.png,drop\ntest/owl/0.png,cat\ntest/cat/0.png,drop\n"
    )
    return animals


def test_what_it_writes_is_verified_trained_on_and_converted_again(call: Call, place: Path, tmp_path: Path) -> None:
    new, folder, listed = tmp_path / "new", tmp_path / "folder", tmp_path / "list.csv"
    words = ("correct", place / "store", place / "fixes.csv")
    code, out, err = call(*words, "--out", new, "--to-folder", folder, "--to-csv", listed)
    assert code == 0, err
    line = "train: 1 changed, 0 unchanged, 1 dropped; test: 1 changed, 0 unchanged, 1 dropped (by path)"
    assert f"labels {place / 'fixes.csv'}: {line}" in err
    assert f"wrote {new}: train: 23 images, test: 8 images" in out
    assert f"wrote {folder}" in out
    assert "31 are links to the original files" in out
    assert "never had one" not in out
    assert f"wrote {listed}" in out
    assert call("verify", new, "--workers", 1)[:2] == (0, f"{new}: whole\n")
    code, out, _ = call("inspect", new)
    assert f"corrected {place / 'fixes.csv'}: 1 changed, 0 unchanged, 1 dropped" in out.replace("\n", "")
    code, _, err = call("train", "folder-ce", *SMALL, "--data", new, "--out", tmp_path / "run")
    assert code == 0, err
    with open_store(new) as store:
        labels = dict(zip(store.split("train").sources, read_labels(tmp_path / "run/labels.npz").given, strict=True))
    assert labels["train/owl/3.png"] == 0
    assert "train/cat/0.png" not in labels
    with listed.open(newline="") as file:
        told = {row["path"]: row["label"] for row in csv.DictReader(file) if row["path"].startswith("train")}
    assert {path: ("cat", "dog", "owl")[label] for path, label in labels.items()} == {
        path: label for path, label in told.items() if label
    }
    code, _, err = call("convert", folder, tmp_path / "again", "--workers", 1)
    assert code == 0, err
    with open_store(new) as a, open_store(tmp_path / "again") as b:
        for name in ("train", "test"):
            x, y = a.split(name), b.split(name)
            assert dict(zip(x.checksums.tolist(), x.given_labels.tolist(), strict=True)) == dict(
                zip(y.checksums.tolist(), y.given_labels.tolist(), strict=True)
            )


@pytest.mark.parametrize(
    ("fixes", "words", "said"),
    [
        ("path,label\ntrain/cat/0.png,cta\n", ["--out", "new"], "did you mean"),
        ("path,label\ntrain/cta/0.png,cat\n", ["--to-csv", "list.csv"], "none of this data set's"),
        ("index,label\n" + "".join(f"{i},drop\n" for i in range(24)), ["--out", "new"], "drops all 24 images of train"),
        ("asset,verdict\ntrain/cat/0.png,dog\n", ["--out", "new"], "known are"),
        ("index,label\n0,1\n", [], "--out, --to-folder or --to-csv"),
        ("index,label\n0,1\n", ["--out", "there"], "exists already"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    call: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixes: str, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("fixes.csv").write_text(fixes)
    code, _, err = call("correct", place / "store", "fixes.csv", *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fixes.csv", "there"]


def test_columns_and_numbers_are_told_as_elsewhere(call: Call, place: Path, tmp_path: Path) -> None:
    (tmp_path / "fixes.csv").write_text("asset,verdict\ntrain/cat/0.png,2\n")
    words = ("--labels-columns", "path=asset,label=verdict", "--labels-as", "index", "--out", tmp_path / "new")
    code, _, err = call("correct", place / "store", tmp_path / "fixes.csv", *words)
    assert code == 0, err
    with open_store(tmp_path / "new") as store:
        assert store.split("train").given_labels[0] == 2
        (note,) = store.split("train").info["corrections"]
        assert (note["labels_as"], note["labels_columns"]) == ("index", "path=asset,label=verdict")


def test_numbers_that_are_names_are_told_to_be_names(call: Call, tmp_path: Path) -> None:
    for number in range(1, 4):
        (tmp_path / "photos" / str(number)).mkdir(parents=True)
        Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / "photos" / str(number) / "a.png")
    fastnoisy.convert(tmp_path / "photos", tmp_path / "store", workers=1)
    (tmp_path / "fixes.csv").write_text("index,label\n0,2\n")
    words = ("--labels-as", "name", "--to-csv", tmp_path / "list.csv")
    code, _, err = call("correct", tmp_path / "store", tmp_path / "fixes.csv", *words)
    assert code == 0, err
    assert f"where {tmp_path / 'list.csv'} is handed in, add --labels-as name" in err
    code, _, err = call(
        "correct", tmp_path / "store", tmp_path / "list.csv", "--labels-as", "name", "--out", tmp_path / "new"
    )
    assert code == 0, err
    with open_store(tmp_path / "new") as store:
        assert store.split("train").given_labels.tolist() == [1, 1, 2]


def test_from_python(place: Path, tmp_path: Path) -> None:
    done = fastnoisy.correct(place / "store", place / "fixes.csv", out=tmp_path / "new")
    assert done.images == {"train": 23, "test": 8}
    assert "train: 1 changed" in done.line
    with pytest.raises(fastnoisy.FastnoisyError, match="exists already"):
        fastnoisy.correct(place / "store", place / "fixes.csv", out=tmp_path / "new")
