"""Image sets as the Hugging Face Hub keeps them: files, splits, configurations, class names, and what is damaged."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from fastnoisy.data.conversion.convert import convert
from fastnoisy.data.sources import base, hub
from fastnoisy.data.sources._example import picture
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = ["zebra", "10", "9"]


def write(file: Path, labels: list[Any], *, names: list[str] | None = None, column: str = "label", **more: Any) -> None:
    """A file as the `datasets` library writes it, of images told apart by their number."""
    file.parent.mkdir(parents=True, exist_ok=True)
    features: dict[str, Any] = {"image": {"_type": "Image"}, column: {"dtype": "int64", "_type": "Value"}}
    if names is not None:
        features[column] = {"names": names, "_type": "ClassLabel"}
    images = [{"bytes": picture(i % 7, i), "path": f"a/{i}.jpg"} for i in range(len(labels))]
    arrays = {"image": pa.array(images, STRUCT), column: pa.array(labels), **{k: pa.array(v) for k, v in more.items()}}
    table = pa.table(arrays).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, file, row_group_size=3)


def test_files_in_data_are_splits_and_names_come_from_the_schema(tmp_path: Path) -> None:
    write(tmp_path / "data/train-00000-of-00002.parquet", [0, 2, 1, 0], names=NAMES)
    write(tmp_path / "data/train-00001-of-00002-0123456789abcdef.parquet", [2, 2], names=NAMES)
    write(tmp_path / "data/validation-00000-of-00001.parquet", [1], names=NAMES)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / ".cache").mkdir()
    assert base.resolve(str(tmp_path))[0] == "hub"
    source = hub.open(tmp_path)
    assert source.class_names == NAMES  # in the schema's order, not sorted
    train, val = source.splits
    assert (train.name, val.name) == ("train", "val")
    assert train.given_labels.tolist() == [0, 2, 1, 0, 2, 2]
    assert list(train.paths)[3:5] == [
        "data/train-00000-of-00002.parquet/3/3.jpg",
        "data/train-00001-of-00002-0123456789abcdef.parquet/0/0.jpg",
    ]
    assert [train.read(i) for i in (5, 3, 0, 4)] == [picture(i, i) for i in (1, 3, 0, 0)]
    assert hub.open(tmp_path / "data").class_names == NAMES


@pytest.mark.parametrize(
    "place", ["{}.parquet", "default/{}/0000.parquet", "plain/{}-00000-of-00001.parquet", "x_{}_y.parquet"]
)
def test_the_split_is_told_by_the_name_or_the_folder(tmp_path: Path, place: str) -> None:
    for word in ("Train", "test"):
        write(tmp_path / place.format(word), [0, 1], names=NAMES)
    assert [split.name for split in hub.open(tmp_path).splits] == ["train", "test"]


def test_files_that_name_no_split_are_train(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"{number:04d}.parquet", [0, 1], names=NAMES)
    (split,) = hub.open(tmp_path).splits
    assert (split.name, len(split)) == ("train", 4)
    write(tmp_path / "one.parquet", [0, 1], names=NAMES)
    assert hub.open(tmp_path / "one.parquet").splits[0].name == "train"
    assert base.resolve(str(tmp_path / "one.parquet"))[0] == "hub"


def test_other_splits_are_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path / "data/train-00000-of-00001.parquet", [0, 1, 2], names=NAMES)
    for number in range(2):
        write(tmp_path / f"data/extra-0000{number}-of-00002.parquet", [0, 1, 2], names=NAMES)
    source = hub.open(tmp_path)
    assert [len(split) for split in source.splits] == [3]
    assert source.notes == ["hub: 'extra' is none of train, val, test, so its 2 files are left out"]


def test_several_configurations_are_refused(tmp_path: Path) -> None:
    for name in ("clean", "noisy"):
        write(tmp_path / name / "train-00000-of-00001.parquet", [0, 1], names=NAMES)
    with pytest.raises(FastnoisyError, match=r"several configurations: clean, noisy.* as in hub:.*/noisy"):
        hub.open(tmp_path)
    assert len(hub.open(tmp_path / "noisy").splits[0]) == 2


def test_what_has_no_label_is_rejected_and_a_split_without_any_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "data/train-00000-of-00001.parquet", [0, -1, 1, None], names=NAMES)
    write(tmp_path / "data/test-00000-of-00001.parquet", [-1, -1], names=NAMES)
    source = hub.open(tmp_path)
    (split,) = source.splits
    assert split.given_labels.tolist() == [0, 1]
    assert [Path(path).name for path, _ in split.rejected] == ["1.jpg", "3.jpg"]
    assert source.notes[0] == "hub: test is left out: none of its 2 images has a label"
    assert split.read(1) == picture(2, 2)


def test_clean_labels_beside_given_ones(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1, 2], names=NAMES, clean_label=[0, 2, 2])
    split = hub.open(tmp_path).splits[0]
    assert split.clean_labels is not None
    assert (split.given_labels.tolist(), split.clean_labels.tolist()) == ([0, 1, 2], [0, 2, 2])


def test_without_the_library_s_notes_labels_are_numbers_or_names(tmp_path: Path) -> None:
    images = pa.array([picture(0, i) for i in range(3)])  # bytes, as pandas writes them
    parquet.write_table(pa.table({"img": images, "label": ["b", "a", "b"]}), tmp_path / "train.parquet")
    source = hub.open(tmp_path)
    assert (source.class_names, source.splits[0].given_labels.tolist()) == (["a", "b"], [1, 0, 1])
    assert source.splits[0].read(2) == picture(0, 2)


def test_images_beside_the_file_are_read_and_none_outside(tmp_path: Path) -> None:
    (tmp_path / "set/data/images").mkdir(parents=True)
    (tmp_path / "set/data/images/0.jpg").write_bytes(picture(0, 0))
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    cells = [{"bytes": None, "path": path} for path in ("images/0.jpg", "../../secret.jpg", None)]
    table = pa.table({"image": pa.array(cells, STRUCT), "label": [0, 1, 0]})
    parquet.write_table(table, tmp_path / "set/data/train-00000-of-00001.parquet")
    split = hub.open(tmp_path / "set").splits[0]
    assert split.read(0) == picture(0, 0)
    for row, problem in ((1, "leads out of the folder"), (2, "has no image")):
        with pytest.raises(FastnoisyError, match=problem):
            split.read(row)


def no_text(file: Path, text: bytes) -> None:
    """Make a text of a file one that is no UTF-8."""
    data = file.read_bytes()
    assert text in data
    file.write_bytes(data.replace(text, b"\xf4" + text[1:]))


def test_what_is_no_such_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    table = pa.table([pa.array([1]), pa.array([2]), pa.array([b"x"])], ["label", "label", "image"])
    parquet.write_table(table, tmp_path / "a/train.parquet")
    with pytest.raises(FastnoisyError, match="several columns called 'label'"):
        hub.open(tmp_path / "a")
    write(tmp_path / "b/train.parquet", [0, 1], names=["x", "y"], column="fine", coarse=[0, 0])
    assert hub.open(tmp_path / "b").class_names == ["x", "y"]  # the one column of labels
    write(tmp_path / "c/train.parquet", [0, 1], column="answer")
    with pytest.raises(FastnoisyError, match="no column of labels; its columns are image, answer"):
        hub.open(tmp_path / "c")
    write(tmp_path / "d/train-00000-of-00002.parquet", [0, 1], names=["x", "y"])
    write(tmp_path / "d/train-00001-of-00002.parquet", [0, 1], names=["y", "x"])
    with pytest.raises(FastnoisyError, match="other class names"):
        hub.open(tmp_path / "d")
    write(tmp_path / "e/train.parquet", [0, 7], names=NAMES)
    with pytest.raises(FastnoisyError, match="label 7"):
        hub.open(tmp_path / "e")
    (tmp_path / "f").mkdir()
    (tmp_path / "f/train.parquet").write_bytes(b"PAR1 and no more PAR1")
    with pytest.raises(FastnoisyError, match=r"no Parquet file, or damaged"):
        hub.open(tmp_path / "f")
    (tmp_path / "g").mkdir()
    for text in (b"a/1.jpg", b"fine"):  # a cell, and a column's name
        (tmp_path / "g/train.parquet").write_bytes((tmp_path / "b/train.parquet").read_bytes())
        no_text(tmp_path / "g/train.parquet", text)
        with pytest.raises(FastnoisyError, match=r"damaged: .*can't decode byte 0xf4"):
            hub.open(tmp_path / "g")
    parquet.write_table(pa.table({"path": ["a.jpg"], "label": [0]}), tmp_path / "list.parquet")
    assert base.resolve(str(tmp_path / "list.parquet"))[0] == "csv"


def test_columns_that_the_user_names(tmp_path: Path) -> None:
    """As in CIFAR-100, and in sets with noisy labels beside others."""
    write(tmp_path / "a/train.parquet", [0, 1, 2], names=NAMES, column="fine_label", coarse_label=[1, 1, 0])
    source, _ = base.open_source(str(tmp_path / "a"), "label=coarse_label")
    assert source.class_names == ["0", "1"]
    assert source.splits[0].given_labels.tolist() == [1, 1, 0]
    write(tmp_path / "b/train.parquet", [0, 1, 2], names=NAMES, noisy_label=[0, 0, 0])
    source = hub.open(tmp_path / "b")
    assert source.splits[0].given_labels.tolist() == [0, 1, 2]
    assert source.notes == ["hub: labels are column 'label', not 'noisy_label'"]
    source = hub.open(tmp_path / "b", "label=noisy_label,clean=label")
    assert source.splits[0].clean_labels is not None
    assert source.splits[0].clean_labels.tolist() == [0, 1, 2]
    for columns, problem in (
        ("label=x", "no column 'x'"),
        ("path=label", "no column of images"),
        ("drop=x", "means nothing"),
    ):
        with pytest.raises(FastnoisyError, match=problem):
            hub.open(tmp_path / "b", columns)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_what_the_parent_has_listed(tmp_path: Path, start: str) -> None:
    write(tmp_path / "in/train-00000-of-00001.parquet", [i % 3 for i in range(40)], names=NAMES)
    write(tmp_path / "in/test-00000-of-00001.parquet", [i % 3 for i in range(9)], names=NAMES)
    convert(str(tmp_path / "in"), tmp_path / "out", workers=2, start=start)
    with open_store(tmp_path / "out") as store:
        train = store.split("train")
        assert [train.read_bytes(i) for i in range(40)] == [picture(i % 7, i) for i in range(40)]
        assert np.array_equal(train.given_labels, [i % 3 for i in range(40)])


def test_one_row_group_is_read_in_pieces(tmp_path: Path) -> None:
    """As pandas writes it: a group of all rows, which need not fit into memory."""
    images = [{"bytes": os.urandom(1 << 20), "path": None} for _ in range(40)]
    table = pa.table({"image": pa.array(images, STRUCT), "label": [i % 2 for i in range(40)]})
    parquet.write_table(
        table, tmp_path / "train.parquet", row_group_size=40, data_page_size=1 << 20, write_batch_size=2
    )
    split = hub.open(tmp_path).splits[0]
    before = pa.total_allocated_bytes()
    assert split.read(30) == images[30]["bytes"]
    assert pa.total_allocated_bytes() - before < 20 << 20
    assert split.read(2) == images[2]["bytes"]


def test_folders_are_listed_as_all_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to a file that is gone, or a folder that may not be listed, takes no part of the data away unsaid."""
    root = Path(hub.make_example(tmp_path))
    (root / "data/train-00002-of-00003.parquet").symlink_to("gone.parquet")
    with pytest.raises(FastnoisyError, match=r"train-00002-of-00003\.parquet is a link to what is not there"):
        hub.open(root)
    (root / "data/train-00002-of-00003.parquet").unlink()
    (root / "data/more").mkdir()
    scandir = os.scandir

    def scan(path: str) -> object:
        if os.fspath(path).endswith("more"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(FastnoisyError, match=r"cannot list .*more: .*permission denied"):
        hub.open(root)
