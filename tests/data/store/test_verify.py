"""Verify: no byte of a store changes unseen, and files of another writer become a store only where they are sound."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy.data.conversion.adopt import adopt
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import beton, open_store
from fastnoisy.data.store.verify import verify
from fastnoisy.errors import FastnoisyError

ROOT = Path(__file__).resolve().parents[2]


def picture(seed: int, side: int) -> Image.Image:
    rows, columns = np.mgrid[0:side, 0 : side + 3 * seed]
    return Image.fromarray(np.stack([rows * 3 + seed, columns * 2, rows * columns + 9 * seed], axis=2).astype(np.uint8))


@pytest.fixture(scope="module", params=["jpg", "raw"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two splits over several pages, with a rejected file, a noted one, and clean labels unknown."""
    folder = tmp_path_factory.mktemp("whole")
    for split, count in (("train", 12), ("val", 3)):
        for label, name in enumerate(("ant", "bee")):
            place = folder / "source" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                picture(10 * label + i, 90 + i).save(place / f"{i}.jpg", quality=80)
    picture(1, 70).save(place / "film.gif", save_all=True, append_images=[picture(2, 70)])
    (place / "broken.jpg").write_bytes(b"no image")
    options = ConvertOptions(resize="max=800", store=request.param, max_rejected=0.5)
    convert(str(folder / "source"), folder / "store", options=options)
    return folder / "store"


def files(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if path.is_file())


def places(store: Path, seed: int, count: int) -> list[tuple[Path, int]]:
    """Random bytes: half of them spread over the files alike, half over all bytes, most of which are images."""
    draw = random.Random(seed)
    found = files(store)
    sizes = [path.stat().st_size for path in found]
    chosen = [draw.choice(found) for _ in range(count // 2)] + draw.choices(found, sizes, k=count - count // 2)
    return [(path, draw.randrange(path.stat().st_size)) for path in chosen]


def flip(path: Path, place: int, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        value = file.read(1)[0]
        file.seek(place)
        file.write(bytes([value ^ (1 << bit)]))


def test_every_flipped_bit_is_found_and_named(whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(whole, copy)
    stamps = {path: path.read_bytes() for path in copy.rglob("verified.json")}
    for number, (path, place) in enumerate(places(copy, seed=1, count=60)):
        flip(path, place, number % 8)
        problems = verify(copy, workers=1)
        assert problems, f"bit {number % 8} of byte {place} of {path}"
        assert any(path.name in problem for problem in problems), (path, problems)
        flip(path, place, number % 8)
        for stamp, content in stamps.items():
            stamp.write_bytes(content)
    assert verify(copy) == []


def test_every_truncation_is_found_and_named(whole: Path, tmp_path: Path) -> None:
    for number, (path, place) in enumerate(places(whole, seed=2, count=20)):
        copy = tmp_path / f"store{number}"
        shutil.copytree(whole, copy)
        cut = copy / path.relative_to(whole)
        os.truncate(cut, place)
        problems = verify(copy, workers=1)
        assert any(cut.name in problem for problem in problems), (cut, place, problems)


@pytest.mark.parametrize("name", ["train.beton", "train.meta", "val.meta/rejected.csv", "val.meta/SHA256SUMS"])
def test_what_is_gone_is_named(whole: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "store"
    shutil.copytree(whole, copy)
    shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()
    assert any(name.rpartition("/")[2] in problem for problem in verify(copy, workers=1))


def test_a_damaged_record_is_named_with_its_source(whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(whole, copy)
    reader = beton.BetonReader(copy / "train.beton")
    reader.close()
    flip(reader.path, int(reader.starts[13]) + 5, 0)
    (problem,) = verify(copy)
    assert "train.beton: record 13 (train/bee/1.jpg) is damaged" in problem
    with open_store(copy) as store:
        assert not store.split("train").verified
        assert store.split("val").verified


def test_a_changed_stamp_is_told_once_and_mended(whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(whole, copy)
    flip(copy / "val.meta/verified.json", 3, 1)
    assert ["verified.json has changed" in problem for problem in verify(copy)] == [True]
    assert verify(copy) == []


def test_a_store_that_cannot_be_written_can_be_verified(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fastnoisy.data.store.Split.stamp", refuse)
    lines: list[str] = []
    assert verify(whole, say=lines.append) == []
    assert lines[0] == "train: the stamp cannot be written: Permission denied"


def test_progress_counts_every_record(whole: Path) -> None:
    calls: list[tuple[int, int, int]] = []
    verify(whole, progress=lambda status: calls.append((status.done, status.total, status.bad)))
    assert calls == [(i, 31, 0) for i in range(1, 32)]


# Files of another writer


def jpeg(image: Image.Image, **options: object) -> bytes:
    target = BytesIO()
    image.save(target, "JPEG", **options)  # type: ignore[arg-type]
    return target.getvalue()


def foreign(path: Path, records: list[tuple[bytes, int, int]]) -> None:
    """A .beton without .meta, of (bytes, height, width) in two classes."""
    path.parent.mkdir(exist_ok=True)
    with beton.BetonWriter(path, len(records), 1 << 21) as writer:
        for i, (data, height, width) in enumerate(records):
            raw = len(data) == height * width * 3
            writer.append(data, beton.RAW if raw else beton.JPG, height, width, i % 2)


def sound() -> list[tuple[bytes, int, int]]:
    images = [picture(i, 60) for i in range(4)]
    found = [(jpeg(image), image.height, image.width) for image in images]
    return [*found, (images[3].tobytes(), images[3].height, images[3].width)]


def test_sound_files_of_another_writer_become_a_store(tmp_path: Path) -> None:
    foreign(tmp_path / "in/train.beton", sound())
    foreign(tmp_path / "in/val.beton", sound()[:2])
    (tmp_path / "in/classes.txt").write_text("ant\nbee\n")
    lines: list[str] = []
    assert adopt(tmp_path / "in", say=lines.append) == []
    assert lines[0] == "train: 5 records of another writer are sound; wrote train.meta"
    with open_store(tmp_path / "in") as store:
        assert store.class_names == ["ant", "bee"]
        train = store.split("train")
        assert (train.verified, train.canvas, train.given_labels.tolist()) == (True, (60, 69), [0, 1, 0, 1, 0])
        assert (train.read_image(4) == np.asarray(picture(3, 60))).all()
    assert verify(tmp_path / "in") == []
    assert adopt(tmp_path / "in") == []


def test_a_store_that_has_lost_its_meta_folders_is_not_taken_for_another_writers(whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(whole, copy)
    shutil.rmtree(copy / "val.meta")
    assert any("val.meta" in problem for problem in adopt(copy))  # a conversion's other folder is there
    shutil.rmtree(copy / "train.meta")
    with pytest.raises(
        FastnoisyError, match=r"store has \.beton files and no SPLIT\.meta.*fastnoisy verify .*store --adopt"
    ):
        verify(copy)
    assert files(copy) == [copy / "train.beton", copy / "val.beton"]


@pytest.mark.parametrize("one_before", [False, True])
@pytest.mark.parametrize(("stop", "at"), [("write_meta", 1), ("os.rename", 0), ("os.rename", 1), ("shutil.rmtree", 0)])
def test_an_adoption_that_is_killed_can_be_asked_for_again(
    tmp_path: Path, one_before: bool, stop: str, at: int
) -> None:
    """Killed before the second folder is written, or as they are named; also where a file was adopted alone before."""
    foreign(tmp_path / "in/val.beton", sound()[:2])
    if one_before:
        assert adopt(tmp_path / "in") == []
    foreign(tmp_path / "in/train.beton", sound())
    code = f"""
import itertools, os, shutil
from fastnoisy.data.conversion import adopt
calls, true = itertools.count(), adopt.{stop}
def second(*arguments, **options):
    if next(calls) == {at}:
        os._exit(9)
    return true(*arguments, **options)
adopt.{stop} = second
adopt.adopt({str(tmp_path / "in")!r}, workers=1)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 9
    assert adopt(tmp_path / "in") == []
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == [
        "train.beton", "train.meta", "val.beton", "val.meta"
    ]  # fmt: skip
    with open_store(tmp_path / "in") as store:
        assert [split.verified for split in store.splits.values()] == [True, True]


@pytest.mark.parametrize("kind", ["cut off", "other size", "cmyk", "no image"])
def test_unsound_files_of_another_writer_get_no_stamp(tmp_path: Path, kind: str) -> None:
    records = sound()
    data, height, width = records[2]
    records[2] = {
        "cut off": (data[: len(data) // 2], height, width),
        "other size": (data, height + 1, width),
        "cmyk": (jpeg(picture(0, 60).convert("CMYK")), 60, 60),
        "no image": (b"\xff\xd8\xff and no more", height, width),
    }[kind]
    foreign(tmp_path / "in/train.beton", records)
    (problem,) = adopt(tmp_path / "in")
    assert "train.beton: record 2: " in problem
    assert not (tmp_path / "in/train.meta").exists()


def test_a_file_whose_name_is_no_split_says_what_to_do(tmp_path: Path) -> None:
    foreign(tmp_path / "in/imagenet.beton", sound())
    with pytest.raises(FastnoisyError, match=r"imagenet\.beton has no imagenet\.meta.*train\.beton"):
        adopt(tmp_path / "in")
