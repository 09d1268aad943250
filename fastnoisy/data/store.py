"""The converted data set on disk: open it, read it.

`OUT/` holds per split `SPLIT.beton` (images, labels, indices: see beton.py) and `SPLIT.meta/`:

    meta.json       format, canvas, class names, number of samples, source, options, size and digest of the .beton
    labels.npz      given (int64) and, where known, clean (int64), one per record
    sources.txt     where each record came from, one a line; backslash and line ends are escaped
    sizes.npy       int32 (N, 2), height and width
    checksums.npy   uint32 (N,), crc32 of each record's bytes
    rejected.csv    path and reason of what was not stored
    notes.csv       path and note of what is stored in part: the first of several frames
    SHA256SUMS      digests of the files above, for verify and sha256sum --check
    verified.json   size and digest of the .beton whose records were all read and found right

Opening checks header, tables and length of each .beton against meta.json; reading checks a record against its checksum.
"""

from __future__ import annotations

import csv
import json
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from fastnoisy.data import beton, encode
from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.files import replacing

FORMAT = 1
META_FILES = ("checksums.npy", "labels.npz", "meta.json", "notes.csv", "rejected.csv", "sizes.npy", "sources.txt")
_ORDER = {"train": 0, "val": 1, "test": 2}
_REMEDY = "convert the source again, or copy the store again from where it is whole"


class Split:
    """One split of a store, open for reading. Safe to use from many threads; opens itself anew in another process.

    Attributes (N records):
        name: `train`, `val` or `test`.
        num_samples: N.
        canvas: (height, width) that no image exceeds, the same for the whole store.
        class_names: one per label.
        given_labels: int64 (N,).
        clean_labels: int64 (N,), or None where they are not known. For metrics only.
        sizes: int32 (N, 2), height and width.
        checksums: uint32 (N,), crc32 of each record's bytes.
        beton_path: the .beton file.
        info: what meta.json says.

    Raises:
        FastnoisyError: a file is missing or damaged, or they contradict each other.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.beton_path = folder / f"{name}.beton"
        self._folder = folder
        self._meta = folder / f"{name}.meta"
        self.info = _read_json(self._meta / "meta.json")
        if self.info.get("format") != FORMAT:
            raise FastnoisyError(
                f"{self._meta} has format {self.info.get('format')!r}, where {FORMAT} is read",
                "convert the source again with this version of fastnoisy",
            )
        self._reader = beton.BetonReader(self.beton_path)
        try:
            self._read_meta()
        except BaseException:
            self._reader.close()
            raise

    def _read_meta(self) -> None:
        reader = self._reader
        try:
            self.num_samples = int(self.info["num_samples"])
            self.canvas = (int(self.info["canvas"][0]), int(self.info["canvas"][1]))
            self.class_names = [str(name) for name in self.info["class_names"]]
            expected = (self.info["num_bytes"], self.info["digest"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise FastnoisyError(f"{self._meta / 'meta.json'} is damaged: {error!r}", _REMEDY) from None
        if (reader.num_bytes, reader.digest) != expected:
            raise FastnoisyError(f"{self.beton_path} is damaged: its header, tables or length have changed", _REMEDY)
        labels = _read_arrays(self._meta / "labels.npz")
        self.given_labels = labels.get("given", np.zeros(0))
        self.clean_labels = labels.get("clean")
        self.sizes = _read_arrays(self._meta / "sizes.npy")["sizes"]
        self.checksums = _read_arrays(self._meta / "checksums.npy")["checksums"]
        for place, right in (
            ("labels.npz", _is_column(self.given_labels, reader.labels) and self.given_labels.min() >= 0),
            ("labels.npz", self.given_labels.max(initial=0) < len(self.class_names)),
            ("labels.npz", self.clean_labels is None or self.clean_labels.shape == self.given_labels.shape),
            ("sizes.npy", _is_column(self.sizes, reader.sizes)),
            ("checksums.npy", self.checksums.dtype == np.uint32 and self.checksums.shape == (reader.num_samples,)),
            ("meta.json", bool((self.sizes <= self.canvas).all()) and self.num_samples == reader.num_samples),
        ):
            if not right:
                raise FastnoisyError(f"{self._meta / place} does not belong to {self.beton_path.name}", _REMEDY)

    @cached_property
    def sources(self) -> list[str]:
        """Where each record came from: a path within the source, N texts."""
        path = self._meta / "sources.txt"
        names = read_paths(path)
        if len(names) != self.num_samples:
            raise FastnoisyError(f"{path} is damaged: {len(names)} lines for {self.num_samples} records", _REMEDY)
        return names

    def listed(self, name: str) -> list[tuple[str, str]]:
        """The paths and texts in `rejected.csv` or `notes.csv`; empty where the store has no such list.

        Args:
            name: "rejected" or "notes".

        Raises:
            FastnoisyError: it cannot be read.
        """
        path = self._meta / f"{name}.csv"
        try:
            with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
                return [(row[0], row[1]) for row in csv.reader(file)][1:]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FastnoisyError(f"cannot read {path}: {error.strerror or error}", _REMEDY) from None
        except (csv.Error, IndexError) as error:
            raise FastnoisyError(f"{path} is damaged: {error}", _REMEDY) from None

    @property
    def verified(self) -> bool:
        """Whether a stamp says that every record of this very file has been read and found right."""
        try:
            stamp = _read_json(self._meta / "verified.json")
        except FastnoisyError:
            return False
        return stamp == self._stamp()

    @property
    def pages(self) -> np.ndarray:
        """The page of the file that each record lies in, int64 (N,): what lies on one page is read in one go."""
        return self._reader.starts // self._reader.page_size

    @property
    def num_bytes(self) -> int:
        """Size of the .beton file when it was opened."""
        return self._reader.num_bytes

    def mode(self, i: int) -> str:
        """How record `i` is stored: "raw" or "jpg"."""
        return beton.MODE_NAMES[int(self._reader.modes[self._row(i)])]

    def read_bytes(self, i: int) -> bytes:
        """The bytes of record `i`, its checksum checked: a JPEG, or uint8 pixels of shape (height, width, 3).

        Raises:
            FastnoisyError: the disk fails or the bytes have changed; names file, record and source.
        """
        data = self._reader.read(self._row(i))
        if zlib.crc32(data) != self.checksums[i]:
            raise self._damaged(i, "its bytes have changed since it was written")
        return data

    def read_image(self, i: int) -> np.ndarray:
        """Image `i` as uint8 (height, width, 3), RGB, a fresh array.

        Raises:
            FastnoisyError: as `read_bytes`, or the record cannot be decoded.
        """
        data = self.read_bytes(i)
        height, width = int(self.sizes[i, 0]), int(self.sizes[i, 1])
        if self._reader.modes[i] == beton.RAW:
            return np.frombuffer(data, np.uint8).reshape(height, width, 3).copy()
        try:
            image = encode.decode_jpeg(data)
        except (OSError, SyntaxError, ValueError) as error:
            raise self._damaged(i, f"it cannot be decoded ({error})") from None
        if image.shape != (height, width, 3):
            raise self._damaged(i, f"it has {image.shape[1]}x{image.shape[0]} pixels, where {width}x{height} are noted")
        return image

    def read_all_raw(self) -> np.ndarray | None:
        """The whole split as one uint8 array (N, H, W, 3), RGB, read from end to end.

        Returns:
            The array; None where a record is a JPEG or smaller than the canvas.

        Raises:
            FastnoisyError: as `read_bytes`.
        """
        if (self._reader.modes != beton.RAW).any() or (self.sizes != self.canvas).any():
            return None
        images = np.empty((self.num_samples, *self.canvas, 3), np.uint8)
        starts, lengths = self._reader.starts, self._reader.lengths
        breaks = np.flatnonzero(starts[1:] != starts[:-1] + lengths[:-1]) + 1  # a new page, usually
        for run in np.split(np.arange(self.num_samples), breaks):
            first, last = int(run[0]), int(run[-1])
            data = self._reader.read_at(int(starts[first]), int(starts[last] + lengths[last] - starts[first]))
            images[first : last + 1] = np.frombuffer(data, np.uint8).reshape(len(run), *self.canvas, 3)
        for i, checksum in enumerate(self.checksums):
            if zlib.crc32(images[i]) != checksum:
                raise self._damaged(i, "its bytes have changed since it was written")
        return images

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        """The images of these rows as uint8 (n, H, W, 3), RGB, in their order.

        Raises:
            FastnoisyError: the split's images differ in size; or as `read_image`.
        """
        if (self.sizes != self.sizes[0]).any():
            raise FastnoisyError(
                f"the images of {self.beton_path} differ in size, where one size is needed",
                "convert the source with --resize square=N",
            )
        images = np.empty((len(rows), int(self.sizes[0, 0]), int(self.sizes[0, 1]), 3), np.uint8)
        for place, row in enumerate(rows.tolist()):
            images[place] = self.read_image(row)
        return images

    @property
    def stamp_path(self) -> Path:
        """Where the stamp lies."""
        return self._meta / "verified.json"

    def stamp(self, right: bool) -> bool:
        """Note that every record of this file was found right, or take such a note back.

        Returns:
            False where there was a stamp that was not what it should be.

        Raises:
            OSError: the folder cannot be written.
        """
        try:
            found = self.stamp_path.read_bytes()
        except FileNotFoundError:
            found = None
        if not right:
            self.stamp_path.unlink(missing_ok=True)
        elif found != json_bytes(self._stamp()):
            write_json(self.stamp_path, self._stamp())
        return found in (None, json_bytes(self._stamp()))

    def close(self) -> None:
        """Close the file; more calls do nothing."""
        self._reader.close()

    def _stamp(self) -> dict[str, Any]:
        return {"num_bytes": self._reader.num_bytes, "digest": self._reader.digest}

    def _row(self, i: int) -> int:
        if not 0 <= i < self.num_samples:
            raise IndexError(f"record {i} of {self.num_samples} in {self.beton_path}")
        return int(i)

    def _damaged(self, i: int, problem: str) -> FastnoisyError:
        return FastnoisyError(f"{self.beton_path}: record {i} ({self.sources[i]}) is damaged: {problem}", _REMEDY)

    def __reduce__(self) -> tuple[type[Split], tuple[Path, str]]:
        return Split, (self._folder, self.name)


class Store:
    """A converted data set: its splits, open for reading. Close it, or use it in a `with` statement.

    Attributes:
        path: the folder.
        splits: by name, in the order train, val, test.
        class_names: one per label, the same for all splits.
        num_classes: how many.
    """

    def __init__(self, path: Path, splits: dict[str, Split]) -> None:
        self.path = path
        self.splits = splits
        self.class_names = next(iter(splits.values())).class_names
        self.num_classes = len(self.class_names)

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            FastnoisyError: there is none; lists those there are.
        """
        if name not in self.splits:
            raise unknown_name(f"split of {self.path}", name, self.splits)
        return self.splits[name]

    def close(self) -> None:
        """Close every split."""
        for split in self.splits.values():
            split.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(path: str | Path) -> Store:
    """Open a converted data set.

    Raises:
        FastnoisyError: missing, not a store, or with a damaged header, table, length or meta file.
    """
    path = Path(path)
    splits: dict[str, Split] = {}
    try:
        for name in split_names(path):
            splits[name] = Split(path, name)
        first = next(iter(splits.values()))
        for split in splits.values():
            if split.class_names != first.class_names or split.canvas != first.canvas:
                raise FastnoisyError(f"{path}: {split.name} has other class names or canvas than {first.name}", _REMEDY)
    except BaseException:
        for split in splits.values():
            split.close()
        raise
    return Store(path, splits)


def escape(text: str) -> str:
    """A text as one line: backslash, line feed and carriage return are escaped."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def unescape(line: str) -> str:
    """The text that `escape` made this line of."""
    parts = line.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\r", "\r") for part in parts)


def read_paths(path: Path) -> list[str]:
    """The texts in a file of escaped lines.

    Raises:
        FastnoisyError: it cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise FastnoisyError(f"cannot read {path}: {error.strerror or error}", _REMEDY) from None
    return [unescape(line) for line in text.split("\n")[:-1]]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file so that it is there whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(json_bytes(content))


def json_bytes(content: dict[str, Any]) -> bytes:
    """What `write_json` writes."""
    return (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def split_names(path: Path) -> list[str]:
    """The names of the splits in a folder, as far as its files' names tell: train, val, test, then others.

    Raises:
        FastnoisyError: there is no such folder, or no split in it.
    """
    if not path.exists():
        raise FastnoisyError(f"store {path} does not exist", f"make it with: fastnoisy convert SOURCE {path}")
    names = {file.name.rsplit(".", 1)[0] for kind in ("beton", "meta") for file in path.glob(f"*.{kind}")}
    if not names:
        raise FastnoisyError(
            f"{path} is not a converted data set: it holds no .beton file",
            "make one with: fastnoisy convert SOURCE OUT, and give OUT",
        )
    return sorted(names, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FastnoisyError(f"cannot read {path}: {error.strerror or error}", _REMEDY) from None
    except ValueError as error:
        raise FastnoisyError(f"{path} is damaged: {error}", _REMEDY) from None
    if not isinstance(content, dict):
        raise FastnoisyError(f"{path} is damaged: no JSON object", _REMEDY)
    return content


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, or that of an .npy file under the file's name."""
    try:
        with open(path, "rb") as file:  # given a path, numpy leaves a damaged file open
            content = np.load(file, allow_pickle=False)
            return {path.stem: content} if isinstance(content, np.ndarray) else dict(content)
    except OSError as error:
        raise FastnoisyError(f"cannot read {path}: {error.strerror or error}", _REMEDY) from None
    except Exception as error:  # numpy reads the header as Python source, so even tokenize.TokenError comes out
        raise FastnoisyError(f"{path} is damaged: {error}", _REMEDY) from None


def _is_column(array: np.ndarray, truth: np.ndarray) -> bool:
    return array.dtype == truth.dtype and array.shape == truth.shape and bool((array == truth).all())
