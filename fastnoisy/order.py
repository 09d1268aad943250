"""Which sample at which step: a pure function of (population, stream, seed, epoch), never a stored generator.

To resume is to call it again with the same arguments and skip what was seen. The order does not know about ranks or
batch sizes; `batches` cuts it, and `share` says which part of a batch is a rank's.

A population of up to `SORTED` rows is sorted by a hash. The order of a larger one is a keyed permutation, of which any
part is computed alone: an epoch of 100 million rows begins as fast as one of a thousand (benchmarks/orders.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

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


SORTED = 1 << 22
"""Rows up to which an order is a sort: below a second."""
ROUNDS = 32
"""Of the Feistel network. 12 are random enough to any test here; these cost a batch of 1,024 rows a millisecond."""


class Rows(Protocol):
    """An order: rows by their places in it. A numpy array is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, places: slice, /) -> np.ndarray: ...


def order(population: Population, stream: str, seed: int, epoch: int) -> Rows:
    """The population's rows in the order of one epoch: a stable argsort of a hash of each row, of a large population
    a keyed permutation; see the module.

    Args:
        stream: two streams over one population visit it in different orders.

    Returns:
        int64 (n,), a permutation of `population.indices`.
    """
    key = keyed_random.key(seed, epoch, keyed_random.name_value(stream))
    if len(population) > SORTED:
        return Permuted(population.indices, key)
    found: np.ndarray = population.indices[np.argsort(keyed_random.fold(key, population.indices), kind="stable")]
    return found


def name(num_rows: int) -> str:
    """Which order a population of so many rows has; checkpoints keep it, for another one would go on elsewhere."""
    return f"feistel-{ROUNDS}" if num_rows > SORTED else "sort"


class Permuted:
    """An order of which any part is computed alone: rows at `permutation` of their places.

    Args:
        indices: int64 (n,), the rows.
        key: which permutation.
    """

    def __init__(self, indices: np.ndarray, key: int) -> None:
        self.indices, self.key = indices, key

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, places: slice) -> np.ndarray:
        """The rows at a slice of places, int64."""
        found: np.ndarray = self.indices[permutation(np.arange(*places.indices(len(self))), len(self), self.key)]
        return found


def permutation(places: np.ndarray, count: int, key: int) -> np.ndarray:
    """Where a keyed permutation of 0 to `count` - 1 puts these places, int64, each by itself.

    A Feistel network over the bits of `count`: halves of a bits and b bits are exchanged for their sum (exclusive or)
    with a hash of the other half, in turn. It permutes the 2 ** (a + b) numbers; one that it puts beyond `count` is put
    again, until it is within (cycle walking), fewer than two times on average.
    """
    bits = max(2, (count - 1).bit_length())
    low = bits // 2
    high = bits - low
    keys = [keyed_random.fold(key, number) for number in range(ROUNDS)]
    found = np.array(places, np.int64)
    left = np.arange(len(found))
    while len(left):
        x = found[left]
        upper, lower = x >> low, x & ((1 << low) - 1)
        for number, each in enumerate(keys):
            if number % 2:
                lower = lower ^ (keyed_random.fold(each, upper) & ((1 << low) - 1))
            else:
                upper = upper ^ (keyed_random.fold(each, lower) & ((1 << high) - 1))
        x = (upper << low) | lower
        found[left] = x
        left = left[x >= count]
    return found


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


def batches(rows: Rows, batch_size: int, drop_last: bool, first: int = 0) -> Iterator[np.ndarray]:
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
