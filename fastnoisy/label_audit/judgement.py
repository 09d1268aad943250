"""What an audit judges, and how it judges them: images of all splits, and the probabilities of their classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnoisy.data.store import Store
from fastnoisy.label_files.corrections import TRAIN


@dataclass(frozen=True)
class Images:
    """The N images of all splits of a store, one split after another.

    Attributes:
        split_names: of the splits.
        split: int64 (N,), which of them each image is in.
        index: int64 (N,), its row there.
        paths: where it came from.
        given: int64 (N,), its label.
        class_names: one per label.
    """

    split_names: tuple[str, ...]
    split: np.ndarray
    index: np.ndarray
    paths: tuple[str, ...]
    given: np.ndarray
    class_names: tuple[str, ...]

    @property
    def training(self) -> np.ndarray:
        """Which are of the training split, bool (N,); a store may have none."""
        return np.array(self.split_names)[self.split] == TRAIN

    @classmethod
    def of(cls, store: Store) -> Images:
        """All of a store."""
        splits = list(store.splits.values())
        return cls(
            split_names=tuple(split.name for split in splits),
            split=np.repeat(np.arange(len(splits)), [split.num_samples for split in splits]),
            index=np.concatenate([np.arange(split.num_samples, dtype=np.int64) for split in splits]),
            paths=tuple(path for split in splits for path in split.sources),
            given=np.concatenate([split.given_labels for split in splits]),
            class_names=tuple(store.class_names),
        )


@dataclass(frozen=True)
class Judgement:
    """How probable the classes of N images are.

    Attributes:
        probabilities: float32 (N, C); rows sum to 1.
        score: float64 (N,): the lower, the more suspect is the given label.
        kept: bool (N,), whose labels are probably right.
        judged: bool (N,), whose labels may be flagged: of a class that has too few images nothing can be said.
        how: what summary.json says of how they were judged.
    """

    probabilities: np.ndarray
    score: np.ndarray
    kept: np.ndarray
    judged: np.ndarray
    how: dict[str, Any]
