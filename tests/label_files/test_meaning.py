"""What labels as texts mean: which classes there are, their order, and which of them a text of a label file names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files import meaning


def column(*texts: str) -> meaning.Labels:
    labels = meaning.Labels()
    for line, text in enumerate(texts, 1):
        labels.append(text, Path("list.csv"), line)
    return labels


@pytest.mark.parametrize(
    ("texts", "names", "class_names", "labels"),
    [
        (["2", "0", "2"], None, ["0", "1", "2"], [2, 0, 2]),
        (["2.0", "0", "2"], None, ["0", "1", "2"], [2, 0, 2]),
        (["01", "1", "001"], None, ["001", "01", "1"], [1, 2, 0]),
        (["07", "08", "10"], None, ["07", "08", "10"], [0, 1, 2]),
        (["+1", "1", "0"], None, ["0", "+1", "1"], [1, 2, 0]),
        (["10023", "54001", "99999", "54001"], None, ["10023", "54001", "99999"], [0, 1, 2, 1]),
        (["7", "123456789123456789123"], None, ["123456789123456789123", "7"], [1, 0]),
        (["dog", "cat", "10"], None, ["10", "cat", "dog"], [2, 1, 0]),
        (["sea  horse", "sea horse"], None, ["sea horse"], [0, 0]),
        (["1", "0"], ["x", "y", "z"], ["x", "y", "z"], [1, 0]),
        (["y", "x"], ["z", "y", "x"], ["z", "y", "x"], [1, 2]),
        (["7", "3"], ["3", "7"], ["3", "7"], [1, 0]),
        (["caf\u00e9", "x"], ["x", "cafe\u0301"], ["x", "cafe\u0301"], [1, 0]),
        (["\u06cc\u200c\u0645", "x"], None, ["x", "\u06cc\u200c\u0645"], [1, 0]),
        (["\U0001f469\u200d\U0001f4bb", "x"], None, ["x", "\U0001f469\u200d\U0001f4bb"], [1, 0]),
    ],
)  # fmt: skip
def test_labels_are_numbers_or_names(
    texts: list[str], names: list[str] | None, class_names: list[str], labels: list[int]
) -> None:
    found, (numbers,) = meaning.understand("csv", [column(*texts)], names)
    assert found == class_names
    assert numbers.dtype == np.int64
    assert numbers.tolist() == labels


def test_numbers_of_known_names_stay_numbers_even_where_all_are_names() -> None:
    columns = [column("1", "2")]
    assert meaning.understand("hub", columns, ["1", "2", "3"], by_number=True)[1][0].tolist() == [1, 2]
    assert meaning.understand("csv", columns, ["1", "2", "3"])[1][0].tolist() == [0, 1]


def test_sparse_numbers_are_numbered_and_that_is_said() -> None:
    notes: list[str] = []
    meaning.understand("csv", [column("1", "5", "12")], None, notes)
    assert len(notes) == 1
    assert "numbers up to 12, most of which do not occur; the 3 that do" in notes[0]
    notes.clear()
    meaning.understand("csv", [column(*map(str, range(0, 20, 2)))], None, notes)
    assert notes == []


def test_names_that_unicode_calls_equal_are_one_class_and_that_is_said() -> None:
    notes: list[str] = []
    texts = ["Zoe\u0308", "Zo\u00eb", "x"]
    names, (labels,) = meaning.understand("csv", [column(*texts)], None, notes)
    assert (names, labels.tolist()) == (["Zo\u00eb", "x"], [0, 0, 1])
    assert notes == ["csv: the class Zo\u00eb is written in 2 ways that Unicode calls equal: one class"]
    notes.clear()
    assert meaning.understand("csv", [column("Zoe\u0308", "x")], None, notes)[0] == ["Zoe\u0308", "x"]  # as it was
    assert notes == []


@pytest.mark.parametrize(
    ("texts", "names", "message"),
    [
        (["0", "-1"], None, r"list\.csv, line 2 has the label -1.*count classes from 0"),
        (["0", "2"], ["x", "y"], r"line 2 has the label 2\..*from 0 to 1, of the 2 class names"),
        (["x", "w"], ["x", "y"], r"line 2 has the label 'w', which classes\.txt lacks"),
        (["horse", "hores"], ["horse", "cow"], r"line 2 has the label 'hores'.*did you mean 'horse'"),
        (["x", "a\x07"], None, r"line 2 has the label 'a\\x07'.*UTF-8"),
        (["x", "a\u202eb"], None, r"line 2 has the label 'a\\u202eb'.*UTF-8"),
    ],
)
def test_labels_that_mean_nothing(texts: list[str], names: list[str] | None, message: str) -> None:
    with pytest.raises(FastnoisyError, match=message):
        meaning.understand("csv", [column(*texts)], names)


def test_too_many_different_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meaning, "MAX_CLASSES", 2)
    assert len(meaning.understand("csv", [column("a", "b", "a")])[0]) == 2
    for texts in (("a", "b", "c"), ("0", "1", "2"), ("10", "200", "3000")):
        with pytest.raises(FastnoisyError, match=r"3 different labels; is this the column"):
            meaning.understand("csv", [column(*texts)])


def test_a_label_of_several_columns_means_the_same_in_all() -> None:
    names, labels = meaning.understand("csv", [column("dog"), column("cat", "dog")])
    assert names == ["cat", "dog"]
    assert [numbers.tolist() for numbers in labels] == [[1], [0, 1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\na\n", r"line 3, has the class 'a', as line 1"),
        ("caf\u00e9\ncafe\u0301\n".encode(), r"line 2, has the class '.*', as line 1"),
        (b"a\n\xff\n", "line 2, is"),
        (b"", "is empty"),
    ],
)
def test_class_names_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(FastnoisyError, match=message):
        meaning.read_class_names("csv", tmp_path / "classes.txt")


@pytest.mark.parametrize(
    ("value", "text"),
    [("a b ", "a b"), (3, "3"), (3.0, "3"), (3.5, None), (True, None), (None, None), (float("nan"), None), ([], None)],
)
def test_typed_values_as_labels(value: object, text: str | None) -> None:
    assert meaning.as_text(value) == text


# For a data set whose classes are known

ANIMALS = ["cat", "dog", "horse"]
TEXT_ORDER = ["0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9"]


def classes(texts: list[str], names: list[str], labels_as: str = "") -> list[int]:
    found = meaning.to_classes("labels", Path("f.csv"), {t: i for i, t in enumerate(texts, 2)}, names, labels_as)
    return [found[text] for text in texts]


@pytest.mark.parametrize(
    ("texts", "names", "labels_as", "numbers"),
    [
        (["dog", "cat"], ANIMALS, "", [1, 0]),
        (["2", "0.0", "01"], ANIMALS, "", [2, 0, 1]),
        (["3", "2.0"], list("0123"), "", [3, 2]),  # index and name are one
        (["10", "11"], [str(i) for i in range(1, 12)], "name", [9, 10]),
        (["10", "3"], TEXT_ORDER, "name", [2, 5]),
        (["10", "3"], TEXT_ORDER, "index", [10, 3]),
        (["54001", "99999"], ["10023", "54001", "99999"], "", [1, 2]),  # no index so large
        (["cafe\u0301"], ["caf\u00e9", "x"], "", [0]),
        ([unicodedata.normalize("NFD", "\uac15\uc544\uc9c0")], ["x", "\uac15\uc544\uc9c0"], "", [1]),
        (["caf\u00e9", "cafe\u0301"], ["cafe\u0301", "caf\u00e9"], "", [1, 0]),  # told apart by their bytes
        ([], ANIMALS, "", []),
    ],
)
def test_what_texts_mean_for_known_classes(
    texts: list[str], names: list[str], labels_as: str, numbers: list[int]
) -> None:
    assert classes(texts, names, labels_as) == numbers


@pytest.mark.parametrize(
    ("texts", "names", "labels_as", "message"),
    [
        (["0", "10"], TEXT_ORDER, "", r"line 3.*'10'.*class named '10' \(number 2\) or class number 10 \(named '8'\)"),
        (
            ["1"],
            ["1", "2", "3"],
            "",
            r"class named '1' \(number 0\) or class number 1 \(named '2'\).*labels_as=name",
        ),
        (["dog", "Cat"], ANIMALS, "", r"f\.csv, line 3, has the label 'Cat'.*did you mean 'cat'\? the classes are"),
        (["cat", "hores"], ANIMALS, "", r"line 3.*did you mean 'horse'"),
        (["cat", "2"], ANIMALS, "", r"line 3, has the label '2'.*either names for all of its labels or numbers"),
        (["0", "3"], ANIMALS, "", r"line 3, has the label '3'.*from 0 to 2.*count from 1"),
        (["0", "-1"], ANIMALS, "", r"line 3, has the label '-1'.*from 0 to 2"),
        (["1_0"], ANIMALS, "", r"'1_0', which is no class"),
        (["9" * 40], ANIMALS, "", r"which is no class"),
        (["cat\x1b[2J"], ANIMALS, "", r"'cat\\x1b\[2J'"),
        (["8"], TEXT_ORDER[:5], "name", r"'8', which is no class"),
        (["12"], TEXT_ORDER, "index", r"'12', which is no class.*from 0 to 11"),
        (["1"], ANIMALS, "names", r"labels_as=names is not known. write index or name"),
    ],
)
def test_texts_that_name_no_class_or_two(texts: list[str], names: list[str], labels_as: str, message: str) -> None:
    with pytest.raises(FastnoisyError, match=message):
        classes(texts, names, labels_as)


def test_numbers_mislead_where_index_and_name_differ() -> None:
    assert meaning.numbers_mislead(TEXT_ORDER)
    assert meaning.numbers_mislead(["1", "2"])
    assert meaning.numbers_mislead(["1.0", "2.0"])
    assert not meaning.numbers_mislead(["0.0", "1.0", "v2.0"])
    assert not meaning.numbers_mislead(list("0123"))
    assert not meaning.numbers_mislead(["10023", "54001"])
    assert not meaning.numbers_mislead(ANIMALS)
