"""Adaptive label smoothing on the main classifier: what ALASCA moves to sub-classifiers."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fastnoisy import losses
from fastnoisy.config import Table
from fastnoisy.methods.base import Progress, SingleNetwork


class AdaptiveLabelSmoothing(SingleNetwork):
    """ALS: label smoothing by how much each label is believed, on the main classifier; for ALASCA's analysis.

    loss = beta CE + (1 - beta) Omega, beta = p_y without gradient, Omega = mean over k of -log p_k; CE alone in the
    warm-up. "ALASCA: Rethinking Label Smoothing for Deep Learning Under Label Noise", ICML 2022 workshop, Eq. 1 and 2;
    as printed Omega is C times as large (scale=sum), which is not label smoothing.
    """

    class Options(Table):
        """Options of ALS."""

        warmup: int = Field(20, ge=0, description="epochs of cross-entropy before beta is trusted")
        scale: Literal["mean", "sum"] = Field("mean", description="of Omega; sum: as printed")

    options: Options

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """See `fastnoisy.losses.adaptive_label_smoothing`."""
        plain = losses.cross_entropy(logits, labels)
        smoothed = losses.adaptive_label_smoothing(logits, labels, self.options.scale)
        return torch.where(progress.epoch < self.options.warmup, plain, smoothed)


METHOD = AdaptiveLabelSmoothing
