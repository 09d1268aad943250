"""A folder of images with one subfolder per class, or with train/, val/ and test/ that each have them.

The class names are the subfolders' names, sorted, by number where all are whole numbers. Every file below a class
folder counts, at any depth, unless its name ends as no image's does (.txt, .json); links are followed; what is hidden
and what the system keeps for itself is passed over (see _walk.py). What is no image is rejected when it is converted.
Splits may be called Training, valid, Testing and the like. Nobody vouches for these labels, so no clean ones are known.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fastnoisy.data.sources._lists import empty_class_notes
from fastnoisy.data.sources._walk import IMAGES, Walked, ending, subfolders, walk
from fastnoisy.data.sources.base import SPLIT_NAMES, Files, Source, SourceSplit, layout_error
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.meaning import in_order
from fastnoisy.label_files.words import split_of_word

LAYOUT = "a folder with one subfolder of images per class; or with train/ and val/ or test/, each arranged so"
NEEDS_PATH = True
FALLBACK = True  # many layouts are folders in folders
KIND = "folder"
NO_CLASS = "it lies beside the class folders, in none of them"


@dataclass
class Tree:
    """What a folder of class folders is read from: a disk here, an archive in `archive`.

    Attributes:
        kind: of source, for errors and notes.
        path: for errors.
        subfolders: the names of the folders in one (empty: the top), and what else lies in it.
        walk: all that lies in a folder.
    """

    kind: str
    path: Path
    subfolders: Callable[[str], tuple[list[str], Walked]]
    walk: Callable[[str], Walked]


def recognises(path: Path) -> bool:
    """Whether the path is a folder with a subfolder that is not hidden."""
    try:
        return path.is_dir() and bool(subfolders(path)[0])
    except FastnoisyError:
        return True  # opening it will say what is wrong


def open(path: Path | None) -> Source:
    """List the files; none is read yet.

    Raises:
        FastnoisyError: no class folders, no files, splits of other names, val/test classes that train lacks, names that
            cannot be told apart or shown, or a folder that cannot be listed.
    """
    if path is None:
        raise FastnoisyError(f"{KIND} needs a path", f"write {KIND}:PATH, where PATH is {LAYOUT}")
    if not path.is_dir():
        raise layout_error(KIND, path, "is not a folder")
    root = path
    tree = Tree(
        KIND,
        path,
        lambda folder: subfolders(root / folder),
        lambda folder: walk(root / folder, f"{folder}/" if folder else ""),
    )
    class_names, splits, notes = classes_of(tree)
    found = [
        SourceSplit(split.name, split.files, split.labels, None, Files(_place(root, split.files)), split.rejected)
        for split in splits
    ]
    return Source(class_names, found, root=path, notes=notes, listed=True)


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


@dataclass
class Split:
    """The files of a split and their labels, int64 (N,); what looks like more and is none, with reasons."""

    name: str
    files: list[str]
    labels: np.ndarray
    rejected: list[tuple[str, str]]


def classes_of(tree: Tree) -> tuple[list[str], list[Split], list[str]]:
    """Class names, splits and notes of a tree of class folders.

    Raises:
        FastnoisyError: see `open`.
    """
    top_names, top = tree.subfolders("")
    roots, notes = _split_roots(tree, top_names, top)
    class_names = in_order(_checked(tree, roots["train"], tree.subfolders(roots["train"])[0]))
    if not class_names:
        raise layout_error(tree.kind, tree.path / roots["train"], "has no subfolders, so no classes")
    if all(split_of_word(name) for name in class_names):
        listed = " and ".join(class_names)
        notes.append(f"{tree.kind}: the classes are called {listed}; splits have class folders in them")
    splits, passed = [], Walked()
    for name, root in roots.items():
        split, walked = _split(tree, name, root, class_names)
        splits.append(split)
        passed.add(walked)
    if roots["train"]:
        passed.system += top.system
        passed.hidden += top.hidden
        splits[0].rejected += top.rejected + _beside(top, "")
    notes += passed.notes(tree.kind)
    notes += _nested(tree, splits, roots, class_names)
    notes += empty_class_notes(tree.kind, class_names, [split.labels for split in splits])
    return class_names, splits, notes


def _place(root: Path, files: list[str]) -> Callable[[int], Path]:
    return lambda i: root / files[i]


def _split_roots(tree: Tree, names: list[str], top: Walked) -> tuple[dict[str, str], list[str]]:
    """Split names and their folders; the tree itself is `train` where it has no splits. And notes."""
    meant: dict[str, list[str]] = {}
    for name in names:
        split = split_of_word(name)
        if split is not None:
            meant.setdefault(split, []).append(name)
    with_classes = {split: [n for n in found if tree.subfolders(n)[0]] for split, found in meant.items()}
    if not any(with_classes.values()):  # a class may be called train: it holds files only
        return {"train": ""}, []
    for split, found in with_classes.items():
        if len(found) > 1:
            problem = f"has the folders {' and '.join(found)}, which are both {split}"
            raise layout_error(tree.kind, tree.path, problem)
    for path, reason in top.rejected:
        if split_of_word(path):
            raise FastnoisyError(f"{tree.kind}: {tree.path / path} is {reason}", "mend the link, or remove it")
    if not with_classes.get("train"):
        others = [n for found in with_classes.values() for n in found]
        if len(others) < len(names):
            return {"train": ""}, []  # classes among which one is called test
        problem = f"has {' and '.join(others)} with class folders, and no train"
        raise layout_error(tree.kind, tree.path, problem)
    extra = [name for name in names if not split_of_word(name)]
    if extra:
        train = with_classes["train"][0]
        problem = f"has {', '.join(extra)} beside {train}/; splits are {', '.join(SPLIT_NAMES)}"
        raise layout_error(tree.kind, tree.path, problem)
    notes = []
    for split, found in meant.items():
        for name in found:
            if name not in with_classes[split]:
                count = len(tree.walk(name).files)
                notes.append(f"{tree.kind}: {name}/ is left out: its {count:,} files lie in no class folders")
    return {split: with_classes[split][0] for split in SPLIT_NAMES if with_classes.get(split)}, notes


def _checked(tree: Tree, root: str, names: list[str]) -> list[str]:
    """The names of class folders, if each can be told from the others and shown.

    Raises:
        FastnoisyError: names the folder.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not _is_text(name):
            problem = f"{tree.kind}: {tree.path / root} has the class folder {name!r}, whose name is no plain text"
            raise FastnoisyError(problem, "rename it: it is a class's name from then on")
        alike = seen.setdefault(_normal(name), name)
        if alike != name:
            problem = f"{tree.kind}: {tree.path / root} has two class folders {name!r} that look alike"
            raise FastnoisyError(
                f"{problem} (their letters are composed otherwise)", "put their files into one of them"
            )
    return names


def _is_text(name: str) -> bool:
    return all(c.isprintable() or c in "\u200c\u200d" for c in name) and name.strip() != ""


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _split(tree: Tree, name: str, root: str, class_names: list[str]) -> tuple[Split, Walked]:
    names, beside = tree.subfolders(root)
    present = {_normal(folder): folder for folder in _checked(tree, root, names)}
    extra = sorted(set(present) - {_normal(class_name) for class_name in class_names})
    if extra:
        raise layout_error(tree.kind, tree.path / root, f"has classes that train lacks: {', '.join(extra)}")
    start = f"{root}/" if root else ""
    files: list[str] = []
    labels: list[int] = []
    passed = Walked()
    for label, class_name in enumerate(class_names):
        folder = present.get(_normal(class_name))
        if folder is None:
            continue
        walked = tree.walk(f"{start}{folder}")
        files += walked.files
        labels += [label] * len(walked.files)
        passed.add(walked)
    if not files:
        why = "".join(f"; {path}: {reason}" for path, reason in passed.rejected[:1])
        raise layout_error(tree.kind, tree.path / root, f"has no files in its class folders{why}")
    passed.system += beside.system
    passed.hidden += beside.hidden
    rejected = [(f"{start}{path}", reason) for path, reason in beside.rejected] + _beside(beside, start)
    return Split(name, files, np.array(labels, np.int64), rejected + passed.rejected), passed


def _nested(tree: Tree, splits: list[Split], roots: dict[str, str], class_names: list[str]) -> list[str]:
    """Notes on folders within class folders that look like splits or like the classes themselves."""
    within: dict[str, None] = {}
    for split in splits:
        start = len(f"{roots[split.name]}/") if roots[split.name] else 0
        for path in split.files:
            _, _, rest = path[start:].partition("/")
            if "/" in rest:
                within.setdefault(rest.partition("/")[0])
    names = sorted(within)
    meant = {split_of_word(name) for name in names} - {None}
    if len(meant) > 1:
        listed = " and ".join(name for name in names if split_of_word(name))
        text = f"{tree.kind}: {listed} within class folders are no splits: those have the class folders in them"
        return [f"{text}; their images are all {' and '.join(split.name for split in splits)}"]
    if len(class_names) == 1 and len(names) > 1:
        listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        text = f"{tree.kind}: the one class is {class_names[0]}"
        return [f"{text}; if the folders in it are the classes ({listed}), give its path"]
    return []


def _beside(walked: Walked, start: str) -> list[tuple[str, str]]:
    """The images that lie beside class folders."""
    return [(f"{start}{name}", NO_CLASS) for name in walked.files if ending(name) in IMAGES]
