"""JS: a Jensen-Shannon divergence between label and prediction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from fastnoisy import losses
from fastnoisy.config import Table
from fastnoisy.methods.base import Progress, SingleNetwork


class JensenShannon(SingleNetwork):
    """JS: weighted Jensen-Shannon divergence between the given label and the prediction.

    loss = Z * JSD_(w, 1-w)(e_y, p) with w the label's weight and Z = -1 / ((1-w) ln(1-w)): near cross-entropy as w ->
    0, near mean absolute error as w -> 1. Englesson & Azizpour, "Generalized Jensen-Shannon Divergence Loss for
    Learning with Noisy Labels", NeurIPS 2021.
    """

    class Options(Table):
        """Options of JS."""

        weight: float = Field(0.5, gt=0, lt=1, description="pi1, the label's; the prediction has 1 - pi1 (Table 5)")
        normalize: Literal["gjs", "none"] = Field("gjs", description="Z of the GJS code, or the bare divergence (N1)")

    suite = "nrd"
    options: Options

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """See `fastnoisy.losses.jensen_shannon`."""
        return losses.jensen_shannon(logits, labels, self.options.weight, self.options.normalize == "gjs")


METHOD = JensenShannon
