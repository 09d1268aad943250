"""CIFAR-10 as published (python version): 50,000 train and 10,000 test images of 32x32 in 10 classes.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Read are the folder `cifar-10-batches-py`,
a folder that holds it, or `cifar-10-python.tar.gz` itself. The published labels count as clean.
"""

from __future__ import annotations

import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np

from fastnoisy.data.sources._pickles import load_batch
from fastnoisy.data.sources.base import Source, SourceSplit, layout_error, read_file
from fastnoisy.errors import FastnoisyError

LAYOUT = "cifar-10-python.tar.gz, or the folder cifar-10-batches-py out of it (data_batch_1 to 5, test_batch)"
NEEDS_PATH = True
FALLBACK = False
FOLDER = "cifar-10-batches-py"
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
CLASS_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SIDE = 32


def recognises(path: Path) -> bool:
    """Whether the path is the folder, its parent, or an archive of the published name."""
    if path.is_file():
        return path.name.startswith("cifar-10-python") and path.name.endswith((".tar.gz", ".tgz", ".tar"))
    return _folder(path) is not None


def open(path: Path | None) -> Source:
    """Read all six batches into memory (184 MB).

    Raises:
        FastnoisyError: a file is missing, cut off, hostile, or holds other shapes or labels than CIFAR-10 has.
    """
    if path is None:
        raise FastnoisyError("cifar10 needs a path", f"write cifar10:PATH, where PATH is {LAYOUT}")
    files = _read_archive(path) if path.is_file() else _read_folder(path)
    splits = [_split(name, batches, files, path) for name, batches in BATCHES.items()]
    return Source(_class_names(files, path), splits, (SIDE, SIDE))


def make_example(folder: Path) -> str:
    """Write the seven pickles with 20 images each, made of patterns; every class is in every batch."""
    target = folder / FOLDER
    target.mkdir(parents=True)
    names = [name for batches in BATCHES.values() for name in batches]
    for number, name in enumerate(names):
        labels = [i % 10 for i in range(20)]
        ramp = np.arange(3 * SIDE * SIDE, dtype=np.int64)
        rows = np.stack([(ramp * (label + 1) // 16 + 7 * i + number) % 256 for i, label in enumerate(labels)])
        batch = {b"batch_label": name.encode(), b"labels": labels, b"data": rows.astype(np.uint8)}
        (target / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {b"label_names": [name.encode() for name in CLASS_NAMES], b"num_vis": 3 * SIDE * SIDE}
    (target / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return str(folder)


def _folder(path: Path) -> Path | None:
    return next((place for place in (path, path / FOLDER) if (place / "data_batch_1").is_file()), None)


def _read_folder(path: Path) -> dict[str, bytes]:
    folder = _folder(path)
    if folder is None:
        raise layout_error("cifar10", path, "has no data_batch_1")
    wanted = [*BATCHES["train"], *BATCHES["test"], "batches.meta"]
    return {name: read_file(folder / name) for name in wanted if (folder / name).is_file()}


def _read_archive(path: Path) -> dict[str, bytes]:
    """The wanted members, read in the archive without unpacking it."""
    wanted = {*BATCHES["train"], *BATCHES["test"], "batches.meta"}
    files = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                if name in wanted and Path(folder).name == FOLDER and member.isfile() and member.size < 1 << 28:
                    content = archive.extractfile(member)
                    files[name] = content.read() if content is not None else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise FastnoisyError(f"cifar10: {path} is damaged ({error})", "download the archive again") from None
    return files


def _split(split: str, batches: list[str], files: dict[str, bytes], path: Path) -> SourceSplit:
    images, labels, paths = [], [], []
    for name in batches:
        if name not in files:
            raise layout_error("cifar10", path, f"has no {name}")
        batch = load_batch(files[name], f"cifar10: {path}: {name}")
        rows, given = batch.get("data"), batch.get("labels")
        if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 3 * SIDE * SIDE or not len(rows):
            raise layout_error("cifar10", path, f"is not CIFAR-10: {name} has no uint8 data of shape (N, 3072)")
        if not isinstance(given, list) or len(given) != len(rows) or any(label not in range(10) for label in given):
            raise layout_error("cifar10", path, f"is not CIFAR-10: {name} has no {len(rows)} labels from 0 to 9")
        images.append(rows)
        labels += given
        paths += [f"{name}/{i}" for i in range(len(rows))]
    pixels = np.concatenate(images).reshape(-1, 3, SIDE, SIDE)  # rows hold the planes R, G, B
    given_labels = np.array(labels, np.int64)
    return SourceSplit(split, paths, given_labels, given_labels, lambda i: pixels[i].transpose(1, 2, 0))


def _class_names(files: dict[str, bytes], path: Path) -> list[str]:
    if "batches.meta" not in files:
        return CLASS_NAMES
    names = load_batch(files["batches.meta"], f"cifar10: {path}: batches.meta").get("label_names")
    if not isinstance(names, list) or len(names) != 10:
        raise layout_error("cifar10", path, "is not CIFAR-10: batches.meta has no 10 label_names")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
