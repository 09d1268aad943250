"""What sources made of list files share: reading long lists in little memory, finding files, and telling what is
odd.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from fastnoisy.data.sources.base import layout_error
from fastnoisy.label_files.lines import line_error, read_lines

NUM_PROBED = 100  # listed images looked for, to tell a tree that lies elsewhere from one with gaps


class Texts(Sequence[str]):
    """Many short texts in one buffer: a million paths cost a tenth of what as many `str` do."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ends = array("q")

    def append(self, text: bytes) -> None:
        """Add a text, as the bytes of its UTF-8; other bytes stay what they are, as in file names."""
        self._buffer += text
        self._ends.append(len(self._buffer))

    def raw(self, i: int) -> bytes:
        """Text `i`, not decoded."""
        i = range(len(self._ends))[i]  # negative numbers, and the IndexError
        return bytes(self._buffer[self._ends[i - 1] if i else 0 : self._ends[i]])

    def raws(self) -> Iterator[bytes]:
        """All texts, not decoded; faster than one by one."""
        buffer, start = bytes(self._buffer), 0
        for end in self._ends:
            yield buffer[start:end]
            start = end

    def __iter__(self) -> Iterator[str]:
        return map(os.fsdecode, self.raws())

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[place] for place in range(*i.indices(len(self)))]
        return os.fsdecode(self.raw(i))

    def __len__(self) -> int:
        return len(self._ends)

    def hashes(self) -> np.ndarray:
        """int64 (N,): equal texts have equal numbers, and others do not but for one chance in billions."""
        return np.fromiter(map(hash, self.raws()), np.int64, len(self))


@dataclass(frozen=True)
class Listing:
    """The lines of a list: N names and their labels, int64 (N,)."""

    names: Texts
    labels: np.ndarray


@dataclass(frozen=True)
class Need:
    """A file, or a folder (with a slash at its end), that a layout must have.

    Attributes:
        places: where it may be, relative to the root, the usual place first.
        holds: what is in it, for the error.
    """

    places: tuple[str, ...]
    holds: str


def find(kind: str, root: Path, needs: Sequence[Need]) -> list[Path]:
    """Where each needed file or folder is.

    Raises:
        FastnoisyError: what is missing, all of it in one message, what it holds and where it was looked for.
    """
    if not root.is_dir():
        raise layout_error(kind, root, "is not a folder")
    found, missing = [], []
    for need in needs:
        path = _find_one(root, need)
        if path is None:
            looked = " and ".join(str(root / place) for place in need.places)
            missing.append(f"{need.places[0]} ({need.holds}; looked for at {looked})")
        else:
            found.append(path)
    if missing:
        raise layout_error(kind, root, f"has no {', and no '.join(missing)}")
    return found


def _find_one(root: Path, need: Need) -> Path | None:
    """Where it is, or None."""
    for place in need.places:
        path = root / place
        if path.is_dir() if place.endswith("/") else path.is_file():
            return path
    return None


def read_labels(kind: str, path: Path, num_classes: int) -> Iterator[tuple[bytes, int]]:
    """Path and label of each line `relative/path label`; the label is what follows the last space or tab.

    Args:
        kind: of source, for errors.
        path: the list.
        num_classes: labels are below it.

    Raises:
        FastnoisyError: names file and line: other columns, a label out of range, or a path that leaves the root.
    """
    for number, line in read_lines(kind, path):
        columns = line.rsplit(None, 1)
        if len(columns) != 2 or not columns[1].isdigit():
            raise line_error(
                kind, path, number, f"is {_shown(line)}", "a line is a path, a space and the label's number"
            )
        name, label = columns[0], int(columns[1][:18])
        if label >= num_classes:
            remedy = f"labels go from 0 to {num_classes - 1}; is this another data set's list?"
            raise line_error(kind, path, number, f"has the label {columns[1].decode()}", remedy)
        check_name(kind, path, number, name)
        yield name, label


def read_list(kind: str, path: Path, num_classes: int, keep: int) -> Listing:
    """Read lines as `read_labels` does; those with a label from `keep` up are left out.

    Raises:
        FastnoisyError: as `read_labels`.
    """
    names, labels = Texts(), array("q")
    for name, label in read_labels(kind, path, num_classes):
        if label < keep:
            names.append(name)
            labels.append(label)
    return Listing(names, np.array(labels, np.int64))


def check_name(kind: str, path: Path, number: int, name: bytes) -> None:
    """Refuse a listed path that could lead out of the data set's folder.

    Raises:
        FastnoisyError: it is absolute, has `..` in it, or a zero byte.
    """
    if name.startswith(b"/") or b"\0" in name or (b".." in name and b".." in name.split(b"/")):
        remedy = "paths are relative to the data set's folder and stay within it"
        raise line_error(kind, path, number, f"has the path {_shown(name)}", remedy)


def find_images(
    kind: str, root: Path, listed_in: Path, names: Sequence[str], places: Sequence[Callable[[str], Path]]
) -> Callable[[str], Path]:
    """The first way from a listed name to a path that leads to a file, tried on the first 100 names.

    Raises:
        FastnoisyError: no way does, so the images seem to lie elsewhere.
    """
    probed = names[:NUM_PROBED]
    for place in places:
        if any(os.path.exists(place(name)) for name in probed):
            return place
    looked = " or ".join(dict.fromkeys(str(place(probed[0])) for place in places))
    problem = f"seems to have its images elsewhere: none of the first {len(probed)} in {listed_in} is there"
    raise layout_error(kind, root, f"{problem}, for example {probed[0]} (looked for at {looked})")


def count_note(kind: str, what: str, count: int, published: int | None) -> list[str]:
    """A note where a real tree has another count than the published one, where that is known."""
    return [] if published in (None, count) else [f"{kind}: {count:,} {what}, the published set has {published:,}"]


def duplicate_notes(kind: str, splits: Mapping[str, Texts]) -> list[str]:
    """Notes on images that are listed twice, within a split or in two of them."""
    notes = []
    seen: dict[str, np.ndarray] = {}
    for name, texts in splits.items():
        hashes = np.unique(texts.hashes())
        repeated = len(texts) - len(hashes)
        if repeated:
            notes.append(f"{kind}: lines of {name} that name an image once more: {repeated:,}; all are kept")
        for other, others in seen.items():
            shared = len(np.intersect1d(others, hashes, assume_unique=True))
            if shared:
                notes.append(f"{kind}: images both in {other} and in {name}: {shared:,}")
        seen[name] = hashes
    return notes


def empty_class_notes(kind: str, class_names: Sequence[str], columns: Sequence[np.ndarray]) -> list[str]:
    """A note on classes without any image."""
    used = np.zeros(len(class_names), bool)
    for labels in columns:
        used[labels] = True
    empty = np.flatnonzero(~used).tolist()
    if not empty:
        return []
    shown = ", ".join(class_names[label] for label in empty[:5]) + (", ..." if len(empty) > 5 else "")
    return [f"{kind}: {len(empty):,} of {len(class_names):,} classes have no image: {shown}"]


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "replace")
    return repr(text if len(text) <= 80 else text[:77] + "...")
