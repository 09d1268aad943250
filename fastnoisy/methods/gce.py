"""Generalized cross-entropy: between cross-entropy and mean absolute error."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from fastnoisy import losses
from fastnoisy.config import Table
from fastnoisy.methods.base import Context, Progress, SingleNetwork, TrainingSet


class GeneralizedCrossEntropy(SingleNetwork):
    """GCE: a loss between cross-entropy (q -> 0, learns) and mean absolute error (q = 1, tolerates wrong labels).

    loss = (1 - p_y^q) / q, p_y clamped to at least floor; a clamped sample has no gradient.
    Zhang & Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", NeurIPS 2018.
    The clamp is the GJS code's; ALASCA's code uses floor=1e-4. With `truncate` (0.5 in the paper) samples with p_y <= k
    are left out from epoch `prune_start` on, loss = w ((1 - p_y^q) / q - (1 - k^q) / q); w is renewed every
    `prune_every` epochs on the evaluation view by the current weights, where the paper takes the best checkpoint on
    clean images.
    """

    class Options(Table):
        """Options of GCE."""

        q: float = Field(0.7, gt=0, le=1, description="0: cross-entropy, 1: mean absolute error (Table 5)")
        floor: float = Field(1e-7, ge=0, lt=1, description="least p_y; samples below have no gradient; 0: no clamp")

        truncate: float = Field(0.0, ge=0, lt=1, description="k of the truncated loss; 0: not truncated")
        prune_start: int = Field(40, ge=0, description="first epoch that leaves samples out; 80 on CIFAR-100")
        prune_every: int = Field(10, ge=1, description="epochs until it is decided anew")

    suite = "nrd"
    options: Options
    kept: Tensor

    def __init__(self, context: Context, options: Options) -> None:
        super().__init__(context, options)
        if options.truncate:
            self.register_buffer("kept", torch.ones(context.num_samples, dtype=torch.bool))

    def before_epoch(self, epoch: int, training: TrainingSet) -> dict[str, Tensor]:
        """Decide which samples take part."""
        since = epoch - self.options.prune_start
        if self.options.truncate and since >= 0 and since % self.options.prune_every == 0:
            found = training.predict()["main"][training.rows].softmax(dim=1)
            of_label = found.gather(1, training.labels[training.rows].unsqueeze(1)).squeeze(1)
            self.kept[training.rows] = (of_label > self.options.truncate).to(self.kept.device)
        return {}

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """See `fastnoisy.losses.generalized_cross_entropy`."""
        whole = losses.generalized_cross_entropy(logits, labels, self.options.q, floor=self.options.floor)
        if not self.options.truncate:
            return whole
        kept = self.kept.index_select(0, indices)
        part = losses.truncated_generalized_cross_entropy(
            logits, labels, self.options.q, self.options.truncate, kept=kept
        )
        return torch.where(progress.epoch < self.options.prune_start, whole, part)


METHOD = GeneralizedCrossEntropy
