"""What methods of two networks on one batch share: prediction by both, and the selection of samples with a small
loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fastnoisy.distributed import Group
from fastnoisy.methods.base import Context, Forward, Method, StepBatch
from fastnoisy.models.heads import Outputs


class TwoNetworks(Method):
    """Two networks from different weights; the mean of their logits predicts (as ALASCA's code tests such methods)."""

    networks_needed = 2

    def __init__(self, context: Context, options: Any) -> None:
        super().__init__(context, options)
        for _ in range(2):
            self.networks.append(context.network())

    def predictors(self, outputs: Sequence[Outputs], images: Tensor) -> dict[str, Tensor]:
        """The mean of both networks' logits, reported, and each network."""
        first, second = (output.logits for output in outputs)
        return {"both": (first + second) / 2, "net1": first, "net2": second}

    def forwards(self, batch: StepBatch, view: str = "student") -> list[Forward]:
        """Both networks on one view of the batch."""
        outputs: list[Outputs] = [network(batch.views[view]) for network in self.networks]
        return [
            Forward(number, out.logits, out.sub_logits, batch.labels, batch.indices)
            for number, out in enumerate(outputs)
        ]


class KeptCount(nn.Module):
    """How many samples of a batch a small-loss selection keeps: int((1 - R(t)) * B).

    Args:
        rate: tau, the rate at which samples are forgotten in the end.
        warmup: T_k. `gradual`: R(t) = tau * t / (T_k - 1) before it; `plain`: all samples are kept before it.
    """

    def __init__(self, rate: float, warmup: int, mode: Literal["gradual", "plain"]) -> None:
        super().__init__()
        before = np.linspace(0, rate, warmup) if mode == "gradual" else np.zeros(warmup)
        # int64, the bits of float64: a change of the method's precision must not round the rates
        self.bits: Tensor
        self.register_buffer("bits", torch.from_numpy(np.append(before, rate).view(np.int64)), persistent=False)

    def forward(self, epoch: Tensor, size: int) -> Tensor:
        """The number of samples kept of `size`, 0-dimensional float64; `epoch` is 0-dimensional int64."""
        place = epoch.clamp(max=len(self.bits) - 1).reshape(1)
        rate = self.bits.index_select(0, place).view(torch.float64).squeeze(0)
        return ((1 - rate) * size).floor()


def smallest(losses: Tensor, count: Tensor) -> Tensor:
    """Which samples have the `count` smallest losses: a mask of fixed shape, bool (B,); ties go to the earlier
    place.
    """
    order = torch.argsort(losses.detach(), stable=True)
    ranks = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return ranks < count


def mean_over(losses: Tensor, mask: Tensor, group: Group) -> Tensor:
    """The mean of losses under a mask of the global batch, as this rank's loss; 0 where the mask selects nothing.

    Args:
        losses: (B_r,), of this rank's rows.
        mask: bool (B,), of all ranks' rows.
    """
    own = group.own(mask, len(losses))
    return group.part((losses * own).sum() / mask.sum().clamp(min=1), len(losses), len(mask))
