"""FFCV's .beton format, version 2: a reader and an ordered writer of our own, so that only FFCV's loader needs FFCV.

A file is, in this order and little-endian throughout:

    header            version, number of fields, page size, number of samples, where the allocation table starts
    descriptors       per field: type, name (16 bytes), arguments (1,024 bytes, unused by our fields)
    sample table      per sample: image (mode, width, height, where its bytes start), label, index
    zeros             up to a page's start
    pages             the images' bytes, one after another; no image crosses a page's end
    allocation table  per image: sample, where its bytes start, how many they are; up to the end of the file

The reader uses `pread` and never maps the file: an I/O error under a map kills the process, and a truncated file gives
garbage. It checks header, tables and length before it hands out anything.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from array import array
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from fastnoisy.errors import FastnoisyError

VERSION = 2
MIN_PAGE_SIZE = 1 << 21  # FFCV's own least page: 2 MiB, the usual huge page
MAX_PAGE_SIZE = 1 << 31  # the header holds it as uint32, and it is a power of two
JPG, RAW = 0, 1  # the modes of an image record
MODE_NAMES = {JPG: "jpg", RAW: "raw"}

FLOAT_FIELD, INT_FIELD, IMAGE_FIELD = 0, 1, 2  # type ids; FFCV knows more, which no image data set needs

HEADER = np.dtype(
    [("version", "<u2"), ("num_fields", "<u2"), ("page_size", "<u4"), ("num_samples", "<u8"), ("table", "<u8")],
    align=True,
)
DESCRIPTOR = np.dtype([("type", "<u1"), ("name", "<u1", (16,)), ("arguments", "<u1", (1024,))], align=True)
ALLOCATION = np.dtype([("sample", "<u8"), ("start", "<u8"), ("size", "<u8")])
IMAGE = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("start", "<u8")])
_FIELD_DTYPES = {FLOAT_FIELD: np.dtype("<f8"), INT_FIELD: np.dtype("<i8"), IMAGE_FIELD: IMAGE}
_FIELDS = (("image", IMAGE_FIELD), ("label", INT_FIELD), ("index", INT_FIELD))
_OWN_TYPES = [kind for _, kind in _FIELDS]
_BUFFER_BYTES = 1 << 20

_REMEDY = "convert the source again, or copy the file again from where it is whole"


def _sample_dtype(field_types: list[int]) -> np.dtype:
    """The dtype of one row of the sample table: fields f0, f1, ... aligned as a C compiler would."""
    return np.dtype([(f"f{i}", _FIELD_DTYPES[kind]) for i, kind in enumerate(field_types)], align=True)


def page_size_for(canvas: tuple[int, int]) -> int:
    """The page size for images of at most `canvas` (height, width): a power of two that holds the largest one raw.

    Raises:
        FastnoisyError: the canvas needs pages beyond the format's limit.
    """
    height, width = canvas
    page = max(MIN_PAGE_SIZE, 1 << (height * width * 3 - 1).bit_length())
    if page > MAX_PAGE_SIZE:
        raise FastnoisyError(f"a canvas of {height}x{width} is too large for a .beton file", "resize to less")
    return page


def pages_start(capacity: int, page_size: int) -> int:
    """Where the first page of a file of ours begins that has space for so many records."""
    head = HEADER.itemsize + len(_FIELDS) * DESCRIPTOR.itemsize + capacity * _sample_dtype(_OWN_TYPES).itemsize
    return -(-head // page_size) * page_size


def record_start(position: int, length: int, page_size: int) -> int:
    """Where a record of that length begins, if the one before it ends at `position`: there, or on the next page."""
    left = -position % page_size
    return position + (left if left < length else 0)


class DamagedBetonError(FastnoisyError):
    """A .beton file that cannot be believed; `sample` is the first that is lost by it, where that is known."""

    def __init__(self, message: str, remedy: str, sample: int | None = None) -> None:
        super().__init__(message, remedy)
        self.sample = sample


class BetonWriter:
    """Writes one .beton file, record after record, with the fields image, label and index.

    Bytes depend on the records and their order alone. The header comes last: a file that was not closed has version 0,
    which no reader accepts. Where a file was left unfinished, `place` its records again and then `go_on`.

    Args:
        path: the file to write.
        capacity: the most records that may come; space for their table is kept, and fewer may be written.
        page_size: a power of two, at least 2 MiB, as from `page_size_for`.
        resume: whether what an existing file holds is kept; else it starts empty.
    """

    def __init__(self, path: Path, capacity: int, page_size: int, *, resume: bool = False) -> None:
        if page_size & (page_size - 1) or not MIN_PAGE_SIZE <= page_size <= MAX_PAGE_SIZE:
            raise ValueError(f"page_size must be a power of two, {MIN_PAGE_SIZE} to {MAX_PAGE_SIZE}, got {page_size}")
        self.num_samples = 0
        self.page_size = page_size
        self._capacity = capacity
        self._modes, self._heights, self._widths = array("B"), array("H"), array("H")
        self._labels, self._starts, self._lengths = array("q"), array("Q"), array("Q")
        self._position = pages_start(capacity, page_size)
        self._buffer = bytearray()
        self._flushed = self._position  # where the buffer belongs in the file
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | (0 if resume else os.O_TRUNC)
        self.descriptor = os.open(path, flags, 0o666)
        self._closed = False
        if not resume:
            self.go_on()

    def append(self, data: bytes, mode: int, height: int, width: int, label: int) -> None:
        """Write one image.

        Args:
            data: the bytes of a JPEG (mode JPG) or of uint8 pixels of shape (height, width, 3), RGB (mode RAW).
            mode: JPG or RAW.
            height, width: of the image, 1 to 65,535.
            label: the given label.

        Raises:
            ValueError: the record does not fit a page, or its size disagrees with mode, height and width.
            OSError: the disk is full, or fails.
        """
        start = self.place(len(data), mode, height, width, label)
        if start != self._flushed + len(self._buffer):  # a new page; what is skipped reads as zeros
            self.flush()
            self._flushed = start
        self._buffer += data
        if len(self._buffer) >= _BUFFER_BYTES:
            self.flush()

    def place(self, length: int, mode: int, height: int, width: int, label: int) -> int:
        """Note one image of so many bytes without writing them, and return where in the file they belong."""
        if self.num_samples == self._capacity:
            raise ValueError(f"the file was made for {self._capacity} records, and this is one more")
        if not 0 < length <= self.page_size:
            raise ValueError(f"a record must have 1 to {self.page_size} bytes, got {length}")
        if mode == RAW and length != height * width * 3:
            raise ValueError(f"{length} bytes are not {height}x{width}x3 pixels")
        start = record_start(self._position, length, self.page_size)
        self._modes.append(mode)
        self._heights.append(height)
        self._widths.append(width)
        self._labels.append(label)
        self._starts.append(start)
        self._lengths.append(length)
        self._position = start + length
        self.num_samples += 1
        return start

    def go_on(self) -> None:
        """Cut the file behind the last record that was placed, to append the next there."""
        os.ftruncate(self.descriptor, self._position)
        os.pwrite(self.descriptor, bytes(HEADER.itemsize), 0)
        self._flushed = self._position

    def flush(self) -> None:
        """Hand what was appended to the operating system.

        Raises:
            OSError: the disk is full, or fails.
        """
        while self._buffer:
            count = os.pwrite(self.descriptor, self._buffer, self._flushed)
            del self._buffer[:count]
            self._flushed += count

    def close(self) -> None:
        """Write the tables and the header, and close the file.

        Raises:
            OSError: the disk is full, or fails.
        """
        if self._closed:
            return
        self.flush()
        count, end = self.num_samples, -(-self._position // self.page_size) * self.page_size
        allocations = np.zeros(count, ALLOCATION)
        allocations["sample"] = np.arange(count)
        allocations["start"], allocations["size"] = self._starts, self._lengths
        self._write(allocations.tobytes(), end)
        samples = np.zeros(count, _sample_dtype(_OWN_TYPES))
        for name, column in zip(
            IMAGE.names or (), (self._modes, self._widths, self._heights, self._starts), strict=True
        ):
            samples["f0"][name] = column
        samples["f1"], samples["f2"] = self._labels, np.arange(count)
        header = np.zeros((), HEADER)
        header["version"], header["num_fields"], header["page_size"] = VERSION, len(_FIELDS), self.page_size
        header["num_samples"], header["table"] = count, end
        descriptors = np.zeros(len(_FIELDS), DESCRIPTOR)
        for descriptor, (name, kind) in zip(descriptors, _FIELDS, strict=True):
            descriptor["type"] = kind
            descriptor["name"][: len(name)] = np.frombuffer(name.encode("ascii"), np.uint8)
        self._write(header.tobytes() + descriptors.tobytes() + samples.tobytes(), 0)
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is; more calls do nothing."""
        if not self._closed:
            self._closed = True
            os.close(self.descriptor)

    def _write(self, data: bytes, start: int) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self.descriptor, view, start)
            view, start = view[count:], start + count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class BetonReader:
    """An open .beton file, ours or written by FFCV, with one image field and a label. Safe to use from many threads.

    Attributes (N records):
        path: the file.
        num_samples: N.
        page_size: bytes.
        num_bytes: of the whole file.
        modes: uint8 (N,), JPG or RAW.
        sizes: int32 (N, 2), height and width.
        labels: int64 (N,).
        starts, lengths: int64 (N,), where each record's bytes are.
        digest: sha256 of header, descriptors and both tables.

    Raises:
        FastnoisyError: missing, not a .beton file, cut off, or with tables that contradict each other; then a
            DamagedBetonError.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise FastnoisyError(f"cannot open {self.path}: {error.strerror or error}") from None
        self._descriptor = descriptor
        self._finalizer = weakref.finalize(self, os.close, descriptor)
        try:
            self.num_bytes = os.fstat(descriptor).st_size
            self._read_tables()
        except BaseException:
            self.close()
            raise

    def read(self, i: int) -> bytes:
        """The bytes of record `i`.

        Raises:
            FastnoisyError: the disk fails, or the file has become shorter.
        """
        return self.read_at(int(self.starts[i]), int(self.lengths[i]))

    def read_at(self, start: int, length: int) -> bytes:
        """`length` bytes from `start`; the same errors as `read`."""
        parts = []
        while length:
            try:
                part = os.pread(self._descriptor, min(length, 1 << 30), start)
            except OSError as error:
                raise FastnoisyError(f"{self.path}: cannot read at byte {start}: {error.strerror or error}") from None
            if not part:
                raise self._damaged(f"it ends at byte {start}, {length} bytes too early")
            parts.append(part)
            start, length = start + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def gaps(self) -> list[tuple[int, int]]:
        """Where bytes lie that belong to no table and no record: start and end of each stretch, in order."""
        order = np.argsort(self.starts, kind="stable")
        begins = np.append(self.starts[order], self._pages_end)
        ends = np.insert(np.maximum.accumulate((self.starts + self.lengths)[order]), 0, self._pages_start)
        found = np.flatnonzero(ends < begins)
        return list(zip(ends[found].tolist(), begins[found].tolist(), strict=True))

    def close(self) -> None:
        """Close the file; more calls do nothing."""
        self._finalizer()

    def __reduce__(self) -> tuple[type[BetonReader], tuple[Path]]:
        return BetonReader, (self.path,)

    def _damaged(self, problem: str, sample: int | None = None) -> DamagedBetonError:
        return DamagedBetonError(f"{self.path} is damaged: {problem}", _REMEDY, sample)

    def _read_tables(self) -> None:
        if self.num_bytes < HEADER.itemsize:
            raise self._damaged(f"{self.num_bytes} bytes are less than a header")
        raw_header = self.read_at(0, HEADER.itemsize)
        header = np.frombuffer(raw_header, HEADER)[0]
        version, num_fields, page_size, num_samples, table = (int(header[name]) for name in HEADER.names or ())
        if version != VERSION:
            raise self._damaged(f"its header has version {version}, where format {VERSION} is read (0: never finished)")
        if page_size < 1 or page_size & (page_size - 1):
            raise self._damaged(f"its page size {page_size} is not a power of two")
        if num_fields < 1 or num_samples < 1:
            raise self._damaged(f"its header tells of {num_fields} fields and {num_samples} samples")
        raw_fields = self._read_array(HEADER.itemsize, num_fields * DESCRIPTOR.itemsize, "field descriptors")
        types, names = self._fields(np.frombuffer(raw_fields, DESCRIPTOR))
        dtype = _sample_dtype(types)
        raw_samples = self._read_array(HEADER.itemsize + len(raw_fields), num_samples * dtype.itemsize, "sample table")
        if not table <= self.num_bytes or (self.num_bytes - table) != num_samples * ALLOCATION.itemsize:
            wanted = table + num_samples * ALLOCATION.itemsize
            starts = np.frombuffer(raw_samples, dtype)[f"f{types.index(IMAGE_FIELD)}"]["start"]
            lost = np.flatnonzero(starts >= self.num_bytes)
            cut_off = f"; {len(lost)} of them are cut off, sample {lost[0]} first" if len(lost) else ""
            problem = f"it has {self.num_bytes} bytes, where {num_samples} samples need {wanted}{cut_off}"
            raise self._damaged(problem, int(lost[0]) if len(lost) else None)
        raw_table = self._read_array(table, num_samples * ALLOCATION.itemsize, "allocation table")

        samples = np.frombuffer(raw_samples, dtype)
        image = samples[f"f{types.index(IMAGE_FIELD)}"]
        self.page_size, self.num_samples = page_size, num_samples
        self.modes = image["mode"].copy()
        self.sizes = np.stack([image["height"], image["width"]], axis=1).astype(np.int32)
        self.labels = samples[f"f{self._label_field(types, names)}"].astype(np.int64)
        self.starts = image["start"].astype(np.int64)
        self._pages_start, self._pages_end = HEADER.itemsize + len(raw_fields) + len(raw_samples), table
        self.lengths = self._lengths(np.frombuffer(raw_table, ALLOCATION), self._pages_start, table)
        digest = hashlib.sha256()
        for part in (raw_header, raw_fields, raw_samples, raw_table):
            digest.update(part)
        self.digest = digest.hexdigest()

    def _read_array(self, start: int, length: int, what: str) -> bytes:
        if start + length > self.num_bytes:
            raise self._damaged(f"its {what} would end at byte {start + length}, but the file has {self.num_bytes}")
        return self.read_at(start, length)

    def _fields(self, descriptors: np.ndarray) -> tuple[list[int], list[str]]:
        types = [int(kind) for kind in descriptors["type"]]
        names = [bytes(name).split(b"\0")[0].decode("ascii", "replace") for name in descriptors["name"]]
        for kind, name in zip(types, names, strict=True):
            if kind not in _FIELD_DTYPES:
                raise FastnoisyError(
                    f"{self.path}: field {name!r} has FFCV's type {kind}; readable are 0 float, 1 int and 2 image",
                    "write the file with the fields image (RGBImageField) and label (IntField)",
                )
        if types.count(IMAGE_FIELD) != 1:
            count = types.count(IMAGE_FIELD)
            raise FastnoisyError(f"{self.path}: {count} image fields, where one is needed; fields: {', '.join(names)}")
        return types, names

    def _label_field(self, types: list[int], names: list[str]) -> int:
        integers = [i for i, kind in enumerate(types) if kind == INT_FIELD]
        if not integers:
            raise FastnoisyError(f"{self.path}: no integer field, so no labels; fields: {', '.join(names)}")
        return next((i for i in integers if names[i] == "label"), integers[0])

    def _lengths(self, table: np.ndarray, pages_start: int, pages_end: int) -> np.ndarray:
        """The length of every record, from the allocation table (FFCV writes it in any order), all checked."""
        order = np.argsort(table["start"], kind="stable")
        known = table["start"][order].astype(np.int64)
        place = np.searchsorted(known, self.starts)
        found = place < len(known)
        found[found] = known[place[found]] == self.starts[found]
        if not found.all():
            sample = int(np.argmin(found))
            raise self._damaged(f"the allocation table does not know the bytes of sample {sample}", sample)
        lengths = table["size"][order][place].astype(np.int64)
        ends = self.starts + lengths
        height, width = self.sizes[:, 0].astype(np.int64), self.sizes[:, 1].astype(np.int64)
        for wrong, problem in (
            ((self.starts < pages_start) | (self.starts > pages_end) | (ends > pages_end), "lies outside the pages"),
            ((lengths < 1) | (lengths > self.page_size), "is empty or longer than a page"),
            (self.starts // self.page_size != (ends - 1) // self.page_size, "crosses a page's end"),
            (~np.isin(self.modes, (JPG, RAW)), "is neither jpg nor raw"),
            ((height < 1) | (width < 1), "has no pixels"),
            ((self.modes == RAW) & (lengths != height * width * 3), "has another length than its height and width say"),
        ):
            if wrong.any():
                raise self._damaged(f"sample {int(np.argmax(wrong))} {problem}", int(np.argmax(wrong)))
        return lengths
