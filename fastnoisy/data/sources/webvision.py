"""WebVision 1.0: training images from Google, Flickr or both, in 1,000 classes or the first 50; validation images.

W. Li et al., "WebVision Database: Visual Learning and Understanding from Web Data", arXiv 1708.02862, 2017. Read are
the lists under `info/` and the images they name, resized to 256 pixels or as found. A training label is the query that
found the image, so no clean ones are known; validation labels were given by people and count as clean. The classes are
those of ILSVRC-2012, in its order and with the same names as `imagenet-val` has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fastnoisy.data.sources import _imagenet
from fastnoisy.data.sources._example import write_picture
from fastnoisy.data.sources._lists import (
    Listing,
    Need,
    count_note,
    duplicate_notes,
    find,
    find_images,
    read_list,
)
from fastnoisy.data.sources.base import Files, Kind, Source, SourceSplit, layout_error
from fastnoisy.errors import FastnoisyError

VAL_LIST = "info/val_filelist.txt"
VAL_FOLDERS = ("val_images_256/", "val_images/")
VAL_PER_CLASS = 50


@dataclass(frozen=True, kw_only=True)
class WebVision:
    """One of the training lists, or its first classes.

    Attributes:
        kind: name of the source; `layout`: what a path must hold, for errors.
        train_list: the list of training images, relative to the root.
        folders: those that hold its images.
        num_classes: 1,000 or 50.
        published: how many training images the published list has; None where that is not known for certain.
        others: lists whose presence means another kind, where a path alone is given.
    """

    kind: str
    layout: str
    train_list: str
    folders: tuple[str, ...]
    num_classes: int
    published: int | None
    others: tuple[str, ...] = field(default=())

    def recognises(self, path: Path) -> bool:
        """Whether the training list is there, and none that comes before it."""
        return (path / self.train_list).is_file() and not any((path / other).is_file() for other in self.others)

    def open(self, path: Path | None) -> Source:
        """Read the lists; no image is read yet.

        Raises:
            FastnoisyError: a list or folder is missing, a line is not `path label`, or the images are elsewhere.
        """
        if path is None:
            raise FastnoisyError(f"{self.kind} needs a path", f"write {self.kind}:PATH, where PATH is {self.layout}")
        needs = [Need((self.train_list,), f"lines '{self.folders[0]}q0001/NAME.jpg LABEL'")]
        needs += [Need((folder,), "folders q0001, q0002, ... of training images") for folder in self.folders]
        needs += [
            Need((VAL_LIST,), "lines 'val000001.jpg LABEL'"),
            Need(VAL_FOLDERS, "validation images, on which every method is compared"),
        ]
        train_list, *_, val_list, val_folder = find(self.kind, path, needs)
        if (synsets := path / "info/synsets.txt").is_file():
            _imagenet.check_synsets(self.kind, synsets)
        notes: list[str] = []
        ways: list[Callable[[str], Path]] = [lambda name: path / name]
        if len(self.folders) == 1:  # in some copies the paths are relative to google/
            ways.append(lambda name: path / self.folders[0] / name)
        listings = {"train": self._read(train_list)}
        splits = [self._split("train", path, train_list, listings["train"], ways)]
        notes += count_note(self.kind, "training images", len(splits[0]), self.published)
        ways = [lambda name: val_folder / name, lambda name: path / name]
        listings["val"] = self._read(val_list)
        splits.append(self._split("val", path, val_list, listings["val"], ways))
        notes += count_note(self.kind, "validation images", len(splits[1]), VAL_PER_CLASS * self.num_classes)
        notes += duplicate_notes(self.kind, {name: listing.names for name, listing in listings.items()})
        return Source(_imagenet.class_names(self.num_classes), splits, notes=notes)

    def _read(self, path: Path) -> Listing:
        listing = read_list(self.kind, path, _imagenet.NUM_CLASSES, keep=self.num_classes)
        if not len(listing.names):
            raise layout_error(self.kind, path, f"lists no image of the first {self.num_classes} classes")
        return listing

    def _split(
        self, name: str, root: Path, listed_in: Path, listing: Listing, ways: list[Callable[[str], Path]]
    ) -> SourceSplit:
        names, labels = listing.names, listing.labels
        locate = find_images(self.kind, root, listed_in, names, ways)
        clean = labels if name == "val" else None  # annotated by people, where training labels are search queries
        return SourceSplit(name, names, labels, clean, Files(lambda i: locate(names[i])))


def _write_example(
    folder: Path, lists: Mapping[str, str], labels: tuple[int, ...] = (0, 3, 49, 50, 999, 3, 0, 49)
) -> Path:
    """Write a tree as published.

    Args:
        folder: the tree is made in `webvision` within it.
        lists: by list name, `google` or `flickr`: where its images come from.
        labels: of the images of each list, and of the validation images.
    """
    root = folder / "webvision"
    (root / "info").mkdir(parents=True)
    for list_name, origin in lists.items():
        lines = []
        for i, label in enumerate(labels):
            name = f"{origin}/q{label * 2 + 1:04d}/{origin[0]}{i}.jpg"
            write_picture(root / name, label, i)
            lines.append(f"{name} {label}\n")
        with open(root / f"info/train_filelist_{list_name}.txt", "a") as file:
            file.writelines(lines)
    lines = [f"val{i + 1:06d}.jpg {label}\n" for i, label in enumerate(labels)]
    for i, label in enumerate(labels):
        write_picture(root / f"val_images_256/val{i + 1:06d}.jpg", label, 10 + i)
    (root / VAL_LIST).write_text("".join(lines))
    text = "".join(f"{wnid} {name}\n" for wnid, name in _imagenet.synsets())
    (root / "info/synsets.txt").write_text(text)
    return root


GOOGLE = WebVision(
    kind="webvision",
    layout="a folder with info/train_filelist_google.txt, google/q0001/..., info/val_filelist.txt and val_images_256/",
    train_list="info/train_filelist_google.txt",
    folders=("google/",),
    num_classes=_imagenet.NUM_CLASSES,
    published=980_449,
)
MINI = replace(GOOGLE, kind="webvision-mini", num_classes=_imagenet.NUM_MINI, published=65_944)
FLICKR = replace(
    GOOGLE,
    kind="webvision-flickr",
    layout="a folder with info/train_filelist_flickr.txt, flickr/q0001/..., info/val_filelist.txt and val_images_256/",
    train_list="info/train_filelist_flickr.txt",
    folders=("flickr/",),
    published=None,
    others=(GOOGLE.train_list,),
)
ALL = replace(
    GOOGLE,
    kind="webvision-all",
    layout="a folder with info/train_filelist_all.txt, google/, flickr/, info/val_filelist.txt and val_images_256/",
    train_list="info/train_filelist_all.txt",
    folders=("google/", "flickr/"),
    published=None,
    others=(GOOGLE.train_list, FLICKR.train_list),
)


def _example(folder: Path) -> str:
    """Eight training and eight validation images of five classes."""
    return str(_write_example(folder, {"google": "google"}))


def _example_of_all(folder: Path) -> str:
    """Eight images of each origin and eight validation images, of five classes."""
    root = _write_example(folder, {"google": "google", "flickr": "flickr"})
    parts = [root / f"info/train_filelist_{origin}.txt" for origin in ("google", "flickr")]
    (root / "info/train_filelist_all.txt").write_text("".join(part.read_text() for part in parts))
    for part in parts:
        part.unlink()
    return str(root)


KINDS = {
    "webvision": Kind(
        "WebVision 1.0, training images from Google: 980,449 in 1,000 classes, and 50,000 validation images.",
        GOOGLE.layout,
        GOOGLE.recognises,
        GOOGLE.open,
        _example,
    ),
    "webvision-mini": Kind(
        "Mini-WebVision: the first 50 classes of WebVision's Google images; `webvision-mini:PATH`.",
        MINI.layout,
        lambda path: False,  # the same files are `webvision`, unless this kind is named
        MINI.open,
        lambda folder: f"webvision-mini:{_example(folder)}",
    ),
    "webvision-flickr": Kind(
        "WebVision 1.0, training images from Flickr: some 1.4 million in 1,000 classes, and 50,000 validation images.",
        FLICKR.layout,
        FLICKR.recognises,
        FLICKR.open,
        lambda folder: str(_write_example(folder, {"flickr": "flickr"})),
    ),
    "webvision-all": Kind(
        "WebVision 1.0, all training images: over 2.4 million from Google and Flickr, and 50,000 validation images.",
        ALL.layout,
        ALL.recognises,
        ALL.open,
        _example_of_all,
    ),
}
