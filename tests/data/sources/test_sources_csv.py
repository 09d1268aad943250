"""Lists of path and label: how columns are named, what labels may be, splits, odd files, and Parquet."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest

from fastnoisy.data.sources import base, csv
from fastnoisy.data.sources._example import picture, write_picture
from fastnoisy.data.sources.base import Source
from fastnoisy.errors import FastnoisyError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for i in range(4):
        write_picture(tmp_path / f"{i}.jpg", i, i)
    return tmp_path


def opened(place: Path, text: str | bytes, name: str = "list.csv") -> Source:
    (place / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return csv.open(place / name)


def rows(source: Source) -> dict[str, list[tuple[str, int]]]:
    return {split.name: list(zip(split.paths, split.given_labels.tolist(), strict=True)) for split in source.splits}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("path,label\n0.jpg,cat\n1.jpg,dog\n", "list.csv"),
        ("label;more;path\ncat;x;0.jpg\ndog;y;1.jpg\n", "list.csv"),
        ("Filename\tClass\n0.jpg\tcat\n1.jpg\tdog\n", "list.tsv"),
        ("\ufeffimage,given_label\r\n0.jpg,cat\r\n\r\n,\r\n1.jpg,dog\r\n", "list.csv"),
        ('file , label\n"0.jpg", cat \n1.jpg,"dog"', "list.CSV"),
        ("path\tlabel\n0.jpg\tcat\n1.jpg\tdog\n".encode("utf-16"), "list.tsv"),
        ("0.jpg,cat,x\n1.jpg,dog,y\n", "list.csv"),
        ("0.jpg\tcat\n1.jpg\tdog\n", "list.txt"),
    ],
    ids=["plain", "semicolons", "tsv", "mark and blank rows", "quotes", "utf-16", "no header", "txt"],
)
def test_every_form_of_a_list(place: Path, text: str | bytes, name: str) -> None:
    source = opened(place, text, name)
    assert source.class_names == ["cat", "dog"]
    assert rows(source) == {"train": [("0.jpg", 0), ("1.jpg", 1)]}
    assert source.splits[0].clean_labels is None
    assert source.splits[0].read(1) == (place / "1.jpg").read_bytes()


def test_a_list_without_a_header_says_so(place: Path) -> None:
    assert opened(place, "0.jpg,1\n1.jpg,0\n").notes == [
        "csv: list.csv has no line with the names of columns; its first two are path and label"
    ]
    assert opened(place, "path,label\n0.jpg,1\n1.jpg,0\n").notes == []


def test_clean_labels_and_splits(place: Path) -> None:
    source = opened(
        place,
        "path,label,clean_label,split\n0.jpg,a,b,train\n1.jpg,b,b,Test\n2.jpg,b,a,training\n3.jpg,a,c,valid\n",
    )
    assert rows(source) == {"train": [("0.jpg", 0), ("2.jpg", 1)], "val": [("3.jpg", 0)], "test": [("1.jpg", 1)]}
    assert source.class_names == ["a", "b", "c"]
    clean = [split.clean_labels for split in source.splits]
    assert [labels.tolist() for labels in clean if labels is not None] == [[1, 0], [2], [1]]
    assert source.notes == ["csv: 1 of 3 classes have no image: c"]


def test_clean_labels_of_some_images_are_not_used(place: Path) -> None:
    source = opened(place, "path,label,clean_label\n0.jpg,a,b\n1.jpg,b,\n")
    assert source.splits[0].clean_labels is None
    assert source.class_names == ["a", "b"]
    assert source.notes == ["csv: clean labels are not given for every image, so none is used"]


def test_numbers_and_names_for_them(place: Path) -> None:
    text = "path,label\n0.jpg,2\n1.jpg,0\n"
    source = opened(place, text)
    assert source.class_names == ["0", "1", "2"]
    assert source.notes == ["csv: 1 of 3 classes have no image: 1"]
    (place / "classes.txt").write_text("x\ny\nz\nunused\n")
    source = opened(place, text)
    assert source.class_names == ["x", "y", "z", "unused"]
    assert source.splits[0].given_labels.tolist() == [2, 0]


def test_a_folder_of_lists(place: Path) -> None:
    (place / "train.csv").write_text("path,label\n0.jpg,cat\n1.jpg,dog\n")
    (place / "test.tsv").write_text("path\tlabel\n2.jpg\tdog\n")
    assert rows(csv.open(place)) == {"train": [("0.jpg", 0), ("1.jpg", 1)], "test": [("2.jpg", 1)]}
    assert list(rows(csv.open(place / "test.tsv"))) == ["test"]
    (place / "test.csv").write_text("path,label\n2.jpg,dog\n")
    with pytest.raises(FastnoisyError, match=r"has test\.csv and test\.tsv; one list per split"):
        csv.open(place)


def test_paths_may_be_absolute_or_lead_out(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    write_picture(other / "a b  c.jpg", 0, 0)
    source = opened(place, f"path,label\n{other}/a b  c.jpg,x\n../{place.name}/1.jpg,y\n")
    assert all(source.splits[0].read(i) for i in range(2))
    assert source.splits[0].paths[0] == f"{other}/a b  c.jpg"


def test_file_names_that_are_not_utf8(place: Path) -> None:
    name = b"caf\xe9.jpg"
    (place / os.fsdecode(name)).write_bytes(b"x")
    source = opened(place, b"path,label\n" + name + b",1\n0.jpg,0\n")
    assert source.splits[0].read(0) == b"x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("path,label\n", "lists no images"),
        ("no data at all\n", "has one column: 'no data at all'"),
        (
            "path,other\n0.jpg,1\n",
            r"columns 'path', 'other', none of which is called as a label; known are.*--columns",
        ),
        ("id,label\n0.jpg,1\n", r"has the columns 'id', 'label', none of which is called as a path"),
        ("path,label\n0.jpg,1\n1.jpg\n", r"list\.csv, line 3, has 1 columns, where 2 belong"),
        ("path,label\n0.jpg,1\na, b.jpg,1\n", r"line 3, has 3 columns.*in quotes"),
        ("0.jpg,1\n1.jpg,1,2\n", r"line 2, has 3 columns"),
        ("path,label\n0.jpg,\n", r"line 2, has no label"),
        ("path,label\n,1\n", r"line 2, has no path"),
        ("path,label\n0.jpg,1\n0\0.jpg,1\n", r"line 3, has no path"),
        ("path,label\n0.jpg,-1\n", r"list\.csv, line 2 has the label -1"),
        ("path,label,split\n0.jpg,1,holdout\n", r"line 2, has the split 'holdout'.*train, val, test"),
        (b"path,label\n0.jpg,caf\xe9\n", r"line 2 has the label 'caf\\udce9'.*UTF-8"),
        ('path,label\n"0.jpg,1\n' + "1.jpg,1\n" * 40_000, r"cannot be read: field larger.*quote that is not closed"),
        ("path,label\nx/0.jpg,1\nx/1.jpg,1\n", r"images elsewhere: none of the first 2 in .*list\.csv"),
    ],
)
def test_lists_that_are_not_as_they_should_be(place: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(FastnoisyError, match=message) as caught:
        opened(place, text)
    assert str(place / "list.csv") in caught.value.message
    assert caught.value.remedy


def test_images_listed_twice(place: Path) -> None:
    source = opened(place, "path,label,split\n0.jpg,a,train\n0.jpg,b,train\n0.jpg,b,test\n1.jpg,a,test\n")
    assert len(source.splits[0]) == 2
    assert source.notes == [
        "csv: lines of train that name an image once more: 1; all are kept",
        "csv: images both in train and in test: 1",
    ]


def test_a_folder_without_lists(place: Path) -> None:
    with pytest.raises(FastnoisyError, match=r"has no train\.csv"):
        csv.open(place)


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.parquet"])
def test_lists_are_recognised_by_their_ending(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert base.resolve(str(tmp_path / name))[0] == "csv"


# Parquet


def test_without_pyarrow_the_install_line_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FastnoisyError, match=r"needs pyarrow, which is not installed\. pip install pyarrow"):
        opened(place, b"PAR1", "list.parquet")


def parquet(place: Path, **columns: object) -> Source:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.table(columns), place / "list.parquet")
    return csv.open(place / "list.parquet")


def test_parquet(place: Path) -> None:
    names = [f"{i}.jpg" for i in range(4)]
    source = parquet(place, more=[1.5] * 4, label=[1, 0, 1, 0], path=names)
    assert rows(source) == {"train": [("0.jpg", 1), ("1.jpg", 0), ("2.jpg", 1), ("3.jpg", 0)]}
    source = parquet(
        place, path=names, label=["b", "a", "b", "a"], clean_label=["b"] * 4, split=["train", "val", "train", "train"]
    )
    assert rows(source) == {"train": [("0.jpg", 1), ("2.jpg", 1), ("3.jpg", 0)], "val": [("1.jpg", 0)]}
    assert source.splits[1].clean_labels is not None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["0.jpg"], "label": [0.5]}, "line 1, has float '0.5' as label"),
        ({"path": ["0.jpg"], "label": [None]}, "line 1, has no label"),
        ({"path": ["0.jpg"], "label": [True]}, "line 1, has bool 'True' as label"),
        ({"image": [{"bytes": b"x", "path": "0.jpg"}], "label": [1]}, "line 1, has dict .* as image"),
        ({"id": ["0.jpg"], "label": [1]}, "has the columns 'id', 'label', none of which is called as a path"),
        ({"path": [], "label": []}, "lists no images"),
    ],
)
def test_parquet_files_that_are_no_lists(place: Path, columns: dict[str, object], message: str) -> None:
    with pytest.raises(FastnoisyError, match=message):
        parquet(place, **columns)


def test_a_cut_off_parquet_file(place: Path) -> None:
    parquet(place, path=["0.jpg"], label=[1])
    data = (place / "list.parquet").read_bytes()
    for keep in (0, 3, 100, len(data) - 1):
        with pytest.raises(FastnoisyError, match="is no Parquet file, or damaged"):
            opened(place, data[:keep], "list.parquet")


# Columns


def test_corrections_beside_the_given_labels_are_taken(place: Path) -> None:
    """As a user fills them into a run's issues.csv: the others are empty."""
    text = "index,path,given_label,predicted_label,label\n0,0.jpg,cat,dog,dog\n1,1.jpg,dog,dog,\n2,2.jpg,cat,dog,drop\n"
    source = opened(place, text)
    assert source.class_names == ["dog"]
    assert rows(source) == {"train": [("0.jpg", 0), ("1.jpg", 0)]}
    assert source.notes == [
        "csv: list.csv: label is column 'label' before 'given_label'",
        "csv: list.csv: 1 labels corrected, 1 rows dropped",
    ]
    source = opened(place, "path,label,corrected_label,Drop\n0.jpg,a,b,\n1.jpg,a,,no\n2.jpg,b,,yes\n")
    assert rows(source) == {"train": [("0.jpg", 1), ("1.jpg", 0)]}


def test_a_class_may_be_called_drop(place: Path) -> None:
    assert rows(opened(place, "path,label\n0.jpg,drop\n1.jpg,a\n")) == {"train": [("0.jpg", 1), ("1.jpg", 0)]}
    source = opened(place, "path,given_label,label\n0.jpg,drop,\n1.jpg,a,drop\n2.jpg,a,\n")
    assert rows(source) == {"train": [("0.jpg", 1), ("2.jpg", 0)]}
    with pytest.raises(FastnoisyError, match=r"line 2, has 'maybe' as drop"):
        opened(place, "path,label,drop\n0.jpg,a,maybe\n")


@pytest.mark.parametrize(
    "text",
    [
        "foto,y\n0.jpg,1\n1.jpg,0\n2.jpg,1\n3.jpg,1\n",
        "picture,what it is\n0.jpg,cat\n1.jpg,dog\n2.jpg,cat\n3.jpg,dog\n",
        "x,y,z\n" + "".join(f"{i % 4}.jpg,{i % 2},0\n" for i in range(200)),
    ],
)
def test_a_header_of_other_names_is_not_taken_for_a_picture(place: Path, text: str) -> None:
    with pytest.raises(
        FastnoisyError, match=r"line 1, seems to name the columns.*known are: path \(path.*--columns path="
    ):
        opened(place, text)


def test_a_missing_file_in_the_first_line_is_no_header(place: Path) -> None:
    assert rows(opened(place, "gone.jpg,cat\n1.jpg,cat\n2.jpg,dog\n"))["train"][0] == ("gone.jpg", 0)


def test_columns_that_the_user_names(place: Path) -> None:
    (place / "list.csv").write_text("asset;who;verdict;path\n0.jpg;me;cat;x\n1.jpg;you;dog;y\n")
    source, _ = base.open_source(f"{place}/list.csv", "path=asset,label=Verdict")
    assert rows(source) == {"train": [("0.jpg", 0), ("1.jpg", 1)]}
    assert source.notes == []
    (place / "list.csv").write_text("cat,0.jpg\ndog,1.jpg\n")
    assert rows(csv.open(place / "list.csv", "path=2,label=1")) == {"train": [("0.jpg", 0), ("1.jpg", 1)]}
    with pytest.raises(FastnoisyError, match=r"has no column 'none' for path.*'cat', '0\.jpg'"):
        csv.open(place / "list.csv", "path=none,label=1")
    with pytest.raises(FastnoisyError, match=r"digits has no columns that could be named.*--columns is for .*csv"):
        base.open_source("digits", "path=a")


def test_json_lines_as_labelling_tools_write_them(place: Path) -> None:
    source = opened(
        place, '{"file_name": "0.jpg", "label": "cat"}\n{"label": "dog", "file_name": "1.jpg"}\n', "a.jsonl"
    )
    assert rows(source) == {"train": [("0.jpg", 0), ("1.jpg", 1)]}
    assert rows(opened(place, '{"0.jpg": "cat", "1.jpg": "dog"}', "b.json")) == rows(source)


def test_sparse_numbers_are_noted(place: Path) -> None:
    source = opened(place, "path,sku,label\n0.jpg,a,10023\n1.jpg,b,99999\n2.jpg,c,54001\n")
    assert source.class_names == ["10023", "54001", "99999"]
    assert len(source.notes) == 1
    assert "numbers up to 99,999, most of which do not occur; the 3 that do are the classes" in source.notes[0]
    assert opened(place, "path,label\n0.jpg,007\n1.jpg,7\n2.jpg,07\n").class_names == ["007", "07", "7"]


@pytest.mark.parametrize("word", ["Training", "VALID", "dev", "testing", "Test-Set"])
def test_words_of_splits_are_those_of_all_sources(place: Path, word: str) -> None:
    from fastnoisy.label_files.words import split_of_word

    assert list(rows(opened(place, f"path,label,split\n0.jpg,a,{word}\n"))) == [split_of_word(word)]


def test_columns_of_yes_and_no_are_no_labels(place: Path) -> None:
    source = opened(place, "path,label,clean,corrected,subset\n0.jpg,a,True,no,x\n1.jpg,b,False,yes,y\n")
    assert (source.class_names, source.notes) == (["a", "b"], [])
    assert source.splits[0].clean_labels is None


def test_paths_that_windows_has_written(tmp_path: Path) -> None:
    """With backslashes, in UTF-16, with semicolons and a header in German."""
    for i in range(6):
        write_picture(tmp_path / f"Bilder/Klasse {i % 2}/{i}.jpg", i % 2, i)
    rows = [f"Bilder\\Klasse {i % 2}\\{i}.jpg;Klasse {i % 2}" for i in range(6)]
    (tmp_path / "liste.csv").write_text("\r\n".join(["Datei;Klasse", *rows]), encoding="utf-16", newline="")
    with pytest.raises(FastnoisyError, match=r"line 1, seems to name the columns: 'Datei' is no file.*--columns"):
        csv.open(tmp_path / "liste.csv")
    source, _ = base.open_source(str(tmp_path / "liste.csv"), "path=Datei,label=Klasse")
    assert source.class_names == ["Klasse 0", "Klasse 1"]
    assert source.splits[0].read(3) == picture(1, 3)


def test_paths_whose_accents_are_encoded_otherwise(tmp_path: Path) -> None:
    """A folder from a Mac with a list that a spreadsheet has written; and a name that does hold a backslash."""
    mac = unicodedata.normalize("NFD", "été")
    names = ["café.jpg", f"{mac}/1.jpg", r"back\slash.jpg", "plain.jpg"]
    for i, name in enumerate(names):
        write_picture(tmp_path / name, i, i)
    listed = [unicodedata.normalize("NFD", names[0]), r"été\1.jpg", *names[2:]]
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(listed)))
    split = csv.open(tmp_path / "list.csv").splits[0]
    assert [split.read(i) for i in range(4)] == [picture(i, i) for i in range(4)]
