"""Image sets as the Hugging Face Hub keeps them: Parquet files with the images in them, in one folder or in data/.

Read are the files of a downloaded repository as they lie: `train-00000-of-00002.parquet`, in `data/`, in a folder
called as the split, or one file alone. The image is a struct of bytes and path, or bytes. Class names and their order
come from the schema that the `datasets` library writes (ClassLabel); without it labels are numbers or names as in any
list. A row without a label, or with the label -1, is rejected; a split that has no label at all is left out. Where a
repository has several configurations, name the folder of one. Needs pyarrow.
"""

from __future__ import annotations

import json
import os
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy.data.sources._example import picture
from fastnoisy.data.sources._lists import Texts, empty_class_notes
from fastnoisy.data.sources._walk import subfolders
from fastnoisy.data.sources.base import (
    MAX_FILE_BYTES,
    SPLIT_NAMES,
    UNLABELLED,
    Source,
    SourceSplit,
    layout_error,
    read_file,
    stamp_of,
)
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.columns import CLEAN, CORRECTIONS, GIVEN, LABELS, parse
from fastnoisy.label_files.meaning import Labels, as_text, understand
from fastnoisy.label_files.words import split_of_word, split_within

LAYOUT = "a .parquet file with images in it, or a folder of such files (or its data/), as the Hugging Face Hub has them"
NEEDS_PATH = True
FALLBACK = False
TAKES_COLUMNS = True
KIND = "hub"
IMAGE_NAMES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "bytes", "content")
BATCH = 8  # rows that are decoded at once: images may be large
_STREAM_BYTES = 1 << 20  # a column is read in such pieces, for a row group may be larger than the memory
_SHARD = re.compile(r"(?:partial-)?(.*?)[-_.]?[0-9]{4,6}(?:-of-[0-9]{4,6}(?:-[0-9a-f]{8,64})?)?")


@dataclass(frozen=True)
class _Columns:
    """What a file's columns mean.

    Attributes:
        image: the column of images; `nested`: whether it is a struct of bytes and path.
        label, clean: columns of labels.
        names: by column, the class names that the schema tells; None where it tells none.
        several: which column of labels was taken where others could be meant; empty where none could.
    """

    image: str
    nested: bool
    label: str
    clean: str | None
    names: Mapping[str, list[str] | None]
    several: str


@dataclass
class _Part:
    """One split: where each image lies, and its labels."""

    names: Texts = field(default_factory=Texts)
    given: Labels = field(default_factory=Labels)
    clean: Labels = field(default_factory=Labels)
    files: array[int] = field(default_factory=lambda: array("l"))
    rows: array[int] = field(default_factory=lambda: array("q"))
    rejected: list[tuple[str, str]] = field(default_factory=list)


def recognises(path: Path) -> bool:
    """Whether the path is a .parquet file with images in it, or a folder of .parquet files (or its data/, or its
    splits').
    """
    if path.is_file():
        return path.suffix.lower() == ".parquet" and holds_images(path)
    try:
        files = _in_folder(path) if path.is_dir() else []
    except FastnoisyError:
        return False  # `folder` will say what is wrong
    return bool(files) and holds_images(files[0])


def holds_images(file: Path) -> bool:
    """Whether a Parquet file has a column of images; False for what cannot be read, and without pyarrow."""
    try:
        schema = _open(file).schema_arrow
        return bool(_image_columns(schema, _features(schema)))
    except FastnoisyError:
        return False


def open(path: Path | None, columns: str = "") -> Source:
    """Read schemas, names and labels of all files; no image is read yet.

    Args:
        columns: which column is what, as in `path=photo,label=fine_label`; empty where their names are known.

    Raises:
        FastnoisyError: no such files, one that is damaged or has other columns, several configurations, or labels that
            mean nothing.
    """
    if path is None:
        raise FastnoisyError(f"{KIND} needs a path", f"write {KIND}:PATH, where PATH is {LAYOUT}")
    root, files = (path.parent, [path]) if path.is_file() else (path, _in_folder(path))
    if not files:
        raise layout_error(KIND, path, "has no .parquet file")
    notes: list[str] = []
    split_of = _splits(path, root, files, notes)
    files = [file for file in files if file in split_of]
    parts: dict[str, _Part] = {}
    asked, all_columns = parse(columns), []
    for number, file in enumerate(files):
        all_columns.append(_columns(file, asked))
        _check_alike(all_columns[0], files[0], all_columns[-1], file)
        _read(file, number, all_columns[-1], root, parts.setdefault(split_of[file], _Part()))
    for name in [name for name in parts if not len(parts[name].names)]:
        count = len(parts.pop(name).rejected)
        notes.append(f"{KIND}: {name} is left out: none of its {count:,} images has a label")
    splits = {name: parts[name] for name in SPLIT_NAMES if name in parts}
    if not splits:
        raise layout_error(KIND, path, f"has no image with a label ({'; '.join(notes) or 'it is empty'})")
    first = all_columns[0]
    notes += [f"{KIND}: {first.several}"] if first.several else []
    with_clean = first.clean is not None and not any("" in part.clean.texts for part in splits.values())
    if first.clean is not None and not with_clean:
        notes.append(f"{KIND}: clean labels are not given for every image, so none is used")
    given = [part.given for part in splits.values()]
    columns_of_labels = given + ([part.clean for part in splits.values()] if with_clean else [])
    class_names, labels = _meaning(first, columns_of_labels, notes)
    notes += empty_class_notes(KIND, class_names, labels[: len(splits)])
    reader = _Reader(files, root, first)
    found = [
        SourceSplit(
            name,
            part.names,
            labels[i],
            labels[len(splits) + i] if with_clean else None,
            reader.of(part),
            part.rejected,
        )
        for i, (name, part) in enumerate(splits.items())
    ]
    return Source(class_names, found, notes=notes, listed=True)


def make_example(folder: Path) -> str:
    """Two training files and a validation file in data/, as the `datasets` library writes them, three classes."""
    import pyarrow as pa
    from pyarrow import parquet

    place = folder / "shapes/data"
    place.mkdir(parents=True)
    features = {"image": {"_type": "Image"}, "label": {"names": ["zebra", "horse", "donkey"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", struct), ("label", pa.int64())], metadata)
    for shard, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001")):
        rows = range(5 * shard, 5 * shard + 5)
        images = [{"bytes": picture(i % 3, i), "path": f"{i}.jpg"} for i in rows]
        table = pa.table({"image": images, "label": [i % 3 for i in rows]}, schema)
        parquet.write_table(table, place / f"{name}.parquet", row_group_size=2)
    return str(folder / "shapes")


# Which files there are


def _in_folder(path: Path) -> list[Path]:
    """The .parquet files of a folder and of two levels of folders below it, hidden ones left out.

    Raises:
        FastnoisyError: one is a link to nowhere, or a folder cannot be listed.
    """
    files, places = list[Path](), [path]
    for _ in range(3):
        below = list[Path]()
        for place in places:
            names, found = subfolders(place)
            files += [place / name for name in found.files if name.endswith(".parquet")]
            for name, reason in found.rejected:
                if name.endswith(".parquet"):
                    raise FastnoisyError(f"{KIND}: {place / name} is {reason}", "mend it, or remove it")
            below += [place / name for name in names]
        places = below
    return sorted(files)


def _splits(path: Path, root: Path, files: Sequence[Path], notes: list[str]) -> dict[Path, str]:
    """The split of each file that is of one; a note on the others."""
    told: dict[Path, tuple[str, str]] = {}  # configuration, and the word for the split
    for file in files:
        folders = list(file.relative_to(root).parts[:-1])
        word = _stem(file)
        if (not word and folders and folders[-1] != "data") or (folders and split_of_word(folders[-1])):
            word = folders.pop()
        told[file] = "/".join(part for part in folders if part != "data"), word
    configurations = sorted({configuration for configuration, _ in told.values()})
    if len(configurations) > 1:
        names = ", ".join(name or "." for name in configurations)
        problem = f"{KIND}: {path} has several configurations: {names}"
        raise FastnoisyError(problem, f"name the folder of one, as in {KIND}:{root / (configurations[-1])}")
    meant = {file: split_of_word(word) or split_within(word) for file, (_, word) in told.items()}
    if not any(meant.values()):  # no names of splits at all
        return dict.fromkeys(files, "train")
    others = sorted({word for file, (_, word) in told.items() if meant[file] is None})
    for word in others:
        count = sum(told[file][1] == word for file in files)
        notes.append(f"{KIND}: {word!r} is none of {', '.join(SPLIT_NAMES)}, so its {count:,} files are left out")
    return {file: split for file, split in meant.items() if split}


def _stem(file: Path) -> str:
    """What a file's name says beside its number: `train` of train-00000-of-00002.parquet, nothing of 0000.parquet."""
    found = _SHARD.fullmatch(file.stem)
    return found[1] if found else file.stem


# What is in them


def _open(file: Path) -> Any:
    """An open ParquetFile.

    Raises:
        FastnoisyError: pyarrow is not installed, or the file is damaged.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise FastnoisyError(f"{KIND}: {file} needs pyarrow, which is not installed", "pip install pyarrow") from None
    try:
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=_STREAM_BYTES)
        "".join(table.schema_arrow.names)  # decodes them
        return table
    except (ArrowException, OSError, ValueError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> FastnoisyError:
    problem = " ".join(str(error).split())[:200]
    return FastnoisyError(f"{KIND}: {file} is no Parquet file, or damaged: {problem}", "download it again")


def _batches(
    table: Any, file: Path, columns: list[str], size: int, groups: list[int] | None = None
) -> Iterator[dict[str, list[Any]]]:
    """Batches of rows, by column; read piece by piece in this thread: workers are forked, and a pool's threads are not.

    Raises:
        FastnoisyError: the file is damaged, or a text in it is no UTF-8.
    """
    from pyarrow import ArrowException

    try:
        for batch in table.iter_batches(size, row_groups=groups, columns=columns, use_threads=False):
            yield {name: batch.column(name).to_pylist() for name in batch.schema.names}
    except (ArrowException, OSError, ValueError) as error:
        raise _damaged(file, error) from None


def _features(schema: Any) -> dict[str, Any]:
    """What the `datasets` library notes of the columns; empty where it has not written the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _image_columns(schema: Any, features: Mapping[str, Any]) -> list[str]:
    """The columns that hold images, the likeliest first."""
    from pyarrow import types

    found = {}
    for column in schema:
        kind = features.get(column.name)
        kind = kind.get("_type") if isinstance(kind, dict) else None
        struct = types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0
        binary = types.is_binary(column.type) or types.is_large_binary(column.type)
        if (struct or binary) and (kind == "Image" or (kind is None and (struct or column.name in IMAGE_NAMES))):
            found[column.name] = IMAGE_NAMES.index(column.name) if column.name in IMAGE_NAMES else len(IMAGE_NAMES)
    return sorted(found, key=lambda name: found[name])


def _columns(file: Path, asked: Mapping[str, str]) -> _Columns:
    from pyarrow import types

    schema = _open(file).schema_arrow
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise layout_error(KIND, file, f"has several columns called {twice[0][:60]!r}")
    features = _features(schema)
    images = _image_columns(schema, features)
    if not images:
        raise layout_error(KIND, file, f"has no column of images among {', '.join(schema.names)[:200]}")
    labelled = {
        name: feature
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and name in schema.names
    }
    for role, name in asked.items():
        if role not in ("path", "label", "clean"):
            raise FastnoisyError(f"{KIND}: columns: {role}={name} means nothing here", "name path, label or clean")
        if name not in schema.names or (role == "path" and name not in images):
            what = "column of images" if role == "path" else "column"
            raise layout_error(KIND, file, f"has no {what} {name!r}; its columns are {', '.join(schema.names)[:200]}")
    known = [name for name in (*CORRECTIONS, *LABELS, *GIVEN) if name in schema.names]
    label = asked.get("label") or next(iter(known), None)
    if label is None and len(labelled) == 1:
        label = next(iter(labelled))
    if label is None:
        which = f"several columns of labels: {', '.join(labelled)}" if labelled else "no column of labels"
        problem = f"{KIND}: {file} has {which}; its columns are {', '.join(schema.names)[:200]}"
        raise FastnoisyError(problem, "say which, as in --columns label=NAME")
    clean = asked.get("clean") or next((name for name in CLEAN if name in schema.names and name != label), None)
    others = sorted({*known, *labelled} - {label, clean})
    several = f"labels are column {label!r}, not {', '.join(map(repr, others))}" if others and not asked else ""
    wanted = [name for name in (label, clean) if name]
    names: dict[str, list[str] | None] = {}
    for name in wanted:
        kind = schema.field(name).type
        if not (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
            raise layout_error(KIND, file, f"has labels of type {kind} in the column {name}")
        told = labelled.get(name, {}).get("names")
        names[name] = [str(text) for text in told] if isinstance(told, list) and told else None
    image = asked.get("path") or images[0]
    return _Columns(image, types.is_struct(schema.field(image).type), label, clean, names, several)


def _check_alike(first: _Columns, first_file: Path, other: _Columns, file: Path) -> None:
    if first != other:
        what = "other class names" if first.names != other.names else "other columns"
        raise FastnoisyError(f"{KIND}: {file} has {what} than {first_file}", "convert them one by one")


def _read(file: Path, number: int, columns: _Columns, root: Path, part: _Part) -> None:
    """Add the rows of a file to its split."""
    table, shown = _open(file), file.relative_to(root).as_posix()
    wanted = [name for name in (columns.label, columns.clean) if name]
    with_path = columns.nested and table.schema_arrow.field(columns.image).type.get_field_index("path") >= 0
    row = 0
    for batch in _batches(table, file, wanted + [f"{columns.image}.path"] * with_path, 4096):
        lists = [batch[name] for name in wanted]
        cells = batch.get(columns.image)
        for i in range(len(lists[0])):
            told = ((cells and cells[i]) or {}).get("path") or ""
            name = f"{shown}/{row}" + (f"/{told.rpartition('/')[2]}" if told else "")
            given, clean = (_label(lists[k][i]) if k < len(lists) else "" for k in (0, 1))
            if not given:
                part.rejected.append((name, UNLABELLED))
            else:
                part.names.append(os.fsencode(name))
                part.given.append(given, file, f"row {row}")
                part.files.append(number)
                part.rows.append(row)
                if columns.clean is not None:
                    part.clean.append(clean, file, f"row {row}")
            row += 1


def _label(value: Any) -> str:
    """A cell as text; empty where it says that there is no label."""
    text = as_text(value)
    return "" if text is None or (isinstance(value, int) and value < 0) else text


def _meaning(columns: _Columns, labels: list[Labels], notes: list[str]) -> tuple[list[str], list[np.ndarray]]:
    """Class names, and the labels by number."""
    names = columns.names[columns.label]
    if names is not None and len(set(names)) != len(names):
        raise FastnoisyError(f"{KIND}: the schema has a class name twice: {', '.join(names)[:200]}")
    return understand(KIND, labels, names, notes, by_number=True)


class _Reader:
    """Reads images in the order in which they lie; each process has files of its own open."""

    def __init__(self, files: Sequence[Path], root: Path, columns: _Columns) -> None:
        self._files, self._root, self._columns = files, root, columns
        self._process = -1
        self._file = self._group = -1
        self._bounds: np.ndarray = np.zeros(1, np.int64)
        self._table: Any = None
        self._batches: Iterator[dict[str, list[Any]]] = iter(())
        self._batch: list[Any] | None = None
        self._start = 0  # the row of the file that the batch begins with

    def of(self, part: _Part) -> _SplitReader:
        """What reads the images of a split."""
        return _SplitReader(self, part)

    def stamp(self, file: int) -> int:
        """Of a file."""
        return stamp_of(self._files[file])

    def read(self, file: int, row: int) -> bytes:
        """The bytes of an image.

        Raises:
            FastnoisyError: there are none, or too many.
            OSError: it lies in a file of its own, which cannot be read.
        """
        if self._process != os.getpid() or self._file != file:
            self._process, self._file, self._group = os.getpid(), file, -1
            self._table = _open(self._files[file])
            metadata = self._table.metadata
            counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            self._bounds = np.cumsum([0, *counts])
        group = int(np.searchsorted(self._bounds, row, side="right")) - 1
        if self._group != group or self._batch is None or row < self._start:
            self._group, self._start, self._batch = group, int(self._bounds[group]), None
            self._batches = _batches(self._table, self._files[file], [self._columns.image], BATCH, [group])
        while self._batch is None or row >= self._start + len(self._batch):
            self._start += len(self._batch or ())
            batch = next(self._batches, None)
            if batch is None:
                self._batch = None
                raise FastnoisyError(f"{self._files[file]} has become shorter than {row + 1:,} rows")
            self._batch = batch[self._columns.image]
        return self._content(self._batch[row - self._start], self._files[file])

    def _content(self, cell: Any, file: Path) -> bytes:
        data, name = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if data is None and isinstance(name, str) and name:
            if name.startswith("/") or ".." in name.split("/") or "\0" in name:
                raise FastnoisyError("its bytes are not in the file, and its path leads out of the folder")
            places = [place / name for place in (file.parent, self._root)]
            return read_file(next((place for place in places if place.exists()), places[0]))
        if not isinstance(data, bytes):
            raise FastnoisyError("the row has no image")
        if len(data) > MAX_FILE_BYTES:
            raise FastnoisyError("more than 1 GiB in one image")
        return data


class _SplitReader:
    """Reads the images of one split."""

    def __init__(self, reader: _Reader, part: _Part) -> None:
        self._reader, self._part = reader, part

    def __call__(self, i: int) -> bytes:
        return self._reader.read(self._part.files[i], self._part.rows[i])

    def stamp(self, i: int) -> int:
        return self._reader.stamp(self._part.files[i])
