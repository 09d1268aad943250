"""CIFAR-10 and CIFAR-100 as published (python version), and CIFAR-100 with the labels of its 20 super-classes.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Read are the folder of pickles, a folder
that holds it, or the published archive itself. The published labels count as clean.
"""

from __future__ import annotations

import gzip
import pickle
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastnoisy.data.sources._pickles import load_batch
from fastnoisy.data.sources._tar import members
from fastnoisy.data.sources.base import Kind, Source, SourceSplit, layout_error, read_file
from fastnoisy.errors import FastnoisyError
from fastnoisy.noise.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES, CIFAR100_COARSE_OF_FINE, CIFAR100_SUPERCLASSES

SIDE = 32
MAX_BATCH_BYTES = 1 << 28  # of one pickle; the largest has 155 MB


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """One of the data sets, or one of its labellings.

    Attributes:
        kind: name of the source, for errors; `title`: of the data set.
        layout: what a path must hold, for errors.
        folder: name of the folder within the archive; `archive`: how the archive's name begins.
        batches: the pickles of each split, in order.
        marks: the pickles that must lie in a folder for it to be taken for this data set.
        labels: key of the labels in a pickle.
        meta: the pickle of the class names; `names`: their key in it. Without that file `class_names` hold.
    """

    kind: str
    title: str
    layout: str
    folder: str
    archive: str
    batches: Mapping[str, Sequence[str]]
    marks: Sequence[str]
    labels: str
    meta: str
    names: str
    class_names: Sequence[str]

    def recognises(self, path: Path) -> bool:
        """Whether the path is the folder, its parent, or an archive of the published name."""
        if path.is_file():
            return path.name.startswith(self.archive) and path.name.endswith((".tar.gz", ".tgz", ".tar"))
        return any(all((place / mark).is_file() for mark in self.marks) for place in (path, path / self.folder))

    def open(self, path: Path | None) -> Source:
        """Read every pickle into memory (184 MB).

        Raises:
            FastnoisyError: a file is missing, cut off, hostile, or holds other shapes or labels than the data set has.
        """
        if path is None:
            raise FastnoisyError(f"{self.kind} needs a path", f"write {self.kind}:PATH, where PATH is {self.layout}")
        files = self._read_archive(path) if path.is_file() else self._read_folder(path)
        splits = [self._split(name, batches, files, path) for name, batches in self.batches.items()]
        stamp = ",".join(f"{zlib.crc32(files[name]):08x}" for name in sorted(files))
        return Source(self._class_names(files, path), splits, (SIDE, SIDE), stamp=stamp)

    def _wanted(self) -> list[str]:
        return [*(name for names in self.batches.values() for name in names), self.meta]

    def _read_folder(self, path: Path) -> dict[str, bytes]:
        first = self.marks[0]
        folder = next((place for place in (path, path / self.folder) if (place / first).is_file()), None)
        if folder is None:
            raise layout_error(self.kind, path, f"has no {first}")
        return {name: read_file(folder / name) for name in self._wanted() if (folder / name).is_file()}

    def _read_archive(self, path: Path) -> dict[str, bytes]:
        """The wanted members, read in the archive without unpacking it."""
        wanted = set(self._wanted())
        files: dict[str, bytes] = {}
        try:
            with path.open("rb") as raw, _unpacked(raw) as stream:
                for member in members(stream, self.kind, path):
                    folder, _, name = member.name.rpartition("/")
                    if name in wanted and Path(folder).name == self.folder and member.size < MAX_BATCH_BYTES:
                        stream.seek(member.offset_data)
                        files[name] = stream.read(member.size)
        except (OSError, EOFError, zlib.error) as error:
            raise FastnoisyError(f"{self.kind}: {path} is damaged ({error})", "download the archive again") from None
        return files

    def _split(self, split: str, batches: Sequence[str], files: dict[str, bytes], path: Path) -> SourceSplit:
        images, labels, paths = [], [], []
        count = len(self.class_names)
        for name in batches:
            if name not in files:
                raise layout_error(self.kind, path, f"has no {name}")
            batch = load_batch(files[name], f"{self.kind}: {path}: {name}")
            rows, given = batch.get("data"), batch.get(self.labels)
            where = f"is not {self.title}: {name} has no"
            if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 3 * SIDE * SIDE or not len(rows):
                raise layout_error(self.kind, path, f"{where} uint8 data of shape (N, 3072)")
            if not isinstance(given, list) or len(given) != len(rows) or any(v not in range(count) for v in given):
                raise layout_error(self.kind, path, f"{where} {len(rows)} {self.labels} from 0 to {count - 1}")
            images.append(rows)
            labels += given
            paths += [f"{name}/{i}" for i in range(len(rows))]
        pixels = np.concatenate(images).reshape(-1, 3, SIDE, SIDE)  # rows hold the planes R, G, B
        given_labels = np.array(labels, np.int64)
        return SourceSplit(split, paths, given_labels, given_labels, lambda i: pixels[i].transpose(1, 2, 0))

    def _class_names(self, files: dict[str, bytes], path: Path) -> list[str]:
        count = len(self.class_names)
        if self.meta not in files:
            return list(self.class_names)
        names = load_batch(files[self.meta], f"{self.kind}: {path}: {self.meta}").get(self.names)
        if not isinstance(names, list) or len(names) != count:
            raise layout_error(self.kind, path, f"is not {self.title}: {self.meta} has no {count} {self.names}")
        texts = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names]
        if not all(text.isprintable() and "\ufffd" not in text for text in texts) or len(set(texts)) != count:
            raise layout_error(
                self.kind, path, f"is not {self.title}: its {self.names} in {self.meta} are no {count} texts"
            )
        return texts


def _unpacked(raw: BinaryIO) -> BinaryIO:
    """The archive without its compression, if it has one."""
    start = raw.read(2)
    raw.seek(0)
    return gzip.GzipFile(fileobj=raw, mode="rb") if start == b"\x1f\x8b" else raw  # type: ignore[return-value]


def _write_example(folder: Path, batches: Mapping[str, dict[str, list[int]]], meta: tuple[str, dict[str, Any]]) -> None:
    """Write pickles as published, with images made of patterns.

    Args:
        folder: made here.
        batches: by file name, the labels (N,) of N images under each of their keys; the first key's decide the
            patterns.
        meta: name and content of the pickle of class names.
    """
    folder.mkdir(parents=True)
    ramp = np.arange(3 * SIDE * SIDE, dtype=np.int64)
    for number, (name, labels) in enumerate(batches.items()):
        first = next(iter(labels.values()))
        rows = np.stack([(ramp * (label + 1) // 16 + 7 * i + number) % 256 for i, label in enumerate(first)])
        batch = {"batch_label": name.encode(), **labels, "data": rows.astype(np.uint8)}
        _dump(folder / name, batch)
    _dump(folder / meta[0], meta[1])


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(pickle.dumps({key.encode(): value for key, value in content.items()}, protocol=2))


CIFAR10 = Cifar(
    kind="cifar10",
    title="CIFAR-10",
    layout="cifar-10-python.tar.gz, or the folder cifar-10-batches-py out of it (data_batch_1 to 5, test_batch)",
    folder="cifar-10-batches-py",
    archive="cifar-10-python",
    batches={"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
    marks=["data_batch_1"],
    labels="labels",
    meta="batches.meta",
    names="label_names",
    class_names=CIFAR10_CLASSES,
)
CIFAR100 = Cifar(
    kind="cifar100",
    title="CIFAR-100",
    layout="cifar-100-python.tar.gz, or the folder cifar-100-python out of it (train, test, meta)",
    folder="cifar-100-python",
    archive="cifar-100-python",
    batches={"train": ["train"], "test": ["test"]},
    marks=["train", "test"],
    labels="fine_labels",
    meta="meta",
    names="fine_label_names",
    class_names=CIFAR100_CLASSES,
)
CIFAR100_COARSE = replace(
    CIFAR100,
    kind="cifar100-coarse",
    labels="coarse_labels",
    names="coarse_label_names",
    class_names=CIFAR100_SUPERCLASSES,
)


def _example10(folder: Path) -> str:
    """Write the seven pickles with 20 images each, made of patterns; every class is in every batch."""
    labels = [i % 10 for i in range(20)]
    batches = {name: {"labels": labels} for names in CIFAR10.batches.values() for name in names}
    meta = {"label_names": [name.encode() for name in CIFAR10_CLASSES], "num_vis": 3 * SIDE * SIDE}
    _write_example(folder / CIFAR10.folder, batches, (CIFAR10.meta, meta))
    return str(folder)


def _example100(folder: Path) -> str:
    """Write the three pickles with 100 images in each split, one of each class, made of patterns."""
    fine = [(7 * i) % 100 for i in range(100)]
    labels = {"fine_labels": fine, "coarse_labels": [CIFAR100_COARSE_OF_FINE[label] for label in fine]}
    meta = {
        "fine_label_names": [name.encode() for name in CIFAR100_CLASSES],
        "coarse_label_names": [name.encode() for name in CIFAR100_SUPERCLASSES],
    }
    _write_example(folder / CIFAR100.folder, {"train": labels, "test": labels}, (CIFAR100.meta, meta))
    return str(folder)


KINDS = {
    "cifar10": Kind(
        "CIFAR-10 as published (python version): 50,000 train and 10,000 test images of 32x32 in 10 classes.",
        CIFAR10.layout,
        CIFAR10.recognises,
        CIFAR10.open,
        _example10,
    ),
    "cifar100": Kind(
        "CIFAR-100 as published (python version): 50,000 train and 10,000 test images of 32x32 in 100 classes.",
        CIFAR100.layout,
        CIFAR100.recognises,
        CIFAR100.open,
        _example100,
    ),
    "cifar100-coarse": Kind(
        "CIFAR-100's images with the labels of its 20 super-classes; `cifar100-coarse:PATH`.",
        CIFAR100_COARSE.layout,
        lambda path: False,
        CIFAR100_COARSE.open,
        lambda folder: f"cifar100-coarse:{_example100(folder)}",
    ),
}
