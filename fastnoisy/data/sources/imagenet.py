"""ImageNet's validation images (ILSVRC-2012), all of them or those of the first 50 classes; the split is `val`.

Three layouts are read: `val/WNID/*.JPEG` (torchvision), `val/LABEL/*.JPEG` (DivideMix), and `imagenet_val.txt` with
lines `NAME.JPEG LABEL` beside the images or `val/` (ALASCA, ELR). Labels count the classes by sorted WordNet id, so
class k is WebVision's class k, and the names are the same. The labels count as clean. A folder that has `train/` beside
`val/` is taken for class folders unless this kind is named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fastnoisy.data.sources._example import write_picture
from fastnoisy.data.sources._imagenet import NUM_CLASSES, NUM_MINI, class_names, synsets
from fastnoisy.data.sources._lists import (
    Texts,
    count_note,
    duplicate_notes,
    empty_class_notes,
    find_images,
    read_list,
)
from fastnoisy.data.sources._walk import Walked, subfolders, walk
from fastnoisy.data.sources.base import Files, Kind, Source, SourceSplit, layout_error
from fastnoisy.errors import FastnoisyError

IMAGES_PER_CLASS = 50
LIST = "imagenet_val.txt"
_WNID = re.compile(r"n[0-9]{8}")


@dataclass(frozen=True)
class _Found:
    """The validation images of one tree: where, listed how, names and labels, and what lies beside them."""

    root: Path
    names: Texts
    labels: np.ndarray
    locate: Callable[[str], Path]
    holds_classes: bool
    passed: Walked = field(default_factory=Walked)


@dataclass(frozen=True, kw_only=True)
class ImageNetVal:
    """The validation images of the first so many classes.

    Attributes:
        kind: name of the source; `layout`: what a path must hold, for errors.
        num_classes: 1,000 or 50.
    """

    kind: str
    layout: str
    num_classes: int

    def open(self, path: Path | None) -> Source:
        """List the images; none is read yet.

        Raises:
            FastnoisyError: none of the layouts is there, a folder or a line names no class, or the images are
                elsewhere.
        """
        if path is None:
            raise FastnoisyError(f"{self.kind} needs a path", f"write {self.kind}:PATH, where PATH is {self.layout}")
        if not path.is_dir():
            raise layout_error(self.kind, path, "is not a folder")
        found = self._find(path)
        if not len(found.names):
            raise layout_error(self.kind, found.root, f"has no images of the first {self.num_classes} classes")
        names, locate = found.names, found.locate
        classes = class_names(self.num_classes)
        split = SourceSplit(
            "val", names, found.labels, found.labels, Files(lambda i: locate(names[i])), found.passed.rejected
        )
        published = self.num_classes * IMAGES_PER_CLASS
        notes = [
            *count_note(self.kind, "validation images", len(names), published),
            *duplicate_notes(self.kind, {"val": names}),
            *found.passed.notes(self.kind),
            *empty_class_notes(self.kind, classes, [found.labels]),
        ]
        return Source(
            classes, [split], root=found.root if found.holds_classes else None, notes=notes, listed=found.holds_classes
        )

    def _find(self, path: Path) -> _Found:
        for place in _places(path):
            folder = next((f for f in (place / "val", place) if _class_of_folder(f) is not None), None)
            if folder is not None:
                return self._from_folders(folder)
            if (place / LIST).is_file():
                return self._from_list(place)
        if any(_is_flat(place / "val") for place in _places(path)):
            problem = f"has images in val/ but no {LIST} that says their labels (lines 'NAME.JPEG LABEL')"
            raise layout_error(self.kind, path, problem)
        looked = " and ".join(str(place) for place in _places(path))
        problem = f"has neither val/ with a folder per class nor {LIST}; looked for in {looked}"
        raise layout_error(self.kind, path, problem)

    def _from_folders(self, folder: Path) -> _Found:
        names, labels, passed = Texts(), [], Walked()
        passed.system += subfolders(folder)[1].system
        for label, subfolder in sorted(self._labelled(folder)):
            if label < self.num_classes:
                found = walk(folder / subfolder, f"{subfolder}/")
                for name in found.files:
                    names.append(os.fsencode(name))
                labels += [label] * len(found.files)
                passed.add(found)
        return _Found(folder, names, np.array(labels, np.int64), lambda name: folder / name, True, passed)

    def _labelled(self, folder: Path) -> list[tuple[int, str]]:
        """Label and name of every class folder."""
        meaning = _class_of_folder(folder) or {}
        labelled = []
        for name in _subfolders(folder):
            if name not in meaning:
                raise layout_error(self.kind, folder, f"has the folder {name}, which is none of the 1,000 classes")
            labelled.append((meaning[name], name))
        return labelled

    def _from_list(self, place: Path) -> _Found:
        listing = read_list(self.kind, place / LIST, NUM_CLASSES, keep=self.num_classes)
        if not len(listing.names):
            raise layout_error(self.kind, place, f"has no image of the first {self.num_classes} classes in {LIST}")
        ways: list[Callable[[str], Path]] = [lambda name: place / "val" / name, lambda name: place / name]
        locate = find_images(self.kind, place, place / LIST, listing.names, ways)
        return _Found(place, listing.names, listing.labels, locate, False)


def recognises(path: Path) -> bool:
    """Whether a folder holds ImageNet's validation images and no training images, by names alone."""
    if not path.is_dir() or (path / "train").is_dir():
        return False
    try:
        return _is_laid_out(path)
    except FastnoisyError:
        return False  # a folder that cannot be listed; `folder` will say so


def _is_laid_out(path: Path) -> bool:
    for place in _places(path):
        if (place / LIST).is_file():
            return True
        for folder in (place / "val", place):
            names = sorted(_class_of_folder(folder) or {})
            present = next((name for name in names if (folder / name).is_dir()), None)
            if present is not None and _has_validation_names(folder / present, folder.name == "val"):
                return True
    return False


def write_example(folder: Path, labels: tuple[int, ...] = (0, 1, 2, 49, 50, 999)) -> Path:
    """Write `val/WNID/ILSVRC2012_val_NNNNNNNN.JPEG`, two per label."""
    for i, label in enumerate(labels * 2):
        write_picture(folder / "imagenet/val" / synsets()[label][0] / f"ILSVRC2012_val_{i + 1:08d}.JPEG", label, i)
    return folder / "imagenet"


def _places(path: Path) -> tuple[Path, Path]:
    return path, path / "imagenet"


def _subfolders(folder: Path) -> list[str]:
    return subfolders(folder)[0] if folder.is_dir() else []


def _class_of_folder(folder: Path) -> dict[str, int] | None:
    """What a folder's subfolders mean: by WordNet id, or by number; None where it has no such subfolder."""
    names = _subfolders(folder)
    if any(_WNID.fullmatch(name) for name in names):
        return {wnid: label for label, (wnid, _) in enumerate(synsets())}
    if folder.name == "val" and any(re.fullmatch("[0-9]{1,3}", name) for name in names):
        return {name: int(name) for name in names if re.fullmatch("[0-9]{1,3}", name)}
    return None


def _has_validation_names(folder: Path, within_val: bool) -> bool:
    """Whether the first file of a class folder is named as ImageNet's are."""
    first = next(iter(subfolders(folder)[1].files), "")
    return first.startswith("ILSVRC2012_val_") or (within_val and first.endswith(".JPEG"))


def _is_flat(folder: Path) -> bool:
    return folder.is_dir() and next(folder.glob("ILSVRC2012_val_*"), None) is not None


ALL = ImageNetVal(
    kind="imagenet-val",
    layout="a folder with val/WNID/*.JPEG, val/LABEL/*.JPEG, or imagenet_val.txt (lines 'NAME.JPEG LABEL') and images",
    num_classes=NUM_CLASSES,
)
MINI = replace(ALL, kind="imagenet-val-mini", num_classes=NUM_MINI)
KINDS = {
    "imagenet-val": Kind(
        "ImageNet's validation images (ILSVRC-2012): 50,000 in 1,000 classes; the split is `val`.",
        ALL.layout,
        recognises,
        ALL.open,
        lambda folder: str(write_example(folder)),
    ),
    "imagenet-val-mini": Kind(
        "ImageNet's validation images of the first 50 classes, to evaluate mini-WebVision; `imagenet-val-mini:PATH`.",
        MINI.layout,
        lambda path: False,  # the same files are `imagenet-val`, unless this kind is named
        MINI.open,
        lambda folder: f"imagenet-val-mini:{write_example(folder)}",
    ),
}
