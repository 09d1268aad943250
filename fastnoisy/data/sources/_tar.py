"""The members of a tar archive that nobody vouches for: bounded headers, clear errors, names that stay within it."""

from __future__ import annotations

import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fastnoisy.errors import FastnoisyError

MAX_HEADER_BYTES = 1 << 20  # of one name or one extended header; paths have 4,096
REMEDY = "copy or download it again"
LINK = "a link within the archive"
# What the library raises on hostile headers: long names in chains, numbers that are none, sizes below zero.
_ERRORS = (tarfile.TarError, RecursionError, ValueError, IndexError, OverflowError, EOFError, MemoryError, zlib.error)


class _Bounded:
    """A file of which only headers are read, so that none may be as long as it says."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._raw.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        return self._raw.seek(position, whence)

    def tell(self) -> int:
        return self._raw.tell()


def members(
    raw: BinaryIO, kind: str, file: Path, left_out: list[tuple[str, str]] | None = None
) -> Iterator[tarfile.TarInfo]:
    """The plain files in an uncompressed archive, in order. What one holds lies at its `offset_data`.

    The library's own list of them is emptied, for it would outgrow the memory.

    Args:
        raw: at its start; may be a stream that decompresses.
        kind, file: for errors.
        left_out: takes the names and the reasons of what is neither a plain file nor a folder.

    Raises:
        FastnoisyError: no archive, a damaged one, or a name that leads out of it.
        OSError: it cannot be read.
    """
    try:
        with tarfile.open(fileobj=_Bounded(raw), mode="r:") as archive:  # type: ignore[call-overload]
            end = -1
            while (member := archive.next()) is not None:
                archive.members = []
                if archive.offset <= end:  # a negative size would have the library go round for ever
                    raise FastnoisyError(f"{kind}: {file} is damaged at {member.name}", REMEDY)
                end = archive.offset
                if not member.isreg() or member.issparse():
                    if left_out is not None and not member.isdir():
                        left_out.append((member.name, _reason(member)))
                    continue
                if member.name.startswith("/") or ".." in member.name.split("/"):
                    raise FastnoisyError(f"{kind}: {file} has a member {member.name!r}", "names must stay within it")
                if member.size < 0 or member.offset_data < 0:
                    raise FastnoisyError(f"{kind}: {file} is damaged at {member.name}", REMEDY)
                yield member
            raw.seek(archive.offset)  # for whoever looks at what follows
    except _ERRORS as error:
        problem = " ".join(str(error).split())[:100] or type(error).__name__
        raise FastnoisyError(f"{kind}: {file} is no .tar, or damaged: {problem}", REMEDY) from None


def _reason(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return LINK
    return "packed with holes (sparse)" if member.issparse() else "neither a file nor a folder"


def holds_samples(path: Path) -> bool:
    """Whether an uncompressed archive is of WebDataset's samples: among its first files is a label beside an image of
    the same name, in .cls or in a .json with "label"; or no file lies in a folder, so that none is of a class. True
    also for one that cannot be read, which is for `wds` to say; False for a compressed one.
    """
    stems: dict[str, set[str]] = {}
    in_folders = False
    try:
        with path.open("rb") as raw:
            if raw.read(3)[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7"):
                return False
            raw.seek(0)
            for number, member in enumerate(members(raw, "tar", path)):
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                in_folders = in_folders or bool(folder)
                stem, _, suffix = name.partition(".")
                suffix = suffix.lower()
                if stem and suffix and (suffix != "json" or _has_label(raw, member)):
                    stems.setdefault(f"{folder}/{stem}", set()).add(suffix)
                if number >= 200:
                    break
    except (OSError, FastnoisyError):
        return True
    return not in_folders or any(kinds & {"cls", "json"} and len(kinds) > 1 for kinds in stems.values())


def _has_label(raw: BinaryIO, member: tarfile.TarInfo) -> bool:
    """Whether a .json is as samples have it, and not an annotation tool's."""
    try:
        table = json.loads(os.pread(raw.fileno(), min(member.size, MAX_HEADER_BYTES), member.offset_data))
    except (ValueError, RecursionError):
        return False
    return isinstance(table, dict) and "label" in table
