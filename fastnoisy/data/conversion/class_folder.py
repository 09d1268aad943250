"""A store written out as class folders: links to the original files, or the store's own images where these are gone.

    DIR/CLASS/NAME, and DIR/SPLIT/CLASS/NAME where the store has several splits

The source `folder` reads it with the labels that it was written by. Names of splits and classes become folders only if
they can be one, and of a path only its last part becomes a name, so nothing is ever written outside of DIR.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fastnoisy.data.conversion.kept import Kept
from fastnoisy.data.sources._walk import IMAGES, Walked, add_file, ending, is_system
from fastnoisy.data.store.verify import Count
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.lines import shown
from fastnoisy.label_files.meaning import is_name

_MAX_BYTES = 255  # of a name, on most file systems
_LISTS = "csv"  # the kind of source whose paths may lead anywhere


def check_names(class_names: Sequence[str], split_names: Sequence[str]) -> None:
    """Whether each class, and each split, can have a folder that is read again as this class.

    Raises:
        FastnoisyError: names the first that cannot.
    """
    seen: dict[str, str] = {}
    for what, names in (("class", class_names), ("split", split_names)):
        for name in names:
            problem = _problem(name)
            if what == "class":
                alike = seen.setdefault(unicodedata.normalize("NFC", name), name)
                problem = problem or ("another class has a name that looks like it" if alike != name else "")
            if problem:
                raise FastnoisyError(
                    f"the {what} {shown(name)} cannot have a folder: {problem}", "write a list with --to-csv instead"
                )


def _problem(name: str) -> str:
    """Why a name can be no folder of a class; empty where it can."""
    if name in ("", ".", ".."):
        return "it is no name of a folder"
    if "/" in name or "\\" in name or "\0" in name:
        return "a slash, a backslash or a zero byte is in it"
    if not is_name(name) or not name.strip():
        return "it is no plain text"
    if name.startswith(".") or is_system(name):
        return "folders of that name are passed over, as hidden or the system's own"
    if len(os.fsencode(name)) > _MAX_BYTES:
        return f"it has more than {_MAX_BYTES} bytes"
    return ""


def write_folder(folder: Path, parts: Sequence[Kept], class_names: Sequence[str], count: Count) -> tuple[int, int]:
    """Write what is kept of each split into `folder`, which is there and empty.

    Every class has a folder, also without an image, so that the classes stay what they are.

    Returns:
        How many links, and how many images of the store's own.

    Raises:
        FastnoisyError: a damaged record, or classes whose names differ in case alone on a disk that ignores it.
        OSError: the disk is full, or fails.
    """
    linked = written = 0
    for part in parts:
        top = folder if len(parts) == 1 else folder / part.split.name
        for name in class_names:
            try:
                (top / name).mkdir(parents=True)
            except FileExistsError:
                raise FastnoisyError(
                    f"the class {shown(name)} cannot have a folder: this disk takes another class's name for the same",
                    "write a list with --to-csv instead",
                ) from None
        names = [_Names() for _ in class_names]
        root = root_of(part.split.source)
        for row in part.rows.tolist():
            label, path = int(part.labels[row]), part.split.sources[row]
            original = None if root is None else _original(root, path)
            if original is not None:
                os.symlink(original, top / class_names[label] / names[label].of(path, ""))
                linked += 1
            else:
                _write_image(top / class_names[label], names[label], part, row)
                written += 1
            count.advance(False)
    return linked, written


def root_of(source: str) -> tuple[Path, bool] | None:
    """The folder that the paths of a source are relative to, and whether they may lead out of it; None where its images
    are no files.

    Args:
        source: `kind:path`, as meta.json has it.
    """
    kind, colon, text = source.partition(":")
    path = Path(text)
    if not colon or not path.is_absolute() or "\0" in text:
        return None
    if path.is_dir():
        return path, kind == _LISTS
    return (path.parent, True) if kind == _LISTS else None


def _original(root: tuple[Path, bool], path: str) -> Path | None:
    """The file that a record was made of; None where there is none."""
    folder, may_leave = root
    if "\0" in path or (not may_leave and (path.startswith("/") or ".." in path.split("/"))):
        return None
    place = folder / path
    return place if os.path.isfile(place) else None


def _write_image(folder: Path, names: _Names, part: Kept, row: int) -> None:
    """A record as a file: a JPEG as it is, pixels as PNG."""
    split = part.split
    data, path = split.read_bytes(row), split.sources[row]
    if split.mode(row) == "jpg":
        (folder / names.of(path, "jpg")).write_bytes(data)
    else:
        height, width = split.sizes[row].tolist()
        pixels = np.frombuffer(data, np.uint8).reshape(height, width, 3)
        Image.fromarray(pixels).save(folder / names.of(path, "png"))


class _Names:
    """Names of the files in one folder, each given once: `a.jpg`, then `a-2.jpg`, `a-3.jpg`.

    Names that differ in case alone, or in how an accent is encoded, count as one: there are disks that hold them so.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def of(self, path: str, kind: str) -> str:
        """A free name for the file of a path.

        Args:
            kind: what it is to end with, instead of another ending of an image; empty: as it does.
        """
        stem, suffix = _parts(path, kind)
        name, start = f"{stem}{suffix}", _key(f"{stem}{suffix}")
        number = self._next.get(start, 1)
        while _key(name) in self._taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._next[start] = number
        self._taken.add(_key(name))
        return name


def _parts(path: str, kind: str) -> tuple[str, str]:
    """What a file of that path is called, in two parts, the ending second; such that the source `folder` lists it."""
    name = path.rpartition("/")[2].replace("\0", "_")
    stem, suffix = name, ""
    if ending(name) in IMAGES:
        stem = name.rpartition(".")[0]
        suffix = name[len(stem) :]
    if kind:
        suffix = suffix if ending(name) == kind else f".{kind}"
    stem = stem.lstrip(".") or "image"
    if not _is_listed(f"{stem}{suffix}"):
        stem, suffix = f"image-{stem}", suffix or ".jpg"
    room = _MAX_BYTES - len(os.fsencode(suffix)) - 12  # for a number
    if len(os.fsencode(stem)) > room:
        stem = os.fsencode(stem)[:room].decode("utf-8", "ignore") or "image"
    return stem, suffix


def _is_listed(name: str) -> bool:
    """Whether the source `folder` takes a file of that name for an image."""
    found = Walked()
    add_file(found, name, name)
    return bool(found.files) and not is_system(name)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
