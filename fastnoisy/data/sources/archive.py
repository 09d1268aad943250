"""A zip or tar archive of class folders, or of train/, val/ and test/ with them, read without being unpacked by hand.

What is in it counts as in a folder: the same words for splits, the same names of the system passed over (`__MACOSX`
among them), the same images beside class folders rejected. One folder around all of it is left away. Members of a zip
are read one by one, those of a plain .tar where they lie; a compressed tar is unpacked once into a temporary file, for
nothing in it can be read without all before it. A .tar of samples with labels beside them is `wds`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from fastnoisy.data.sources._example import picture
from fastnoisy.data.sources._tar import holds_samples, members
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
_LINK = "a link within the archive"
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
    for name in found.links:
        folders.reject(_within(path, name), _LINK)
    top = folders.top()
    tree = Tree(KIND, path, lambda folder: folders.subfolders(top + folder), lambda folder: folders.walk(top, folder))
    class_names, splits, notes = classes_of(tree)
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
    rejected: list[tuple[str, str]] = field(default_factory=list)
    system: list[tuple[str, str]] = field(default_factory=list)  # the folder in which one lies, and its name

    def add(self, path: str) -> None:
        """Add a file, or a folder where the path ends with a slash."""
        place = ""
        *parts, name = path.split("/")
        for part in parts:
            if is_system(part):
                self.system.append((place, part))
                return
            self.folders[place].setdefault(part)
            place += f"{part}/"
            self.folders.setdefault(place, {})
        if name and is_system(name):
            self.system.append((place, name))
        elif name:
            self.files.setdefault(place, []).append(name)

    def reject(self, path: str, reason: str) -> None:
        """Add what cannot be read."""
        if not any(is_system(part) or part.startswith(".") for part in path.split("/")):
            self.rejected.append((path, reason))

    def top(self) -> str:
        """The one folder around all others, with a slash at its end; empty where there is none."""
        place = ""
        while True:
            names = [name for name in self.folders[place] if not name.startswith(".")]
            if len(names) > 1 or any(split_of_word(name) for name in names):
                return place
            if not names or any(ending(name) in IMAGES for name in self.files.get(place, [])):
                return ""  # one class
            place += f"{names[0]}/"

    def subfolders(self, folder: str) -> tuple[list[str], Walked]:
        """As `_walk.subfolders`."""
        place, found = f"{folder}/" if folder and not folder.endswith("/") else folder, Walked()
        found.files = [name for name in self.files.get(place, []) if not name.startswith(".")]
        found.rejected = [
            (path[len(place) :], why) for path, why in self.rejected if path.rpartition("/")[0] == place.rstrip("/")
        ]
        found.system.update("._*" if name.startswith("._") else name for at, name in self.system if at == place)
        return sorted(name for name in self.folders.get(place, {}) if not name.startswith(".")), found

    def walk(self, top: str, folder: str) -> Walked:
        """As `_walk.walk`, of a folder below `top`; paths begin below that."""
        found, todo = Walked(), [f"{top}{folder}/" if folder else top]
        while todo:
            place = todo.pop()
            for name in self.files.get(place, []):
                add_file(found, name, f"{place}{name}"[len(top) :])
            found.system.update("._*" if name.startswith("._") else name for at, name in self.system if at == place)
            found.rejected += [
                (path[len(top) :], why) for path, why in self.rejected if f"{path.rpartition('/')[0]}/" == place
            ]
            todo += [f"{place}{name}/" for name in self.folders.get(place, {}) if not name.startswith(".")]
        found.files.sort(key=lambda path: path.split("/"))
        found.rejected.sort()
        return found


class _Zip:
    """A zip archive. Each process opens it for itself."""

    def __init__(self, path: Path) -> None:
        self.path, self.links = path, list[str]()
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._process, self._archive = -1, self._opened()
        try:
            infos = self._archive.infolist()
        except _ERRORS as error:
            raise _damaged(path, error) from None
        texts = [_name(info) for info in infos]
        windows = not any("/" in text for text in texts)  # some packers of Windows write backslashes
        for info, text in zip(infos, texts, strict=True):
            name = _within(path, text.replace("\\", "/") if windows else text)
            if info.flag_bits & 1:
                raise FastnoisyError(f"{KIND}: {path} is encrypted, at {name!r}", "unpack it with its password first")
            if stat.S_ISLNK(info.external_attr >> 16):
                self.links.append(name)
            else:
                self._members.setdefault(name, info)

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
                return file.read(MAX_FILE_BYTES)
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
        self.path, self.links = path, list[str]()
        self._descriptor = self._plain()
        weakref.finalize(self, os.close, self._descriptor)
        self._places: dict[str, tuple[int, int]] = {}
        size = os.fstat(self._descriptor).st_size
        with os.fdopen(os.dup(self._descriptor), "rb") as raw:
            raw.seek(0)
            for member in members(raw, KIND, path, self.links):
                if member.offset_data + member.size > size:
                    raise FastnoisyError(f"{KIND}: {path} ends within {member.name}", "copy or download it again")
                self._places[_within(path, member.name)] = member.offset_data, member.size
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
                    shutil.copyfileobj(stream, plain, 1 << 20)
                except (*_ERRORS, gzip.BadGzipFile) as error:
                    raise _damaged(self.path, error) from None
                plain.flush()
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


def _name(info: zipfile.ZipInfo) -> str:
    """A member's name: many packers write UTF-8 and do not say so, and Python takes that for cp437."""
    if not info.flag_bits & 0x800:
        try:
            return info.filename.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return info.filename


def _within(path: Path, name: str) -> str:
    """A member's path without what says nothing (`./`); that of a folder ends with a slash."""
    if name.startswith("/") or ".." in name.split("/") or "\0" in name or (len(name) > 1 and name[1] == ":"):
        raise FastnoisyError(f"{KIND}: {path} has a member {name[:200]!r}", "names must stay within the archive")
    plain = "/".join(part for part in name.split("/") if part not in ("", "."))
    return f"{plain}/" if plain and name.endswith("/") else plain


def _damaged(path: Path, error: Exception) -> FastnoisyError:
    problem = " ".join(str(error).split())[:100] or type(error).__name__
    return FastnoisyError(f"{KIND}: {path} is no archive, or damaged: {problem}", "copy or download it again")
