"""A zip or tar archive of class folders, or of train/, val/ and test/ with them, read without being unpacked by hand.

What is in it counts as in a folder: the same words for splits, the same names of the system passed over (`__MACOSX`
among them), the same images beside class folders rejected. One folder around all of it is left away. Members of a zip
are read one by one, those of a plain .tar where they lie; a compressed tar is unpacked once into a temporary file, for
nothing in it can be read without all before it. A .tar of samples with labels beside them is `wds`.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import tempfile
import weakref
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from fastnoisy.data.sources._example import picture
from fastnoisy.data.sources._tar import LINK, holds_samples, members
from fastnoisy.data.sources._walk import IMAGES, Walked, add_file, ending, is_system
from fastnoisy.data.sources.base import MAX_FILE_BYTES, Source, SourceSplit, layout_error, stamp_of
from fastnoisy.data.sources.folder import Tree, classes_of
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.words import split_of_word

LAYOUT = "a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz with one folder of images per class in it"
NEEDS_PATH = True
FALLBACK = True
KIND = "archive"
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_MAX_NAME_BYTES = 4096  # of a path on any system; an archive's may be a MiB, each part of it a folder
_MAX_RATIO = 250  # to which images are never packed; gzip reaches 1,000 on zeros, bzip2 and xz far more
_UNPACK: tuple[tuple[bytes, Callable[[BinaryIO], Any]], ...] = (
    (b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw, mode="rb")),
    (b"BZh", lambda raw: bz2.BZ2File(raw)),
    (b"\xfd7zXZ\x00", lambda raw: lzma.LZMAFile(raw)),  # noqa: SIM115, used in a with statement
)
_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError, RuntimeError)


def recognises(path: Path) -> bool:
    """Whether the path is a .zip, or a .tar, plain or compressed, that holds no samples with labels beside them."""
    name = path.name.lower()
    return path.is_file() and (name.endswith(".zip") or (name.endswith(_TARS) and not holds_samples(path)))


def open(path: Path | None) -> Source:
    """List the members; no image is read yet.

    Raises:
        FastnoisyError: no such archive, a damaged or an encrypted one, a member that leads out of it, or what `folder`
            says of the folders in it.
    """
    if path is None:
        raise FastnoisyError(f"{KIND} needs a path", f"write {KIND}:PATH, where PATH is {LAYOUT}")
    if not path.is_file():
        raise layout_error(KIND, path, "is not a file")
    found = _Zip(path) if zipfile.is_zipfile(path) else _Tar(path)
    folders = _Folders()
    for name in found.names():
        folders.add(name)
    for name, reason in found.left_out:
        folders.reject(_within(path, name), reason)
    top = folders.top()
    tree = Tree(KIND, path, lambda folder: folders.subfolders(top + folder), lambda folder: folders.walk(top, folder))
    class_names, splits, notes = classes_of(tree)
    notes += found.notes
    made = [
        SourceSplit(
            split.name, split.files, split.labels, None, _Reader(found, top, split.files), split.rejected
        )
        for split in splits
    ]  # fmt: skip
    if top:
        around = Walked()
        around.system.update(name for place, name in folders.system if top.startswith(place) and place != top)
        notes[:0] = [f"{KIND}: paths are those within {top}", *around.notes(KIND)]
    return Source(class_names, made, notes=notes, listed=True)


def make_example(folder: Path) -> str:
    """A zip as macOS makes them, with six images of three classes in one folder."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "shapes.zip", "w") as archive:
        for i in range(6):
            name = ("circle", "cross", "square")[i % 3]
            archive.writestr(f"shapes/{name}/{i}.jpg", picture(i % 3, i))
            archive.writestr(f"__MACOSX/shapes/{name}/._{i}.jpg", b"\0\5\x16\7")
    return str(folder / "shapes.zip")


@dataclass
class _Folders:
    """The folders of an archive: by path with a slash at its end, the names of folders and of files in them."""

    folders: dict[str, dict[str, None]] = field(default_factory=lambda: {"": {}})
    files: dict[str, list[str]] = field(default_factory=dict)
    rejected: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # by folder: paths, reasons
    system: list[tuple[str, str]] = field(default_factory=list)  # the folder in which one lies, and its name
    system_in: dict[str, Counter[str]] = field(default_factory=dict)  # the same by folder
    hidden_in: Counter[str] = field(default_factory=Counter)  # by folder: images in hidden folders in it

    def add(self, path: str) -> None:
        """Add a file, or a folder where the path ends with a slash."""
        place = ""
        *parts, name = path.split("/")
        for part in parts:
            if is_system(part):
                self._add_system(place, part)
                return
            if part.startswith("."):
                self.hidden_in[place] += ending(name) in IMAGES
                return
            self.folders[place].setdefault(part)
            place += f"{part}/"
            self.folders.setdefault(place, {})
        if name and is_system(name):
            self._add_system(place, name)
        elif name:
            self.files.setdefault(place, []).append(name)

    def reject(self, path: str, reason: str) -> None:
        """Add what cannot be read."""
        if not any(is_system(part) or part.startswith(".") for part in path.split("/")):
            self.rejected.setdefault(path[: path.rfind("/") + 1], []).append((path, reason))

    def top(self) -> str:
        """The one folder around all others, with a slash at its end; empty where there is none."""
        place = ""
        while True:
            names = list(self.folders[place])
            if len(names) > 1 or any(split_of_word(name) for name in names):
                return place
            if not names or any(ending(name) in IMAGES for name in self.files.get(place, [])):
                return ""  # one class
            place += f"{names[0]}/"

    def subfolders(self, folder: str) -> tuple[list[str], Walked]:
        """As `_walk.subfolders`."""
        place, found = f"{folder}/" if folder and not folder.endswith("/") else folder, Walked()
        for name in self.files.get(place, []):
            if name.startswith("."):
                found.hidden += ending(name) in IMAGES
            else:
                found.files.append(name)
        self._add_others(found, place, len(place))
        return sorted(self.folders.get(place, {})), found

    def walk(self, top: str, folder: str) -> Walked:
        """As `_walk.walk`, of a folder below `top`; paths begin below that."""
        found, todo = Walked(), [f"{top}{folder}/" if folder else top]
        while todo:
            place = todo.pop()
            for name in self.files.get(place, []):
                add_file(found, name, f"{place}{name}"[len(top) :])
            self._add_others(found, place, len(top))
            todo += [f"{place}{name}/" for name in self.folders.get(place, {})]
        found.files.sort(key=lambda path: path.split("/"))
        found.rejected.sort()
        return found

    def _add_system(self, place: str, name: str) -> None:
        self.system.append((place, name))
        self.system_in.setdefault(place, Counter())["._*" if name.startswith("._") else name] += 1

    def _add_others(self, found: Walked, place: str, start: int) -> None:
        """What is passed over and rejected in one folder; paths begin at `start`."""
        found.system += self.system_in.get(place, Counter())
        found.hidden += self.hidden_in[place]
        found.rejected += [(path[start:], why) for path, why in self.rejected.get(place, [])]


class _Zip:
    """A zip archive. Each process opens it for itself."""

    def __init__(self, path: Path) -> None:
        self.path, self.left_out = path, list[tuple[str, str]]()
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._process, self._archive = -1, self._opened()
        try:
            infos = self._archive.infolist()
        except _ERRORS as error:
            raise _damaged(path, error) from None
        texts, self.notes = _names(infos)
        windows = not any("/" in text for text in texts)  # some packers of Windows write backslashes
        twice = 0
        for info, text in zip(infos, texts, strict=True):
            name = _within(path, text.replace("\\", "/") if windows else text)
            if info.flag_bits & 1:
                raise FastnoisyError(f"{KIND}: {path} is encrypted, at {name!r}", "unpack it with its password first")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # The library does not bound what others give: 4 KiB of bzip2 may hold 4 GiB.
                problem = f"{KIND}: {path} has {name!r} compressed by another method than deflate"
                raise FastnoisyError(problem, "unpack it by hand and name the folder")
            if stat.S_ISLNK(info.external_attr >> 16):
                self.left_out.append((name, LINK))
            else:
                twice += name in self._members and not info.is_dir()
                self._members[name] = info
        self.notes += _twice(twice)

    def names(self) -> Iterator[str]:
        """All members but links; folders end with a slash."""
        return iter(self._members)

    def read(self, name: str) -> bytes:
        """A member's bytes.

        Raises:
            FastnoisyError: they are damaged, or too many.
        """
        info = self._members[name]
        if info.file_size > MAX_FILE_BYTES:
            raise FastnoisyError("more than 1 GiB in one file")
        if self._process != os.getpid():
            self._process, self._archive = os.getpid(), self._opened()
        try:
            with self._archive.open(info) as file:
                return file.read(info.file_size)
        except _ERRORS as error:
            raise FastnoisyError(f"damaged within the archive: {error}") from None

    def _opened(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except _ERRORS as error:
            raise _damaged(self.path, error) from None


class _Tar:
    """A tar archive; unpacked into a temporary file without a name where it is compressed."""

    def __init__(self, path: Path) -> None:
        self.path, self.left_out, self.notes = path, list[tuple[str, str]](), list[str]()
        self._descriptor = self._plain()
        weakref.finalize(self, os.close, self._descriptor)
        self._places: dict[str, tuple[int, int]] = {}
        size, twice = os.fstat(self._descriptor).st_size, 0
        with os.fdopen(os.dup(self._descriptor), "rb") as raw:
            raw.seek(0)
            for member in members(raw, KIND, path, self.left_out):
                if member.offset_data + member.size > size:
                    raise FastnoisyError(f"{KIND}: {path} ends within {member.name}", "copy or download it again")
                name = _within(path, member.name)
                twice += name in self._places
                self._places[name] = member.offset_data, member.size
        self.notes += _twice(twice)
        if not self._places:
            raise layout_error(KIND, path, "has no files in it")

    def names(self) -> Iterator[str]:
        """All plain files."""
        return iter(self._places)

    def read(self, name: str) -> bytes:
        """A member's bytes, read where they lie: processes share the file, and not a position in it.

        Raises:
            FastnoisyError: there are too many.
            OSError: it has become shorter, or fails.
        """
        start, size = self._places[name]
        if size > MAX_FILE_BYTES:
            raise FastnoisyError("more than 1 GiB in one file")
        data = os.pread(self._descriptor, size, start)
        if len(data) != size:
            raise OSError(5, "the archive has become shorter", str(self.path))
        return data

    def _plain(self) -> int:
        """A descriptor of the archive without its compression."""
        with io.open(self.path, "rb") as raw:  # noqa: UP020, `open` is the source's here
            start = raw.read(8)
            raw.seek(0)
            unpack = next((unpack for magic, unpack in _UNPACK if start.startswith(magic)), None)
            if unpack is None:
                return os.dup(raw.fileno())
            with tempfile.TemporaryFile() as plain, unpack(raw) as stream:
                try:
                    while chunk := stream.read(1 << 20):
                        plain.write(chunk)
                        if plain.tell() > max(MAX_FILE_BYTES, _MAX_RATIO * raw.tell()):
                            problem = (
                                f"{KIND}: {self.path} holds more than {_MAX_RATIO} times its size, as no images do"
                            )
                            raise FastnoisyError(problem, "unpack it by hand, if you trust it")
                    plain.flush()
                except (*_ERRORS, gzip.BadGzipFile) as error:
                    raise _damaged(self.path, error) from None
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                        raise
                    raise FastnoisyError(
                        f"{KIND}: no room in {tempfile.gettempdir()} to unpack {self.path}: {error.strerror}",
                        "set TMPDIR to a folder with room, or unpack it by hand and name the folder",
                    ) from None
                return os.dup(plain.fileno())


class _Reader:
    """Reads the images of a split."""

    def __init__(self, archive: _Zip | _Tar, top: str, files: list[str]) -> None:
        self._archive, self._top, self._files = archive, top, files

    def __call__(self, i: int) -> bytes:
        return self._archive.read(self._top + self._files[i])

    def stamp(self, i: int) -> int:
        """The archive's."""
        return stamp_of(self._archive.path)


def _names(infos: list[zipfile.ZipInfo]) -> tuple[list[str], list[str]]:
    """The members' names, and a note where they may be wrong.

    A name says whether it is UTF-8, else Python takes it for cp437. Many packers write UTF-8 without saying so, and
    those of Windows a code page that nothing tells. Some names in a code page happen to be UTF-8 of other letters, so
    it is UTF-8 only where all are.
    """
    unsaid = [info.filename for info in infos if not info.flag_bits & 0x800 and not info.filename.isascii()]
    utf8 = {name: _utf8(name) for name in unsaid}
    odd = [name for name in unsaid if utf8[name] is None]
    if not odd:
        return [utf8.get(info.filename) or info.filename for info in infos], []
    text = f"{KIND}: names in a code page that the archive does not tell are read as cp437: {len(unsaid):,}"
    note = f"{text}, as in {odd[0][:80]!r}; if that is nonsense, unpack it by hand and name the folder"
    return [info.filename for info in infos], [note]


def _utf8(name: str) -> str | None:
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return None


def _twice(count: int) -> list[str]:
    text = f"{KIND}: members that another of the same name stands after, which is taken: {count:,}"
    return [text] if count else []


def _within(path: Path, name: str) -> str:
    """A member's path without what says nothing (`./`); that of a folder ends with a slash.

    Raises:
        FastnoisyError: it leads out of the archive, or is longer than any system's paths.
    """
    if len(os.fsencode(name)) > _MAX_NAME_BYTES:
        problem = f"{KIND}: {path} has a member with a name of {len(name):,} characters, {name[:60]!r} and so on"
        raise FastnoisyError(problem, f"at most {_MAX_NAME_BYTES:,} bytes are a path")
    if name.startswith("/") or ".." in name.split("/") or "\0" in name or (len(name) > 1 and name[1] == ":"):
        raise FastnoisyError(f"{KIND}: {path} has a member {name[:200]!r}", "names must stay within the archive")
    plain = "/".join(part for part in name.split("/") if part not in ("", "."))
    return f"{plain}/" if plain and name.endswith("/") else plain


def _damaged(path: Path, error: Exception) -> FastnoisyError:
    problem = " ".join(str(error).split())[:100] or type(error).__name__
    return FastnoisyError(f"{KIND}: {path} is no archive, or damaged: {problem}", "copy or download it again")
