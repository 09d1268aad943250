"""Generalized cross-entropy: between cross-entropy and mean absolute error."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from fastnoisy import losses
from fastnoisy.config import Table
from fastnoisy.methods.base import Progress, SingleNetwork


class GeneralizedCrossEntropy(SingleNetwork):
    """GCE: a loss between cross-entropy (q -> 0, learns) and mean absolute error (q = 1, tolerates wrong labels).

    loss = (1 - p_y^q) / q, p_y clamped to at least floor; a clamped sample has no gradient.
    Zhang & Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", NeurIPS 2018.
    The clamp is the GJS code's; ALASCA's code uses floor=1e-4. The truncated variant, whose weights come from the best
    checkpoint so far, is not a method here: `fastnoisy.losses.truncated_generalized_cross_entropy` is its loss.
    """

    class Options(Table):
        """Options of GCE."""

        q: float = Field(0.7, gt=0, le=1, description="0: cross-entropy, 1: mean absolute error (Table 5)")
        floor: float = Field(1e-7, ge=0, lt=1, description="least p_y; samples below have no gradient; 0: no clamp")

    suite = "nrd"
    options: Options

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """See `fastnoisy.losses.generalized_cross_entropy`."""
        return losses.generalized_cross_entropy(logits, labels, self.options.q, floor=self.options.floor)


METHOD = GeneralizedCrossEntropy
