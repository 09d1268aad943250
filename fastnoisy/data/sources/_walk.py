"""The one walker of folders: for sources, for shards and for what is predicted. What it does not list it tells of.

Links are followed, to files and to folders, and none is followed in a circle, or to one folder in very many ways. What
the system keeps in folders for itself (thumbnails, trash, resource forks) and what is hidden is passed over. A folder
that cannot be listed is never an empty one: where the machine fails, that is an error, and where this user may not
look, it is rejected by name.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fastnoisy.errors import FastnoisyError

# Of macOS, Windows, Linux, Synology, QNAP, Jupyter, Python, git and editors; in lower case.
_SYSTEM = re.compile(
    r"__macosx|@eadir|@tmp|@sharebin|@synoeastream|@synoresource|:2e.*|desktop d[bf]|network trash folder"
    r"|temporary items|#recycle|#snapshot|@recycle|@recently-snapshot|\.@__thumb|\.@upload_cache"
    r"|lost\+found|\$recycle\.bin|system volume information|found\.[0-9]{3}"
    r"|~snapshot|\.snapshots?|\.zfs|\.streams|\.apdisk|\.localized|\.stversions|\.stfolder|\.dropbox(\.cache)?"
    r"|thumbs\.db(:encryptable)?|ehthumbs(_vista)?\.db|desktop\.ini|icon\r|\.ds_store|\._.*|\.trash.*|\.nfs.*"
    r"|\.fuse_hidden.*"
    r"|\.spotlight-v100|\.fseventsd|\.temporaryitems|\.appledouble|\.documentrevisions-v100|\.volumeicon\.icns"
    r"|__pycache__|\.ipynb_checkpoints|\.git|\.svn|\.hg|\.dvc|\.cache|\.thumbnails|\.picasa\.ini|picasa\.ini|zbthumbnail\.info"
)
IMAGES = frozenset(
    """
    jpg jpeg jpe jfif jif mpo png apng webp avif avifs bmp dib gif jp2 j2k jpf jpx j2c pgm ppm pnm pbm tif tiff
    heic heif hif jxl svg svgz psd psb raw cr2 cr3 nef nrw arw orf rw2 raf dng pef srw ico icns tga exr hdr dds pcx
    """.split()  # noqa: SIM905 (a line each otherwise)
)
# Files that lie beside images and are none, by what their names end with.
_OTHERS = frozenset(
    """
    txt json jsonl ndjson xml csv tsv md rst html htm mhtml css js yaml yml toml ini cfg conf log py ipynb sh bat
    pdf doc docx xls xlsx ods odt ppt pptx rtf zip tar gz tgz bz2 xz zst 7z rar parquet arrow npy npz pkl pickle
    pt pth h5 hdf5 mat db sqlite sqlite3 md5 sha1 sha256 sfv url lnk webloc aae xmp thm mp4 mov avi mkv webm m4v
    mpg mpeg wav mp3 part crdownload tmp bak lock
    """.split()  # noqa: SIM905
)
MAX_WAYS = 100  # by which links may lead to one folder: two links in each of 30 folders make 2 ** 30
_UNLISTED = "a folder: "  # begins the reasons of folders that cannot be listed
_NOT_THERE = (-1, -1)
_CIRCLE = "a link to a folder that it lies in"
# What is wrong with one folder's name or rights; any other number says that the machine or its disk fails.
_OF_THE_PATH = {
    errno.EACCES: "it may not be read (permission denied)",
    errno.EPERM: "it may not be read (not permitted)",
    errno.ENAMETOOLONG: "its path is too long for this system",
    errno.ELOOP: "a link that leads to itself",
    errno.ENOENT: "a link to what is not there",
    errno.ENOTDIR: "a link to what is not there",
}


@dataclass
class Walked:
    """What lies in a folder, at any depth.

    Attributes:
        files: paths within the folder, with slashes, sorted part by part.
        rejected: paths and reasons: what looks like more files and cannot be listed or read.
        system: how often each name was passed over that the system keeps for itself.
        hidden: how many files that are hidden, or lie in hidden folders, have names of images.
        others: how many files were passed over for the endings of their names, by ending.
    """

    files: list[str] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    system: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    others: Counter[str] = field(default_factory=Counter)

    def add(self, other: Walked) -> None:
        """Take in what lies in another folder."""
        self.files += other.files
        self.rejected += other.rejected
        self.system += other.system
        self.hidden += other.hidden
        self.others += other.others

    def notes(self, kind: str) -> list[str]:
        """A line on each kind of thing that was passed over."""
        found = []
        if self.system:
            found.append(f"{kind}: passed over what the system keeps for itself: {_counted(self.system)}")
        if self.others:
            found.append(f"{kind}: passed over files whose names are of no images: {_counted(self.others)}")
        if self.hidden:
            found.append(f"{kind}: passed over hidden files that are named as images: {self.hidden:,}")
        unlisted = [
            f"{path!r}: {why.removeprefix(_UNLISTED)}" for path, why in self.rejected if why.startswith(_UNLISTED)
        ]
        if unlisted:
            more = f" and {len(unlisted) - 3:,} more" if len(unlisted) > 3 else ""
            found.append(f"{kind}: left out are folders with all that is in them: {'; '.join(unlisted[:3])}{more}")
        return found


def walk(folder: Path, prefix: str = "") -> Walked:
    """List a folder.

    Args:
        prefix: goes before each path, as in `train/cat/`.

    Raises:
        FastnoisyError: the machine, its disk or its network fails while listing, or links lead to one folder in more
            than `MAX_WAYS` ways; names the folder.
    """
    found = Walked()
    top = os.fspath(folder)
    parents = {*Path(os.path.abspath(folder)).parents, *Path(os.path.realpath(folder)).parents}
    above_top = {_identity(os.fspath(parent)) for parent in parents} - {_NOT_THERE}
    around = (_identity(top), *above_top)
    if prefix and around[0] in above_top:
        found.rejected.append((prefix.rstrip("/"), _CIRCLE))
        return found
    ways: Counter[tuple[int, int]] = Counter()
    todo: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(top, prefix, around)]
    while todo:
        place, shown, above = todo.pop()
        for entry in _listed(place, shown, found):
            name, path = entry.name, shown + entry.name
            if is_system(name):
                found.system[name if not name.startswith("._") else "._*"] += 1
                continue
            kind = _kind(entry, path, found)
            if name.startswith("."):
                found.hidden += _hidden_images(entry, kind)
            elif kind == "folder":
                identity = _identity(entry.path)
                ways[identity] += 1
                if identity in above:
                    found.rejected.append((path, _CIRCLE))
                elif ways[identity] > MAX_WAYS:
                    raise FastnoisyError(
                        f"links lead to {entry.path!r} in more than {MAX_WAYS} ways",
                        "remove links, so that few are left",
                    )
                else:
                    todo.append((entry.path, f"{path}/", (*above, identity)))
            elif kind == "file":
                add_file(found, name, path)
    found.files.sort(key=lambda path: path.split("/"))
    found.rejected.sort()
    return found


def add_file(found: Walked, name: str, path: str) -> None:
    """Add a file, unless it is hidden or its name is of no image."""
    if name.startswith("."):
        found.hidden += ending(name) in IMAGES
    elif ending(name) in _OTHERS:
        found.others[f".{ending(name)}"] += 1
    else:
        found.files.append(path)


def subfolders(folder: Path) -> tuple[list[str], Walked]:
    """The names of the folders in a folder, sorted; and what else lies there: its files, and what is passed over.

    Raises:
        FastnoisyError: as `walk`; or the folder itself cannot be listed.
    """
    names, found = [], Walked()
    for entry in _listed(os.fspath(folder), "", found):
        name = entry.name
        if is_system(name):
            found.system[name if not name.startswith("._") else "._*"] += 1
        elif name.startswith("."):
            found.hidden += _hidden_images(entry, _kind(entry, name, found))
        else:
            kind = _kind(entry, name, found)
            if kind == "folder":
                names.append(name)
            elif kind == "file":
                found.files.append(name)
    if found.rejected and found.rejected[0][0] == "":
        reason = found.rejected[0][1].removeprefix(_UNLISTED)
        raise FastnoisyError(f"cannot list {folder}: {reason}", "look at its owner and its permissions")
    return sorted(names), found


def is_system(name: str) -> bool:
    """Whether a file or folder is one that the system keeps for itself, by its name."""
    return bool(_SYSTEM.fullmatch(name.lower()))


def ending(name: str) -> str:
    """What follows the last dot of a name, in lower case; empty without one."""
    stem, dot, last = name.rpartition(".")
    return last.lower() if dot and stem else ""


def _listed(place: str, shown: str, found: Walked) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder; none where that is the fault of its path, which is then rejected."""
    try:
        with os.scandir(place) as entries:
            yield from list(entries)
    except OSError as error:
        if error.errno not in _OF_THE_PATH:
            raise FastnoisyError(
                f"cannot list {place}: {error.strerror or error}", "mend that and give the same command again"
            ) from None
        found.rejected.append((shown.rstrip("/"), f"{_UNLISTED}{_OF_THE_PATH[error.errno]}"))


def _kind(entry: os.DirEntry[str], path: str, found: Walked) -> str:
    """`file` or `folder`; empty for what is neither, which is rejected."""
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        if error.errno not in _OF_THE_PATH:
            raise FastnoisyError(
                f"cannot read {entry.path}: {error.strerror or error}", "mend that and give the same command again"
            ) from None
        reason = _OF_THE_PATH[error.errno]
        if error.errno in (errno.ENOENT, errno.ENOTDIR) and not entry.is_symlink():
            return ""  # it has gone since it was listed
        if not entry.name.startswith("."):
            found.rejected.append((path, reason))
        return ""
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    if not entry.name.startswith("."):  # reading a pipe or a socket might never end
        found.rejected.append((path, "neither a file nor a folder, but a pipe, a socket or a device"))
    return ""


def _hidden_images(entry: os.DirEntry[str], kind: str) -> int:
    """How many files with names of images a hidden file or folder is or holds: to be told of, not to be read."""
    if kind == "file":
        return int(ending(entry.name) in IMAGES)
    count, todo = 0, [entry.path] if kind == "folder" and not entry.is_symlink() else []
    while todo:
        with suppress(OSError), os.scandir(todo.pop()) as below:
            for item in below:
                if is_system(item.name):
                    continue
                if item.is_dir(follow_symlinks=False):
                    todo.append(item.path)
                else:
                    count += ending(item.name) in IMAGES
    return count


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return _NOT_THERE  # listing it will say why
    return status.st_dev, status.st_ino


def _counted(counter: Counter[str]) -> str:
    items: Iterable[tuple[str, int]] = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} ({count:,})" for name, count in items]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")
