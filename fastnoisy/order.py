"""Which sample at which step: a pure function of (population, stream, seed, epoch), never a stored generator.

To resume is to call it again with the same arguments and skip what was seen. The order does not know about ranks or
batch sizes; `batches` cuts it, and `share` says which part of a batch is a rank's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastnoisy import keyed_random


@dataclass(frozen=True)
class Population:
    """A named set of rows of the data set: the whole training part, a selection, the held-out part.

    Attributes:
        name: what streams refer to.
        indices: int64 (n,), distinct rows, ascending.
    """

    name: str
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)


def order(population: Population, stream: str, seed: int, epoch: int) -> np.ndarray:
    """The population's rows in the order of one epoch: a stable argsort of a hash of each row.

    Args:
        stream: two streams over one population visit it in different orders.

    Returns:
        int64 (n,), a permutation of `population.indices`.
    """
    key = keyed_random.key(seed, epoch, keyed_random.name_value(stream))
    return population.indices[np.argsort(keyed_random.fold(key, population.indices), kind="stable")]


def blocked(population: Population, pages: np.ndarray, window: int, stream: str, seed: int, epoch: int) -> np.ndarray:
    """As `order`, but for files larger than memory: `window` pages at a time, in whose rows the order is random.

    Pages come in an order drawn anew each epoch, so that each window holds other pages; an epoch reads every page once,
    and only a window's pages need to stay in memory. A batch is drawn from a window's rows instead of all: where a
    store is sorted by class (many are), a window should hold pages of all classes, so take as large a one as memory
    allows.

    Args:
        pages: int64 (N,), the page that each row of the split lies in.
        window: pages, at least 1; as many as there are gives `order` itself.

    Returns:
        int64 (n,), a permutation of `population.indices`.
    """
    key = keyed_random.key(seed, epoch, keyed_random.name_value(stream))
    draws = keyed_random.fold(key, population.indices)
    present, place = np.unique(pages[population.indices], return_inverse=True)
    turn = np.empty(len(present), np.int64)
    page_draws = keyed_random.fold(keyed_random.fold(key, keyed_random.name_value("pages")), present)
    turn[np.argsort(page_draws, kind="stable")] = np.arange(len(present))
    return population.indices[np.lexsort((draws, turn[place] // window))]


def batches(rows: np.ndarray, batch_size: int, drop_last: bool, first: int = 0) -> Iterator[np.ndarray]:
    """Cut an order into global batches, from batch number `first` on.

    Yields:
        int64 (batch_size,); the last may be shorter unless `drop_last`.
    """
    for number in range(first, num_batches(len(rows), batch_size, drop_last)):
        yield rows[number * batch_size : (number + 1) * batch_size]


def num_batches(num_rows: int, batch_size: int, drop_last: bool) -> int:
    """How many batches `batches` cuts."""
    return num_rows // batch_size if drop_last else -(-num_rows // batch_size)


def pieces(count: int, parts: int) -> list[int]:
    """`count` rows cut into `parts` that differ by at most one row, the larger ones first: their sizes."""
    size, over = divmod(count, parts)
    return [size + (number < over) for number in range(parts)]


def micro_batches(count: int, accumulate: int) -> list[int]:
    """The sizes of the micro-batches that a global batch of `count` rows is cut into, at least one row each."""
    return pieces(count, max(1, min(accumulate, count)))


def share(batch: np.ndarray, rank: int, world_size: int, accumulate: int = 1) -> np.ndarray:
    """A rank's part of a global batch: of each of its micro-batches the rank's piece. The ranks' pieces, one after
    another, are the micro-batch, whose rows do not depend on how many ranks there are.
    """
    own, first = [], 0
    for size in micro_batches(len(batch), accumulate):
        counts = pieces(size, world_size)
        begin = first + sum(counts[:rank])
        own.append(batch[begin : begin + counts[rank]])
        first += size
    return np.concatenate(own)


def stratified(rows: np.ndarray, labels: np.ndarray, count: int, seed: int, purpose: str) -> np.ndarray:
    """`count` of `rows`, chosen by hash, each class by its share of the whole (largest remainders get what is left
    over).

    Args:
        rows: int64 (n,).
        labels: int64 (n,), the label of each of them.
        purpose: `holdout` or `subset`: different purposes choose independently.

    Returns:
        int64, ascending.
    """
    draws = keyed_random.fold(keyed_random.key(seed, keyed_random.name_value(purpose)), rows)
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * count / max(1, len(rows))
    quota = np.floor(shares).astype(np.int64)
    quota[np.argsort(quota - shares, kind="stable")[: count - quota.sum()]] += 1
    chosen = [rows[:0]]
    for label, number in zip(classes, quota, strict=True):
        members = np.flatnonzero(labels == label)
        ranked = members[np.argsort(draws[members], kind="stable")]
        chosen.append(rows[ranked[:number]])
    return np.sort(np.concatenate(chosen))


def balanced(rows: np.ndarray, labels: np.ndarray, count: int, seed: int, epoch: int) -> np.ndarray:
    """A fresh draw of one epoch: as many of each class, `count` in all, without repeats; a pure function of seed and
    epoch.

    Args:
        rows: int64 (n,), distinct.
        labels: int64 (n,), the given label of each of them.
        count: where the classes do not divide it, the hash says which of them give one more. A class with fewer images
            gives all it has and no other makes up for it, so the draw is smaller then, in every epoch by as many.

    Returns:
        int64, ascending.
    """
    key = keyed_random.key(seed, epoch, keyed_random.name_value("balanced"))
    draws = keyed_random.fold(key, rows)
    classes, sizes = np.unique(labels, return_counts=True)
    share, over = divmod(count, len(classes))
    quota = np.minimum(sizes, share)
    larger = np.flatnonzero(sizes > share)
    ranked = larger[np.argsort(keyed_random.fold(key, -1 - classes[larger]), kind="stable")]  # rows are never negative
    quota[ranked[:over]] += 1
    grouped = np.lexsort((draws, labels))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    chosen = [grouped[start : start + number] for start, number in zip(starts, quota, strict=True)]
    return np.sort(rows[np.concatenate(chosen)])
