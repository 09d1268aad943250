"""Decoupling: two networks that learn only where they disagree."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch
from pydantic import Field

from fastnoisy import losses
from fastnoisy.config import Table
from fastnoisy.methods._pairs import TwoNetworks, mean_over
from fastnoisy.methods.base import Progress, Record, StepBatch


class Decoupling(TwoNetworks):
    """Decoupling: two networks on the same batch, updated only by the samples on whose class they disagree.

    S: where the predictions differ, in the first `warmup` epochs the whole batch.
    loss_k = sum over S of CE(z_k) / max(0.1 B, |S|).
    Malach & Shalev-Shwartz, "Decoupling 'when to update' from 'how to update'", NeurIPS 2017. `rule=alasca` is what
    ALASCA's
    code does: the disagreeing samples from the first step on wherever there is one, else the whole batch in the warm-up
    and nothing after it; the mean over them.
    """

    class Options(Table):
        """Options of Decoupling."""

        warmup: int = Field(30, ge=0, description="epochs with the whole batch")
        rule: Literal["original", "alasca"] = Field("original", description="see above")

    unsupported: Mapping[str, str] = MappingProxyType(
        {"accumulate": "the divisor counts disagreements in the global batch"}
    )
    options: Options

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """Both networks on the same view; the selection is a mask of fixed shape."""
        batch = batches["train"]
        first, second = self.forwards(batch)
        differ = self.group.gather(first.logits.argmax(dim=1) != second.logits.argmax(dim=1))
        warm = progress.epoch < self.options.warmup
        per_net = [losses.cross_entropy(out.logits, batch.labels) for out in (first, second)]
        if self.options.rule == "alasca":
            mask = torch.where(differ.any(), differ, warm.expand_as(differ))
            loss = mean_over(per_net[0], mask, self.group) + mean_over(per_net[1], mask, self.group)
        else:
            mask = differ | warm
            divisor = mask.sum().clamp(min=0.1 * len(mask))
            own = self.group.own(mask, len(batch.labels))
            total = ((per_net[0] + per_net[1]) * own).sum() / divisor
            loss = self.group.part(total, len(own), len(mask))
        return Record(loss, [first, second], {"disagreement": differ.double().mean()})


METHOD = Decoupling
