"""JoCoR: two networks that must agree, trained together on the samples with a small joint loss."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from fastnoisy import losses
from fastnoisy.config import NoiseRate, Table
from fastnoisy.methods._pairs import KeptCount, TwoNetworks, mean_over, smallest
from fastnoisy.methods.base import Context, Progress, Record, StepBatch


class JoCoR(TwoNetworks):
    """JoCoR: two networks under one loss with a symmetric KL term; only the samples with the smallest joint loss train.

    l = (1 - c)(CE(z_1) + CE(z_2)) + c (KL(p_2 || p_1) + KL(p_1 || p_2)), mean over the int((1 - R(t)) B) smallest; R(t)
    as in Co-teaching, but with half of the nominal rate for asymmetric noise, as in the official code. Wei et al.,
    "Combating Noisy Labels by Agreement: A Joint Training Method with Co-Regularization", CVPR 2020.
    """

    class Options(Table):
        """Options of JoCoR."""

        co_lambda: float = Field(
            0.9, ge=0, le=1, description="c; 0.65 at 80 % noise, 0.85 on CIFAR-100, 0.1 in the code"
        )
        noise_rate: NoiseRate = Field(
            None,
            description="tau; default: the measured rate, for asymmetric noise half of the nominal one; estimate: from "
            "the labels themselves",
        )
        warmup: int = Field(30, ge=1, description="T_k, epochs until all of tau is left out (10 in the original)")
        warmup_mode: Literal["gradual", "plain"] = Field("gradual", description="plain: nothing is left out before T_k")

    needs_noise_rate = True
    unsupported: Mapping[str, str] = MappingProxyType(
        {"accumulate": "the smallest losses are those of the whole global batch"}
    )
    options: Options

    def __init__(self, context: Context, options: Options) -> None:
        super().__init__(context, options)
        halved = options.noise_rate is None and context.noise.kind == "asymmetric"
        rate = context.noise.nominal / 2 if halved else context.noise_rate(options.noise_rate)
        self.kept = KeptCount(rate, options.warmup, options.warmup_mode)

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """Both networks on the same view, one loss."""
        batch = batches["train"]
        first, second = self.forwards(batch)
        joint = losses.jocor(first.logits, second.logits, batch.labels, self.options.co_lambda)
        whole = self.group.gather(joint)
        mask = smallest(whole, self.kept(progress.epoch, len(whole)))
        agree = first.logits.argmax(dim=1) == second.logits.argmax(dim=1)
        logs = {"kept": mask.double().mean(), "agreement": agree.double().mean()}
        return Record(mean_over(joint, mask, self.group), [first, second], logs)


METHOD = JoCoR
