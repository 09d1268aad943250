"""Clothing1M: about a million clothing photographs in 14 classes with noisy labels; clean validation and test images.

T. Xiao et al., "Learning from Massive Noisy Labeled Data for Image Classification", CVPR 2015. `train` is the noisy list
with the noisy labels, `val` and `test` are the clean lists with the clean ones. The clean training list is not used, as in
most papers. Read is the tree as published, and copies that have the texts in `annotations/` or the images at the root.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastnoisy.data.sources._example import write_picture
from fastnoisy.data.sources._labels import read_class_names
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
from fastnoisy.data.sources.base import Source, SourceSplit, layout_error, read_file
from fastnoisy.errors import FastnoisyError

LAYOUT = (
    "a folder with noisy_train_key_list.txt, clean_val_key_list.txt, clean_test_key_list.txt, noisy_label_kv.txt, "
    "clean_label_kv.txt, category_names_eng.txt (or these in annotations/) and images/0/ to images/9/"
)
NEEDS_PATH = True
FALLBACK = False
KIND = "clothing1m"
NUM_CLASSES = 14
PUBLISHED = {"train": None, "val": 14_313, "test": 10_526}  # of the noisy list, only "about a million" is published
_KEY_LISTS = {"train": "noisy_train", "val": "clean_val", "test": "clean_test"}
_UNUSED = "clean_train_key_list.txt"


def recognises(path: Path) -> bool:
    """Whether the noisy key list is there, at the root or in annotations/."""
    return any((path / place / "noisy_train_key_list.txt").is_file() for place in ("", "annotations"))


def open(path: Path | None) -> Source:
    """Read the lists; no image is read yet.

    Raises:
        FastnoisyError: a file is missing, a line is not as it should be, a key has no label, or the images are elsewhere.
    """
    if path is None:
        raise FastnoisyError(f"{KIND} needs a path", f"write {KIND}:PATH, where PATH is {LAYOUT}")
    needs = [_need(f"{name}_key_list.txt", "lines 'images/A/B/NAME.jpg'") for name in _KEY_LISTS.values()]
    needs += [_need(f"{name}_label_kv.txt", "lines 'images/A/B/NAME.jpg LABEL'") for name in ("noisy", "clean")]
    needs.append(_need("category_names_eng.txt", f"the {NUM_CLASSES} class names, one a line"))
    *key_lists, noisy_file, clean_file, names_file = find(KIND, path, needs)
    class_names = read_class_names(KIND, names_file)
    if len(class_names) != NUM_CLASSES:
        raise layout_error(KIND, names_file, f"has {len(class_names)} class names, where {NUM_CLASSES} belong")
    clean = _labels(clean_file)
    keys: dict[str, Texts] = {}
    splits, notes = [], []
    for name, key_list in zip(_KEY_LISTS, key_lists, strict=True):
        of_keys, labels_file = (_labels(noisy_file), noisy_file) if name == "train" else (clean, clean_file)
        keys[name], labels = _join(key_list, of_keys, labels_file)
        splits.append(_split(name, path, key_list, keys[name], labels))
        notes += count_note(KIND, f"images in {name}", len(labels), PUBLISHED[name])
    known = sum(key in clean for key in keys["train"].raws())
    if known:
        notes.append(f"{KIND}: {known:,} training images have a clean label too; not used, since not all have one")
    if any((path / place / _UNUSED).is_file() for place in ("", "annotations")):
        notes.append(f"{KIND}: {_UNUSED} is not used: training is on the noisy list alone")
    notes += duplicate_notes(KIND, keys)
    return Source(class_names, splits, notes=notes)


def make_example(folder: Path) -> str:
    """The tree as published, with 15 noisy, 4 validation and 4 test images."""
    root = folder / "clothing1M"
    root.mkdir(parents=True)
    noisy: list[tuple[str, int]] = []
    clean: list[tuple[str, int]] = []
    for i in range(23):
        key, label = f"images/{i % 10}/{i * 7 % 100}/{i}00,{i}.jpg", i * 3 % NUM_CLASSES
        write_picture(root / key, label, i)
        (noisy if i < 15 else clean).append((key, label))
    for name, part in (("noisy_train", noisy), ("clean_val", clean[:4]), ("clean_test", clean[4:])):
        (root / f"{name}_key_list.txt").write_text("".join(f"{key}\n" for key, _ in part))
    (root / "noisy_label_kv.txt").write_text("".join(f"{key} {label}\n" for key, label in noisy))
    (root / "clean_label_kv.txt").write_text("".join(f"{key} {label}\n" for key, label in clean))
    names = "T-Shirt Shirt Knitwear Chiffon Sweater Hoodie Windbreaker Jacket Downcoat Suit Shawl Dress Vest Underwear"
    (root / "category_names_eng.txt").write_text(names.replace(" ", "\n") + "\n")
    return str(root)


def _need(name: str, holds: str) -> Need:
    return Need((name, f"annotations/{name}"), holds)


def _labels(path: Path) -> dict[bytes, int]:
    """The label of each key."""
    return dict(read_labels(KIND, path, NUM_CLASSES))


def _join(key_list: Path, labels: dict[bytes, int], labels_file: Path) -> tuple[Texts, np.ndarray]:
    """The keys of a list, and their labels."""
    keys, found = Texts(), []
    for number, key in read_lines(KIND, key_list):
        check_name(KIND, key_list, number, key)
        label = labels.get(key)
        if label is None:
            problem = f"has {key.decode('utf-8', 'replace')[:80]!r}, which has no label in {labels_file}"
            raise line_error(KIND, key_list, number, problem, "copy both files again; they belong together")
        keys.append(key)
        found.append(label)
    return keys, np.array(found, np.int64)


def _split(name: str, root: Path, key_list: Path, keys: Texts, labels: np.ndarray) -> SourceSplit:
    ways = [
        lambda key: root / key,
        lambda key: root / key.removeprefix("images/"),
        lambda key: root / "images" / key.removeprefix("images/"),
    ]
    locate = find_images(KIND, root, key_list, keys, ways)
    return SourceSplit(name, keys, labels, None if name == "train" else labels, lambda i: read_file(locate(keys[i])))
