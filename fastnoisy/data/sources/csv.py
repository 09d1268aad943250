"""Lists of images and labels: a CSV, TSV or Parquet file, with optional columns for clean labels and splits.

The first line names the columns: `path` (or file, filename, image) and `label` (or class, given_label), and if wanted
`clean_label` and `split` (train, val, test). Without such a line the first two columns are path and label. Labels are
numbers from 0, or names; a file `classes.txt` beside the list, one name a line, gives names to numbers or an order to
names. Paths are relative to the list's folder, or absolute: a list is taken to be one's own. A folder with train.csv,
and val.csv or test.csv (or .tsv, .parquet), is read too, if this kind is named. Parquet needs pyarrow.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy.data.sources._example import write_picture
from fastnoisy.data.sources._labels import NAMES_FILE, Labels, as_text, read_class_names, understand
from fastnoisy.data.sources._lists import Texts, duplicate_notes, empty_class_notes, find_images, line_error
from fastnoisy.data.sources.base import SPLIT_NAMES, Source, SourceSplit, layout_error, read_file
from fastnoisy.errors import FastnoisyError

LAYOUT = "a .csv, .tsv or .parquet file with the columns path and label, and if wanted clean_label and split"
NEEDS_PATH = True
FALLBACK = False
KIND = "csv"
SUFFIXES = (".csv", ".tsv", ".parquet")
# The first name found is taken.
PATH_NAMES = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img_path")
LABEL_NAMES = ("given_label", "label", "class", "class_name", "category", "target")
CLEAN_NAMES = ("clean_label", "true_label")
SPLIT_WORDS = {**{name: name for name in SPLIT_NAMES}, "training": "train", "valid": "val", "validation": "val"}

Row = tuple[int, Sequence[str | None]]


@dataclass(frozen=True)
class _Columns:
    """Where path, label and, if there, clean label and split are in a row of `count` columns; `named` by a header?"""

    path: int
    label: int
    clean: int | None
    split: int | None
    count: int
    named: bool


@dataclass
class _Part:
    """What is known of one split so far; `file` is the list where its first image stands."""

    file: Path
    names: Texts = field(default_factory=Texts)
    given: Labels = field(default_factory=Labels)
    clean: Labels = field(default_factory=Labels)


def recognises(path: Path) -> bool:
    """Whether the path is a file with one of the endings."""
    from fastnoisy.data.sources.hub import holds_images

    return path.is_file() and path.suffix.lower() in SUFFIXES and not (path.suffix == ".parquet" and holds_images(path))


def open(path: Path | None) -> Source:
    """Read the list; no image is read yet.

    Raises:
        FastnoisyError: no such list or columns, a line that is not as the others, a label out of range, or the images
            are elsewhere.
    """
    if path is None:
        raise FastnoisyError(f"{KIND} needs a path", f"write {KIND}:PATH, where PATH is {LAYOUT}")
    parts: dict[str, _Part] = {}
    notes: list[str] = []
    for file, split in _files(path):
        _read(file, split, parts, notes)
    splits = {name: parts[name] for name in SPLIT_NAMES if name in parts}
    folder = path if path.is_dir() else path.parent
    names = read_class_names(KIND, folder / NAMES_FILE) if (folder / NAMES_FILE).is_file() else None
    with_clean = _with_clean(splits, notes)
    columns = [part.given for part in splits.values()] + (
        [part.clean for part in splits.values()] if with_clean else []
    )
    class_names, labels = understand(KIND, columns, names)
    found = []
    for i, (name, part) in enumerate(splits.items()):
        clean = labels[len(splits) + i] if with_clean else None
        found.append(_split(name, folder, part, labels[i], clean))
    notes += duplicate_notes(KIND, {name: part.names for name, part in splits.items()})
    notes += empty_class_notes(KIND, class_names, labels[: len(splits)])
    return Source(class_names, found, notes=notes)


def make_example(folder: Path) -> str:
    """A CSV with names as labels, clean labels and two splits, and its images in a folder beside it."""
    lines = ["path,label,clean_label,split"]
    for i in range(12):
        label = i % 3
        given = (label + 1) % 3 if i == 4 else label
        write_picture(folder / f"list/images/{i}.jpg", label, i)
        words = ("cat", "dog", "sea horse")
        lines.append(f"images/{i}.jpg,{words[given]},{words[label]},{'test' if i > 8 else 'train'}")
    (folder / "list/images.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "list/images.csv")


def _files(path: Path) -> list[tuple[Path, str]]:
    """The lists, and the split of those of their rows that name none."""
    if path.is_file():
        return [(path, path.stem if path.stem in SPLIT_NAMES else "train")]
    found = []
    for name in SPLIT_NAMES:
        files = [path / f"{name}{suffix}" for suffix in SUFFIXES if (path / f"{name}{suffix}").is_file()]
        if len(files) > 1:
            raise layout_error(KIND, path, f"has {' and '.join(file.name for file in files)}; one list per split")
        found += [(file, name) for file in files]
    if not found:
        raise layout_error(
            KIND, path, "has no train.csv, train.tsv or train.parquet, nor such lists called val or test"
        )
    return found


def _read(file: Path, split: str, parts: dict[str, _Part], notes: list[str]) -> None:
    """Add the rows of one list to the splits they belong to."""
    columns, rows = _open_parquet(file) if file.suffix.lower() == ".parquet" else _open_text(file)
    before = sum(len(part.names) for part in parts.values())
    for line, cells in rows:
        if not any(cells):
            continue  # spreadsheets leave rows of nothing
        if len(cells) != columns.count:
            problem = f"has {len(cells)} columns, where {columns.count} belong"
            raise line_error(KIND, file, line, problem, "put texts that hold the separator, or a quote, in quotes")
        name, given = cells[columns.path], cells[columns.label]
        if not name or not given or "\0" in name:
            what = "label" if name and not given else "path"
            raise line_error(
                KIND, file, line, f"has no {what}", "give every image a path and a label, or remove the line"
            )
        if columns.split is not None:
            split = SPLIT_WORDS.get((cells[columns.split] or "").lower(), "")
            if not split:
                problem = f"has the split {cells[columns.split]!r}"
                raise line_error(KIND, file, line, problem, f"splits are {', '.join(SPLIT_NAMES)}")
        part = parts.setdefault(split, _Part(file))
        part.names.append(os.fsencode(name))
        part.given.append(given, file, line)
        if columns.clean is not None:
            part.clean.append(cells[columns.clean] or "", file, line)
    if sum(len(part.names) for part in parts.values()) == before:
        raise layout_error(KIND, file, "lists no images")
    if not columns.named:
        notes.append(f"{KIND}: {file.name} has no line with the names of columns; its first two are path and label")


def _columns(header: Sequence[str], file: Path, must: bool) -> _Columns | None:
    """The columns that a header names; None where it names neither path nor label and need not."""
    names = [" ".join(name.lower().split()) for name in header]
    path, label, clean, split = (
        next((names.index(wanted) for wanted in of if wanted in names), None)
        for of in (PATH_NAMES, LABEL_NAMES, CLEAN_NAMES, ("split",))
    )
    if path is not None and label is not None:
        return _Columns(path, label, clean, split, len(names), True)
    if path is None and label is None and not must:
        return None
    lacking = f"a path ({', '.join(PATH_NAMES)})" if path is None else f"a label ({', '.join(LABEL_NAMES)})"
    raise layout_error(KIND, file, f"has the columns {', '.join(header)[:200]}, none of which is called as {lacking}")


def _open_text(file: Path) -> tuple[_Columns, Iterator[Row]]:
    rows = _text_rows(file)
    first = next(rows, None)
    if first is None:
        raise layout_error(KIND, file, "is empty")
    columns = _columns([cell or "" for cell in first[1]], file, must=False)
    if columns is not None:
        return columns, rows
    if len(first[1]) < 2:
        raise layout_error(KIND, file, f"has one column: {(first[1][0] or '')[:80]!r}")
    return _Columns(0, 1, None, None, len(first[1]), False), itertools.chain([first], rows)


def _text_rows(file: Path) -> Iterator[Row]:
    """Line number and cells of each row of a CSV or TSV file."""
    with file.open("rb") as raw:
        start = raw.read(1 << 16)
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    first = start.decode(encoding, "replace").lstrip().partition("\n")[0]
    separator = "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    with file.open(encoding=encoding, errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, delimiter=separator)
        try:
            for row in reader:
                if row:
                    yield reader.line_num, [cell.strip() for cell in row]
        except (csv.Error, UnicodeError) as error:
            remedy = "look for a quote that is not closed, or save the list as UTF-8"
            raise line_error(KIND, file, reader.line_num, f"cannot be read: {error}", remedy) from None


def _open_parquet(file: Path) -> tuple[_Columns, Iterator[Row]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise FastnoisyError(
            f"{KIND}: {file} needs pyarrow, which is not installed", "pip install pyarrow, or save the list as CSV"
        ) from None
    try:
        table = parquet.ParquetFile(file)
    except (ArrowException, OSError, ValueError) as error:
        raise _damaged(file, error) from None
    columns = _columns(table.schema_arrow.names, file, must=True)
    assert columns is not None

    def rows() -> Iterator[Row]:
        wanted = [i for i in (columns.path, columns.label, columns.clean, columns.split) if i is not None]
        names = [table.schema_arrow.names[i] for i in wanted]
        line = 0
        try:
            for batch in table.iter_batches(columns=names):
                lists = [batch.column(name).to_pylist() for name in names]
                for values in zip(*lists, strict=True):
                    line += 1
                    cells: list[str | None] = [None] * columns.count
                    for i, value in zip(wanted, values, strict=True):
                        cells[i] = _cell(value, file, line, table.schema_arrow.names[i])
                    yield line, cells
        except (ArrowException, OSError, ValueError) as error:
            raise _damaged(file, error) from None

    return columns, rows()


def _damaged(file: Path, error: Exception) -> FastnoisyError:
    problem = " ".join(str(error).split())[:200]
    return FastnoisyError(f"{KIND}: {file} is no Parquet file, or damaged: {problem}", "write or copy it again")


def _cell(value: Any, file: Path, line: int, column: str) -> str:
    text = "" if value is None or value != value else as_text(value)
    if text is None:
        remedy = "paths must be texts, and labels texts or whole numbers"
        raise line_error(KIND, file, line, f"has {type(value).__name__} {str(value)[:60]!r} as {column}", remedy)
    return text


def _with_clean(splits: dict[str, _Part], notes: list[str]) -> bool:
    """Whether clean labels are known for every image; says so where they are for some only."""
    known = sum(len(part.clean) for part in splits.values())
    if known == 0:
        return False
    complete = all(len(part.clean) == len(part.names) and "" not in part.clean.texts for part in splits.values())
    if not complete:
        notes.append(f"{KIND}: clean labels are not given for every image, so none is used")
    return complete


def _split(name: str, folder: Path, part: _Part, given: np.ndarray, clean: np.ndarray | None) -> SourceSplit:
    names = part.names
    locate = find_images(KIND, folder, part.file, names, [lambda text: folder / text])
    return SourceSplit(name, names, given, clean, lambda i: read_file(locate(names[i])))
