"""WebDataset shards: uncompressed .tar files in which a sample is an image and a label of the same name.

A sample is a run of members that share their name up to its first dot: an image (jpg, jpeg, png, webp, ...) and its
label in NAME.cls, or under "label" in NAME.json. Labels are numbers from 0, or names; a file `classes.txt` beside the
shards, one name a line, gives names to numbers or an order to names. An image without a label is rejected. Shards whose
names tell of train, val or test (as `set-val-0003.tar`, or `val/0003.tar`) make these splits, others are train. Nothing
is unpacked: the headers are read once, then each image where it lies.
"""

from __future__ import annotations

import errno
import fnmatch
import io
import itertools
import json
import os
import re
import tarfile
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from glob import has_magic
from pathlib import Path
from typing import BinaryIO

from fastnoisy.data.sources._example import picture
from fastnoisy.data.sources._lists import Texts, empty_class_notes
from fastnoisy.data.sources._tar import REMEDY, holds_samples, members
from fastnoisy.data.sources._walk import Walked, ending, is_system, subfolders
from fastnoisy.data.sources.base import (
    MAX_FILE_BYTES,
    SPLIT_NAMES,
    UNLABELLED,
    Source,
    SourceSplit,
    layout_error,
    stamp_of,
)
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.meaning import NAMES_FILE, Labels, as_text, read_class_names, understand
from fastnoisy.label_files.words import split_in_name, split_of_word

LAYOUT = "a .tar, a folder of .tar shards, or a pattern such as shards/train-{000..009}.tar or shards/*.tar"
NEEDS_PATH = True
FALLBACK = True  # an archive may be another data set's, and a folder may hold class folders too
TAKES_PATTERNS = True
KIND = "wds"
IMAGES = ("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "webp", "avif", "bmp", "gif", "jp2", "pgm", "ppm", "tif", "tiff")
MAX_LABEL_BYTES = 1 << 20
MAX_SHARDS = 100_000
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_BRACES = re.compile(r"\{([^{}]*)\}")


@dataclass
class _Part:
    """One split: where each image lies, and its label."""

    names: Texts = field(default_factory=Texts)
    labels: Labels = field(default_factory=Labels)
    shards: array[int] = field(default_factory=lambda: array("l"))
    starts: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    rejected: list[tuple[str, str]] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def recognises(path: Path) -> bool:
    """Whether the path is a .tar, or a folder that holds .tar files and no folders, or has such a folder called
    train.
    """
    if path.is_file():
        return path.suffix == ".tar" and holds_samples(path)
    try:
        names, found = subfolders(path)
        trains = [name for name in names if split_of_word(name) == "train"]
        return _only_shards(names, found) or any(_only_shards(*subfolders(path / name)) for name in trains)
    except FastnoisyError:
        return False  # `folder` will say what is wrong


def open(path: Path | None) -> Source:
    """Read the headers and labels of all shards; no image is read yet.

    Raises:
        FastnoisyError: a shard is missing, compressed, cut off or leads out of itself, or no sample has image and
            label.
    """
    if path is None:
        raise FastnoisyError(f"{KIND} needs a path", f"write {KIND}:PATH, where PATH is {LAYOUT}")
    root, files, notes = _shards(path)
    parts: dict[str, _Part] = {}
    left_out: dict[str, tuple[int, str]] = {}
    for number, file in enumerate(files):
        shown = file.relative_to(root).as_posix()
        part = parts.setdefault(split_in_name(shown), _Part())
        with file.open("rb") as raw:
            for sample in _samples(raw, file, shown, notes, part.rejected):
                problem = _add_sample(part, raw, file, number, shown, sample)
                if problem:
                    count, first = left_out.get(problem, (0, f"{shown}/{next(iter(sample.values())).name}"))
                    left_out[problem] = count + 1, first
    splits = {name: parts[name] for name in SPLIT_NAMES if name in parts and len(parts[name].names)}
    unused = [name for part in parts.values() for name in part.unused]
    if unused:
        notes.append(f"{KIND}: samples with more than one image, of which the first is taken: {len(unused):,}")
    for problem, (count, first) in left_out.items():
        notes.append(f"{KIND}: samples left out since they {problem}: {count:,}; the first begins with {first}")
    for name, part in parts.items():
        if splits and name not in splits and part.rejected:
            notes.append(_without(name, part.rejected))
    if not splits:
        raise layout_error(KIND, path, f"has no sample with an image and a label ({'; '.join(notes) or 'it is empty'})")
    names = read_class_names(KIND, root / NAMES_FILE) if (root / NAMES_FILE).is_file() else None
    class_names, labels = understand(KIND, [part.labels for part in splits.values()], names, notes)
    notes += empty_class_notes(KIND, class_names, labels)
    found = [
        SourceSplit(name, part.names, labels[i], None, _Reader(part, files), part.rejected)
        for i, (name, part) in enumerate(splits.items())
    ]
    return Source(class_names, found, notes=notes, listed=True)


def make_example(folder: Path) -> str:
    """Two training shards and a test shard, with names for the classes."""
    root = folder / "shards"
    root.mkdir(parents=True)
    (root / NAMES_FILE).write_text("cat\ndog\nhorse\n")
    for shard, name in enumerate(("train-000.tar", "train-001.tar", "test-000.tar")):
        with tarfile.open(root / name, "w") as archive:
            for i in range(4 * shard, 4 * shard + 4):
                label = {"cls": b"%d\n" % (i % 3)} if i % 2 else {"json": json.dumps({"label": i % 3}).encode()}
                for suffix, content in {"jpg": picture(i % 3, i), **label}.items():
                    member = tarfile.TarInfo(f"{i:06d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return str(root)


# Which shards there are


def _only_shards(names: list[str], found: Walked) -> bool:
    return not names and any(name.endswith(".tar") for name in found.files)


def _in_folder(path: Path, notes: list[str]) -> list[Path]:
    """The shards in a folder and in its folders that are called as splits.

    Raises:
        FastnoisyError: a link to one of them leads nowhere, or a folder cannot be listed.
    """
    names, found = subfolders(path)
    files, passed = [], Walked()
    for place in ("", *(f"{name}/" for name in names if split_of_word(name))):
        found = subfolders(path / place)[1] if place else found
        for name, reason in found.rejected:
            if name.endswith(".tar") or (not place and split_of_word(name)):
                raise FastnoisyError(f"{KIND}: {path / place / name} is {reason}", "mend it, or remove it")
        files += [path / f"{place}{name}" for name in found.files if name.endswith(".tar")]
        passed.system += found.system
    others = [name for name in names if not split_of_word(name)]
    if others:
        notes.append(f"{KIND}: folders that are not called as splits are left out: {', '.join(others[:6])}")
    notes += passed.notes(KIND)
    return sorted(files)


def _shards(path: Path) -> tuple[Path, list[Path], list[str]]:
    """The folder that shards are named within, the shards, and notes."""
    notes: list[str] = []
    if path.is_dir():
        root, files = path, _in_folder(path, notes)
        if not files:
            packed = [file.name for file in sorted(path.iterdir()) if file.name.endswith(_COMPRESSED)]
            if packed:
                raise _compressed(path / packed[0])
            raise layout_error(KIND, path, "has no .tar files")
    elif path.is_file():
        root, files = path.parent, [path]
    else:
        files = [Path(name) for name in _expand(str(path))]
        missing = [file for file in files if not file.is_file()]
        if missing or not files:
            problem = (
                f"means {len(files)} files, of which {len(missing)} are missing: {missing[0]}"
                if files
                else "fits no file"
            )
            raise layout_error(KIND, path, problem if has_magic(str(path)) or "{" in str(path) else "does not exist")
        root = Path(os.path.commonpath([file.parent for file in files]))
    for file in files:
        if file.name.endswith(_COMPRESSED):
            raise _compressed(file)
        if file.suffix != ".tar":
            raise layout_error(KIND, file, "is no .tar")
    return root, files, notes


def _expand(pattern: str) -> Iterator[str]:
    """The paths that a pattern with {000..009}, {a,b}, * or ? means."""
    parts = _BRACES.split(pattern)  # texts and the insides of braces, by turns
    choices = [_choices(text, pattern) if i % 2 else [text] for i, text in enumerate(parts)]
    total = 1
    for choice in choices:
        total *= len(choice)
    if total > MAX_SHARDS:
        raise FastnoisyError(f"{KIND}: {pattern} means {total:,} files", f"at most {MAX_SHARDS:,} are read at once")
    for words in itertools.product(*choices):
        name = "".join(words)
        yield from _fitting(name) if has_magic(name) else [name]


def _fitting(pattern: str) -> list[str]:
    """The paths that a pattern with * or ? fits, sorted. Unlike for `glob`, what cannot be listed is no empty folder.

    Raises:
        OSError: a folder cannot be listed.
    """
    places = [""]
    for part in Path(pattern).parts:
        if not has_magic(part):
            places = [os.path.join(place, part) for place in places]
            continue
        found = []
        for place in places:
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(place or ".") as entries:
                names = [entry.name for entry in entries if not is_system(entry.name)]
                fitting = [name for name in fnmatch.filter(names, part) if part.startswith(".") or name[0] != "."]
                found += [os.path.join(place, name) for name in fitting]
        places = found
    return sorted(filter(_is_there, places))


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _choices(inside: str, pattern: str) -> list[str]:
    numbers = re.fullmatch(r"([0-9]{1,9})\.\.([0-9]{1,9})", inside)
    if not numbers:
        return inside.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    if not first <= last < first + MAX_SHARDS:
        raise FastnoisyError(f"{KIND}: {{{inside}}} in {pattern} is no range", "write it as {000..009}")
    width = len(numbers[1]) if numbers[1].startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(first, last + 1)]


def _compressed(file: Path) -> FastnoisyError:
    return FastnoisyError(
        f"{KIND}: {file} is compressed, so that no image in it can be read without all before it",
        "unpack it to an uncompressed .tar first, for example with gunzip; images are compressed already",
    )


# What is in them


def _samples(
    raw: BinaryIO, file: Path, shown: str, notes: list[str], rejected: list[tuple[str, str]]
) -> Iterator[dict[str, tarfile.TarInfo]]:
    """Each sample of a shard: its members by what follows the first dot of their names, in lower case."""
    key = ""
    sample: dict[str, tarfile.TarInfo] = {}
    for member in _members(raw, file, shown, notes, rejected):
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        if not stem or not suffix:  # hidden, or no part of a sample
            continue
        if sample and (f"{folder}/{stem}" != key or suffix.lower() in sample):
            yield sample
            sample = {}
        key = f"{folder}/{stem}"
        sample[suffix.lower()] = member
    if sample:
        yield sample


def _members(
    raw: BinaryIO, file: Path, shown: str, notes: list[str], rejected: list[tuple[str, str]]
) -> Iterator[tarfile.TarInfo]:
    """The files in a shard; what is named as an image and is no file is rejected."""
    if raw.read(2) == b"\x1f\x8b":
        raise _compressed(file)
    raw.seek(0)
    size = os.fstat(raw.fileno()).st_size
    left_out: list[tuple[str, str]] = []
    for member in members(raw, KIND, file, left_out):
        if member.offset_data + member.size > size:
            raise FastnoisyError(f"{KIND}: {file} ends within {member.name}", REMEDY)
        yield member
    rejected += [(f"{shown}/{name}", reason) for name, reason in left_out if ending(name) in IMAGES]
    end = raw.tell()
    rest = os.pread(raw.fileno(), 1 << 20, end)
    if rest.strip(b"\0"):  # the library takes a broken header for the end
        problem = f"{KIND}: {file} has something that is no header at byte {end} of {size}: damaged, or archives joined"
        raise FastnoisyError(problem, f"{REMEDY}, or pack its files anew")
    if not rest:
        notes.append(f"{KIND}: {file} has no end mark; it may have been cut off between two samples")


def _add_sample(
    part: _Part, raw: BinaryIO, file: Path, number: int, shown: str, sample: dict[str, tarfile.TarInfo]
) -> str | None:
    """Add a sample to its split, or say why not."""
    image = next((member for suffix, member in sample.items() if suffix in IMAGES), None)
    like = [member for suffix, member in sample.items() if suffix.rpartition(".")[2] in IMAGES and member is not image]
    # Where it has a label of its own, or no other image stands for the sample, it was meant to be one.
    dotted = [member for member in like if image is None or _own_label(member, sample)]
    for member in dotted:
        stem, _, suffix = member.name.rpartition("/")[2].partition(".")
        cause = f"its name has dots: a sample's is what stands before the first, here {stem!r}"
        part.rejected.append((f"{shown}/{member.name}", f"{cause}, and {suffix!r} is no kind of image"))
    if image is None:
        return "have names with dots" if like else "have no image"
    if len(like) > len(dotted):
        part.unused.append(like[0].name)
    label = _label(raw, sample)
    path = os.fsencode(f"{shown}/{image.name}")
    if not label:
        part.rejected.append((os.fsdecode(path), UNLABELLED))
        return "have no label in .cls or under 'label' in .json"
    part.names.append(path)
    part.labels.append(label, file, image.name)
    part.shards.append(number)
    part.starts.append(image.offset_data)
    part.sizes.append(image.size)
    return "have names with dots" if dotted else None


def _own_label(member: tarfile.TarInfo, sample: dict[str, tarfile.TarInfo]) -> bool:
    """Whether an image has a label by its whole name, as 7.5.jpg has in 7.5.cls."""
    before, dot, _ = member.name.rpartition("/")[2].partition(".")[2].lower().rpartition(".")
    return bool(dot) and (f"{before}.cls" in sample or f"{before}.json" in sample)


def _without(name: str, rejected: list[tuple[str, str]]) -> str:
    """A note on a split without labels.

    Raises:
        FastnoisyError: it is not for want of labels that none of its images can be used.
    """
    other = next((f"{path}: {why}" for path, why in rejected if why != UNLABELLED), None)
    if other:
        raise FastnoisyError(
            f"{KIND}: {name}: not one of {len(rejected):,} images can be used; for example {other}",
            "mend their names, or leave out these shards",
        )
    return f"{KIND}: {name} is left out: none of its {len(rejected):,} images has a label"


def _label(raw: BinaryIO, sample: dict[str, tarfile.TarInfo]) -> str | None:
    """The text of .cls, or the label in .json; None where there is none that can be read."""
    member = sample.get("cls") or sample.get("json")
    if member is None or member.size > MAX_LABEL_BYTES:
        return None
    content = os.pread(raw.fileno(), member.size, member.offset_data)
    if "cls" in sample:
        return content.decode("utf-8", "surrogateescape").strip()
    try:
        table = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return as_text(table.get("label")) if isinstance(table, dict) else None


class _Reader:
    """Reads an image where it lies; opens the shard each time, so that threads and processes may share it."""

    def __init__(self, part: _Part, files: list[Path]) -> None:
        self._part, self._files = part, files

    def __call__(self, i: int) -> bytes:
        part, file = self._part, self._files[self._part.shards[i]]
        start, size = part.starts[i], part.sizes[i]
        if size > MAX_FILE_BYTES:
            raise FastnoisyError("more than 1 GiB in one file")
        with file.open("rb") as raw:
            data = os.pread(raw.fileno(), size, start)
        if len(data) != size:
            raise OSError(errno.EIO, "the shard has become shorter", str(file))
        return data

    def stamp(self, i: int) -> int:
        """The shard's."""
        return stamp_of(self._files[self._part.shards[i]])
