"""What a data set is before its conversion, and how `SOURCE` on the command line finds the file that knows it.

A source is one file in this folder, and the file's name is its kind. It defines, as `Kind` has them,

    a docstring             its first line describes the source to users
    LAYOUT, NEEDS_PATH, FALLBACK, recognises, open, make_example; TAKES_PATTERNS where that is True

A list defines `TAKES_COLUMNS = True`, too: its `open(path, columns)` is told by the user which column is what.

A file for a family of data sets, which differ by a word, defines `KINDS` instead: a dictionary from names of kinds to
`Kind`s.
"""

from __future__ import annotations

import errno
import functools
import importlib
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy import discovery
from fastnoisy.errors import FastnoisyError, unknown_name

PACKAGE = "fastnoisy.data.sources"
SPLIT_NAMES = ("train", "val", "test")
MAX_FILE_BYTES = 1 << 30
UNLABELLED = "it has no label"


@dataclass(frozen=True)
class SourceSplit:
    """One split of a data set, images not yet read.

    Attributes (N images):
        name: `train`, `val` or `test`.
        paths: N texts that name the images for people: a path within the source, or `data_batch_1/17`.
        given_labels: int64 (N,), the labels as published.
        clean_labels: int64 (N,), where they are known to be right; None where they are not.
        read: gives image i as a file's bytes, or as uint8 pixels (height, width, 3), RGB. May raise OSError or
            FastnoisyError; the image is then rejected. Where it is `Files`, or has a method `stamp` as that has, a
            conversion that goes on knows which files have changed.
        rejected: further images, named as in `paths`, and why they are no rows: without a label, say. They count as
            rejected.
    """

    name: str
    paths: Sequence[str]
    given_labels: np.ndarray
    clean_labels: np.ndarray | None
    read: Callable[[int], bytes | np.ndarray]
    rejected: Sequence[tuple[str, str]] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, name: str, rows: np.ndarray) -> SourceSplit:
        """The split `name` made of these rows, in this order, and of no rejected images."""
        chosen = [int(row) for row in rows]
        clean = None if self.clean_labels is None else self.clean_labels[chosen]
        paths = [self.paths[row] for row in chosen]
        return SourceSplit(name, paths, self.given_labels[chosen], clean, _Chosen(self, chosen))

    def stamp(self, i: int) -> int:
        """A number that changes with the size or the time of the file that image i is read from; 0 without one.

        Raises:
            OSError: there is no such file.
        """
        stamp: Callable[[int], int] | None = getattr(self.read, "stamp", None)
        return 0 if stamp is None else stamp(i)


class _Chosen:
    """Reads some rows of a split."""

    def __init__(self, split: SourceSplit, rows: Sequence[int]) -> None:
        self._split, self._rows = split, rows

    def __call__(self, i: int) -> bytes | np.ndarray:
        return self._split.read(self._rows[i])

    def stamp(self, i: int) -> int:
        return self._split.stamp(self._rows[i])


class Files:
    """Reads images that are files; gives a `SourceSplit` their stamps, too.

    Args:
        place: gives the path of image i.
    """

    def __init__(self, place: Callable[[int], Path]) -> None:
        self._place = functools.lru_cache(maxsize=1)(place)  # asked for twice, for the stamp and for the bytes

    def __call__(self, i: int) -> bytes:
        """The bytes of image i; see `read_file`."""
        return read_file(self._place(i))

    def stamp(self, i: int) -> int:
        """See `SourceSplit.stamp`."""
        return stamp_of(self._place(i))


def stamp_of(path: Path) -> int:
    """A number that changes with a file's size or time of change: crc32 of both, never 0.

    Raises:
        OSError: there is no such file.
    """
    status = os.stat(path)
    return zlib.crc32(struct.pack("<qq", status.st_size, status.st_mtime_ns)) or 1


@dataclass(frozen=True)
class Source:
    """A data set that can be converted.

    Attributes:
        class_names: one per label, in the labels' order.
        splits: at least one, none empty.
        fixed_size: (height, width) where every image has it; None where sizes differ or are not known.
        root: a folder in which a store must not be written, since it would be taken for a class; None where it may.
        notes: what the user should be told though it is no error, one line each, as other counts than the published.
        stamp: says what the images are that are read when the source is opened, and not from files of their own.
        listed: whether the file of every image was there when the source was opened, and was not merely named in a
            list.
    """

    class_names: list[str]
    splits: list[SourceSplit]
    fixed_size: tuple[int, int] | None = None
    root: Path | None = None
    notes: list[str] = field(default_factory=list)
    listed: bool = False
    stamp: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Attributes:
        summary: describes it to users, in one sentence.
        layout: what the path must hold.
        recognises: whether an existing path has this layout; looks at names only, reads no data.
        open: the Source at a path, None where the kind needs none; FastnoisyError, naming the place and the layout,
            where the data are not as described.
        make_example: writes a tiny example of the layout into a folder, which it makes, and returns the SOURCE that
            opens it; tests run on it.
        needs_path: False where the data come with a package.
        fallback: True for a general layout, which gives way to any special one that also fits.
        takes_patterns: whether its path may be a pattern for many files: it then says itself what does not exist.
        takes_columns: whether `open` also takes a text that says which column of a list is what.
    """

    summary: str
    layout: str
    recognises: Callable[[Path], bool]
    open: Callable[..., Source]
    make_example: Callable[[Path], str]
    needs_path: bool = True
    fallback: bool = False
    takes_patterns: bool = False
    takes_columns: bool = False


def kinds() -> list[str]:
    """The kinds of source there are, sorted."""
    return list(discovery.declared(PACKAGE))


def find(name: str) -> Kind:
    """The kind of that name.

    Raises:
        FastnoisyError: there is none; lists near misses and all there are.
    """
    declared = discovery.declared(PACKAGE)
    if name not in declared:
        raise unknown_name("kind of source", name, declared)
    place, summary = declared[name]
    module = importlib.import_module(place)
    if hasattr(module, "KINDS"):
        found: Kind = module.KINDS[name]
        return found
    m: Any = module
    takes = (getattr(m, "TAKES_PATTERNS", False), getattr(m, "TAKES_COLUMNS", False))
    return Kind(summary, m.LAYOUT, m.recognises, m.open, m.make_example, m.NEEDS_PATH, m.FALLBACK, *takes)


def resolve(source: str) -> tuple[str, Path | None]:
    """The kind and the path that `SOURCE` means.

    Args:
        source: `kind:path`, a kind that needs no path, or a path whose layout one kind recognises.

    Raises:
        FastnoisyError: empty, unknown kind, missing path, one that may not be read, or a layout that no kind or more
            than one recognises.
    """
    try:
        return _resolve(source)
    except OSError as error:
        problem = f"cannot read {error.filename or source}: {error.strerror or error}"
        raise FastnoisyError(problem, "look at its owner and its permissions") from None


def _resolve(source: str) -> tuple[str, Path | None]:
    if not source:  # an unset variable of a script, most likely; Path("") would be the current folder
        raise FastnoisyError("SOURCE is empty", "give a path, or KIND:PATH; the current folder is .")
    kind, colon, rest = source.partition(":")
    if colon and kind in kinds():
        return kind, Path(rest) if rest else None
    if source in kinds() and not find(source).needs_path:
        return source, None
    path = Path(source)
    if path.exists():
        return _recognise(path), path
    if source in kinds():
        raise FastnoisyError(f"{source} needs a path", f"write {source}:PATH, where PATH is {find(source).layout}")
    if colon and re.fullmatch(r"[a-z0-9-]+", kind):
        raise unknown_name("kind of source", kind, kinds())
    raise FastnoisyError(f"source {source!r} does not exist", f"give a path, or KIND:PATH, where KIND is\n{describe()}")


def open_source(source: str, columns: str = "") -> tuple[Source, str]:
    """Open the data set that `SOURCE` means.

    Args:
        columns: of a list: which column is what, `path=NAME,label=NAME`; empty where their names are known.

    Returns:
        The source, and its full name: `kind:absolute path`, or the kind alone.

    Raises:
        FastnoisyError: as `resolve`, or what the kind says about data that are not as described.
    """
    kind, path = resolve(source)
    found = find(kind)
    if path is None and found.needs_path:
        raise FastnoisyError(f"{kind} needs a path", f"write {kind}:PATH, where PATH is {found.layout}")
    if path is not None and not found.needs_path:
        raise FastnoisyError(f"{kind} takes no path, got {path}", f"write {kind} alone")
    if columns and not found.takes_columns:
        takes = [name for name in kinds() if find(name).takes_columns]
        raise FastnoisyError(f"{kind} has no columns that could be named", f"--columns is for {', '.join(takes)}")
    try:
        if path is not None and not path.exists() and not found.takes_patterns:
            raise FastnoisyError(f"{kind}: {path} does not exist")
        opened = found.open(path) if not columns else found.open(path, columns)
    except OSError as error:
        raise FastnoisyError(f"{kind}: cannot read {error.filename or path}: {error.strerror or error}") from None
    return opened, kind if path is None else f"{kind}:{path.absolute()}"


def describe() -> str:
    """One line per kind: its name and what its path must hold."""
    return "\n".join(f"  {kind:18} {find(kind).layout}" for kind in kinds())


def layout_error(kind: str, path: Path, problem: str) -> FastnoisyError:
    """The error for a path whose contents are not what the kind expects."""
    return FastnoisyError(f"{kind}: {path} {problem}", f"expected: {find(kind).layout}")


def read_file(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        OSError: it cannot be read, or is no file: a pipe, say, which is not waited for.
        FastnoisyError: it has more than 1 GiB, so it is no training image.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > MAX_FILE_BYTES:
            raise FastnoisyError("more than 1 GiB in one file")
        parts = [os.read(descriptor, status.st_size + 1)]  # one more, to see its end in the same call
        while len(parts[-1]) > 0 and (total := sum(map(len, parts))) != status.st_size:
            if total > MAX_FILE_BYTES:  # it grows, or is one of the system's that have no size and no end
                raise FastnoisyError("more than 1 GiB in one file")
            parts.append(os.read(descriptor, 1 << 20))
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _recognise(path: Path) -> str:
    if path.is_dir() and any(path.glob("*.beton")):
        raise FastnoisyError(f"{path} is converted already", "train on it with --data, or name the original data")
    all_kinds = {kind: find(kind) for kind in kinds()}
    found = [name for name, kind in all_kinds.items() if kind.needs_path and kind.recognises(path)]
    special = [name for name in found if not all_kinds[name].fallback]
    found = special or found
    if not found:
        raise FastnoisyError(f"{path} has no layout that is known", f"these are known:\n{describe()}")
    if len(found) > 1:
        raise FastnoisyError(f"{path} could be {' or '.join(found)}", f"say which, as in {found[0]}:{path}")
    return found[0]
