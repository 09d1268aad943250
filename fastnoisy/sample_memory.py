"""A vector per training sample, kept as a moving average, addressed by the row in the data set."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from fastnoisy.distributed import Group


def _move(rows: Tensor, indices: Tensor, values: Tensor, weight: float) -> Tensor:
    """See `SampleMemory.update`."""
    old = rows.index_select(0, indices).to(values.dtype)
    new = weight * old + (1 - weight) * values
    rows.index_copy_(0, indices, new.to(rows.dtype))
    return new


_move_once = torch.library.custom_op("fastnoisy::move_rows", _move, mutates_args=("rows",))


@_move_once.register_fake
def _(rows: Tensor, indices: Tensor, values: Tensor, weight: float) -> Tensor:
    return torch.empty_like(values)


class SampleMemory(nn.Module):
    """N rows of C numbers in a registered buffer, so that they are in every checkpoint.

    A row is read only when it is written, once a visit; within one call the indices must be distinct (streams visit a
    sample once per epoch). Rows start at zero and there is no bias correction (ALASCA 2.2). A forward writes them
    before
    its loss is known: `keep` and `put_back` undo it.

    Args:
        num_samples: N, the number of rows of the data set (not of the subset trained on).
        width: C.
        weight: w in `row <- w * row + (1 - w) * value`.
        dtype: float32, bfloat16 (half the memory) or float64 (verification).

    Bytes: N * C * itemsize; `rows` has shape (N, C).
    """

    rows: Tensor

    def __init__(self, num_samples: int, width: int, weight: float, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("rows", torch.zeros(num_samples, width, dtype=dtype))

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Moves to a device reach the rows; changes of a module's precision do not, for theirs is chosen for its
        size.
        """
        dtype = self.rows.dtype
        super()._apply(fn, recurse)
        self.rows = self.rows.to(dtype)
        return self

    def update(self, indices: Tensor, values: Tensor) -> Tensor:
        """Move the rows of `indices` (B,) towards `values` (B, C) and return the new rows, in values' precision.

        The average is formed in float32 or better and rounded to the memory's dtype only when stored.
        """
        values = values.detach()
        values = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
        # Of a compiled step the backward would compute the new rows again where that is cheaper than keeping them, and
        # from the buffer, which has moved by then: other gradients, in silence (torch 2.11 to 2.15). An operator of its
        # own is kept.
        move = _move_once if torch.compiler.is_compiling() else _move
        return move(self.rows, indices, values, self.weight)

    def keep(self, indices: Tensor) -> Tensor:
        """A copy of the rows of `indices` (B,), for `put_back`."""
        return self.rows.index_select(0, indices)

    def put_back(self, indices: Tensor, old: Tensor, sound: Tensor) -> None:
        """Undo what was written to rows since `keep` gave `old` (B, C), unless `sound`, a 0-dimensional bool, is
        true.
        """
        self.rows.index_copy_(0, indices, torch.where(sound, self.rows.index_select(0, indices), old))

    def exchange(self, indices: Tensor, group: Group) -> None:
        """Give this rank's rows of `indices` (B_r,), which a step may have moved, to all ranks, and take theirs: then
        every rank holds what one process would.
        """
        if group.size > 1:
            mine = self.rows.index_select(0, indices)
            self.rows.index_copy_(0, group.gather(indices), group.gather(mine))

    def probability_of(self, labels: Tensor) -> Tensor:
        """Of a memory of probabilities: row's entry at the label over the row's sum, float32 (N,) on the CPU; NaN where
        the row was never visited. `labels` is int64 (N,) on the CPU.
        """
        rows = self.rows.float().cpu()
        return rows.gather(1, labels.unsqueeze(1)).squeeze(1) / rows.sum(dim=1)
