"""Mean absolute error between label and prediction: the most tolerant loss, and the slowest to learn."""

from __future__ import annotations

from torch import Tensor

from fastnoisy import losses
from fastnoisy.methods.base import Progress, SingleNetwork


class MeanAbsoluteError(SingleNetwork):
    """MAE: one minus the probability of the given label; tolerates wrong labels, learns slowly.

    loss = 1 - p_y, the limit of normalised JS as its label weight goes to 1, and GCE with q = 1 without its clamp.
    Ghosh, Kumar & Sastry, "Robust Loss Functions under Label Noise for Deep Neural Networks", AAAI 2017, who scale it
    by
    2. A reference beside Table 5, which has no row of it.
    """

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """See `fastnoisy.losses.mean_absolute_error`."""
        return losses.mean_absolute_error(logits, labels)


METHOD = MeanAbsoluteError
