"""FFCV files: a .beton with the fields image and label, as ffcv's DatasetWriter or `fastnoisy convert` wrote it.

The split is told by the file's name (`val.beton`), and is train where it tells of none; a folder with several such
files is read too, if this kind is named. Class names, clean labels and paths come from the folder `NAME.meta` where one
of ours lies beside the file, else names from `classes.txt`, one a line, or the numbers of the labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastnoisy.data.sources._example import picture
from fastnoisy.data.sources._lists import empty_class_notes
from fastnoisy.data.sources.base import SPLIT_NAMES, Source, SourceSplit, layout_error, stamp_of
from fastnoisy.data.store import Split
from fastnoisy.data.store.beton import RAW, BetonReader, BetonWriter
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.meaning import MAX_CLASSES, NAMES_FILE, read_class_names
from fastnoisy.label_files.words import split_in_name

LAYOUT = "a .beton (or .ffcv) file with the fields image and label"
NEEDS_PATH = True
FALLBACK = False
KIND = "beton"
SUFFIXES = (".beton", ".ffcv")


def recognises(path: Path) -> bool:
    """Whether the path is a file with one of the endings."""
    return path.is_file() and path.suffix in SUFFIXES


def open(path: Path | None) -> Source:
    """Read header and tables, and check them; no image is read yet.

    Raises:
        FastnoisyError: no such file, a damaged one, other fields, or labels that are no class numbers.
    """
    if path is None:
        raise FastnoisyError(f"{KIND} needs a path", f"write {KIND}:PATH, where PATH is {LAYOUT}")
    files = _files(path)
    splits, names, sizes = [], [], []
    for name in SPLIT_NAMES:
        if name in files:
            split, class_names, size = _open_ours(files[name], name) or _open_foreign(files[name], name)
            splits.append(split)
            names.append(class_names)
            sizes.append(size)
    class_names = _agree(names, splits, path)
    notes = empty_class_notes(KIND, class_names, [split.given_labels for split in splits])
    all_sizes = np.concatenate(sizes)
    same = (all_sizes == all_sizes[0]).all() and all_sizes[0].all()
    fixed = (int(all_sizes[0, 0]), int(all_sizes[0, 1])) if same else None
    stamp = ",".join(f"{name}:{stamp_of(file):08x}" for name, file in sorted(files.items()))
    return Source(class_names, splits, fixed, notes=notes, stamp=stamp)


def make_example(folder: Path) -> str:
    """A file as ffcv would leave it, without a .meta folder: three JPEGs and three raw images in two classes."""
    folder.mkdir(parents=True)
    path = folder / "shapes_train.beton"
    with BetonWriter(path, 6, 1 << 21) as writer:
        for i in range(6):
            if i % 2:
                pixels = np.full((48, 40 + i, 3), 40 * i, np.uint8)
                writer.append(pixels.tobytes(), RAW, 48, 40 + i, i % 3 % 2)
            else:
                width, height = 70 + 3 * (i % 7), 72 + 5 * (i % 3)
                writer.append(picture(i % 2, i), 0, height, width, i % 3 % 2)
    return str(path)


def _files(path: Path) -> dict[str, Path]:
    """The file of each split."""
    if path.is_file():
        return {split_in_name(path.stem): path}
    found: dict[str, Path] = {}
    for file in sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and not file.is_dir()):
        name = split_in_name(file.stem)
        if name in found:
            problem = f"has {found[name].name} and {file.name}, both of them {name}"
            raise FastnoisyError(f"{KIND}: {path} {problem}", "name one file, or put val or test in a file's name")
        found[name] = file
    if not found:
        raise layout_error(KIND, path, "has no .beton file")
    return found


def _open_ours(path: Path, name: str) -> tuple[SourceSplit, list[str], np.ndarray] | None:
    """A split of one of our stores, with the checksums that guard it; None where there is no .meta folder."""
    if path.suffix != ".beton" or not (path.parent / f"{path.stem}.meta/meta.json").is_file():
        return None
    split = Split(path.parent, path.stem)

    def read(i: int) -> bytes | np.ndarray:
        return split.read_image(i) if split.mode(i) == "raw" else split.read_bytes(i)

    found = SourceSplit(name, split.sources, split.given_labels, split.clean_labels, read)
    return found, split.class_names, split.sizes


def _open_foreign(path: Path, name: str) -> tuple[SourceSplit, list[str], np.ndarray]:
    """A file without a .meta folder; its class names are empty where no file tells them.

    Its sizes are 0 for JPEGs, which say themselves how large they are.
    """
    reader = BetonReader(path)
    low, high = int(reader.labels.min()), int(reader.labels.max())
    if low < 0 or high >= MAX_CLASSES:
        at = int(np.argmax((reader.labels < 0) | (reader.labels >= MAX_CLASSES)))
        problem = f"{KIND}: {path}: sample {at} has the label {int(reader.labels[at])}"
        raise FastnoisyError(problem, f"labels must be class numbers, from 0 to below {MAX_CLASSES:,}")
    names_file = path.with_name(NAMES_FILE)
    names = read_class_names(KIND, names_file) if names_file.is_file() else []
    if names and high >= len(names):
        raise FastnoisyError(
            f"{KIND}: {path} has the label {high}", f"{names_file} has {len(names)} names; add the others"
        )

    def read(i: int) -> bytes | np.ndarray:
        data = reader.read(i)
        if reader.modes[i] != RAW:
            return data
        return np.frombuffer(data, np.uint8).reshape(int(reader.sizes[i, 0]), int(reader.sizes[i, 1]), 3)

    paths = [f"{path.name}/{i}" for i in range(reader.num_samples)]
    sizes = np.where((reader.modes == RAW)[:, None], reader.sizes, 0)
    return SourceSplit(name, paths, reader.labels, None, read), names, sizes


def _agree(names: list[list[str]], splits: list[SourceSplit], path: Path) -> list[str]:
    """The class names of all files; numbers where none tells any."""
    told = [list_ for list_ in names if list_]
    if any(list_ != told[0] for list_ in told):
        raise FastnoisyError(f"{KIND}: {path}: the files have different class names", "convert them one by one")
    count = max(int(split.given_labels.max()) for split in splits) + 1
    if not told:
        return [str(label) for label in range(count)]
    if count > len(told[0]):
        raise FastnoisyError(f"{KIND}: {path} has labels up to {count - 1}, and names for {len(told[0])} classes")
    return told[0]
