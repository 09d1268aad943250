"""Clothing1M: about a million clothing photographs in 14 classes with noisy labels; clean validation and test images.

T. Xiao et al., "Learning from Massive Noisy Labeled Data for Image Classification", CVPR 2015. `train` is the noisy
list with the noisy labels, `val` and `test` are the clean lists with the clean ones; `clothing1m-clean` has the clean
training list for `train`. Read is the tree as published, and copies that have the texts in `annotations/` or the images
at the root.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastnoisy.data.sources._example import write_picture
from fastnoisy.data.sources._lists import (
    Need,
    Texts,
    check_name,
    count_note,
    duplicate_notes,
    find,
    find_images,
    line_error,
    read_labels,
    read_lines,
)
from fastnoisy.data.sources.base import Files, Kind, Source, SourceSplit, layout_error
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.meaning import read_class_names

LAYOUT = (
    "a folder with noisy_train_key_list.txt, clean_val_key_list.txt, clean_test_key_list.txt, noisy_label_kv.txt, "
    "clean_label_kv.txt, category_names_eng.txt (or these in annotations/) and images/0/ to images/9/"
)
NUM_CLASSES = 14
NOISY = 1_000_000  # of the noisy list, "about a million" is published; so a count within 5 % of that is taken for it
CLEAN = {"clean_train": 47_570, "clean_val": 14_313, "clean_test": 10_526}
_CLEAN_TRAIN = "clean_train_key_list.txt"


@dataclass(frozen=True, kw_only=True)
class Clothing1M:
    """The lists of one kind of source.

    Attributes:
        kind: its name.
        train: the list to train on, `noisy_train` or `clean_train`.
    """

    kind: str
    train: str

    def open(self, path: Path | None) -> Source:
        """Read the lists; no image is read yet.

        Raises:
            FastnoisyError: a file is missing, a line is not as it should be, a key has no label, or the images are
                elsewhere.
        """
        kind = self.kind
        if path is None:
            raise FastnoisyError(f"{kind} needs a path", f"write {kind}:PATH, where PATH is {LAYOUT}")
        lists = {"train": self.train, "val": "clean_val", "test": "clean_test"}
        label_files = list(dict.fromkeys([self.train.partition("_")[0], "clean"]))
        needs = [_need(f"{name}_key_list.txt", "lines 'images/A/B/NAME.jpg'") for name in lists.values()]
        needs += [_need(f"{name}_label_kv.txt", "lines 'images/A/B/NAME.jpg LABEL'") for name in label_files]
        needs.append(_need("category_names_eng.txt", f"the {NUM_CLASSES} class names, one a line"))
        found = find(kind, path, needs)
        key_lists, files = found[: len(lists)], dict(zip(label_files, found[len(lists) : -1], strict=True))
        class_names = read_class_names(kind, found[-1])
        if len(class_names) != NUM_CLASSES:
            raise layout_error(kind, found[-1], f"has {len(class_names)} class names, where {NUM_CLASSES} belong")
        labels_of = {name: dict(read_labels(kind, file, NUM_CLASSES)) for name, file in files.items()}
        keys: dict[str, Texts] = {}
        splits, notes = [], []
        for (name, list_name), key_list in zip(lists.items(), key_lists, strict=True):
            given = list_name.partition("_")[0]
            keys[name], labels = self._join(key_list, labels_of[given], files[given])
            splits.append(self._split(name, path, key_list, keys[name], labels, clean=given == "clean"))
            notes += self._count_note(name, list_name, len(labels))
        if self.train == "noisy_train":
            notes += self._unused(path, keys["train"], labels_of["clean"])
        notes += duplicate_notes(kind, keys)
        return Source(class_names, splits, notes=notes)

    def _count_note(self, name: str, list_name: str, count: int) -> list[str]:
        if list_name in CLEAN:
            return count_note(self.kind, f"images in {name}", count, CLEAN[list_name])
        if abs(count - NOISY) <= NOISY // 20:
            return []
        return [f"{self.kind}: {count:,} images in {name}, the published set has about {NOISY:,}"]

    def _unused(self, path: Path, keys: Texts, clean: dict[bytes, int]) -> list[str]:
        notes = []
        known = sum(key in clean for key in keys.raws())
        if known:
            notes.append(
                f"{self.kind}: {known:,} training images have a clean label too; not used, since not all have one"
            )
        if any((path / place / _CLEAN_TRAIN).is_file() for place in ("", "annotations")):
            other = "clothing1m-clean trains on it instead"
            notes.append(f"{self.kind}: {_CLEAN_TRAIN} is not used: training is on the noisy list alone; {other}")
        return notes

    def _join(self, key_list: Path, labels: dict[bytes, int], labels_file: Path) -> tuple[Texts, np.ndarray]:
        """The keys of a list, and their labels."""
        keys, found = Texts(), []
        for number, key in read_lines(self.kind, key_list):
            check_name(self.kind, key_list, number, key)
            label = labels.get(key)
            if label is None:
                problem = f"has {key.decode('utf-8', 'replace')[:80]!r}, which has no label in {labels_file}"
                raise line_error(self.kind, key_list, number, problem, "copy both files again; they belong together")
            keys.append(key)
            found.append(label)
        return keys, np.array(found, np.int64)

    def _split(
        self, name: str, root: Path, key_list: Path, keys: Texts, labels: np.ndarray, *, clean: bool
    ) -> SourceSplit:
        ways = [
            lambda key: root / key,
            lambda key: root / key.removeprefix("images/"),
            lambda key: root / "images" / key.removeprefix("images/"),
        ]
        locate = find_images(self.kind, root, key_list, keys, ways)
        return SourceSplit(name, keys, labels, labels if clean else None, Files(lambda i: locate(keys[i])))


def write_example(folder: Path, clean_train: int) -> Path:
    """A tree with 15 noisy, 4 validation and 4 test images, and so many clean training ones; its root."""
    root = folder / "clothing1M"
    root.mkdir(parents=True)
    noisy: list[tuple[str, int]] = []
    clean: list[tuple[str, int]] = []
    for i in range(23 + clean_train):
        key, label = f"images/{i % 10}/{i * 7 % 100}/{i}00,{i}.jpg", i * 3 % NUM_CLASSES
        write_picture(root / key, label, i)
        (noisy if i < 15 else clean).append((key, label))
    parts = {"noisy_train": noisy, "clean_val": clean[:4], "clean_test": clean[4:8]}
    for name, part in {**parts, **({"clean_train": clean[8:]} if clean_train else {})}.items():
        (root / f"{name}_key_list.txt").write_text("".join(f"{key}\n" for key, _ in part))
    (root / "noisy_label_kv.txt").write_text("".join(f"{key} {label}\n" for key, label in noisy))
    (root / "clean_label_kv.txt").write_text("".join(f"{key} {label}\n" for key, label in clean))
    names = "T-Shirt Shirt Knitwear Chiffon Sweater Hoodie Windbreaker Jacket Downcoat Suit Shawl Dress Vest Underwear"
    (root / "category_names_eng.txt").write_text(names.replace(" ", "\n") + "\n")
    return root


def _need(name: str, holds: str) -> Need:
    return Need((name, f"annotations/{name}"), holds)


NOISY_TRAIN = Clothing1M(kind="clothing1m", train="noisy_train")
CLEAN_TRAIN = Clothing1M(kind="clothing1m-clean", train="clean_train")
KINDS = {
    "clothing1m": Kind(
        "Clothing1M: about a million clothing photographs in 14 classes with noisy labels; clean validation and test.",
        LAYOUT,
        lambda path: any((path / place / "noisy_train_key_list.txt").is_file() for place in ("", "annotations")),
        NOISY_TRAIN.open,
        lambda folder: str(write_example(folder, clean_train=0)),
    ),
    "clothing1m-clean": Kind(
        "Clothing1M's clean training list, 47,570 images with checked labels; `clothing1m-clean:PATH`.",
        LAYOUT.replace("noisy_train", "clean_train").replace("noisy_label_kv.txt, ", ""),
        lambda path: False,  # the same tree is `clothing1m`, unless this kind is named
        CLEAN_TRAIN.open,
        lambda folder: f"clothing1m-clean:{write_example(folder, clean_train=9)}",
    ),
}
