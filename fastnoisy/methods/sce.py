"""Symmetric cross-entropy: cross-entropy plus its reverse."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from fastnoisy import losses
from fastnoisy.config import Table
from fastnoisy.methods.base import Progress, SingleNetwork


class SymmetricCrossEntropy(SingleNetwork):
    """SCE: cross-entropy, which learns, plus reverse cross-entropy, which tolerates wrong labels.

    loss = alpha * -log p_y - beta * sum_k p_k log t_k, t = e_y clamped to [floor, 1], p there to [1e-7, 1].
    Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", ICCV 2019; numerics of the GJS code.
    Table 5: alpha 0.05 to 0.2, beta 0.1 or 1. ALASCA's code takes alpha=1, beta=0.4 and `clamp_label`.
    """

    class Options(Table):
        """Options of SCE."""

        alpha: float = Field(0.1, ge=0, description="weight of cross-entropy (Table 5)")
        beta: float = Field(1.0, ge=0, description="weight of reverse cross-entropy (Table 5)")
        floor: float = Field(1e-4, gt=0, lt=1, description="what the label's zeros become under the logarithm")
        clamp_label: bool = Field(False, description="the same zeros in the first term too, as in ALASCA's code")

    suite = "nrd"
    options: Options

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """See `fastnoisy.losses.symmetric_cross_entropy`."""
        options = self.options
        return losses.symmetric_cross_entropy(
            logits, labels, options.alpha, options.beta, options.floor, clamp_label=options.clamp_label
        )


METHOD = SymmetricCrossEntropy
