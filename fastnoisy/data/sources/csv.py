"""Lists of images and labels: a CSV, TSV, JSON Lines, JSON or Parquet file, with optional clean labels and splits.

The first line names the columns: `path` (or file, filename, image) and `label` (or class, given_label), and if wanted
`clean_label` and `split` (train, val, test). A column of corrections, such as `corrected_label`, or `label` beside
`given_label`, goes before the given labels where it is not empty; `drop` there, or true in a column `drop`, leaves a
row out. Other names are told by `--columns path=...,label=...`. Without a line of names the first two columns are path
and label. Labels are numbers from 0, or names; a file `classes.txt` beside the list, one name a line, gives names to
numbers or an order to names. Paths are relative to the list's folder, or absolute: a list is taken to be one's own. A
folder with train.csv, and val.csv or test.csv (or .tsv, .parquet), is read too, if this kind is named. Parquet needs
pyarrow.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from fastnoisy.data.sources._example import write_picture
from fastnoisy.data.sources._lists import Texts, duplicate_notes, empty_class_notes, find_images
from fastnoisy.data.sources.base import SPLIT_NAMES, Files, Source, SourceSplit, layout_error
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.columns import Columns, drops, known_names, parse
from fastnoisy.label_files.lines import line_error, shown
from fastnoisy.label_files.meaning import NAMES_FILE, Labels, read_class_names, understand
from fastnoisy.label_files.read import Table, open_table
from fastnoisy.label_files.words import split_of_word

LAYOUT = "a .csv, .tsv, .jsonl or .parquet file with the columns path and label, and if wanted clean_label and split"
NEEDS_PATH = True
FALLBACK = False
TAKES_COLUMNS = True
KIND = "csv"
SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".json")
DROP = "drop"


@dataclass
class _First:
    """The first row of a list without a known header: it may be a header of other names."""

    file: Path
    split: str
    path: str
    label: str


@dataclass
class _Part:
    """What is known of one split so far; `file` is the list where its first image stands."""

    file: Path
    names: Texts = field(default_factory=Texts)
    given: Labels = field(default_factory=Labels)
    clean: Labels = field(default_factory=Labels)


@dataclass
class _Lists:
    """What is read so far of all lists."""

    asked: dict[str, str]
    parts: dict[str, _Part] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    firsts: list[_First] = field(default_factory=list)


def recognises(path: Path) -> bool:
    """Whether the path is a file with one of the endings."""
    from fastnoisy.data.sources.hub import holds_images

    return path.is_file() and path.suffix.lower() in SUFFIXES and not (path.suffix == ".parquet" and holds_images(path))


def open(path: Path | None, columns: str = "") -> Source:
    """Read the list; no image is read yet.

    Args:
        columns: which column is what, `path=NAME,label=NAME`, where their names are not known.

    Raises:
        FastnoisyError: no such list or columns, a line that is not as the others, a label out of range, or the images
            are elsewhere.
    """
    if path is None:
        raise FastnoisyError(f"{KIND} needs a path", f"write {KIND}:PATH, where PATH is {LAYOUT}")
    lists = _Lists(parse(columns))
    for file, split in _files(path):
        _read(file, split, lists)
    splits, notes = {name: lists.parts[name] for name in SPLIT_NAMES if name in lists.parts}, lists.notes
    folder = path if path.is_dir() else path.parent
    names = read_class_names(KIND, folder / NAMES_FILE) if (folder / NAMES_FILE).is_file() else None
    with_clean = _with_clean(splits, notes)
    for first in lists.firsts:
        _check_first(first, splits, folder)
    labelled = [part.given for part in splits.values()] + (
        [part.clean for part in splits.values()] if with_clean else []
    )
    class_names, labels = understand(KIND, labelled, names, notes)
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
        return [(path, split_of_word(path.stem) or "train")]
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


def _read(file: Path, split: str, lists: _Lists) -> None:
    """Add the rows of one list to the splits they belong to."""
    table = open_table(KIND, file)
    columns, own = _columns(table, lists), split
    assert columns.path is not None
    before = sum(len(part.names) for part in lists.parts.values())
    dropped, corrected, first = 0, 0, not columns.named
    for line, cells in table.rows(columns):
        name, texts = cells[columns.path], [cells[place] for place in columns.labels]
        given = next((text for text in texts if text), "")
        if columns.drop is not None and _drops(table, line, cells[columns.drop]):
            dropped += 1
            continue
        # a class may be called drop; among corrections beside the given labels the word leaves a row out
        if len(texts) > 1 and given.casefold() == DROP and any(text and text.casefold() != DROP for text in texts[1:]):
            dropped += 1
            continue
        corrected += len(texts) > 1 and given != next((text for text in reversed(texts) if text), "")
        if not name or not given or "\0" in name:
            what = "label" if name and not given else "path"
            raise line_error(
                KIND, file, line, f"has no {what}", "give every image a path and a label, or remove the line"
            )
        if columns.split is not None:
            split = split_of_word(cells[columns.split]) or ""
            if not split:
                problem = f"has the split {shown(cells[columns.split])}"
                raise line_error(KIND, file, line, problem, f"splits are {', '.join(SPLIT_NAMES)}")
        part = lists.parts.setdefault(split, _Part(file))
        if first:
            lists.firsts.append(_First(file, own, name, " ".join(given.split())))
            first = False
        part.names.append(os.fsencode(name))
        part.given.append(given, file, line)
        if columns.clean is not None:
            part.clean.append(cells[columns.clean], file, line)
    if sum(len(part.names) for part in lists.parts.values()) == before:
        raise layout_error(KIND, file, "lists no images")
    if columns.several:
        lists.notes.append(f"{KIND}: {file.name}: {columns.several}")
    if len(columns.labels) > 1 or dropped:
        lists.notes.append(f"{KIND}: {file.name}: {corrected:,} labels corrected, {dropped:,} rows dropped")
    if not columns.named and not lists.asked:
        lists.notes.append(
            f"{KIND}: {file.name} has no line with the names of columns; its first two are path and label"
        )


def _drops(table: Table, line: int, cell: str) -> bool:
    said = drops(cell)
    if said is None:
        raise line_error(
            KIND, table.file, line, f"has {shown(cell)} as {DROP}", "write true or false, or leave it empty"
        )
    return said


def _columns(table: Table, lists: _Lists) -> Columns:
    """Which column of a list is what."""
    columns, file, head = table.columns(lists.asked), table.file, table.head
    if columns is None or (columns.path is None and not columns.labels and not table.certain and not lists.asked):
        if len(head) < 2:
            raise layout_error(KIND, file, f"has one column: {shown(head[0], 80)}")
        return Columns(("",) * len(head), False, (1,), path=0)
    if columns.labels or columns.path is None or columns.clean is None:
        lacking = "a path" if columns.path is None else "" if columns.labels else "a label"
    else:
        columns, lacking = replace(columns, labels=(columns.clean,), clean=None), ""
    if lacking:
        listed = ", ".join(shown(name, 40) for name in head[:20])
        raise layout_error(
            KIND, file, f"has the columns {listed}, none of which is called as {lacking}; {known_names()}"
        )
    return columns


def _check_first(first: _First, splits: dict[str, _Part], folder: Path) -> None:
    """Refuse a first row that is most likely a header of names that are not known: its path is no file and its label
    is unlike all others, where the next paths are files.
    """
    counts = sum(part.given.count(first.label) for part in splits.values())
    part = next((part for part in splits.values() if part.names[0] == first.path), None)
    if counts != 1 or part is None or os.path.exists(_place(folder, first.path)):
        return
    if any(os.path.exists(_place(folder, name)) for name in part.names[1:11]):
        raise FastnoisyError(
            f"{KIND}: {first.file}, line 1, seems to name the columns: {shown(first.path)} is no file, and no other "
            f"image has the label {shown(first.label)}",
            f"give the columns names that are known; {known_names()}; where line 1 is an image, mend its path",
        )


def _with_clean(splits: dict[str, _Part], notes: list[str]) -> bool:
    """Whether clean labels are known for every image; says so where they are for some only."""
    known = sum(len(part.clean) for part in splits.values())
    if known == 0:
        return False
    complete = all(len(part.clean) == len(part.names) and "" not in part.clean.texts for part in splits.values())
    if not complete:
        notes.append(f"{KIND}: clean labels are not given for every image, so none is used")
    return complete


def _place(folder: Path, text: str) -> Path:
    """Where a listed image lies: as it is written; or as Windows writes it, or with accents as macOS encodes them."""
    ways = [text]
    if "\\" in text:
        ways.append(text.replace("\\", "/"))
    if not text.isascii():
        ways += [unicodedata.normalize(form, way) for form in ("NFC", "NFD") for way in list(ways)]
    if len(ways) > 1:
        return next((folder / way for way in ways if os.path.exists(folder / way)), folder / text)
    return folder / text


def _split(name: str, folder: Path, part: _Part, given: np.ndarray, clean: np.ndarray | None) -> SourceSplit:
    names: Sequence[str] = part.names
    locate = find_images(KIND, folder, part.file, names, [partial(_place, folder)])
    return SourceSplit(name, names, given, clean, Files(lambda i: locate(names[i])))
