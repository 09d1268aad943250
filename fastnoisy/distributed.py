"""The group of ranks that train one model together; of one process, the identity.

A global batch is cut into the ranks' rows: rank 0 has the first, and so on, and they need not be equally many. Each
rank's loss is the mean over its own rows, and what is minimised is their sum, each weighted by the rank's fraction of
the rows. What a method does over the whole batch (it selects, averages or mixes) goes through a group, so that it gives
the same on any number of ranks.

No gradient passes through a group: what comes back counts as a constant. `mean` alone carries one, to a rank's own
rows, and there the weighted sum of the ranks' gradients is the gradient of the whole batch's mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Group(ABC):
    """A rank's hold on all the ranks. Every rank calls the same in the same order.

    Attributes:
        rank: this process's number, from 0.
        size: how many ranks there are.
    """

    rank: int
    size: int

    @abstractmethod
    def gather(self, values: Tensor) -> Tensor:
        """All ranks' rows, joined along dimension 0 in the order of the ranks; the same on all of them.

        Args:
            values: (B_r, ...), with B_r rows of this rank; everything else is alike on all ranks.

        Returns:
            (B, ...), with B the sum of all B_r, without gradient. Rows of one stream are then in the order of its
            global batch.
        """

    @abstractmethod
    def sum(self, value: Tensor) -> Tensor:
        """The sum of the ranks' tensors of one shape, the same on all of them, without gradient."""

    @abstractmethod
    def agree(self, flag: Tensor) -> Tensor:
        """Whether a 0-dimensional bool is true on every rank; a 0-dimensional bool, the same on all of them."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank has come here."""

    def own(self, whole: Tensor, count: int) -> Tensor:
        """This rank's rows of what was gathered: (B, ...) to (B_r, ...).

        Args:
            count: B_r.
        """
        counts = self.gather(torch.full((1,), count, dtype=torch.int64, device=whole.device))
        rows = counts[: self.rank].sum() + torch.arange(count, device=whole.device)
        return whole.index_select(0, rows)

    def part(self, total: Tensor, own: int, whole: int) -> Tensor:
        """A rank's part of a sum over the whole batch, as the rank's loss: the weighted sum of these is the sum.

        Args:
            total: the sum over this rank's rows.
            own, whole: B_r and B, how many rows this rank and all ranks have.
        """
        return total if own == whole else total * (whole / own)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the rows of all ranks, (B_r, ...) to (...). Gradient: see the module."""
        own = values.mean(dim=0)
        return own + (self.gather(values).mean(dim=0) - own).detach()


class Single(Group):
    """One process: its rows are the global batch."""

    rank, size = 0, 1

    def gather(self, values: Tensor) -> Tensor:
        """The values themselves; no copy."""
        return values.detach()

    def sum(self, value: Tensor) -> Tensor:
        """The value itself; no copy."""
        return value.detach()

    def agree(self, flag: Tensor) -> Tensor:
        """The flag itself."""
        return flag

    def barrier(self) -> None:
        """Nobody to wait for."""

    def own(self, whole: Tensor, count: int) -> Tensor:
        """The whole."""
        return whole

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the rows."""
        return values.mean(dim=0)


ONE = Single()
"""The group of one process."""
