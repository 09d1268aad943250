"""Mixup: training on convex combinations of inputs and of their losses."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import Field

from fastnoisy import keyed_random, losses, mixing
from fastnoisy.config import Table
from fastnoisy.methods.base import Context, Forward, Progress, Record, SingleNetwork, StepBatch


class Mixup(SingleNetwork):
    """Mixup: cross-entropy on inputs mixed with partners of the batch, by one Beta-distributed weight per batch.

    x' = lam x + (1 - lam) x_partner, loss = lam CE(z, y) + (1 - lam) CE(z, y_partner), lam ~ Beta(alpha, alpha).
    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; as in the official CIFAR-10 code.
    """

    class Options(Table):
        """Options of Mixup."""

        alpha: float = Field(1.0, gt=0, description="of Beta(alpha, alpha)")

    unsupported: Mapping[str, str] = MappingProxyType(
        {"accumulate": "mixing partners are drawn from the whole global batch"}
    )
    options: Options

    def __init__(self, context: Context, options: Options) -> None:
        super().__init__(context, options)
        self.key = keyed_random.key(context.seed, keyed_random.name_value("mixup"))
        self.weights = mixing.BetaWeights(options.alpha)

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """One forward of the mixed images."""
        batch = batches["train"]
        key = keyed_random.fold(keyed_random.fold(self.key, progress.epoch), progress.step)
        weight, others = self.weights(key), mixing.partners(key, self.group, len(batch.labels))
        out = self.networks[0](mixing.mix(batch.views["student"], others, weight, self.group))
        own = losses.cross_entropy(out.logits, batch.labels, "mean")
        labels = self.group.gather(batch.labels).index_select(0, others)
        partners = losses.cross_entropy(out.logits, labels, "mean")
        forward = Forward(
            0, out.logits, out.sub_logits, batch.labels, batch.indices, partners=others, own_weight=weight
        )
        weight = weight.to(own.dtype)  # drawn in float64; two 0-dimensional tensors would make a loss of that
        return Record(weight * own + (1 - weight) * partners, [forward])


METHOD = Mixup
