"""NCE+RCE: an active loss and a passive loss."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from fastnoisy import losses
from fastnoisy.config import Table
from fastnoisy.methods.base import Progress, SingleNetwork


class ActivePassive(SingleNetwork):
    """NCE+RCE: normalised cross-entropy (active: raises p_y) plus reverse cross-entropy (passive: lowers the others).

    loss = alpha * log p_y / sum_k log p_k - beta * sum_k p_k log t_k, t = e_y clamped to [1e-4, 1].
    Ma et al., "Normalized Loss Functions for Deep Learning with Noisy Labels", ICML 2020; they take alpha=1, beta=1 on
    CIFAR-10 and 10, 0.1 on CIFAR-100. The defaults are what NRD's Table 5 has most often on CIFAR-10; on CIFAR-100 it
    mostly has 20, 0.1. Their trainer clips gradients at norm 5; here nothing is clipped.
    """

    class Options(Table):
        """Options of NCE+RCE."""

        alpha: float = Field(10.0, ge=0, description="weight of normalised cross-entropy (Table 5)")
        beta: float = Field(0.1, ge=0, description="weight of reverse cross-entropy (Table 5)")

    suite = "nrd"
    options: Options

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """See `fastnoisy.losses.nce_rce`."""
        return losses.nce_rce(logits, labels, self.options.alpha, self.options.beta)


METHOD = ActivePassive
