"""Which column of a table is what: the one list of names, with one precedence, for sources, noise and corrections.

Names are compared without case, spaces and punctuation: `Given Label` is `given_label`. What the user has said with
`--columns path=...,label=...` goes before all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.label_files.lines import shown

ROLES = ("path", "label", "clean", "split", "index", "drop")
# The first name found is taken. No word is among them that may as well head a column of yes and no.
PATHS = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img_path", "image_file",
    "image_name", "img", "img_name", "fname", "rel_path", "relative_path",
)  # fmt: skip
# Of labels there may be one of each kind: corrections go before labels as they are now, these before the given ones.
CORRECTIONS = ("corrected_label", "correct_label", "new_label", "fixed_label")
LABELS = ("label", "labels", "class", "class_name", "class_label", "label_name", "category", "target")
GIVEN = ("given_label", "noisy_label", "original_label", "old_label", "given")
CLEAN = ("clean_label", "true_label")
SPLITS = ("split",)
INDICES = ("index", "idx", "row", "row_index", "row_number", "sample_index")
DROPS = ("drop",)
_PANDAS = re.compile(r"(unnamed:?[\s_]*0|__index_level_0__)?", re.IGNORECASE)
_YES, _NO = ("true", "1", "1.0", "yes", "y", "x", "drop"), ("", "false", "0", "0.0", "no", "n", "nan", "none", "keep")
OPTION = "--columns path=...,label=..."


@dataclass(frozen=True)
class Columns:
    """Where in a row what stands, by place from 0.

    Attributes:
        names: of all columns; of a table without a header, empty texts.
        named: whether the first row of the file is the header.
        labels: the columns of labels, corrections first: a row's label is the first of them that is not empty.
        path, clean, split, index, drop: None where there is none.
        counter: a first column without a name, as pandas writes it.
        several: which was taken where others could have been meant, for people; empty where none could.
    """

    names: tuple[str, ...]
    named: bool
    labels: tuple[int, ...] = ()
    path: int | None = None
    clean: int | None = None
    split: int | None = None
    index: int | None = None
    drop: int | None = None
    counter: int | None = None
    several: str = ""

    @property
    def used(self) -> list[int]:
        """The places of all columns that mean something, ascending."""
        single = (self.path, self.clean, self.split, self.index, self.drop, self.counter)
        return sorted({*self.labels, *(place for place in single if place is not None)})


def parse(text: str) -> dict[str, str]:
    """What `path=NAME,label=NAME` says, role by role; a number is a column's place, from 1.

    Raises:
        FastnoisyError: another form, a role that is not known or is there twice.
    """
    found: dict[str, str] = {}
    for part in text.split(",") if text.strip() else []:
        role, equals, name = part.partition("=")
        role, name = role.strip().lower(), name.strip()
        if not equals or not name:
            raise FastnoisyError(f"columns: {shown(part)} says nothing", "write ROLE=NAME, as in path=image,label=y")
        if role not in ROLES:
            raise unknown_name("role of a column", role, ROLES)
        if role in found:
            raise FastnoisyError(f"columns: {role} is there twice", "name one column for it")
        found[role] = name
    return found


def known_names() -> str:
    """The names that are known, for errors."""
    labels = ", ".join((*CORRECTIONS[:1], *LABELS, *GIVEN))
    indices = ", ".join(INDICES)
    known = f"known are: path ({', '.join(PATHS)}), label ({labels}), index ({indices})"
    return f"{known}; or write {OPTION} (in training labels_columns=...)"


def choose(what: str, head: Sequence[str], asked: Mapping[str, str], certain: bool) -> Columns | None:
    """Which column is what, by the first row of a table.

    Args:
        what: kind and file, for errors.
        head: the first row's cells.
        asked: by role, what the user has said: a column's name, or its place from 1.
        certain: whether the first row is known to hold names.

    Returns:
        The columns; None where no cell is a name that is known.

    Raises:
        FastnoisyError: what was asked for is not there, or a name that is used is there twice.
    """
    folded = [_fold(name) for name in head]
    places: dict[str, int | None] = dict.fromkeys(ROLES)
    named = certain
    for role, name in asked.items():
        place, by_name = _asked(what, head, folded, role, name)
        places[role], named = place, named or by_name
    taken = {place for place in places.values() if place is not None}
    several = []

    def first(role: str, known: Sequence[str]) -> int | None:
        found = [place for word in map(_fold, known) for place, name in enumerate(folded) if name == word]
        found = [place for place in found if place not in taken]
        if found and folded.count(folded[found[0]]) > 1:
            raise FastnoisyError(
                f"{what} has two columns called {shown(head[found[0]])}", "give each a name of its own, or remove one"
            )
        if len(found) > 1:
            rest = ", ".join(shown(head[place]) for place in found[1:])
            several.append(f"{role} is column {shown(head[found[0]])}, not {rest}")
        return found[0] if found else None

    if not named:
        every = (PATHS, CORRECTIONS, LABELS, GIVEN, INDICES, DROPS)
        named = any(name == _fold(word) for words in every for word in words for name in folded)
        if not named and not asked:
            return None
    labels = [places["label"]] if places["label"] is not None else []
    if named:
        if not labels:
            tiers = [first("label", words) for words in (CORRECTIONS, LABELS, GIVEN)]
            labels = [place for place in tiers if place is not None]
            if len(labels) > 1:
                texts = [shown(head[place]) for place in labels]
                several.append(f"label is column {texts[0]} before {' and '.join(texts[1:])}")
        for role, words in (
            ("path", PATHS), ("clean", CLEAN), ("split", SPLITS), ("index", INDICES), ("drop", DROPS)
        ):  # fmt: skip
            if places[role] is None:
                places[role] = first(role, words)
    counter = 0 if named and head and _PANDAS.fullmatch(head[0].strip()) and 0 not in taken else None
    names = tuple(head) if named else ("",) * len(head)
    return Columns(
        names, named and not (certain and not head), tuple(place for place in labels if place is not None),
        places["path"], places["clean"], places["split"], places["index"], places["drop"], counter, "; ".join(several),
    )  # fmt: skip


def _asked(what: str, head: Sequence[str], folded: Sequence[str], role: str, name: str) -> tuple[int, bool]:
    """The place of a column that the user has named, and whether it is a name in the head."""
    for texts, text in ((list(head), name), (list(folded), _fold(name))):
        if text and texts.count(text) > 1:
            raise FastnoisyError(f"{what} has two columns called {shown(name)}", "name its place, from 1, instead")
        if text and text in texts:
            return texts.index(text), True
    if name.isascii() and name.isdigit() and 1 <= int(name[:9]) <= len(head):
        return int(name) - 1, False
    listed = ", ".join(shown(cell, 40) for cell in head[:20])
    raise FastnoisyError(
        f"{what} has no column {shown(name)} for {role}", f"its first line has {listed}; a number is a place from 1"
    )


def drops(cell: str) -> bool | None:
    """What a cell of a column `drop` says; None where it says neither yes nor no."""
    word = cell.strip().lower()
    return True if word in _YES else False if word in _NO else None


def _fold(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
