"""A program as data: a row of integers per step, and the tables that the rows point into.

`codes` says what stands where in a row. A step or an operation that is not here is the reference's to execute:
`UnsupportedError` says which.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastnoisy.augment import autoaugment, jitter, policies, steps
from fastnoisy.augment.executors import codes
from fastnoisy.augment.registry import Step

Row = dict[int, int]
"""Column -> value; 0 in the others."""


class UnsupportedError(Exception):
    """What in a program this executor does not have."""


class Tables:
    """Integers and floats that rows point into, appended as they come; and the operations that may be `drawn`."""

    def __init__(self) -> None:
        self._integers: list[np.ndarray] = [np.zeros(0, np.int64)]
        self._floats: list[np.ndarray] = [np.zeros(0)]
        self.drawn: set[int] = set()

    def integers(self, table: Tensor | Sequence[int]) -> int:
        """The place of a table of integers."""
        return self._append(self._integers, np.asarray(table, np.int64))

    def floats(self, table: Tensor) -> int:
        """The place of a table that a policy stored: float64 as its bits."""
        return self._append(self._floats, table.numpy().view(np.float64))

    @staticmethod
    def _append(parts: list[np.ndarray], table: np.ndarray) -> int:
        place = sum(map(len, parts))
        parts.append(table.ravel())
        return place

    def names(self, names: Sequence[str]) -> int:
        """The place of the operations' codes."""
        return self.integers([self.operation(name) for name in names])

    def operation(self, name: str) -> int:
        """The code of an operation. Raises UnsupportedError."""
        if name not in codes.OPERATIONS:
            raise UnsupportedError(f"the operation {name}")
        code = codes.OPERATIONS.index(name)
        self.drawn.add(code)
        return code

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All integers, all floats; never empty."""
        return np.concatenate([*self._integers, [0]]), np.concatenate([*self._floats, [0.0]])


class Program(NamedTuple):
    """What an executor is given.

    Attributes:
        rows: int64 (steps, columns), without `normalize`.
        uint8_rows: how many of them stand before `normalize`.
        integers, floats: the tables.
        fills: values of the boxes that are filled after `normalize`, in turn.
        operations: the most that a sample may have at once.
        drawn: codes of all that may be.
    """

    rows: np.ndarray
    uint8_rows: int
    integers: np.ndarray
    floats: np.ndarray
    fills: tuple[float, ...]
    operations: int
    drawn: frozenset[int]


def _single(step: Any, tables: Tables) -> Row:
    red, green, blue = step.fill
    cosine, sine = step.rotation.view(-1).tolist()
    return {
        codes.KIND: codes.SINGLE,
        codes.OPERATION: tables.operation(step.operation.name),
        codes.BILINEAR: int(step.bilinear),
        codes.RED: red,
        codes.GREEN: green,
        codes.BLUE: blue,
        codes.VALUE_PLACE: tables.floats(torch.tensor([step.value], dtype=torch.float64)),
        codes.COSINE: cosine,
        codes.SINE: sine,
    }


def _policy(step: Any, tables: Tables, kind: int, count: int) -> Row:
    """What the rows of policies have in common."""
    row = {
        codes.KIND: kind,
        codes.COUNT: count,
        codes.NUM_NAMES: len(step.names),
        codes.NAMES_PLACE: tables.names(step.names),
    }
    if hasattr(step, "values"):
        row[codes.VALUES_PLACE] = tables.floats(step.values)
    if hasattr(step, "rotations"):
        row[codes.ROTATIONS_PLACE] = tables.integers(step.rotations)
    return row


def _randaugment(step: Any, tables: Tables) -> Row:
    return _policy(step, tables, codes.RANDAUGMENT, step.n)


def _torchvision_randaugment(step: Any, tables: Tables) -> Row:
    row = _policy(step, tables, codes.TORCHVISION_RANDAUGMENT, step.n)
    return {**row, codes.ENTRY: step.m, codes.ENTRY_BINS: step.bins}


def _autoaugment(step: Any, tables: Tables) -> Row:
    return {
        **_policy(step, tables, codes.AUTOAUGMENT, 2),
        codes.NUM_NAMES: len(autoaugment.CIFAR10_POLICY),
        codes.NAMES_PLACE: tables.names([step.names[code] for code in step.codes.tolist()]),
        codes.THRESHOLDS_PLACE: tables.integers(step.thresholds),
        codes.ENTRIES_PLACE: tables.integers(step.indices),
        codes.BINS: step.bins,
    }


def _color_jitter(step: Any, tables: Tables) -> Row:
    return {
        **_policy(step, tables, codes.COLOR_JITTER, 4),
        codes.ORDERS_PLACE: tables.integers(step.orders),
        codes.CELLS_PLACE: tables.integers(step.cells),
    }


def _augmix(step: Any, tables: Tables) -> Row:
    row = _policy(step, tables, codes.AUGMIX, step.width)
    return {**row, codes.DEPTH: step.depth, codes.LONGEST: step.longest, codes.SEVERITY: step.severity}


def _google_augmix(step: Any, tables: Tables) -> Row:
    row = _policy(step, tables, codes.GOOGLE_AUGMIX, step.width)
    begin, half = step.cells
    return {**row, codes.DEPTH: step.depth, codes.LONGEST: step.longest, codes.BEGIN: begin, codes.HALF: half}


def _sized(kind: int) -> Callable[[Any, Tables], Row]:
    return lambda step, tables: {codes.KIND: kind, codes.SIZE: step.size}


def _random_crop(step: Any, tables: Tables) -> Row:
    return {codes.KIND: codes.RANDOM_CROP, codes.SIZE: step.size, codes.PADDING: step.padding}


def _hflip(step: Any, tables: Tables) -> Row:
    return {codes.KIND: codes.HFLIP, codes.THRESHOLD: step.threshold}


def _boxes(step: Any, tables: Tables) -> Row:
    """What is drawn of a box of random area and aspect ratio."""
    low, high = step.shares
    return {codes.LOW: low, codes.HIGH: high, codes.RATIOS_PLACE: tables.integers(step.ratios)}


def _random_resized_crop(step: Any, tables: Tables) -> Row:
    (narrowest, flattest), (widest, _) = step.bounds
    bounds = {codes.NARROWEST: narrowest, codes.FLATTEST: flattest, codes.WIDEST: widest}
    return {codes.KIND: codes.RANDOM_RESIZED_CROP, codes.SIZE: step.size, **_boxes(step, tables), **bounds}


def _random_erasing(step: Any, tables: Tables) -> Row:
    return {codes.KIND: codes.RANDOM_ERASING, codes.THRESHOLD: step.threshold, **_boxes(step, tables)}


def _cutout(step: Any, tables: Tables) -> Row:
    return {codes.KIND: codes.CUTOUT, codes.SIZE: step.reach}


_ROWS: dict[type[Step], Callable[[Any, Tables], Row]] = {
    steps.SingleOp: _single,
    policies.RandAugment: _randaugment,
    policies.AugMix: _augmix,
    policies.GoogleAugMix: _google_augmix,
    autoaugment.TorchvisionRandAugment: _torchvision_randaugment,
    autoaugment.AutoAugment: _autoaugment,
    jitter.ColorJitter: _color_jitter,
    steps.RandomCrop: _random_crop,
    steps.CenterCrop: _sized(codes.CENTER_CROP),
    steps.HorizontalFlip: _hflip,
    steps.RandomResizedCrop: _random_resized_crop,
    steps.Resize: _sized(codes.RESIZE),
    steps.ResizeShorter: _sized(codes.RESIZE_SHORTER),
    steps.Cutout: _cutout,
    steps.RandomErasing: _random_erasing,
}


def _most_operations(step: Any) -> int:
    if isinstance(step, policies.AugMix | policies.GoogleAugMix):
        return int(step.width * step.longest)
    if isinstance(step, autoaugment.AutoAugment):
        return 2
    return int(getattr(step, "n", 4))


def encode(program: Sequence[Step]) -> Program:
    """The built steps as data.

    Raises:
        UnsupportedError: a step or an operation that this executor does not have.
    """
    tables, operations, uint8_rows = Tables(), 0, 0
    rows: list[Row] = []
    fills: list[float] = []
    for position, step in enumerate(program):
        if isinstance(step, steps.Normalize):
            uint8_rows = len(rows)
            continue
        if type(step) not in _ROWS:
            raise UnsupportedError(f"the step {type(step).__name__}")
        rows.append({codes.POSITION: position, **_ROWS[type(step)](step, tables)})
        operations = max(operations, _most_operations(step))
        if isinstance(step, steps.Cutout | steps.RandomErasing):
            fills.append(getattr(step, "value", 0.0))
    for row, after in itertools.pairwise(rows):
        cropped = row[codes.KIND] == codes.RESIZE_SHORTER and after[codes.KIND] == codes.CENTER_CROP
        if cropped and after[codes.SIZE] <= row[codes.SIZE]:
            row[codes.CROP] = after[codes.SIZE]  # what the crop keeps is all that is made; it then keeps all of it
    integers, floats = tables.arrays()
    array = np.array([[row.get(column, 0) for column in range(codes.COLUMNS)] for row in rows], np.int64)
    array = array.reshape(-1, codes.COLUMNS)
    return Program(array, uint8_rows, integers, floats, tuple(fills), operations, frozenset(tables.drawn))
