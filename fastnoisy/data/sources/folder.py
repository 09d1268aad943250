"""A folder of images with one subfolder per class, or with train/, val/ and test/ that each have them.

The class names are the subfolders' names, sorted. Every file below a class folder counts, at any depth and whatever its
ending; files and folders whose names begin with a dot are skipped, and what is no image is rejected when it is
converted. Nobody vouches for these labels, so no clean ones are known.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fastnoisy.data.sources.base import SPLIT_NAMES, Source, SourceSplit, layout_error, read_file
from fastnoisy.errors import FastnoisyError

LAYOUT = "a folder with one subfolder of images per class; or with train/ and val/ or test/, each arranged so"
NEEDS_PATH = True
FALLBACK = True  # many layouts are folders in folders


def recognises(path: Path) -> bool:
    """Whether the path is a folder with a subfolder that is not hidden."""
    return path.is_dir() and bool(_subfolders(path))


def open(path: Path | None) -> Source:
    """List the files; none is read yet.

    Raises:
        FastnoisyError: no class folders, no files, splits of other names, or val/test classes that train lacks.
    """
    if path is None:
        raise FastnoisyError("folder needs a path", f"write folder:PATH, where PATH is {LAYOUT}")
    if not path.is_dir():
        raise layout_error("folder", path, "is not a folder")
    roots = _split_roots(path)
    class_names = _subfolders(roots["train"])
    if not class_names:
        raise layout_error("folder", roots["train"], "has no subfolders, so no classes")
    splits = [_split(name, root, path, class_names) for name, root in roots.items()]
    return Source(class_names, splits, root=path, listed=True)


def make_example(folder: Path) -> str:
    """Draw six small images of differing size, JPEG and PNG, for each of three classes."""
    for label, name in enumerate(("circle", "cross", "square")):
        place = folder / "shapes" / name
        place.mkdir(parents=True)
        for i in range(6):
            width, height = 70 + 5 * i, 90 - 4 * i
            image = Image.new("RGB", (width, height), (40 * i, 90, 200 - 30 * i))
            draw = ImageDraw.Draw(image)
            box = (10 + i, 12, 50 + i, 52)
            if label == 0:
                draw.ellipse(box, fill="white")
            elif label == 1:
                draw.line(box, fill="white", width=6)
                draw.line((box[0], box[3], box[2], box[1]), fill="white", width=6)
            else:
                draw.rectangle(box, fill="white")
            image.save(place / (f"{i}.png" if i % 3 == 2 else f"{i}.jpg"))
    return str(folder / "shapes")


def _split_roots(path: Path) -> dict[str, Path]:
    """Split names and their folders; the path itself is `train` where it has no splits."""
    names = _subfolders(path)
    if "train" not in names or not _subfolders(path / "train"):  # a class may be called train: it holds files only
        return {"train": path}
    extra = [name for name in names if name not in SPLIT_NAMES]
    if extra:
        raise layout_error("folder", path, f"has {', '.join(extra)} beside train/; splits are train, val and test")
    return {name: path / name for name in SPLIT_NAMES if name in names}


def _subfolders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _split(name: str, root: Path, path: Path, class_names: list[str]) -> SourceSplit:
    present = _subfolders(root)
    extra = sorted(set(present) - set(class_names))
    if extra:
        raise layout_error("folder", root, f"has classes that train/ lacks: {', '.join(extra)}")
    files: list[str] = []
    labels: list[int] = []
    for label, class_name in enumerate(class_names):
        found = _files(root / class_name) if class_name in present else []
        files += [file.relative_to(path).as_posix() for file in found]
        labels += [label] * len(found)
    if not files:
        raise layout_error("folder", root, "has no files in its class folders")
    return SourceSplit(name, files, np.array(labels, np.int64), None, lambda i: read_file(path / files[i]))


def _files(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(place, name) for name in names if not name.startswith("."))
        found += [path for path in paths if path.is_file()]  # reading a pipe or a socket might never end
    return sorted(found)
