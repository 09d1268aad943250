"""What a conversion leaves out: how much of it is allowed, and where it is told."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy.data.conversion.convert import ConvertOptions, convert, merge
from fastnoisy.data.conversion.shards import Shard
from fastnoisy.errors import FastnoisyError

BROKEN = "a text"


def folder(root: Path, count: int, broken: int) -> Path:
    """A folder of two classes with so many images each, and some that are broken in the second."""
    for label, name in enumerate(("ant", "bee")):
        place = root / name
        place.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((90, 90 - i, 3), 10 * label + i, np.uint8)).save(place / f"{i}.jpg")
    for i in range(broken):
        (root / "bee" / f"x{i}.jpg").write_bytes(b"not an image")
    return root


def listed(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_too_many_rejected_is_an_error_and_can_be_allowed_afterwards(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", count=9, broken=2)
    with pytest.raises(FastnoisyError, match=r"train: more than 5\.0% of 20 images.*bee/x0\.jpg: a text") as caught:
        convert(str(source), tmp_path / "out")
    assert "--max-rejected" in caught.value.remedy
    assert not (tmp_path / "out").exists()
    with pytest.raises(FastnoisyError, match="bee/x0"):  # known at once
        convert(str(source), tmp_path / "out", progress=lambda status: pytest.fail("read again"))
    assert convert(str(source), tmp_path / "out", options=ConvertOptions(max_rejected=0.1)).splits[0].rejected == 2


def test_one_rejected_of_twenty_is_still_right(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", count=9, broken=1)
    Image.new("RGB", (90, 90)).save(source / "bee" / "more.jpg")
    assert convert(str(source), tmp_path / "out").splits[0].rejected == 1  # 5 % and not above it


def test_all_rejected_is_an_error_whatever_is_allowed(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", count=0, broken=3)
    with pytest.raises(FastnoisyError, match="train: not one of 3 images could be stored"):
        convert(str(source), tmp_path / "out", options=ConvertOptions(max_rejected=1.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_those_rejected_until_it_stopped_are_listed_until_it_is_done(tmp_path: Path) -> None:
    source, out = folder(tmp_path / "in", count=9, broken=6), tmp_path / "out"
    path = tmp_path / ".out.partial/train.rejected.csv"
    names = [f"bee/x{i}.jpg" for i in range(6)]
    with pytest.raises(FastnoisyError) as caught:
        convert(str(source), out, options=ConvertOptions(max_rejected=0.1), workers=1)
    assert caught.value.message.endswith(f"; all 3 so far: {path}")
    assert listed(path) == [["path", "reason"], *([name, BROKEN] for name in names[:3])]
    with pytest.raises(FastnoisyError, match="all 5 so far"):  # it goes on, and further
        convert(str(source), out, options=ConvertOptions(max_rejected=0.17), workers=1)
    assert listed(path)[1:] == [[name, BROKEN] for name in names[:5]]
    convert(str(source), out, options=ConvertOptions(max_rejected=0.3), workers=1)
    assert listed(out / "train.meta/rejected.csv")[1:] == [[name, BROKEN] for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_shards_and_what_joins_them_list_them_each_in_its_own_place(tmp_path: Path) -> None:
    source, out = folder(tmp_path / "in", count=9, broken=6), tmp_path / "out"
    strict, lax = ConvertOptions(max_rejected=0.1), ConvertOptions(max_rejected=0.3)
    convert(str(source), out, options=lax, shard=Shard(0, 2))
    with pytest.raises(FastnoisyError, match=r"all 3 so far: .*/\.out\.shard-1-of-2\.partial/train\.rejected\.csv"):
        convert(str(source), out, options=strict, shard=Shard(1, 2))
    convert(str(source), out, options=lax, shard=Shard(1, 2))
    with pytest.raises(FastnoisyError, match=r"all 3 so far: .*/\.out\.partial/train\.rejected\.csv"):
        merge(out, max_rejected=0.1)
    assert len(listed(tmp_path / ".out.partial/train.rejected.csv")) == 4
    merge(out, max_rejected=0.3)
    assert not (tmp_path / ".out.partial").exists()
    assert len(listed(out / "train.meta/rejected.csv")) == 7
