"""What a label file says of which rows: labels changed, rows dropped, and the line that counts them.

A file names rows by path or by index, any subset of them, in any order; an empty cell changes nothing, and `drop`
leaves a row out. A bare list of labels, with neither, goes by position, and only if it has exactly as many as there are
rows.
"""

from __future__ import annotations

import posixpath
import unicodedata
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.columns import Columns, drops, known_names, parse
from fastnoisy.label_files.lines import line_error, shown
from fastnoisy.label_files.meaning import to_classes
from fastnoisy.label_files.read import Row, Table, open_table
from fastnoisy.label_files.words import split_of_word

TRAIN = "train"  # what an index without a split, and a bare list, are about
DROP = "drop"
# Files of fastnoisy's own, whose labels are always names: issues.csv of a run, labels.csv of `fastnoisy noise`.
_OURS = ({"index", "path", "given_label", "predicted_label", "label_score", "is_label_issue"},)
_OURS_EXACT = ["index", "given_label", "clean_label"]


@dataclass(frozen=True)
class Rows:
    """The N rows of a split: the path that each came from, where they are known, and their labels, int64 (N,)."""

    labels: np.ndarray
    paths: Sequence[str] | None = None


@dataclass(frozen=True)
class Corrected:
    """What a file makes of a split's rows.

    Attributes:
        labels: int64 (N,); those of dropped rows are as they were.
        changed, dropped: int64, rows, ascending.
        unchanged: how many of the rows that the file names stay as they are.
    """

    labels: np.ndarray
    changed: np.ndarray
    dropped: np.ndarray
    unchanged: int

    @property
    def kept(self) -> np.ndarray:
        """The rows that are not dropped, int64, ascending."""
        return np.setdiff1d(np.arange(len(self.labels), dtype=np.int64), self.dropped)

    def __str__(self) -> str:
        return f"{len(self.changed):,} changed, {self.unchanged:,} unchanged, {len(self.dropped):,} dropped"


@dataclass(frozen=True)
class Options:
    """How a label file is read.

    Attributes:
        labels_as: what numbers mean: `index` or `name`; empty where that is clear without.
        columns: which column is what, `path=NAME,label=NAME`; empty where their names are known.
        what: what the file is called in lines and errors.
        fallback: whether a row whose first column of labels is empty has the label in the next one; else it is left as
            it is.
        may_drop: whether rows can be left out.
        index_is_ours: whether an index counts the rows given here, so that it must agree with a path beside it.
    """

    labels_as: str = ""
    columns: str = ""
    what: str = "labels"
    fallback: bool = False
    may_drop: bool = True
    index_is_ours: bool = True


def drops_by_word(class_names: Sequence[str]) -> bool:
    """Whether the label `drop` leaves a row out: unless a class is called so, and a column `drop` is needed."""
    return all(name.casefold() != DROP for name in class_names)


def correct(
    file: Path, splits: Mapping[str, Rows], class_names: Sequence[str], source: str = "", options: Options | None = None
) -> tuple[dict[str, Corrected], str]:
    """Read a label file for a data set.

    Args:
        file: any table that `read.open_table` reads.
        splits: the rows of each split, by its name.
        class_names: of the data set.
        source: what the rows were converted from, `kind:path`; absolute paths below it are known.
        options: how; the defaults where None.

    Returns:
        What the file makes of each split that it names, and one line that counts it.

    Raises:
        FastnoisyError: whatever cannot be read or is not meant for these rows, with file and line.
    """
    options = options or Options()
    table = open_table(options.what, file)
    columns = table.columns(parse(options.columns))
    places = _Places(table, splits, source)
    if columns is None or (len(table.head) == 1 and not columns.labels and not table.certain):
        columns = _without_header(table, places)  # a bare list may begin with drop
    columns = _with_labels(table, columns, options)
    if options.labels_as == "" and _is_ours(columns):
        options = replace(options, labels_as="name")
    rows, how = _targets(table, columns, places, splits, options)
    by_word = drops_by_word(class_names)
    said = _Said(table, splits)
    for line, cells, targets in rows:
        label, dropped = _statement(table, columns, line, cells, by_word, options)
        said.add(line, targets, label, dropped)
    if not said.splits:
        raise FastnoisyError(f"{options.what}: {file} names no row", "it should have a line per row")
    meaning = to_classes(options.what, file, said.texts, class_names, options.labels_as)
    found = {name: said.corrected(name, rows_, meaning) for name, rows_ in splits.items() if name in said.splits}
    counts = "; ".join(f"{name}: {corrected}" for name, corrected in found.items())
    details = "; ".join(text for text in (how, columns.several) if text)
    return found, f"{options.what} {file}: {counts} ({details})"


# Which columns


def _without_header(table: Table, places: _Places) -> Columns:
    """The columns of a table whose first row names none: labels alone, or path and label."""
    head = table.head
    if len(head) == 1:
        return Columns(("",), False, (0,))
    if places.known(head[0]):
        return Columns(("",) * len(head), False, (1,), path=0)
    row = next(table.rows(Columns(("",) * len(head), True, (1,), path=0)), None)
    follows = row is not None and places.known(row[1][0])
    raise FastnoisyError(
        f"{table.kind}: {table.file} has the first line {shown(','.join(head))}, "
        + ("which seems to name the columns, none as is known" if follows else "which is no path and names no columns"),
        known_names(),
    )


def _with_labels(table: Table, columns: Columns, options: Options) -> Columns:
    if columns.labels or columns.drop is not None:
        return columns
    if columns.clean is not None:
        return replace(columns, labels=(columns.clean,))
    listed = ", ".join(shown(name, 40) for name in table.head[:20])
    raise FastnoisyError(
        f"{table.kind}: {table.file} has the columns {listed}, none of them known for labels", known_names()
    )


def _is_ours(columns: Columns) -> bool:
    return any(ours <= set(columns.names) for ours in _OURS) or list(columns.names) == _OURS_EXACT


# Which rows

Target = tuple[str, int]  # split and row


class _Places:
    """Where a path is: the rows that came from it, looked up as it is, then normalised."""

    def __init__(self, table: Table, splits: Mapping[str, Rows], source: str) -> None:
        self._table, self._splits = table, splits
        self._exact: dict[str, list[Target]] | None = None
        self._normal: dict[str, list[Target]] = {}
        self._roots = _roots(source)
        self.some_known = any(rows.paths is not None for rows in splits.values())

    def known(self, text: str) -> bool:
        """Whether it is the path of a row."""
        return bool(self._look_up(text))

    def find(self, text: str, line: int) -> list[Target]:
        """The rows of a path; several where the data set lists an image more than once.

        Raises:
            FastnoisyError: it is none's, or more than one file's.
        """
        found = self._look_up(text)
        written = sorted({self._path(target) for target in found})
        if len(written) > 1:
            listed = " and ".join(shown(path, 80) for path in written[:3])
            raise line_error(
                self._table.kind, self._table.file, line, f"has the path {shown(text, 80)}, which could be {listed}",
                "write it exactly as in the data set",
            )  # fmt: skip
        return found

    def example(self) -> str:
        """A path of the data set, for errors."""
        return next((shown(rows.paths[0], 80) for rows in self._splits.values() if rows.paths), "none")

    def _path(self, target: Target) -> str:
        paths = self._splits[target[0]].paths
        return "" if paths is None else paths[target[1]]

    def _look_up(self, text: str) -> list[Target]:
        if self._exact is None:
            self._exact = {}
            for name, rows in self._splits.items():
                for row, path in enumerate(rows.paths or ()):
                    self._exact.setdefault(path, []).append((name, row))
                    self._normal.setdefault(_normal(path), []).append((name, row))
        if text in self._exact:
            return self._exact[text]
        form = _normal(text)
        forms = [form, *(form[len(root) + 1 :] for root in self._roots if form.startswith(f"{root}/"))]
        forms += [] if form.startswith("/") else [posixpath.join(root, form) for root in self._roots]
        return next((self._normal[form] for form in forms if form in self._normal), [])


def _normal(path: str) -> str:
    """A path with slashes, without `.` and `..` and composed (NFC)."""
    return posixpath.normpath(unicodedata.normalize("NFC", path.replace("\\", "/")))


def _roots(source: str) -> list[str]:
    """The folders that a source's paths may be relative to, normalised."""
    _, colon, text = source.partition(":")
    if not colon or not text.startswith("/"):
        return []
    path = _normal(text)
    return [path, posixpath.dirname(path)] if posixpath.splitext(path)[1] else [path]


def _targets(
    table: Table, columns: Columns, places: _Places, splits: Mapping[str, Rows], options: Options
) -> tuple[Iterator[tuple[int, Sequence[str], list[Target]]], str]:
    """Line, cells and target of each row, and in words how they were matched."""
    index = columns.index
    if columns.path is not None and places.some_known:
        return _by_path(table, columns, places, splits, options), "by path"
    if index is None and columns.path is None and columns.counter is not None:
        index = columns.counter
    if index is not None:
        name = (
            f"column {shown(columns.names[index])}" if columns.names[index].strip() else "first column, without a name"
        )
        return _by_index(table, columns, index, splits), f"by index, {name}"
    if columns.path is not None:
        raise FastnoisyError(
            f"{table.kind}: {table.file} names rows by path, and the paths of these rows are not known",
            "add a column index with their numbers, from 0",
        )
    return _by_position(table, columns, splits), "by position: it has neither paths nor an index"


def _by_path(
    table: Table, columns: Columns, places: _Places, splits: Mapping[str, Rows], options: Options
) -> Iterator[tuple[int, Sequence[str], list[Target]]]:
    assert columns.path is not None
    unmatched: list[tuple[int, str]] = []
    count = 0
    for line, cells in table.rows(columns):
        path, text = cells[columns.path], "" if columns.index is None else cells[columns.index]
        split = _split_of(table, columns, line, cells, splits, "")
        if not path:
            if not text:
                raise line_error(table.kind, table.file, line, "names no row", "give every line a path or an index")
            targets = [(split or TRAIN, _index(table, line, text, split or TRAIN, splits))]
        else:
            targets = [target for target in places.find(path, line) if split in ("", target[0])]
            ours = text if options.index_is_ours else ""
            if targets and ours and all(str(row) != ours.removesuffix(".0") for _, row in targets):
                name, row = targets[0]
                raise line_error(
                    table.kind, table.file, line,
                    f"has the path {shown(path, 80)}, which is row {row} of {name}, and the index {shown(text)}",
                    "remove the column of the index, or the one of the paths: they are of different data sets",
                )  # fmt: skip
        count += 1
        if targets:
            yield line, cells, targets
        else:
            unmatched.append((line, path))
    if unmatched:
        listed = ", ".join(f"{shown(path, 80)} (line {line})" for line, path in unmatched[:3])
        raise FastnoisyError(
            f"{table.kind}: {table.file} has {len(unmatched):,} of {count:,} paths that are none of this data set's: "
            f"{listed}",
            f"paths are as in the source, for example {places.example()}; remove the lines of other images",
        )


def _by_index(
    table: Table, columns: Columns, place: int, splits: Mapping[str, Rows]
) -> Iterator[tuple[int, Sequence[str], list[Target]]]:
    for line, cells in table.rows(columns):
        split = _split_of(table, columns, line, cells, splits, TRAIN)
        yield line, cells, [(split, _index(table, line, cells[place], split, splits))]


def _by_position(
    table: Table, columns: Columns, splits: Mapping[str, Rows]
) -> Iterator[tuple[int, Sequence[str], list[Target]]]:
    rows: list[Row] = list(table.rows(columns, whole=True))
    name = TRAIN if TRAIN in splits else next(iter(splits))
    total = len(splits[name].labels)
    if len(rows) != total:
        raise FastnoisyError(
            f"{table.kind}: {table.file} holds {len(rows):,} labels without paths or an index, and {name} has "
            f"{total:,} rows",
            "give every row a label, in the store's order, or name the rows in a column path or index",
        )
    for place in set(range(len(table.head))) - set(columns.used):
        _refuse_identifiers(table, place, [cells[place] for _, cells in rows])
    for row, (line, cells) in enumerate(rows):
        yield line, cells, [(name, row)]


def _refuse_identifiers(table: Table, place: int, values: list[str]) -> None:
    """A column in which every value stands once, and not in counting order, most likely says whose label it is."""
    if len(values) < 2 or len(set(values)) != len(values) or any("." in v and _is_float(v) for v in values):
        return
    if values in ([str(i) for i in range(len(values))], [str(i + 1) for i in range(len(values))]):
        return
    raise FastnoisyError(
        f"{table.kind}: {table.file} has neither paths nor an index under a name that is known, but its column "
        f"{shown(table.head[place])} seems to say whose label each is",
        f"{known_names()}; or remove that column to go by position",
    )


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _split_of(
    table: Table, columns: Columns, line: int, cells: Sequence[str], splits: Mapping[str, Rows], default: str
) -> str:
    text = "" if columns.split is None else cells[columns.split]
    if not text:
        return default if default in splits or not default else _no_split(table, line, default, splits)
    split = text if text in splits else split_of_word(text)
    return split if split is not None and split in splits else _no_split(table, line, text, splits)


def _no_split(table: Table, line: int, text: str, splits: Mapping[str, Rows]) -> str:
    raise line_error(table.kind, table.file, line, f"has the split {shown(text)}", f"there are {', '.join(splits)}")


def _index(table: Table, line: int, text: str, split: str, splits: Mapping[str, Rows]) -> int:
    whole = text.removesuffix(".0")
    total = len(splits[split].labels) if split in splits else 0
    if not (whole.isascii() and whole.isdigit() and len(whole) <= 18 and int(whole) < total):
        raise line_error(
            table.kind, table.file, line, f"has the index {shown(text)}",
            f"an index is the number of a row of {split}, from 0 to {total - 1}",
        )  # fmt: skip
    return int(whole)


# What is said of them


def _statement(
    table: Table, columns: Columns, line: int, cells: Sequence[str], drops_by_word: bool, options: Options
) -> tuple[str, bool]:
    """The label that a line gives, empty where none, and whether it drops its row."""
    texts = [" ".join(cells[place].split()) for place in columns.labels]
    label = next((text for text in texts if text), "") if options.fallback else next(iter(texts), "")
    dropped = False
    if columns.drop is not None:
        said = drops(cells[columns.drop])
        if said is None:
            problem = f"has {shown(cells[columns.drop])} in the column {shown(columns.names[columns.drop])}"
            raise line_error(table.kind, table.file, line, problem, "write true or false there, or leave it empty")
        dropped = said
    if drops_by_word and label.casefold() == DROP:
        label, dropped = "", True
    if dropped and not options.may_drop:
        raise line_error(table.kind, table.file, line, "drops its row", "noise leaves no row out; write labels=FILE")
    return label, dropped


_UNNAMED, _AS_IS, _DROPPED, _LABEL = range(4)  # what is said of a row; of labels the first is _LABEL


class _Said:
    """What the lines have said so far of which rows."""

    def __init__(self, table: Table, splits: Mapping[str, Rows]) -> None:
        self._table = table
        self.texts: dict[str, int] = {}  # each label, with the line where it first stood
        self._codes: dict[str, int] = {}
        self._words = [DROP] * _LABEL
        # arrays of Python's: taken one value at a time, as here, they are faster than numpy's
        self._what = {name: array("l", bytes(array("l").itemsize * len(rows.labels))) for name, rows in splits.items()}
        self._line = {name: array("q", bytes(8 * len(rows.labels))) for name, rows in splits.items()}
        self.splits: set[str] = set()

    def add(self, line: int, targets: list[Target], label: str, dropped: bool) -> None:
        """Take in a line; one that contradicts another is refused."""
        code = _DROPPED if dropped else self._code(label, line) if label else _AS_IS
        for split, row in targets:
            self.splits.add(split)
            before = self._what[split][row]
            if before > _AS_IS and code not in (_AS_IS, before):
                raise line_error(
                    self._table.kind, self._table.file, line,
                    f"says {shown(self._words[code])} of row {row} of {split}, and line {self._line[split][row]} says "
                    f"{shown(self._words[before])}",
                    "leave one of the two lines",
                )  # fmt: skip
            if code > before:
                self._what[split][row], self._line[split][row] = code, line

    def _code(self, label: str, line: int) -> int:
        code = self._codes.get(label)
        if code is None:
            code = self._codes[label] = len(self._words)
            self._words.append(label)
            self.texts[label] = line
        return code

    def corrected(self, name: str, rows: Rows, meaning: Mapping[str, int]) -> Corrected:
        """What becomes of a split."""
        before, what = np.array(rows.labels, np.int64), np.array(self._what[name], np.int64)
        table = np.array([0] * _LABEL + [meaning[word] for word in self._words[_LABEL:]], np.int64)
        labels = np.where(what >= _LABEL, table[what], before)
        changed, dropped = np.flatnonzero(labels != before), np.flatnonzero(what == _DROPPED)
        return Corrected(labels, changed, dropped, int((what != _UNNAMED).sum()) - len(changed) - len(dropped))
