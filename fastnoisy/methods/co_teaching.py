"""Co-teaching: each of two networks learns from the samples that the other finds easy."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from fastnoisy import losses
from fastnoisy.config import NoiseRate, Table
from fastnoisy.methods._pairs import KeptCount, TwoNetworks, mean_over, smallest
from fastnoisy.methods.base import Context, Progress, Record, StepBatch


class CoTeaching(TwoNetworks):
    """Co-teaching: two networks; each trains on the samples of the batch that have the smallest loss in the other.

    Of B samples int((1 - R(t)) B) are kept, R(t) = tau t / (T_k - 1) up to epoch T_k, then tau, the noise rate.
    loss_1 = mean of CE(z_1) over net 2's selection, loss_2 the other way round; their sum is minimised.
    Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels", NeurIPS 2018. The
    official code divides the mean by the number kept once more, which Adam hides; here it is the mean.
    """

    class Options(Table):
        """Options of Co-teaching."""

        noise_rate: NoiseRate = Field(
            None, description="tau; default: the measured or configured rate; estimate: from the labels themselves"
        )
        warmup: int = Field(
            30, ge=1, le=1_000_000, description="T_k, epochs until all of tau is left out (10 in the original)"
        )
        warmup_mode: Literal["gradual", "plain"] = Field("gradual", description="plain: nothing is left out before T_k")

    needs_noise_rate = True
    unsupported: Mapping[str, str] = MappingProxyType(
        {"accumulate": "the smallest losses are those of the whole global batch"}
    )
    options: Options

    def __init__(self, context: Context, options: Options) -> None:
        super().__init__(context, options)
        self.kept = KeptCount(context.noise_rate(options.noise_rate), options.warmup, options.warmup_mode)

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """Both networks on the same view; masks of fixed shape."""
        batch = batches["train"]
        first, second = self.forwards(batch)
        loss_1, loss_2 = (losses.cross_entropy(out.logits, batch.labels) for out in (first, second))
        all_1, all_2 = self.group.gather(loss_1), self.group.gather(loss_2)
        count = self.kept(progress.epoch, len(all_1))
        by_1, by_2 = smallest(all_1, count), smallest(all_2, count)
        loss = mean_over(loss_1, by_2, self.group) + mean_over(loss_2, by_1, self.group)
        logs = {"kept": by_1.double().mean(), "same_selection": (by_1 == by_2).double().mean()}
        return Record(loss, [first, second], logs)


METHOD = CoTeaching
