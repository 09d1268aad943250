"""The feed: which rows of which stream come next. A pure function of the epoch, the pass and the populations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fastnoisy.methods.base import Pass, Stream
from fastnoisy.order import Population, batches, num_batches

Populations = Mapping[str, Population]


@dataclass(frozen=True)
class Feed:
    """See the module.

    Attributes:
        streams: a method's, by name.
        order: (population, name of the order, epoch) -> its rows, int64, in that epoch's order.
        batch_size: of a pass whose `batch_factor` is 1.
        drop_last: whether a last batch that is not full is left out, where a pass does not say.
    """

    streams: Mapping[str, Stream]
    order: Callable[[Population, str, int], np.ndarray]
    batch_size: int
    drop_last: bool

    def steps(self, spec: Pass, populations: Populations) -> int:
        """How many steps a pass takes."""
        return num_batches(len(self._population(spec.streams[0], populations)), *self._cut(spec))

    def batches(self, spec: Pass, populations: Populations, epoch: int, first: int = 0) -> dict[str, list[np.ndarray]]:
        """The rows, int64, of each batch of each of the pass's streams, from step `first` on. All have as many
        batches.
        """
        size, drop = self._cut(spec)
        needed = self.steps(spec, populations) * size
        result = {}
        for name in spec.streams:
            population = self._population(name, populations)
            lead = name == spec.streams[0]
            rows = self.order(population, name, epoch) if lead else self._again(population, name, epoch, needed, size)
            result[name] = list(batches(rows, size, drop, first))
        return result

    def _again(self, population: Population, name: str, epoch: int, needed: int, size: int) -> np.ndarray:
        """`needed` rows of a stream that starts over, in another order, when it ends."""
        rows = self.order(population, name, epoch)
        whole = len(rows) // size * size or len(rows)  # no batch lies across two rounds: it could hold a sample twice
        rounds = [rows[:whole]]
        while len(rounds) * whole < needed:
            rounds.append(self.order(population, f"{name}/{len(rounds)}", epoch)[:whole])
        return np.concatenate(rounds)[:needed]

    def _cut(self, spec: Pass) -> tuple[int, bool]:
        """A pass's batch size, and whether a last batch that is not full is left out."""
        return self.batch_size * spec.batch_factor, self.drop_last if spec.drop_last is None else spec.drop_last

    def _population(self, stream: str, populations: Populations) -> Population:
        """What a stream runs over; a selection that no epoch has made yet (a dry run's) counts as the whole training
        part.
        """
        return populations.get(self.streams[stream].population, populations["train"])
