"""`fastnoisy predict`: several classes for each image, CSV and JSON Lines."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import fastnoisy
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("predict") / "run"
    words = ["model.width=4", "data.subset=60", "epochs=1", "batch_size=30", "threads=1", "device=cpu"]
    fastnoisy.train("digits-ce", *words, data=store, out=path, progress=lambda event: None)
    return path


@pytest.fixture
def images(store: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    with open_store(store) as opened:
        for row in range(3):
            Image.fromarray(opened.split("test").read_image(row)).save(folder / f"{row}.png")
    (folder / "9 broken.png").write_bytes(b"no image")
    return folder


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_the_likeliest_classes_as_further_columns(call: Call, run: Path, images: Path) -> None:
    code, one, err = call("predict", run, images)
    assert code == 0, err
    assert list(rows(one)[0]) == ["path", "class", "probability"]
    code, three, err = call("predict", run, images, "--top", 3)
    assert code == 0, err
    assert list(rows(three)[0]) == [
        "path", "class", "probability", "class_2", "probability_2", "class_3", "probability_3",
    ]  # fmt: skip
    for first, row in zip(rows(one), rows(three), strict=True):
        assert {key: row[key] for key in first} == first
        shares = [float(row[key]) for key in ("probability", "probability_2", "probability_3")]
        assert shares == sorted(shares, reverse=True)
        assert len({row[key] for key in ("class", "class_2", "class_3")}) == 3
    code, all_of_them, _ = call("predict", run, images, "--top", 99)
    assert code == 0
    for row in rows(all_of_them):
        assert len(row) == 1 + 2 * 10
        shares = [float(share) for key, share in row.items() if key.startswith("probability")]
        assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_json_lines_name_what_could_not_be_read_too(call: Call, run: Path, images: Path) -> None:
    os.rename(images / "0.png", os.fsencode(images) + b"/0\xff.png")
    _, table, _ = call("predict", run, images, "--top", 2)
    code, out, err = call("predict", run, images, "--top", 2, "--json")
    assert code == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    assert len(found) == 4
    problems = {Path(each["path"]).name: each["problem"] for each in found if "problem" in each}
    assert list(problems) == ["9 broken.png"]
    assert problems["9 broken.png"] in err
    assert {frozenset(each) for each in found} == {frozenset({"path", "top"}), frozenset({"path", "problem"})}
    told = [(each["top"][0]["class"], each["top"][1]["probability"]) for each in found if "top" in each]
    assert told == [(row["class"], float(row["probability_2"])) for row in rows(table)]
    assert os.fsencode(found[0]["path"]) == os.fsencode(images) + b"/0\xff.png"


def test_nothing_but_problems_is_an_error_in_json_too(call: Call, run: Path, images: Path) -> None:
    code, out, err = call("predict", run, images / "9 broken.png", "--json")
    assert code == 2
    assert "problem" in json.loads(out)
    assert "nothing could be predicted" in err
    code, _, err = call("predict", run, images, "--top", 0)
    assert code == 2
    assert "--top" in err


def test_from_python(run: Path, images: Path) -> None:
    opened = fastnoisy.load(run)
    for found in opened.predict(images, top=4):
        if found.problem:
            assert found.top == ()
            continue
        assert found.top[0] == (found.class_name, found.probability)
        assert len(found.top) == 4
    assert [len(found.top) for found in opened.predict(images / "1.png")] == [1]
    with pytest.raises(FastnoisyError, match=r"top=0.*at least 1"):
        next(opened.predict(images, top=0))
