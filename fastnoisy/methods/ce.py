"""Cross-entropy on the given labels: the yardstick."""

from __future__ import annotations

from torch import Tensor

from fastnoisy import losses
from fastnoisy.methods.base import Progress, SingleNetwork


class CrossEntropy(SingleNetwork):
    """Cross-entropy on the given labels: the yardstick.

    loss = -log softmax(z)_y. Memorises wrong labels given enough epochs.
    """

    suite = "nrd"

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """See `fastnoisy.losses.cross_entropy`."""
        return losses.cross_entropy(logits, labels)


METHOD = CrossEntropy
