"""What corrections leave of a split of a store: the rows that are kept, and their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fastnoisy.data.store import Split, Store
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.corrections import Corrected


@dataclass(frozen=True)
class Kept:
    """A split, corrected (N records).

    Attributes:
        split: as it is in the store.
        rows: int64, those that are kept, ascending.
        labels: int64 (N,), the corrected given labels.
    """

    split: Split
    rows: np.ndarray
    labels: np.ndarray

    @property
    def clean(self) -> np.ndarray | None:
        """int64 (N,): the known ones, and where the label was changed what it was changed to; None where none are
        known.
        """
        clean, given = self.split.clean_labels, self.split.given_labels
        return None if clean is None else np.where(self.labels != given, self.labels, clean)


def kept_of(store: Store, found: Mapping[str, Corrected]) -> list[Kept]:
    """What is left of every split of a store; of those that no correction names, all of it.

    Raises:
        FastnoisyError: nothing is left of one.
    """
    parts = []
    for name, split in store.splits.items():
        corrected = found.get(name)
        if corrected is None:
            rows = np.arange(split.num_samples, dtype=np.int64)
            parts.append(Kept(split, rows, split.given_labels))
            continue
        if len(corrected.kept) == 0:
            raise FastnoisyError(
                f"the label file drops all {split.num_samples:,} images of {name}", "keep some of them"
            )
        parts.append(Kept(split, corrected.kept, corrected.labels))
    return parts
