"""Labels from a file of the user's own: numpy arrays or text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastnoisy.errors import FastnoisyError
from fastnoisy.noise.labels import check_range

ENDINGS = (".npy", ".npz", ".csv", ".txt")
_COLUMNS = ("label", "given_label")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


def from_file(path: Path | str, num_samples: int, num_classes: int, class_names: Sequence[str] = ()) -> np.ndarray:
    """Labels from a file, int64 (N,).

    * `.npy`: a vector; `.npz`: its array `given`, as in a run's labels.npz.
    * `.csv`, `.txt`: one label per line; or lines under a header with a column `label` or `given_label`. A column
      `index` says which row of the data set each line is about, each row once; without it lines are in the order of the
      rows.

    Args:
        num_samples: N, the rows of the data set.
        class_names: where they are given, a column `given_label` may hold names instead of numbers, as in a run's
            issues.csv; it is read as names where every cell is one.

    Raises:
        FastnoisyError: missing or unreadable file, a cell that is no label (with its line), wrong number of labels, an
            index that is missing or there twice, label out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise FastnoisyError(
            f"label file {path} does not exist", "Write one with: fastnoisy noise SPEC --data STORE --out FOLDER"
        )
    if path.suffix not in ENDINGS:
        raise FastnoisyError(f"label file {path}: unknown ending {path.suffix!r}, known: {' '.join(ENDINGS)}")
    try:
        labels = _text(path, class_names) if path.suffix in (".csv", ".txt") else _arrays(path)
    except FastnoisyError:
        raise
    except Exception as error:  # damaged archives make numpy raise almost anything
        said = (
            "it is damaged, or no numpy file"
            if isinstance(error, (ValueError, EOFError)) and path.suffix == ".npy"
            else error
        )
        raise FastnoisyError(
            f"label file {path} cannot be read: {said}",
            "It must hold one class per training row: a vector saved with numpy.save, 'given' in an .npz, or lines of "
            "text",
        ) from error
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise FastnoisyError(f"label file {path} must hold a vector of integers, got {labels.dtype} {labels.shape}")
    if len(labels) != num_samples:
        raise FastnoisyError(
            f"label file {path} holds {len(labels)} labels, the training split has {num_samples} rows",
            "Give every row a label, in the store's order (fastnoisy noise writes such files)",
        )
    return check_range(labels.astype(np.int64), num_classes, str(path))


def _arrays(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if "given" not in archive:
            raise FastnoisyError(f"label file {path} holds no array 'given', only {', '.join(archive) or 'none'}")
        return np.asarray(archive["given"])


def _text(path: Path, class_names: Sequence[str]) -> np.ndarray:
    """Labels of a text file, in the order of the rows."""
    reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), skipinitialspace=True)
    lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    lines = [(number, cells) for number, cells in lines if any(cells)]
    header = lines[0][1] if lines else []
    column = next((header.index(name) for name in _COLUMNS if name in header), None)
    if column is None:
        wide = next(((number, cells) for number, cells in lines if len(cells) > 1), None)
        if wide is not None:
            raise FastnoisyError(
                f"label file {path} has several columns and none is called {' or '.join(_COLUMNS)}: "
                f"line {wide[0]} is {','.join(wide[1])[:60]!r}",
                "Name the columns in the first line, for example index,label",
            )
        return np.array([_number(cells[0], number, path) for number, cells in lines], np.int64)
    lines = lines[1:]
    for number, cells in lines:
        if len(cells) != len(header):
            raise FastnoisyError(f"label file {path}, line {number}: {len(cells)} cells under {len(header)} columns")
    texts = [cells[column] for _, cells in lines]
    number_of = {name: label for label, name in enumerate(class_names)}
    if header[column] == "given_label" and texts and set(texts) <= set(number_of):
        labels = np.array([number_of[text] for text in texts], np.int64)
    else:
        labels = np.array([_number(text, n, path) for text, (n, _) in zip(texts, lines, strict=True)], np.int64)
    if "index" not in header:
        return labels
    place = header.index("index")
    ordered = np.full(len(labels), -1, np.int64)
    seen: dict[int, int] = {}
    for label, (number, cells) in zip(labels, lines, strict=True):
        index = _number(cells[place], number, path)
        if index in seen:
            raise FastnoisyError(f"label file {path}, line {number}: index {index} is on line {seen[index]} already")
        if not 0 <= index < len(labels):
            raise FastnoisyError(
                f"label file {path}, line {number}: index {index} with {len(labels)} labels in the file",
                "The column index must hold each row from 0 once",
            )
        seen[index] = number
        ordered[index] = label
    return ordered


def _number(cell: str, line: int, path: Path) -> int:
    if not _NUMBER.fullmatch(cell):
        raise FastnoisyError(f"label file {path}, line {line}: {cell[:40]!r} is not a whole number")
    return int(cell)
