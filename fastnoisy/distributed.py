"""The group of ranks that train one model together; of one process, the identity.

A global batch is cut into the ranks' rows: rank 0 has the first, and so on, and they need not be equally many. Each
rank's loss is the mean over its own rows, and what is minimised is their sum, each weighted by the rank's fraction of
the rows. What a method does over the whole batch (it selects, averages or mixes) goes through a group, so that it gives
the same on any number of ranks.

No gradient passes through a group: what comes back counts as a constant. `mean` alone carries one, to a rank's own
rows, and there the weighted sum of the ranks' gradients is the gradient of the whole batch's mean.

Rank 0 speaks, writes and makes what is made once; the others wait for it, for hours if need be. In training steps they
wait for one another for a much shorter set time: a rank that hangs, or a machine that is cut off, is an error.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from fastnoisy.errors import FastnoisyError

T = TypeVar("T")


class LostError(FastnoisyError):
    """Another rank does not answer any more: it has raised, died, hangs or is cut off."""


class Group(ABC):
    """A rank's hold on all the ranks. Every rank calls the same in the same order.

    Attributes:
        rank: this process's number, from 0.
        size: how many ranks there are.
        local_rank, local_size: the same among those of this machine.
    """

    rank: int
    size: int
    local_rank = 0
    local_size = 1

    @property
    def leads(self) -> bool:
        """Whether this is the rank that speaks and writes."""
        return self.rank == 0

    @contextmanager
    def in_time(self, on: bool = True) -> Iterator[None]:
        """Within, with `on`, no rank is waited for longer than the set time."""
        yield

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0, on every rank; the others do not call it, and wait."""
        return make()

    def take_over(self, tensors: Iterable[Tensor]) -> None:  # noqa: B027, one process has nothing to take over
        """Write rank 0's values into tensors of the same shapes on every rank, in place."""

    def first_here(self, work: Callable[[], T]) -> T:
        """What `work` gives, which the first rank of each machine does before the others: it leaves files for them."""
        return work()

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


@dataclass
class Pending:
    """A result that is still on its way; `take` waits for it."""

    take: Callable[[], Tensor]


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


class Ranks(Group):
    """Processes that torch.distributed has joined.

    Tensors on the host always go by gloo. Numbers of rows are exchanged on the host, so nothing here waits for a GPU.

    Args:
        patient, timely: of torch's process groups over all ranks: one that waits for hours, one that gives up
            after a set time.

    Raises:
        LostError: from every method: another rank does not answer.
    """

    def __init__(
        self, patient: dist.ProcessGroup, timely: dist.ProcessGroup, local_rank: int = 0, local_size: int = 1
    ) -> None:
        self.rank, self.size = dist.get_rank(patient), dist.get_world_size(patient)
        self.local_rank, self.local_size = local_rank, local_size
        self._patient, self._timely = patient, timely
        self._now = patient

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        """A copied method belongs to the same ranks."""
        return self

    @contextmanager
    def in_time(self, on: bool = True) -> Iterator[None]:
        """See `Group.in_time`."""
        before, self._now = self._now, self._timely if on else self._patient
        try:
            yield
        finally:
            self._now = before

    def gather(self, values: Tensor) -> Tensor:
        """See `Group.gather`. What has channels last in memory has them last afterwards."""
        values = values.detach()
        if values.ndim == 4 and not values.is_contiguous() and values.is_contiguous(memory_format=torch.channels_last):
            return self.gather(values.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        counts = self._counts(len(values))
        shape, width = values.shape[1:], values.shape[1:].numel() * values.element_size()
        largest = max(counts)
        if not largest or not width:
            return values.new_empty(sum(counts), *shape)
        sent = torch.zeros(largest, width, dtype=torch.uint8, device=values.device)  # as bytes: backends lack dtypes
        if counts[self.rank]:
            flat = values.contiguous().view(counts[self.rank], -1)
            sent[: counts[self.rank]] = flat.view(torch.uint8)
        found = sent.new_empty(self.size * largest, width)
        parts = list(found.split(largest))
        self._do(lambda: dist.all_gather(parts, sent, group=self._now))
        if min(counts) < largest:
            found = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        return found.view(values.dtype).view(-1, *shape)

    def _counts(self, count: int) -> list[int]:
        """How many rows each rank has."""
        counts = torch.empty(self.size, dtype=torch.int64)
        own = torch.tensor([count])
        self._do(lambda: dist.all_gather(list(counts.split(1)), own, group=self._now))
        return [int(n) for n in counts]

    def sum(self, value: Tensor) -> Tensor:
        """See `Group.sum`."""
        total = value.detach().clone(memory_format=torch.contiguous_format)
        self._do(lambda: dist.all_reduce(total, group=self._now))
        return total

    def agree(self, flag: Tensor) -> Tensor:
        """See `Group.agree`."""
        lowest = flag.to(torch.uint8)
        self._do(lambda: dist.all_reduce(lowest, dist.ReduceOp.MIN, group=self._now))
        return lowest.bool()

    def outside_graphs(self) -> None:
        """From now on torch.compile leaves out what goes between ranks. (To say so at import would load it.)"""
        for name in ("gather", "sum", "agree"):
            setattr(self, name, torch.compiler.disable(getattr(self, name)))

    def barrier(self) -> None:
        """See `Group.barrier`."""
        self._do(lambda: dist.all_reduce(torch.zeros(1), group=self._now))

    def largest(self, number: int) -> Pending:
        """Begin to find the largest of the ranks' numbers, and go on meanwhile."""
        return self._begin(torch.tensor([number]), dist.ReduceOp.MAX)

    def begin_sum(self, flat: Tensor) -> Pending:
        """Begin to sum a contiguous tensor over the ranks, in place, and go on meanwhile."""
        return self._begin(flat, dist.ReduceOp.SUM)

    def _begin(self, value: Tensor, operation: Any) -> Pending:
        """Begin to reduce a tensor over the ranks, in place."""
        work = self._do(lambda: dist.all_reduce(value, operation, group=self._now, async_op=True))

        def take() -> Tensor:
            self._do(work.wait)
            return value

        return Pending(take)

    def from_first(self, make: Callable[[], T]) -> T:
        """See `Group.from_first`; what is made must be picklable."""
        with self.in_time(False):
            held: list[Any] = [make() if self.leads else None]
            self._do(lambda: dist.broadcast_object_list(held, src=0, group=self._now, device=torch.device("cpu")))
        found: T = held[0]
        return found

    def take_over(self, tensors: Iterable[Tensor]) -> None:
        """See `Group.take_over`: one message per dtype and device."""
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor.detach())
        with self.in_time(False), torch.no_grad():
            for (dtype, _), alike in kinds.items():
                flat = torch.cat([tensor.reshape(-1) for tensor in alike])
                sent = flat.view(torch.uint8) if dtype != torch.bool else flat.to(torch.uint8)
                self._do(lambda sent=sent: dist.broadcast(sent, src=0, group=self._now))  # type: ignore[misc]
                whole = sent.view(dtype) if dtype != torch.bool else sent.bool()
                for tensor, part in zip(alike, whole.split([t.numel() for t in alike]), strict=True):
                    tensor.copy_(part.view(tensor.shape))

    def first_here(self, work: Callable[[], T]) -> T:
        """See `Group.first_here`."""
        with self.in_time(False):
            if self.local_rank == 0:
                found = work()
            self.barrier()
            if self.local_rank != 0:
                found = work()
        return found

    def _do(self, call: Callable[[], Any]) -> Any:
        """A call of torch.distributed's, whose errors become `LostError`."""
        try:
            return call()
        except RuntimeError as error:
            said = str(error).partition("\n")[0]
            slow = "timed out" in said.lower() or "timeout" in said.lower()
            raise LostError(
                f"rank {self.rank} of {self.size} on {socket.gethostname()} "
                + ("has waited too long for another rank" if slow else "has lost another rank")
                + f" ({said})",
                "See what that rank says; go on with 'fastnoisy train --resume RUN'",
            ) from error
