"""The store that an audit makes of a source: taken again, made anew, and never another's."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

import fastnoisy
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_audit.converted import store_of
from fastnoisy.label_audit.output import check_free


class Told:
    """What a user was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def again(self, data: Path | str, folder: Path) -> Path:
        self.lines.clear()
        return store_of(str(data), folder, 1, self.lines.append, self.lines.append, lambda what: lambda status: None)

    @property
    def anew(self) -> bool:
        return any("is made anew" in line for line in self.lines)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (16, 16), (99 * number, 20 * i, 0)).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def test_a_store_that_no_audit_made_stays(photos: Path, tmp_path: Path) -> None:
    work, told = tmp_path / "work", Told()
    fastnoisy.convert(photos, work / "store", workers=1)
    before = {path: path.read_bytes() for path in (work / "store").rglob("*") if path.is_file()}
    with pytest.raises(FastnoisyError, match="holds no earlier audit"):
        check_free(work)
    (work / "summary.json").write_text("{}")  # of an audit of something else
    check_free(work)
    with pytest.raises(FastnoisyError, match=r"no audit made it\. name another folder with --out"):
        told.again(photos, work)
    assert {path: path.read_bytes() for path in (work / "store").rglob("*") if path.is_file()} == before


def test_the_earlier_store_stays_until_there_is_another(photos: Path, tmp_path: Path) -> None:
    work, told = tmp_path / "work", Told()
    made = told.again(photos, work)
    check_free(work)  # as an audit leaves it that is stopped now
    Image.new("RGB", (16, 16), (7, 7, 7)).save(photos / "cat" / "new.png")
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(FastnoisyError):
        told.again(photos, work)
    assert told.anew
    with open_store(made) as store:
        assert len(store.split("train").sources) == 6
    check_free(work)


def test_what_an_audit_left_that_was_stopped_before_the_swap(photos: Path, tmp_path: Path) -> None:
    work, told = tmp_path / "work", Told()
    made = told.again(photos, work)
    made.rename(work / "store-anew")
    Image.new("RGB", (16, 16), (7, 7, 7)).save(photos / "cat" / "new.png")
    check_free(work)
    with open_store(told.again(photos, work)) as store:
        assert "cat/new.png" in store.split("train").sources
    assert [path.name for path in work.iterdir()] == ["store"]


def test_an_image_of_a_list_that_is_another_now(photos: Path, tmp_path: Path) -> None:
    listed, told = tmp_path / "list.csv", Told()
    listed.write_text("path,label\nphotos/cat/0.png,cat\nphotos/cat/1.png,cat\nphotos/dog/0.png,dog\n")
    told.again(listed, tmp_path / "work")
    told.again(listed, tmp_path / "work")
    assert not told.anew
    Image.new("RGB", (20, 20)).save(photos / "cat" / "1.png")
    told.again(listed, tmp_path / "work")
    assert told.anew
    (photos / "cat" / "1.png").unlink()
    told.again(listed, tmp_path / "work")
    assert told.anew
    listed.write_text(listed.read_text().replace("dog\n", "cat\n", 1).replace("0.png,cat", "0.png,dog", 1))
    told.again(listed, tmp_path / "work")
    assert told.anew


def test_shards_named_by_a_pattern(photos: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        (photos / f"{name}.cls").write_text(str(number))
        with tarfile.open(tmp_path / f"shards-{number}.tar", "w") as shard:
            for i in range(3):
                shard.add(photos / name / f"{i}.png", f"{name}{i}.png")
                shard.add(photos / f"{name}.cls", f"{name}{i}.cls")
    told = Told()
    pattern = f"wds:{tmp_path}/shards-{{0..1}}.tar"
    assert told.again(pattern, tmp_path / "work") == told.again(pattern, tmp_path / "work")
    assert not told.anew
    os.utime(tmp_path / "shards-1.tar", (1, 1))
    told.again(pattern, tmp_path / "work")
    assert told.anew
