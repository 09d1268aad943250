"""Robust early-learning: only parameters that matter for clean labels are updated by the gradient."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from fastnoisy import losses
from fastnoisy.config import NoiseRate, Table
from fastnoisy.methods.base import Context, Progress, SingleNetwork


class RobustEarlyLearning(SingleNetwork):
    """CDR: cross-entropy; weights with a large |weight * gradient| follow the gradient, the others just decay.

    g <- (1 - tau) g where |w g| is among the int((1 - tau) n) largest of all n convolution and linear weights together,
    else 0; biases and BatchNorm keep theirs. tau is the noise rate. Weight decay and momentum act on all of them. Xia
    et al., "Robust Early-Learning: Hindering the Memorization of Noisy Labels", ICLR 2021; the official code's ratio, 1
    - tau from the first step on (its gradual schedule is overwritten there).
    """

    class Options(Table):
        """Options of CDR."""

        noise_rate: NoiseRate = Field(
            None, description="tau; default: the measured or configured rate; estimate: from the labels themselves"
        )

    needs_noise_rate = True
    options: Options

    def __init__(self, context: Context, options: Options) -> None:
        super().__init__(context, options)
        self.rate = context.noise_rate(options.noise_rate)

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """See `fastnoisy.losses.cross_entropy`."""
        return losses.cross_entropy(logits, labels)

    @torch.no_grad()
    def after_backward(self, progress: Progress) -> None:
        """Mask the gradients. No host synchronisation: the number kept is known from the rate."""
        pairs = [(p, p.grad) for p in self.networks.parameters() if p.ndim in (2, 4) and p.grad is not None]
        gradients = [gradient for _, gradient in pairs]
        scores = [(weight * gradient).abs_() for weight, gradient in pairs]
        flat = torch.cat([score.flatten() for score in scores])
        kept = max(1, int((1 - self.rate) * len(flat)))
        least = flat.kthvalue(len(flat) - kept + 1).values
        for gradient, score in zip(gradients, scores, strict=True):
            gradient.mul_((score >= least) * (1 - self.rate))


METHOD = RobustEarlyLearning
