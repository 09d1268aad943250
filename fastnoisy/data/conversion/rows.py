"""The rows of a source, and what a worker does with one: its record, its size by the header, whether it has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnoisy.data.conversion.corrected import LabelOptions, correct_splits
from fastnoisy.data.conversion.encode import Plan, encode, upright_size
from fastnoisy.data.conversion.options import hold_out_test
from fastnoisy.data.conversion.outcome import Outcome, Rejected
from fastnoisy.data.conversion.read_errors import may_be_mended
from fastnoisy.data.conversion.shrink import Shrink
from fastnoisy.data.sources.base import Source, SourceSplit, open_source
from fastnoisy.errors import FastnoisyError, one_line
from fastnoisy.workers import Lost


class Rows:
    """The splits of a source. In a process that is not forked they are opened again."""

    def __init__(self, source: str, test_fraction: float, labels: LabelOptions) -> None:
        self._arguments = (source, test_fraction, labels)
        self.source: Source
        self.source, self.name = open_source(source, labels.columns)
        self.splits = self.source.splits
        if test_fraction:
            self.splits = hold_out_test(self.splits, test_fraction)
        # after that, so that which images are test images does not depend on corrections
        self.splits, self.lines = correct_splits(self.splits, self.source.class_names, self.name, labels)
        self.told = labels.told()
        self.readable: dict[int, int] = {}  # of each split the last row whose image this process has read

    def __reduce__(self) -> tuple[Any, ...]:
        return Rows, self._arguments

    def may_be_mended(self, number: int, row: int, error: OSError | FastnoisyError) -> bool:
        """See `faults.may_be_mended`. Where a list's image is missing, one that has been read is looked for: if it has
        gone, too, the disk has, and with it any image.
        """
        split = self.splits[number]
        again = may_be_mended(error, split.paths[row], self.source.listed)
        if again and number in self.readable:
            witness = self.readable[number]
            try:
                split.read(witness)
            except (OSError, FastnoisyError) as gone:
                may_be_mended(gone, split.paths[witness], listed=True)
        return again


def encode_row(rows: Rows, number: int, plan: Plan, shrink: Shrink, row: int) -> Outcome:
    """In a worker: what becomes of row `row` of split `number`."""
    split = rows.splits[number]
    failed: list[OSError | FastnoisyError] = []

    def read() -> bytes | np.ndarray:
        try:
            return split.read(row)
        except (OSError, FastnoisyError) as error:
            failed.append(error)
            raise

    stamp = stamp_of(split, row)  # before it is read: a file that changes meanwhile has another one
    result = encode(read, plan, shrink)
    if isinstance(result, Rejected):
        retry = any(rows.may_be_mended(number, row, error) for error in failed)
        return replace(result, retry=retry, stamp=stamp)
    rows.readable[number] = row
    return replace(result, stamp=stamp)


def stamp_of(split: SourceSplit, row: int) -> int:
    """The stamp of a row's file; 0 where it has none."""
    try:
        return split.stamp(row)
    except OSError:  # reading it says why
        return 0


def has_changed(rows: Rows, number: int, first: int, told: Sequence[int], i: int) -> bool:
    """In a worker: whether the file of row `first + i` is another than the one whose stamp was told; 0: none was."""
    return told[i] != 0 and stamp_of(rows.splits[number], first + i) != told[i]


def rejected_or_refused(paths: Sequence[str], lost: Lost) -> Rejected:
    """What becomes of a row whose worker died each time.

    Raises:
        FastnoisyError: that says nothing of the image: what is stored must not depend on the machine.
    """
    if lost.by_machine:
        raise FastnoisyError(
            f"{one_line(paths[lost.item])}: {lost.reason}",
            "free or add memory, raise ulimit -v, or remove the file, and give the same command again: it goes on where"
            " it stopped",
        )
    return Rejected(lost.reason, retry=True)


def size_of_row(rows: Rows, number: int, row: int) -> tuple[int, int] | Rejected | None:
    """In a worker: (height, width) by the header; None for what is no image, `Rejected` where that may be mended."""
    split = rows.splits[number]
    try:
        content = split.read(row)
    except (OSError, FastnoisyError) as error:
        return Rejected(str(error), retry=True) if rows.may_be_mended(number, row, error) else None
    rows.readable[number] = row
    return upright_size(content)


def is_made_smaller(rows: Rows, number: int, plan: Plan, sample: range, i: int) -> bool:
    """In a worker: whether an image of the sample will be made smaller, by its header."""
    try:
        size = upright_size(rows.splits[number].read(sample[i]))
    except (OSError, FastnoisyError):
        return False
    return size is not None and plan.resize.apply(*size) < size
