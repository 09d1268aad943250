"""The one reader of the tables that people bring: lists of images, label files, corrections, outputs of other tools.

| ending | form |
|---|---|
| .csv .tsv .txt | lines of cells between commas, semicolons or tabs; UTF-8 or UTF-16, with or without a mark; quotes |
| .jsonl | an object, or a label, a line |
| .json | a list of labels, of rows or of objects; an object of columns, or of labels by path or index |
| .parquet | columns |
| .npy .npz | a vector of labels; columns by name, `given` of a run's labels.npz |
| .pt .pth | a vector or list, or a dictionary of them |

Endings in any case. Nothing that a file names is ever run, and how much is read is bounded.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files import torch_files
from fastnoisy.label_files.columns import Columns, choose
from fastnoisy.label_files.lines import line_error, shown
from fastnoisy.label_files.meaning import as_text

TEXT, JSON, ARRAYS, TORCH = (".csv", ".tsv", ".txt"), (".json", ".jsonl"), (".npy", ".npz"), (".pt", ".pth")
ENDINGS = (*TEXT, *JSON, ".parquet", *ARRAYS, *TORCH)
MAX_BYTES = 1 << 30  # a list of 14 million images (ImageNet-21k) has 0.5 GB
MAX_WHOLE = 1 << 28  # of files that are read as a whole
Row = tuple[int, Sequence[str]]
_Values = Iterator[tuple[int, Sequence[Any]]]


@dataclass(frozen=True)
class Table:
    """An opened table; its rows are read when they are asked for.

    Attributes:
        kind, file: for errors.
        head: the first row of a text, or the names of the columns; a text per column.
        certain: whether `head` is known to hold names (so it is no row).
    """

    kind: str
    file: Path
    head: list[str]
    certain: bool
    _first_line: int
    _values: Callable[[Sequence[int]], _Values]

    def columns(self, asked: Mapping[str, str]) -> Columns | None:
        """Which column is what; None where the first row names none. See `columns.choose`."""
        return choose(f"{self.kind}: {self.file}", self.head, asked, self.certain)

    def rows(self, columns: Columns | None, whole: bool = False) -> Iterator[Row]:
        """Line and cells of each row that has any, without the header.

        Args:
            whole: whether cells of columns that are not used are read, too; else they may be empty.

        Raises:
            FastnoisyError: names the line: other columns than the first, a value that is no text or whole number, or
                what cannot be read.
        """
        used = range(len(self.head)) if columns is None else columns.used
        wanted = range(len(self.head)) if whole else used
        rows: _Values = self._values(wanted)
        if not self.certain and (columns is None or not columns.named):
            rows = chain([(self._first_line, self.head)], rows)
        drop = None if columns is None else columns.drop
        for line, values in rows:
            if len(values) != len(self.head):
                problem = f"has {len(values)} columns, where {len(self.head)} belong"
                remedy = "put texts that hold the separator, or a quote, in quotes"
                raise line_error(self.kind, self.file, line, problem, remedy)
            cells = [""] * len(values)
            for place in wanted:
                value = values[place]
                cells[place] = self._cell(value, line, place, place == drop) if place in used else str(value)
            if any(cells) or len(cells) == 1:  # spreadsheets leave rows of nothing; a list may have gaps
                yield line, cells

    def _cell(self, value: Any, line: int, place: int, may_be_bool: bool) -> str:
        if isinstance(value, str):
            return value
        if value is None or value != value:  # nan
            return ""
        if may_be_bool and isinstance(value, bool):
            return str(value).lower()
        text = as_text(value)
        if text is None:
            name = self.head[place] if self.certain else "label"
            problem = f"has {type(value).__name__} {str(value)[:60]!r} as {name}"
            remedy = "paths must be texts, and labels texts or whole numbers"
            raise line_error(self.kind, self.file, line, problem, remedy)
        return text


def open_table(kind: str, file: Path) -> Table:
    """Open a table by its ending.

    Args:
        kind: of what it is, for errors.

    Raises:
        FastnoisyError: no such file, an ending that is not known, too large, damaged, or empty.
    """
    ending = file.suffix.lower()
    if not file.is_file():
        raise FastnoisyError(f"{kind}: {file} does not exist, or is no file", "name a file that can be read")
    if ending not in ENDINGS:
        raise FastnoisyError(f"{kind}: {file}: unknown ending {shown(file.suffix)}, known: {' '.join(ENDINGS)}")
    limit = MAX_BYTES if ending in (*TEXT, ".jsonl", ".parquet", ".npy") else MAX_WHOLE
    size = file.stat().st_size
    if size > limit:
        raise FastnoisyError(
            f"{kind}: {file} has {size / 1e6:,.0f} MB, at most {limit / 1e6:,.0f} are read",
            "is this a table of paths and labels? Keep its columns path and label alone",
        )
    try:
        if ending in TEXT:
            return _open_text(kind, file)
        if ending == ".parquet":
            return _open_parquet(kind, file)
        content = _CONTENT[ending](file)
        head, rows = _arrange(content)
    except FastnoisyError:
        raise
    except torch_files.RefusedError as refused:
        raise FastnoisyError(
            f"{kind}: {file} names {refused}, which no file of labels needs; nothing was run",
            "save the labels as .npy or .csv",
        ) from None
    except Exception as error:  # damaged files make json, numpy, zipfile and torch raise almost anything, OSError too
        said = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise FastnoisyError(f"{kind}: {file} cannot be read: {said}", f"forms that are read: {_FORMS}") from None
    first_line = 1
    if head is None:
        if not rows:
            raise FastnoisyError(f"{kind}: {file} is empty", f"forms that are read: {_FORMS}")
        names, rows, certain = [_text_of(value) for value in rows[0]], rows[1:], False
        first_line, start = 1, 2
    else:
        names, certain, start = head, True, 1
    return Table(kind, file, names, certain, first_line, lambda wanted: iter(list(enumerate(rows, start))))


_FORMS = "a list of labels, a list of objects, or columns of one length, such as path and label"


# Text


def _open_text(kind: str, file: Path) -> Table:
    rows = _text_rows(kind, file)
    first = next(rows, None)
    if first is None:
        raise FastnoisyError(f"{kind}: {file} is empty", "it should hold a line per image")
    return Table(kind, file, list(first[1]), False, first[0], lambda wanted: rows)


def _text_rows(kind: str, file: Path) -> Iterator[Row]:
    """Line number and cells of each row that has any."""
    with file.open("rb") as raw:
        start = raw.read(1 << 16)
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    first = start.decode(encoding, "replace").lstrip().partition("\n")[0]
    separator = "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    with file.open(encoding=encoding, errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, delimiter=separator, skipinitialspace=True)
        try:
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield reader.line_num, cells
        except (csv.Error, UnicodeError) as error:
            remedy = "look for a quote that is not closed, or save the list as UTF-8"
            raise line_error(kind, file, reader.line_num, f"cannot be read: {error}", remedy) from None


# Parquet


def _open_parquet(kind: str, file: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise FastnoisyError(
            f"{kind}: {file} needs pyarrow, which is not installed", "pip install pyarrow, or save the list as CSV"
        ) from None

    def damaged(error: Exception) -> FastnoisyError:
        problem = " ".join(str(error).split())[:200]
        return FastnoisyError(f"{kind}: {file} is no Parquet file, or damaged: {problem}", "write or copy it again")

    try:
        table = parquet.ParquetFile(file)
        names = [str(name) for name in table.schema_arrow.names]
    except (ArrowException, OSError, ValueError) as error:
        raise damaged(error) from None

    def rows(wanted: Sequence[int]) -> _Values:
        line = 0
        try:
            for batch in table.iter_batches(columns=[names[place] for place in wanted]):
                lists = [batch.column(names[place]).to_pylist() for place in wanted]
                for values in zip(*lists, strict=True):
                    line += 1
                    cells: list[Any] = [None] * len(names)
                    for place, value in zip(wanted, values, strict=True):
                        cells[place] = value
                    yield line, cells
        except (ArrowException, OSError, ValueError) as error:
            raise damaged(error) from None

    return Table(kind, file, names, True, 0, rows)


# What is read as a whole


def _json(file: Path) -> Any:
    return json.loads(_decoded(file.read_bytes()), object_pairs_hook=_once)


def _json_lines(file: Path) -> Any:
    lines = [line for line in _decoded(file.read_bytes()).splitlines() if line.strip()]
    return [json.loads(line, object_pairs_hook=_once) for line in lines]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; json itself takes the last of two equal keys, in silence."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} is there twice")
    return found


def _decoded(data: bytes) -> str:
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def _numpy(file: Path) -> Any:
    if file.suffix.lower() == ".npy":  # mapped: a header that promises more than the file holds is refused at once
        return np.array(np.load(file, mmap_mode="r", allow_pickle=False))
    with np.load(torch_files.checked(file, MAX_BYTES), allow_pickle=False) as archive:
        if "given" in archive.files:
            return archive["given"]
        return {name: archive[name] for name in archive.files}


def _torch(file: Path) -> Any:
    return torch_files.load(torch_files.checked(file, MAX_BYTES))


_CONTENT: dict[str, Callable[[Path], Any]] = {
    ".json": _json, ".jsonl": _json_lines, ".npy": _numpy, ".npz": _numpy, ".pt": _torch, ".pth": _torch,
}  # fmt: skip


def _arrange(content: Any) -> tuple[list[str] | None, list[Sequence[Any]]]:
    """Names of columns, None where there are none, and the rows.

    Raises:
        ValueError: it is no table.
    """
    if isinstance(content, Mapping):
        return _arrange_mapping({str(name): value for name, value in content.items()})
    items = _vector(content)
    if any(isinstance(item, Mapping) for item in items):
        if not all(isinstance(item, Mapping) for item in items):
            raise ValueError("some of its items are objects, others are not")
        names = list(dict.fromkeys(name for item in items for name in item))
        return [str(name) for name in names], [[item.get(name) for name in names] for item in items]
    if items and all(isinstance(item, (list, tuple)) for item in items):
        return None, [list(item) for item in items]
    return None, [[item] for item in items]


def _arrange_mapping(content: dict[str, Any]) -> tuple[list[str] | None, list[Sequence[Any]]]:
    values = list(content.values())
    if values and all(isinstance(value, Mapping) for value in values):  # as pandas writes a frame: column, row, value
        keys = list(values[0])
        if any(list(value) != keys for value in values):
            raise ValueError("its columns have other rows than one another")
        return ["", *content], [[row, *(value[row] for value in values)] for row in keys]
    if values and all(value is None or isinstance(value, (str, int, float)) for value in values):
        by_index = all(name.isascii() and name.isdigit() for name in content)
        return ["index" if by_index else "path", "label"], [list(item) for item in content.items()]
    columns = {name: _vector(value) for name, value in content.items()}
    if len(set(map(len, columns.values()))) > 1:
        lengths = ", ".join(f"{shown(name, 30)} {len(column)}" for name, column in list(columns.items())[:6])
        raise ValueError(f"its columns have other lengths than one another: {lengths}")
    if len(columns) == 1 and not choose("", list(columns), {}, False):
        return None, [[item] for item in next(iter(columns.values()))]
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _vector(value: Any) -> list[Any]:
    """A list, or an array or tensor of one dimension, (N,) or (N, 1), as a list of plain values."""
    if isinstance(value, torch_files.HeldArray):
        value = value.array()
    if isinstance(value, (list, tuple)):
        items = [item.item() if isinstance(item, np.generic) else item for item in value]
        if items and all(isinstance(item, (list, tuple)) and len(item) == 1 for item in items):
            return [item[0] for item in items]
        return items
    array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iufUS":
        raise ValueError(f"labels are a vector, this is {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    items = array.tolist()
    return items


def _text_of(value: Any) -> str:
    """A value of the first row of a list without names."""
    return "" if value is None or value != value else as_text(value) or str(value)
