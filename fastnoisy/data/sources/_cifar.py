"""What CIFAR-10 and CIFAR-100 have in common: pickles of uint8 rows in one folder, or in the published archive."""

from __future__ import annotations

import pickle
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy.data.sources._pickles import load_batch
from fastnoisy.data.sources.base import Source, SourceSplit, layout_error, read_file
from fastnoisy.errors import FastnoisyError

SIDE = 32


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
        return Source(self._class_names(files, path), splits, (SIDE, SIDE))

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
        files = {}
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    folder, _, name = member.name.rpartition("/")
                    if (
                        name in wanted
                        and Path(folder).name == self.folder
                        and member.isfile()
                        and member.size < 1 << 28
                    ):
                        content = archive.extractfile(member)
                        files[name] = content.read() if content is not None else b""
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
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
        return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def write_example(folder: Path, batches: Mapping[str, dict[str, list[int]]], meta: tuple[str, dict[str, Any]]) -> None:
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
