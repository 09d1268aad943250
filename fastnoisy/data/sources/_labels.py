"""Labels as texts, which turn out to be numbers or names; and the names of classes from a file beside the data."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastnoisy.data.sources._lists import read_lines
from fastnoisy.errors import FastnoisyError

MAX_CLASSES = 100_000
NAMES_FILE = "classes.txt"
_NUMBER = re.compile(r"([+-]?[0-9]+)(\.0*)?")  # 3.0 is how a table that once had gaps writes 3


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

    def place(self, text: str) -> str:
        """Where a text first stood, for errors."""
        file, where = self._places[self._known[text]]
        return f"{file}, line {where}" if isinstance(where, int) else f"{file}: {where}"

    def numbers(self, meaning: dict[str, int]) -> np.ndarray:
        """int64 (N,): what each label's text means."""
        table = np.array([meaning[text] for text in self._known], np.int64)
        return table[np.frombuffer(self._codes, np.int64)] if len(self._codes) else np.zeros(0, np.int64)


def understand(
    kind: str, columns: Sequence[Labels], names: list[str] | None = None
) -> tuple[list[str], list[np.ndarray]]:
    """What the labels of all columns mean together.

    They are numbers, from 0, where every one is; otherwise names, numbered in sorted order.

    Args:
        kind: of source, for errors.
        columns: of labels, none empty.
        names: the class names in their order, where they are known: labels are then these names, or their numbers.

    Returns:
        The class names, and int64 labels (N,) for each column.

    Raises:
        FastnoisyError: names the place of a label that is out of range, not among the names, or no text.
    """
    texts = sorted({text for column in columns for text in column.texts})
    matches = {text: _NUMBER.fullmatch(text) for text in texts}
    meaning = {text: int(match[1][:19]) for text, match in matches.items() if match}
    if len(meaning) == len(texts) and not (names and set(texts) <= set(names)):
        limit = len(names) if names else MAX_CLASSES
        for text, number in meaning.items():
            if not 0 <= number < limit:
                of = f"of the {limit} in {NAMES_FILE}" if names else f"from 0 to below {limit:,}"
                remedy = f"labels that are numbers must be {of}; write names where they are none"
                raise FastnoisyError(f"{kind}: {_place(columns, text)} has the label {text[:60]}", remedy)
        class_names = names or [str(number) for number in range(max(meaning.values()) + 1)]
    else:
        known = set(names or ())
        for text in texts:
            if not text.isprintable():  # undecodable bytes, control characters
                remedy = "save the list as UTF-8 and give each class a name in plain letters"
                raise FastnoisyError(f"{kind}: {_place(columns, text)} has the label {text[:60]!r}", remedy)
            if names and text not in known:
                problem = f"{kind}: {_place(columns, text)} has the label {text[:60]!r}, which {NAMES_FILE} lacks"
                raise FastnoisyError(problem, "add it there, or correct it here")
        if len(texts) > MAX_CLASSES:
            raise FastnoisyError(f"{kind}: {len(texts):,} different labels; is this the column of the labels?")
        class_names = names or texts
        meaning = {name: label for label, name in enumerate(class_names)}
    return class_names, [column.numbers(meaning) for column in columns]


def read_class_names(kind: str, path: Path) -> list[str]:
    """The class names in a file, one a line.

    Raises:
        FastnoisyError: names the line: a name that is there twice or is no text.
    """
    names: dict[str, int] = {}
    for number, line in read_lines(kind, path):
        name = " ".join(line.decode("utf-8", "surrogateescape").split())
        if not name.isprintable():
            raise FastnoisyError(f"{kind}: {path}, line {number}, is {name!r}", "save the file as UTF-8")
        if name in names:
            problem = f"{kind}: {path}, line {number}, has the class {name!r}, as line {names[name]} has"
            raise FastnoisyError(problem, "each class has a name of its own")
        names[name] = number
    return list(names)


def as_text(value: object) -> str | None:
    """A label of a typed table or a JSON file as text; None where it is neither a text nor a whole number."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value in (1e400, -1e400):
        return None
    return str(int(value)) if value == int(value) else None


def _place(columns: Sequence[Labels], text: str) -> str:
    return next(column.place(text) for column in columns if text in column.texts)
