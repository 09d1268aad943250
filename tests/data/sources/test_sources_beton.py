"""Existing .beton files as a source: ours with their .meta folder, and others without one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.sources import base, beton, csv, digits
from fastnoisy.data.sources._example import picture
from fastnoisy.data.store import open_store
from fastnoisy.data.store.beton import JPG, RAW, BetonWriter
from fastnoisy.errors import FastnoisyError


def write(path: Path, labels: list[int], side: int = 8) -> Path:
    with BetonWriter(path, len(labels), 1 << 21) as writer:
        for i, label in enumerate(labels):
            writer.append(np.full((side, side, 3), i, np.uint8).tobytes(), RAW, side, side, label)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    convert(csv.make_example(tmp_path / "list"), tmp_path / "store", options=ConvertOptions())
    return tmp_path / "store"


def test_jpeg_and_raw_records(tmp_path: Path) -> None:
    path = Path(beton.make_example(tmp_path / "x"))
    source = beton.open(path)
    (train,) = source.splits
    assert source.class_names == ["0", "1"]
    assert source.fixed_size is None
    assert train.paths[4] == "shapes_train.beton/4"
    assert train.read(0) == picture(0, 0)
    pixels = train.read(3)
    assert isinstance(pixels, np.ndarray)
    assert pixels.shape == (48, 43, 3)
    assert (pixels == 120).all()


def test_names_come_from_a_file_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ffcv", [0, 2, 1])
    assert base.resolve(str(path))[0] == "beton"
    assert beton.open(path).fixed_size == (8, 8)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    assert beton.open(path).class_names == ["a", "b", "c"]
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(FastnoisyError, match=r"has the label 2.*classes\.txt has 2 names"):
        beton.open(path)


def test_the_split_is_told_by_the_name(tmp_path: Path) -> None:
    for name, split in (("val.beton", "val"), ("imagenet_train_500.beton", "train"), ("x.beton", "train")):
        assert beton.open(write(tmp_path / name, [0, 1])).splits[0].name == split


def test_a_file_of_a_store_keeps_all_that_is_known(store: Path, tmp_path: Path) -> None:
    source, _ = base.open_source(str(store / "train.beton"))
    with open_store(store) as whole:
        train = whole.split("train")
        assert source.class_names == whole.class_names == ["cat", "dog", "sea horse"]
        assert list(source.splits[0].paths) == train.sources
        assert source.splits[0].given_labels.tolist() == train.given_labels.tolist()
        assert source.splits[0].clean_labels is not None
        assert train.clean_labels is not None
        assert source.splits[0].clean_labels.tolist() == train.clean_labels.tolist()
        assert source.splits[0].read(2) == train.read_bytes(2)
    summary = convert(f"beton:{store}", tmp_path / "again", options=ConvertOptions())
    assert [split.name for split in summary.splits] == ["train", "test"]
    for name in ("train", "test"):
        assert (store / f"{name}.beton").read_bytes() == (tmp_path / f"again/{name}.beton").read_bytes()


def test_raw_records_of_a_store(tmp_path: Path) -> None:
    convert("digits", tmp_path / "digits", options=ConvertOptions())
    source = beton.open(tmp_path / "digits")
    assert source.fixed_size == (16, 16)
    assert np.array_equal(source.splits[1].read(7), digits.open().splits[1].read(7))


def test_damage_is_found_where_checksums_are_known(store: Path) -> None:
    with open_store(store) as whole:
        place = int(whole.split("train")._reader.starts[1]) + 40
    with open(store / "train.beton", "r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))
    split = beton.open(store / "train.beton").splits[0]
    with pytest.raises(FastnoisyError, match="bytes have changed"):
        split.read(1)
    assert split.read(0)


def test_files_without_their_meta_folder_are_foreign(store: Path) -> None:
    shutil.rmtree(store / "train.meta")
    source = beton.open(store / "train.beton")
    assert source.class_names == ["0", "1", "2"]
    assert source.splits[0].paths[0] == "train.beton/0"


@pytest.mark.parametrize("label", [-1, 100_000, 1 << 40])
def test_labels_that_are_no_class_numbers(tmp_path: Path, label: int) -> None:
    with pytest.raises(FastnoisyError, match=f"sample 1 has the label {label}.*from 0 to below 100,000"):
        beton.open(write(tmp_path / "x.beton", [0, label]))


def test_gaps_in_the_labels_are_noted(tmp_path: Path) -> None:
    assert beton.open(write(tmp_path / "x.beton", [1, 3])).notes == ["beton: 2 of 4 classes have no image: 0, 2"]


def test_folders_with_too_many_or_no_files(tmp_path: Path) -> None:
    with pytest.raises(FastnoisyError, match=r"has no \.beton file"):
        beton.open(tmp_path)
    write(tmp_path / "a.beton", [0])
    write(tmp_path / "train.beton", [0])
    with pytest.raises(FastnoisyError, match=r"has a\.beton and train\.beton, both of them train"):
        beton.open(tmp_path)


def test_files_with_other_classes_are_not_joined(tmp_path: Path, store: Path) -> None:
    convert("digits", tmp_path / "digits", options=ConvertOptions())
    for name in ("test.beton", "test.meta"):
        shutil.rmtree(store / name) if name.endswith("meta") else (store / name).unlink()
        (tmp_path / "digits" / name).rename(store / name)
    with pytest.raises(FastnoisyError, match="different class names"):
        beton.open(store)
    shutil.rmtree(store / "test.meta")
    with pytest.raises(FastnoisyError, match="labels up to 9, and names for 3 classes"):
        beton.open(store)


@pytest.mark.parametrize("keep", [0, 10, 1000, 3_000_000])
def test_cut_off_files(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path / "x.beton", [0, 1])
    os.truncate(path, min(keep, path.stat().st_size - 1))
    with pytest.raises(FastnoisyError, match=r"x\.beton is damaged"):
        beton.open(path)


def test_bytes_that_are_no_image_are_rejected_when_converted(tmp_path: Path) -> None:
    with BetonWriter(tmp_path / "x.beton", 3, 1 << 21) as writer:
        for i, data in enumerate((picture(0, 0), b"no jpeg", picture(1, 3))):
            writer.append(data, JPG, 72, 70, i % 2)  # of what a foreign header says, only the sizes of pixels are used
    summary = convert(str(tmp_path / "x.beton"), tmp_path / "out", options=ConvertOptions(max_rejected=0.5))
    assert (summary.splits[0].stored, summary.splits[0].rejected) == (2, 1)


def test_a_link_to_a_file_that_is_gone_is_no_missing_split(tmp_path: Path) -> None:
    write(tmp_path / "train.beton", [0, 1])
    (tmp_path / "val.beton").symlink_to("gone.beton")
    with pytest.raises(FastnoisyError, match=r"val\.beton"):
        base.open_source(f"beton:{tmp_path}")
