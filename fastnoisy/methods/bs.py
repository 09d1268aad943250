"""Bootstrapping: targets that the network's own prediction takes part in."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from fastnoisy import losses
from fastnoisy.config import Table
from fastnoisy.methods.base import Progress, SingleNetwork


class Bootstrapping(SingleNetwork):
    """Bootstrapping: cross-entropy to a mix of the given label and the network's own prediction.

    soft: loss = -sum_k t_k log p_k, t = (1 - beta) e_y + beta p; hard: the same with the one-hot argmax of p in t.
    Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping", ICLR 2015 workshop.
    `beta` is the weight on the prediction, as in the GJS code and NRD's Table 5 (0.3 to 0.9); Reed et al. call 1 - beta
    so. As in the GJS code the prediction is not detached and logarithms are clamped at log 1e-7, in both variants.
    """

    class Options(Table):
        """Options of bootstrapping."""

        beta: float = Field(0.5, ge=0, le=1, description="weight on the prediction; the label has 1 - beta (Table 5)")
        variant: Literal["soft", "hard"] = Field("soft", description="the prediction as it is, or its one-hot argmax")

    suite = "nrd"
    options: Options

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """See `fastnoisy.losses.soft_bootstrapping` and `hard_bootstrapping`."""
        function = losses.soft_bootstrapping if self.options.variant == "soft" else losses.hard_bootstrapping
        return function(logits, labels, self.options.beta)


METHOD = Bootstrapping
