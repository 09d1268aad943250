"""Label smoothing: a constant share of every label goes to all classes."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from fastnoisy import losses
from fastnoisy.config import Table
from fastnoisy.methods.base import Progress, SingleNetwork


class LabelSmoothing(SingleNetwork):
    """Label smoothing: cross-entropy to the given label mixed with the uniform distribution.

    loss = -sum_k t_k log p_k, t = (1 - epsilon) e_y + epsilon / C.
    Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016; for noisy labels Lukasik et al., ICML 2020.
    The GJS code reports KL(t || p) instead: the same gradient, the value lower by the entropy of t.
    """

    class Options(Table):
        """Options of label smoothing."""

        epsilon: float = Field(0.1, ge=0, le=1, description="share of the uniform distribution (Table 5)")

    suite = "nrd"
    options: Options

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """See `fastnoisy.losses.label_smoothing`."""
        return losses.label_smoothing(logits, labels, self.options.epsilon)


METHOD = LabelSmoothing
