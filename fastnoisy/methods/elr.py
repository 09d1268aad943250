"""Early-learning regularisation: a memory of what the network believed early holds it back from memorising."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from fastnoisy import losses
from fastnoisy.config import Table
from fastnoisy.methods.base import Context, Progress, SingleNetwork, TrainingSet
from fastnoisy.sample_memory import SampleMemory


class EarlyLearningRegularization(SingleNetwork):
    """ELR: cross-entropy plus lam * ln(1 - <t, p>), t a moving average per sample of the network's own probabilities.

    Memory per sample: t <- beta t + (1 - beta) p~ / sum(p~), p~ = softmax(z) clamped to [1e-4, 1 - 1e-4], updated
    before use. Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020; as in
    the official code.
    """

    class Options(Table):
        """Options of ELR."""

        beta: float = Field(0.7, ge=0, lt=1, description="share of the old row; 0.9 for asymmetric noise and CIFAR-100")
        lam: float = Field(3.0, ge=0, description="weight of the regulariser; 1 for asymmetric noise, 7 for CIFAR-100")

    remembers = "probabilities, C numbers"
    options: Options

    def __init__(self, context: Context, options: Options) -> None:
        super().__init__(context, options)
        self.memory = SampleMemory(context.num_samples, context.num_classes, options.beta, context.memory_dtype)

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """Cross-entropy and `fastnoisy.losses.early_learning_penalty`; moves the rows of `indices` first."""
        with torch.no_grad():
            clamped = losses.probabilities(logits).clamp(1e-4, 1 - 1e-4)
            remembered = self.memory.update(indices, clamped / clamped.sum(dim=1, keepdim=True))
        penalty = losses.early_learning_penalty(logits, remembered)
        return losses.cross_entropy(logits, labels) + self.options.lam * penalty

    def clean_probability(self, training: TrainingSet) -> Tensor:
        """The remembered probability of the given label; of rows that were never visited the network's own."""
        found = self.memory.probability_of(training.labels)
        return torch.where(found.isnan(), super().clean_probability(training), found)


METHOD = EarlyLearningRegularization
