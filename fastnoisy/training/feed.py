"""The feed: which rows of which stream come next. A pure function of the epoch, the pass and the populations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fastnoisy.methods.base import Pass, Stream
from fastnoisy.order import Population, Rows, batches, num_batches

Populations = Mapping[str, Population]


@dataclass(frozen=True)
class Feed:
    """See the module.

    Attributes:
        streams: a method's, by name.
        order: (population, name of the order, epoch) -> its rows in that epoch's order.
        batch_size: of a pass whose `batch_factor` is 1.
        drop_last: whether a last batch that is not full is left out, where a pass does not say.
    """

    streams: Mapping[str, Stream]
    order: Callable[[Population, str, int], Rows]
    batch_size: int
    drop_last: bool

    def steps(self, spec: Pass, populations: Populations) -> int:
        """How many steps a pass takes."""
        return num_batches(len(self._population(spec.streams[0], populations)), *self._cut(spec))

    def batches(
        self, spec: Pass, populations: Populations, epoch: int, first: int = 0
    ) -> dict[str, Iterator[np.ndarray]]:
        """The rows, int64, of each batch of each of the pass's streams, from step `first` on; as many for each. Nothing
        is computed before it is asked for.
        """
        size, drop = self._cut(spec)
        steps = range(first, self.steps(spec, populations))
        result: dict[str, Iterator[np.ndarray]] = {}
        for name in spec.streams:
            population = self._population(name, populations)
            if name == spec.streams[0]:
                result[name] = self._once(population, name, epoch, size, drop, first)
            else:
                result[name] = self._again(population, name, epoch, size, steps)
        return result

    def _once(
        self, population: Population, name: str, epoch: int, size: int, drop: bool, first: int
    ) -> Iterator[np.ndarray]:
        """The batches of a stream that ends with its rows."""
        yield from batches(self.order(population, name, epoch), size, drop, first)

    def _again(
        self, population: Population, name: str, epoch: int, size: int, steps: Iterable[int]
    ) -> Iterator[np.ndarray]:
        """The batches of a stream that starts over, in another order, when it ends."""
        n = len(population)
        whole = n // size * size or n  # no batch lies across two rounds: it could hold a sample twice
        current, rows = -1, None
        for step in steps:
            parts, place, end = [], step * size, (step + 1) * size
            while place < end:  # more than one round where the population is smaller than a batch
                number, begin = divmod(place, whole)
                if number != current or rows is None:
                    current, rows = number, self.order(population, f"{name}/{number}" if number else name, epoch)
                parts.append(rows[begin : min(whole, begin + end - place)])
                place += len(parts[-1])
            yield np.concatenate(parts)

    def _cut(self, spec: Pass) -> tuple[int, bool]:
        """A pass's batch size, and whether a last batch that is not full is left out."""
        return self.batch_size * spec.batch_factor, self.drop_last if spec.drop_last is None else spec.drop_last

    def _population(self, stream: str, populations: Populations) -> Population:
        """What a stream runs over; a selection that no epoch has made yet (a dry run's) counts as the whole training
        part.
        """
        return populations.get(self.streams[stream].population, populations["train"])
