"""One split of a converted data set: open it, read it.

Opening checks the small files against their digests, and header, tables and length of the .beton against meta.json;
reading checks a record against its checksum.
"""

from __future__ import annotations

import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy.data.store import beton
from fastnoisy.data.store.digests import check_sums
from fastnoisy.data.store.jpeg import decode_jpeg
from fastnoisy.data.store.meta import (
    FORMAT,
    META_FILES,
    REMEDY,
    json_bytes,
    read_arrays,
    read_json,
    read_listed,
    read_paths,
    write_json,
)
from fastnoisy.errors import FastnoisyError


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

    Args:
        folder: of the store.
        name: of the split.
        check: whether the small files are compared with their digests (of a million rows: 85 MB, 0.1 s).

    Raises:
        FastnoisyError: a file is missing or damaged, or they contradict each other.
    """

    def __init__(self, folder: Path, name: str, check: bool = True) -> None:
        self.name = name
        self.beton_path = folder / f"{name}.beton"
        self._folder = folder
        self._meta = folder / f"{name}.meta"
        self.info = read_json(self._meta / "meta.json")
        if self.info.get("format") != FORMAT:
            raise FastnoisyError(
                f"{self._meta} has format {self.info.get('format')!r}, where {FORMAT} is read",
                "convert the source again with this version of fastnoisy",
            )
        problems = check_sums(self._meta, META_FILES) if check else []
        if problems:
            raise FastnoisyError(problems[0], REMEDY)
        self._reader = beton.BetonReader(self.beton_path)
        try:
            self._read_meta()
        except BaseException:
            self._reader.close()
            raise

    def _read_meta(self) -> None:
        reader, info = self._reader, self.info
        try:
            self.num_samples = int(info["num_samples"])
            height, width = (int(side) for side in info["canvas"])
            self.canvas = height, width
            self.class_names = [str(name) for name in info["class_names"]]
            expected = (info["num_bytes"], info["digest"])
            if not isinstance(info["options"], dict) or not isinstance(info["source"], str):
                raise TypeError("options or source")
        except (KeyError, TypeError, ValueError) as error:
            raise FastnoisyError(f"{self._meta / 'meta.json'} is damaged: {error!r}", REMEDY) from None
        if (reader.num_bytes, reader.digest) != expected:
            raise FastnoisyError(f"{self.beton_path} is damaged: its header, tables or length have changed", REMEDY)
        labels = read_arrays(self._meta / "labels.npz")
        clean = labels.get("clean")
        sizes = read_arrays(self._meta / "sizes.npy").get("sizes")
        checksums = read_arrays(self._meta / "checksums.npy").get("checksums")
        for place, right in (  # one after another: a later one may fail where an earlier does not hold
            ("labels.npz", lambda: _is_column(labels.get("given"), reader.labels)),
            ("labels.npz", lambda: reader.labels.min() >= 0 and reader.labels.max() < len(self.class_names)),
            ("labels.npz", lambda: clean is None or _is_like(clean, reader.labels)),
            ("labels.npz", lambda: clean is None or (clean.min() >= 0 and clean.max() < len(self.class_names))),
            ("sizes.npy", lambda: _is_column(sizes, reader.sizes)),
            ("checksums.npy", lambda: _is_like(checksums, np.zeros(reader.num_samples, np.uint32))),
            ("meta.json", lambda: (np.asarray(sizes) <= self.canvas).all() and self.num_samples == reader.num_samples),
        ):
            if not right():
                raise FastnoisyError(f"{self._meta / place} does not belong to {self.beton_path.name}", REMEDY)
        self.given_labels, self.clean_labels = labels["given"], clean
        self.sizes, self.checksums = np.asarray(sizes), np.asarray(checksums)

    @cached_property
    def sources(self) -> list[str]:
        """Where each record came from: a path within the source, N texts."""
        path = self._meta / "sources.txt"
        names = read_paths(path)
        if len(names) != self.num_samples:
            raise FastnoisyError(f"{path} is damaged: {len(names)} lines for {self.num_samples} records", REMEDY)
        return names

    @property
    def source(self) -> str:
        """What was converted, `kind:path`; empty where the store does not say."""
        return str(self.info.get("source", ""))

    def listed(self, name: str) -> list[tuple[str, str]]:
        """The paths and texts in `rejected.csv` or `notes.csv`; empty where the store has no such list.

        Args:
            name: "rejected" or "notes".

        Raises:
            FastnoisyError: it cannot be read.
        """
        return read_listed(self._meta / f"{name}.csv")

    @property
    def verified(self) -> bool:
        """Whether a stamp says that every record of this very file has been read and found right."""
        try:
            stamp = read_json(self._meta / "verified.json")
        except FastnoisyError:
            return False
        return stamp == self._stamp()

    @property
    def pages(self) -> np.ndarray:
        """The page of the file that each record lies in, int64 (N,): what lies on one page is read in one go."""
        return self._reader.starts // self._reader.page_size

    @property
    def page_size(self) -> int:
        """Of the file, in bytes; no record is longer."""
        return self._reader.page_size

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
            image = decode_jpeg(data)
        except (OSError, SyntaxError, ValueError) as error:
            raise self._damaged(i, f"it cannot be decoded ({error})") from None
        if image.shape != (height, width, 3):
            raise self._damaged(i, f"it has {image.shape[1]}x{image.shape[0]} pixels, where {width}x{height} are noted")
        return image

    def read_reduced(self, i: int, height: int, width: int) -> np.ndarray:
        """Image `i` with at least these sides, uint8 (h, w, 3), RGB: for thumbnails.

        A JPEG is decoded to a half, a quarter or an eighth of its size where that suffices, which is several times as
        fast. An image that is smaller comes as it is.

        Raises:
            FastnoisyError: as `read_image`.
        """
        if self._reader.modes[self._row(i)] == beton.RAW:
            return self.read_image(i)
        try:
            return decode_jpeg(self.read_bytes(i), (height, width))
        except (OSError, SyntaxError, ValueError) as error:
            raise self._damaged(i, f"it cannot be decoded ({error})") from None

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
        return FastnoisyError(f"{self.beton_path}: record {i} ({self.sources[i]}) is damaged: {problem}", REMEDY)

    def __reduce__(self) -> tuple[type[Split], tuple[Path, str, bool]]:
        return Split, (self._folder, self.name, False)  # checked by the process that sends it


def _is_like(array: Any, truth: np.ndarray) -> bool:
    return isinstance(array, np.ndarray) and array.dtype == truth.dtype and array.shape == truth.shape


def _is_column(array: Any, truth: np.ndarray) -> bool:
    return _is_like(array, truth) and bool((array == truth).all())
