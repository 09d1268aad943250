"""What labels written as texts mean: which classes there are, in which order, and which of them a text names.

Texts that differ are classes that differ: `01` and `1` are two. Two things are one all the same: `3.0`, which is how a
table that once had gaps writes 3, and texts that Unicode calls canonically equal (an accent typed apart or not).
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.lines import read_lines, shown

MAX_CLASSES = 100_000
NAMES_FILE = "classes.txt"
READINGS = ("index", "name")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"([+-]?[0-9]{1,18})(\.0*)?")
_JOINERS = dict.fromkeys((0x200C, 0x200D))  # invisible, but part of names in Persian and of many emoji
_LISTED = 12  # class names that an error lists whole


def in_order(names: Iterable[str]) -> list[str]:
    """Class names in the one order that every source gives them: by number where all are whole numbers, else sorted.

    Texts that differ are classes that differ, so `01` and `1` stand side by side, in the order of their texts.
    """
    unique = sorted(set(names))
    if all(_WHOLE.fullmatch(name) for name in unique):
        unique.sort(key=int)
    return unique


def is_name(text: str) -> bool:
    """Whether a text can name a class: no control characters, no bytes that are not UTF-8."""
    return text.translate(_JOINERS).isprintable()


def key(name: str) -> str:
    """The form in which names are compared: canonically composed (NFC), with single spaces."""
    return unicodedata.normalize("NFC", " ".join(name.split()))


def numbers_mislead(class_names: Sequence[str]) -> bool:
    """Whether a whole number means one class by index and another by name."""
    return any(
        name.isascii() and name.isdigit() and int(name) != number and int(name) < len(class_names)
        for number, name in enumerate(map(_stem, class_names))
        if len(name) <= 18
    )


class Labels:
    """A column of labels, one text per image; each different text is kept once, with the place where it first stood."""

    def __init__(self) -> None:
        self._codes = array("q")
        self._known: dict[str, int] = {}
        self._places: list[tuple[Path, int | str]] = []

    def append(self, text: str, file: Path, where: int | str) -> None:
        """Add a label, found in this file, at this line or member; its spaces count as one each."""
        text = " ".join(text.split())
        code = self._known.get(text)
        if code is None:
            code = self._known[text] = len(self._known)
            self._places.append((file, where))
        self._codes.append(code)

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def texts(self) -> list[str]:
        """The different texts, in the order in which they came."""
        return list(self._known)

    def count(self, text: str) -> int:
        """How many labels have this text."""
        return self._codes.count(self._known[text]) if text in self._known else 0

    def place(self, text: str) -> str:
        """Where a text first stood, for errors."""
        file, where = self._places[self._known[text]]
        return f"{file}, line {where}" if isinstance(where, int) else f"{file}: {where}"

    def numbers(self, meaning: Mapping[str, int]) -> np.ndarray:
        """int64 (N,): what each label's text means."""
        table = np.array([meaning[text] for text in self._known], np.int64)
        return table[np.frombuffer(self._codes, np.int64)] if len(self._codes) else np.zeros(0, np.int64)


def understand(
    kind: str,
    columns: Sequence[Labels],
    names: list[str] | None = None,
    notes: list[str] | None = None,
    by_number: bool = False,
) -> tuple[list[str], list[np.ndarray]]:
    """What the labels of all columns mean together.

    They are class numbers, from 0, where every text is a whole number without zeros before it, and most of the numbers
    up to the largest occur; of sparser ones (article numbers, say) those that occur are the classes. Otherwise they are
    names, in the order of `in_order`.

    Args:
        kind: of source, for errors.
        columns: of labels, none empty.
        names: the class names in their order, where they are known: labels are then these names, or their numbers.
        notes: what the user should know is added here.
        by_number: whether numbers are known to be those of `names`, even where all are names, too.

    Returns:
        The class names, and int64 labels (N,) for each column.

    Raises:
        FastnoisyError: names the place of a label that is out of range, not among the names, or no text.
    """
    texts = sorted({text for column in columns for text in column.texts})
    said: list[str] = [] if notes is None else notes
    if names:
        class_names, meaning = names, _among(kind, columns, texts, names, by_number)
    elif all(_is_plain_number(text) for text in texts):
        class_names, meaning = _numbered(kind, columns, texts, said)
    else:
        class_names, meaning = _named(kind, columns, texts, said)
    return class_names, [column.numbers(meaning) for column in columns]


def _stem(text: str) -> str:
    """`3` of `3.0`, of `3.` and of `3`; every other text as it is."""
    match = _NUMBER.fullmatch(text)
    return match[1] if match else text


def _is_plain_number(text: str) -> bool:
    match = _NUMBER.fullmatch(text)
    return match is not None and str(int(match[1])) == match[1]


def _numbered(
    kind: str, columns: Sequence[Labels], texts: list[str], notes: list[str]
) -> tuple[list[str], dict[str, int]]:
    meaning = {text: int(_stem(text)) for text in texts}
    for text, number in meaning.items():
        if number < 0:
            remedy = "labels that are numbers count classes from 0; write names where they are none"
            raise FastnoisyError(f"{kind}: {_place(columns, text)} has the label {text}", remedy)
    used = sorted(set(meaning.values()))
    _check_count(kind, len(used))
    if 2 * len(used) >= used[-1] + 1:
        return [str(number) for number in range(used[-1] + 1)], meaning
    notes.append(
        f"{kind}: the labels are numbers up to {used[-1]:,}, most of which do not occur; the {len(used):,} that do are "
        f"the classes; to number them otherwise, list their names in {NAMES_FILE}"
    )
    rank = {number: place for place, number in enumerate(used)}
    return [str(number) for number in used], {text: rank[number] for text, number in meaning.items()}


def _named(
    kind: str, columns: Sequence[Labels], texts: list[str], notes: list[str]
) -> tuple[list[str], dict[str, int]]:
    all_numbers = all(_NUMBER.fullmatch(text) for text in texts)
    forms: dict[str, list[str]] = {}
    for text in texts:
        if not is_name(text):  # undecodable bytes, control characters
            remedy = "save the list as UTF-8 and give each class a name in plain letters"
            raise FastnoisyError(f"{kind}: {_place(columns, text)} has the label {shown(text)}", remedy)
        name = _stem(text) if all_numbers else text
        forms.setdefault(key(name), []).append(name)
    _check_count(kind, len(forms))
    names = {}
    for form, written in forms.items():
        several = sorted(set(written))
        names[form] = form if len(several) > 1 else several[0]
        if len(several) > 1:
            notes.append(
                f"{kind}: the class {form} is written in {len(several)} ways that Unicode calls equal: one class"
            )
    class_names = in_order(names.values())
    number_of = {name: label for label, name in enumerate(class_names)}
    return class_names, {text: number_of[names[key(_stem(text) if all_numbers else text)]] for text in texts}


def _among(
    kind: str, columns: Sequence[Labels], texts: list[str], names: Sequence[str], by_number: bool
) -> dict[str, int]:
    found = _Names(names)
    by_name = {text: found.number(text) for text in texts}
    all_numbers = all(_NUMBER.fullmatch(text) for text in texts)
    if None not in by_name.values() and not (by_number and all_numbers):
        return {text: number for text, number in by_name.items() if number is not None}
    if all_numbers:
        meaning = {text: int(_stem(text)) for text in texts}
        for text, number in meaning.items():
            if not 0 <= number < len(names):
                remedy = f"labels that are numbers must be from 0 to {len(names) - 1}, of the {len(names)} class names"
                raise FastnoisyError(f"{kind}: {_place(columns, text)} has the label {text}", remedy)
        return meaning
    text = next(text for text in texts if by_name[text] is None)
    if not is_name(text):
        raise FastnoisyError(
            f"{kind}: {_place(columns, text)} has the label {shown(text)}",
            "save the list as UTF-8 and give each class a name in plain letters",
        )
    problem = f"{kind}: {_place(columns, text)} has the label {shown(text)}, which {NAMES_FILE} lacks"
    raise FastnoisyError(problem, f"{found.near(text)}add it there, or correct it here")


class _Names:
    """Class names that texts are looked up in: as they are, then canonically, then `3.0` as `3`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._exact = {name: number for number, name in enumerate(names)}
        self._keys: dict[str, int | None] = {}
        for number, name in enumerate(names):  # two names that look alike are told apart by their bytes alone
            self._keys[key(name)] = None if key(name) in self._keys else number

    def number(self, text: str) -> int | None:
        """Of the class that a text names."""
        for form in (text, _stem(text)):
            found = self._exact.get(form)
            found = self._keys.get(key(form)) if found is None else found
            if found is not None:
                return found
        return None

    def near(self, text: str) -> str:
        """Names like a text, for an error; empty where none is."""
        folded: dict[str, str] = {}
        for name in self._names:
            folded.setdefault(key(name).casefold(), name)
        close = difflib.get_close_matches(key(text).casefold(), list(folded), n=3, cutoff=0.6)
        return f"did you mean {' or '.join(shown(folded[form]) for form in close)}? " if close else ""


def to_classes(
    kind: str, path: Path, texts: Mapping[str, int], class_names: Sequence[str], labels_as: str = ""
) -> dict[str, int]:
    """What the labels in a file mean for a data set whose classes are known: their names, or their numbers from 0.

    Args:
        kind, path: for errors.
        texts: the different labels, each with the line where it first stood.
        class_names: in the order of their numbers.
        labels_as: `index` or `name`, where the user has said; empty: whichever all of them can be.

    Raises:
        FastnoisyError: a text is neither, with its line and near misses; or a number is the index of one class and the
            name of another, and nobody has said which is meant.
    """
    if labels_as not in ("", *READINGS):
        raise FastnoisyError(f"labels_as={labels_as} is not known", f"write {' or '.join(READINGS)}, or leave it out")
    known = _Names(class_names)
    names = {text: known.number(text) for text in texts}
    numbers = {text: _index(text, len(class_names)) for text in texts}
    if not labels_as:
        for text, line in texts.items():
            name, number = names[text], numbers[text]
            if name is not None and number is not None and name != number:
                raise FastnoisyError(
                    f"{kind}: {path}, line {line}, has the label {shown(text)}, which could be the class named "
                    f"{shown(class_names[name])} (number {name}) or class number {number} (named "
                    f"{shown(class_names[number])})",
                    "say which is meant for the whole file: labels_as=name or labels_as=index (--labels-as)",
                )
        labels_as = "index" if None in names.values() and None not in numbers.values() else "name"
        if None in names.values() and all(_NUMBER.fullmatch(text) for text in texts):
            labels_as = "index"
    meaning = names if labels_as == "name" else numbers
    for text, line in texts.items():
        if meaning[text] is None:
            raise FastnoisyError(
                f"{kind}: {path}, line {line}, has the label {shown(text)}, which is no class of this data set",
                _allowed(known, class_names, text, labels_as),
            )
    return {text: number for text, number in meaning.items() if number is not None}


def _allowed(known: _Names, class_names: Sequence[str], text: str, labels_as: str) -> str:
    numbers = f"numbers from 0 to {len(class_names) - 1}"
    if labels_as == "index":
        return f"labels that are numbers must be {numbers}; is the file of another data set, or does it count from 1?"
    if _index(text, len(class_names)) is not None:
        return f"a file has either names for all of its labels or {numbers}"
    if len(class_names) > _LISTED:
        return f"{known.near(text)}a label is the name of a class, spelt as in the store, or its number"
    return f"{known.near(text)}the classes are {', '.join(shown(name) for name in class_names)}"


def _index(text: str, count: int) -> int | None:
    match = _NUMBER.fullmatch(text)
    return int(match[1]) if match and 0 <= int(match[1]) < count else None


def read_class_names(kind: str, path: Path) -> list[str]:
    """The class names in a file, one a line.

    Raises:
        FastnoisyError: names the line: a name that is there twice or is no text.
    """
    names: dict[str, tuple[int, str]] = {}
    for number, line in read_lines(kind, path):
        name = " ".join(line.decode("utf-8", "surrogateescape").split())
        if not is_name(name):
            raise FastnoisyError(f"{kind}: {path}, line {number}, is {shown(name)}", "save the file as UTF-8")
        if key(name) in names:
            problem = f"{kind}: {path}, line {number}, has the class {shown(name)}, as line {names[key(name)][0]} has"
            raise FastnoisyError(problem, "each class has a name of its own")
        names[key(name)] = (number, name)
    return [name for _, name in names.values()]


def as_text(value: object) -> str | None:
    """A label of a typed table or a JSON file as text; None where it is neither a text nor a whole number."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value in (1e400, -1e400):
        return None
    return str(int(value)) if value == int(value) else None


def _place(columns: Sequence[Labels], text: str) -> str:
    return next(column.place(text) for column in columns if text in column.texts)


def _check_count(kind: str, count: int) -> None:
    if count > MAX_CLASSES:
        raise FastnoisyError(
            f"{kind}: {count:,} different labels; is this the column of the labels?",
            f"a data set has at most {MAX_CLASSES:,} classes; --columns names the columns of a list",
        )
