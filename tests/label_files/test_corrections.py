"""Corrections: which rows a file is about, what it says of them, and the line that counts it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.corrections import Corrected, Options, Rows, correct

NAMES = ["cat", "dog", "owl"]
TRAIN = ["train/cat/0.png", "train/cat/1 b.png", "train/dog/0.png", "train/dog/caf\u00e9.png", "train/owl/0.png"]
TEST = ["test/cat/0.png", "test/owl/0.png"]
SPLITS = {"train": Rows(np.array([0, 0, 1, 1, 2]), TRAIN), "test": Rows(np.array([0, 2]), TEST)}


def read(place: Path, text: str, name: str = "f.csv", **options: object) -> tuple[dict[str, Corrected], str]:
    (place / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    given = Options(**options) if options else None  # type: ignore[arg-type]
    return correct(place / name, SPLITS, NAMES, "folder:/data/my photos", given)


def test_changed_unchanged_and_dropped_rows_of_every_split_that_is_named(tmp_path: Path) -> None:
    found, line = read(
        tmp_path,
        "path,label\ntrain/owl/0.png,dog\ntest/owl/0.png,drop\ntrain/cat/0.png,\ntrain/dog/0.png,dog\n"
        "train/cat/1 b.png,DROP\n",
    )
    assert found["train"].labels.tolist() == [0, 0, 1, 1, 1]
    assert found["train"].changed.tolist() == [4]
    assert found["train"].dropped.tolist() == [1]
    assert found["train"].kept.tolist() == [0, 2, 3, 4]
    assert found["test"].dropped.tolist() == [1]
    assert line == (
        f"labels {tmp_path}/f.csv: train: 1 changed, 2 unchanged, 1 dropped; test: 0 changed, 0 unchanged, 1 dropped "
        "(by path)"
    )
    assert SPLITS["train"].labels.tolist() == [0, 0, 1, 1, 2]  # what was handed in stays


@pytest.mark.parametrize(
    "path",
    [
        "train/dog/caf\u00e9.png",
        "./train/dog/caf\u00e9.png",
        "train//dog/./caf\u00e9.png",
        "train\\dog\\caf\u00e9.png",
        "/data/my photos/train/dog/caf\u00e9.png",
        unicodedata.normalize("NFD", "train/dog/caf\u00e9.png"),
        unicodedata.normalize("NFD", ".\\train\\dog\\caf\u00e9.png"),
    ],
)
def test_paths_as_people_and_systems_write_them(tmp_path: Path, path: str) -> None:
    found, _ = read(tmp_path, f"file_name,label\n{path},owl\n")
    assert found["train"].changed.tolist() == [3]


def test_a_list_with_absolute_paths_is_found_by_relative_ones_and_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("path,label\nimages/1.png,dog\n")
    for source, paths in (("csv:/d/list.csv", ["/d/images/0.png", "/d/images/1.png"]),
                          ("csv:/d/list.csv", ["images/0.png", "images/1.png"])):  # fmt: skip
        splits = {"train": Rows(np.array([0, 0]), paths)}
        assert correct(tmp_path / "f.csv", splits, NAMES, source)[0]["train"].labels.tolist() == [0, 1]
    (tmp_path / "f.csv").write_text("path,label\n/d/images/1.png,dog\n")
    assert correct(tmp_path / "f.csv", splits, NAMES, source)[0]["train"].labels.tolist() == [0, 1]


def test_paths_that_unicode_calls_equal_are_two_files(tmp_path: Path) -> None:
    splits = {"train": Rows(np.array([0, 0]), ["caf\u00e9.png", "cafe\u0301.png"])}
    (tmp_path / "f.csv").write_text("path,label\ncafe\u0301.png,dog\n")
    assert correct(tmp_path / "f.csv", splits, NAMES)[0]["train"].labels.tolist() == [0, 1]
    (tmp_path / "f.csv").write_text("path,label\n./caf\u00e9.png,dog\n")
    with pytest.raises(FastnoisyError, match=r"line 2, has the path .*, which could be .* and "):
        correct(tmp_path / "f.csv", splits, NAMES)


def test_an_image_that_the_data_set_lists_twice_is_corrected_twice(tmp_path: Path) -> None:
    splits = {"train": Rows(np.array([0, 0, 2]), ["a.png", "b.png", "a.png"]), "val": Rows(np.array([2]), ["a.png"])}
    (tmp_path / "f.csv").write_text("path,label\na.png,dog\n")
    found, _ = correct(tmp_path / "f.csv", splits, NAMES)
    assert (found["train"].labels.tolist(), found["val"].labels.tolist()) == ([1, 0, 1], [1])
    (tmp_path / "f.csv").write_text("path,label,split\na.png,dog,Validation\n")
    found, _ = correct(tmp_path / "f.csv", splits, NAMES)
    assert list(found) == ["val"]


@pytest.mark.parametrize(
    ("text", "labels", "how"),
    [
        ("idx,label\n4,cat\n0,owl\n", [2, 0, 1, 1, 0], "by index, column 'idx'"),
        ("row;class\n4.0;0\n0;2\n", [2, 0, 1, 1, 0], "by index, column 'row'"),
        (",label,score\n4,0,0.5\n0,2,0.1\n", [2, 0, 1, 1, 0], "by index, first column, without a name"),
        ("cat\ncat\nowl\ndog\nowl\n", [0, 0, 2, 1, 2], "by position"),
        ("drop\ncat\nowl\ndog\nowl\n", [0, 0, 2, 1, 2], "by position"),
        ("label,score\n0,0.5\n0,0.25\n2,0.125\n1,1e-3\n2,1.0\n", [0, 0, 2, 1, 2], "by position"),
        ("n,label\n1,0\n2,0\n3,2\n4,1\n5,2\n", [0, 0, 2, 1, 2], "by position"),
    ],
)
def test_by_index_or_position(tmp_path: Path, text: str, labels: list[int], how: str) -> None:
    found, line = read(tmp_path, text)
    assert found["train"].labels.tolist() == labels
    assert how in line


def test_an_index_with_a_split(tmp_path: Path) -> None:
    found, _ = read(tmp_path, "split,index,label\ntest,1,cat\nTraining,1,owl\n")
    assert found["test"].labels.tolist() == [0, 0]
    assert found["train"].labels.tolist() == [0, 2, 1, 1, 2]


def test_an_index_beside_paths_must_agree(tmp_path: Path) -> None:
    assert read(tmp_path, "index,path,label\n4,train/owl/0.png,dog\n")[0]["train"].changed.tolist() == [4]
    text = "index,path,label\n3,train/owl/0.png,dog\n"
    with pytest.raises(FastnoisyError, match=r"line 2, has the path 'train/owl/0\.png', which is row 4 of train, and"):
        read(tmp_path, text)
    assert read(tmp_path, text, index_is_ours=False)[0]["train"].changed.tolist() == [4]
    # what pandas puts before a frame that was sorted counts the frame's rows
    assert read(tmp_path, ",path,label\n3,train/owl/0.png,dog\n")[0]["train"].changed.tolist() == [4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("index,given_label,label\n0,dog,\n1,dog,owl\n", "label is column 'label' before 'given_label'"),
        ("index,label,corrected_label\n0,dog,\n1,dog,owl\n", "label is column 'corrected_label' before 'label'"),
        (
            "index,Given Label,Class,correct label\n0,dog,owl,\n1,dog,cat,owl\n",
            "'correct label' before 'Class' and 'Gi",
        ),
        ("index,label,given_label,clean_label\n0,,dog,dog\n1,owl,cat,cat\n", "'label' before 'given_label'"),
        ("index,label,class\n0,,dog\n1,owl,cat\n", "label is column 'label', not 'class'"),
        ("index,given_label,predicted_label\n0,cat,dog\n1,owl,dog\n", "(by index, column 'index')"),
        ("index,true_label\n0,cat\n1,owl\n", "(by index, column 'index')"),
    ],
)
def test_corrections_go_before_the_given_labels_and_an_empty_one_changes_nothing(
    tmp_path: Path, text: str, said: str
) -> None:
    found, line = read(tmp_path, text)
    assert found["train"].labels.tolist() == [0, 2, 1, 1, 2]
    assert "train: 1 changed, 1 unchanged, 0 dropped" in line
    assert said in line


def test_the_issues_of_a_run_are_names_even_where_numbers_would_mislead(tmp_path: Path) -> None:
    names = ["1", "2", "0"]
    splits = {"train": Rows(np.array([0, 1, 2]), ["a", "b", "c"])}
    path = tmp_path / "issues.csv"
    path.write_text("index,path,given_label,predicted_label,label_score,is_label_issue\n0,a,2,1,0.1,True\n")
    assert correct(path, splits, names)[0]["train"].labels.tolist() == [1, 1, 2]
    path.write_text("index,given_label,clean_label\n0,2,1\n")  # labels.csv of `fastnoisy noise`
    assert correct(path, splits, names)[0]["train"].labels.tolist() == [1, 1, 2]
    path.write_text("index,label\n0,2\n")
    with pytest.raises(FastnoisyError, match="labels_as=name or labels_as=index"):
        correct(path, splits, names)


def test_a_class_called_drop_is_a_class(tmp_path: Path) -> None:
    names, splits = ["cat", "drop"], {"train": Rows(np.array([0, 0, 0]))}
    (tmp_path / "f.csv").write_text("index,label,drop\n0,drop,\n1,,True\n2,,false\n")
    found = correct(tmp_path / "f.csv", splits, names)[0]["train"]
    assert (found.labels.tolist(), found.dropped.tolist(), found.unchanged) == ([1, 0, 0], [1], 1)
    (tmp_path / "f.csv").write_text("index,label\n0,Drop\n")
    with pytest.raises(FastnoisyError, match=r"has the label 'Drop'.*did you mean 'drop'"):
        correct(tmp_path / "f.csv", splits, names)


def test_columns_that_the_user_names(tmp_path: Path) -> None:
    text = "asset,verdict,label\ntrain/cat/0.png,owl,dog\n"
    found, _ = read(tmp_path, text, columns="path=asset,label=verdict")
    assert found["train"].labels[0] == 2
    found, _ = read(tmp_path, "owl,x,train/cat/0.png\n", columns="path=3,label=1")
    assert found["train"].labels[0] == 2
    with pytest.raises(FastnoisyError, match=r"has no column 'verdikt' for label.*'asset', 'verdict'"):
        read(tmp_path, text, columns="path=asset,label=verdikt")
    with pytest.raises(FastnoisyError, match="unknown role of a column 'paths': did you mean path"):
        read(tmp_path, text, columns="paths=asset")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\ntrain/cat/0.png,dog\ncat/7.png,dog\n\n0.png,owl\n",
         r"2 of 3 paths that are none of this data set's: 'cat/7\.png' \(line 3\), '0\.png' \(line 5\).*for example"),
        ("path,label\ntrain/cat/0.png,dog\n./train/cat/0.png,owl\n",
         r"line 3, says 'owl' of row 0 of train, and line 2 says 'dog'"),
        ("index,label\n0,dog\n1,dog\n0,drop\n", "line 4, says 'drop' of row 0 of train, and line 2 says 'dog'"),
        ("index,label\n0,dog\n5,dog\n", r"line 3, has the index '5'.*from 0 to 4"),
        ("index,label\n-1,dog\n", r"line 2, has the index '-1'"),
        ("index,label\n1_0,dog\n", r"line 2, has the index '1_0'"),
        ("index,label\n,dog\n", r"line 2, has the index ''"),
        ("index,path,label\n,,dog\n", r"line 2, names no row"),
        ("path,label,split\ntrain/cat/0.png,dog,holdout\n", r"line 2, has the split 'holdout'.*train, test"),
        ("index,label,split\n0,dog,val\n", r"line 2, has the split 'val'.*there are train, test"),
        ("path,label,split\ntrain/cat/0.png,dog,test\n", r"none of this data set's"),
        ("label\n0\n1\n2\n", r"holds 3 labels without paths or an index, and train has 5 rows"),
        ("0\n" * 6, r"holds 6 labels"),
        ("0\n0\n", r"holds 2 labels"),  # as many as test has
        ("y\n0\n0\n1\n1\n2\n", r"holds 6 labels"),  # a header that is not known
        ("id,label\n4,0\n2,0\n3,0\n1,0\n0,0\n", r"its column 'id' seems to say whose label each is.*--columns"),
        ("photo,label\nb,0\na,0\nc,0\ne,0\nd,0\n", r"its column 'photo' seems to say whose label each is"),
        ("fname2,y\ntrain/cat/0.png,dog\ntrain/cat/1 b.png,dog\n", r"first line 'fname2,y', which seems to name the"),
        ("7,8\n9,10\n", r"first line '7,8', which is no path and names no columns"),
        ("path,verdict\ntrain/cat/0.png,dog\n", r"columns 'path', 'verdict', none of them known for labels.*--columns"),
        ("path,label\n", r"names no row"),
        ("path,label,drop\ntrain/cat/0.png,,maybe\n", r"line 2, has 'maybe' in the column 'drop'"),
        ("path,label\ntrain/cat/0.png,Dog\n", r"line 2, has the label 'Dog'.*did you mean 'dog'"),
        ("path,label\ntrain/\x1b[31m.png,dog\n", r"'train/\\x1b\[31m\.png' \(line 2\)"),
    ],
)  # fmt: skip
def test_what_is_not_meant_for_these_rows_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FastnoisyError, match=message) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "f.csv") in caught.value.message
    assert str(caught.value).isprintable()
