"""Labels from a file of the user's own, in any form that `label_files` reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastnoisy.label_files.corrections import TRAIN, Options, Rows, correct


@dataclass(frozen=True)
class FileReading:
    """What a file of labels is read with.

    Attributes:
        paths: gives N texts, which image each row is; None where that is not known.
        source: what the rows were converted from, `kind:path`.
        labels_as: what numbers mean, `index` or `name`; empty where that is clear.
        columns: which column is what, `path=NAME,label=NAME`; empty where their names are known.
        say: takes the line that counts what changed.
    """

    paths: Callable[[], Sequence[str]] | None = None
    source: str = ""
    labels_as: str = ""
    columns: str = ""
    say: Callable[[str], object] | None = None


def from_file(
    path: Path | str, labels: np.ndarray, class_names: Sequence[str], reading: FileReading | None = None
) -> np.ndarray:
    """The labels of a split as a file has them, int64 (N,).

    Rows are matched by path or by index, in any order; those that the file does not name, or names with an empty cell,
    keep their labels. A file with neither must have exactly N labels, in the order of the rows.

    Args:
        path: of the file.
        labels: (N,) integers, the labels of the rows without it.
        class_names: C names, in the order of their numbers.

    Raises:
        FastnoisyError: missing or unreadable file, or labels or rows that are none of this data set's, with the line.
    """
    reading = reading or FileReading()
    options = Options(reading.labels_as, reading.columns, what="noise file", fallback=True, may_drop=False)
    rows = {TRAIN: Rows(np.asarray(labels), None if reading.paths is None else reading.paths())}
    found, line = correct(Path(path), rows, class_names, reading.source, options)
    if reading.say is not None:
        reading.say(line)
    return found[TRAIN].labels
