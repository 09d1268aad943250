"""ELR+: early-learning regularisation of two networks by each other's averaged weights, on mixed inputs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fastnoisy import keyed_random, losses, mixing
from fastnoisy.config import Table
from fastnoisy.methods._pairs import TwoNetworks
from fastnoisy.methods.base import (
    AveragedBackbone,
    Context,
    Forward,
    Pass,
    Progress,
    Record,
    StepBatch,
    Stream,
    TrainingSet,
)
from fastnoisy.models.heads import Network
from fastnoisy.sample_memory import SampleMemory


class EarlyLearningRegularizationPlus(TwoNetworks):
    """ELR+: ELR with mixup, two networks, and a memory of what the other network's average says of the image.

    Net k on x' = lam x + (1 - lam) x_partner, lam ~ Beta(alpha, alpha), max(lam, 1 - lam). Memory: t <- beta t + (1 -
    beta) p, p what the other net's average says of x; q = lam t + (1 - lam) t_partner. loss = soft CE(z, y') + r
    lam_elr ln(1 - <q, p~>), r = exp(-5 (1 - s / S)^2), s = 1 in the first step. The average's decay rises as exp(-5 (1
    - (s + 1) / 40,000)^2) * 0.997; its BatchNorm statistics are its own. With `reweight` (CIFAR-100 in the official
    code) y' is multiplied by q and renormalised. Liu et al., "Early-Learning Regularization Prevents Memorization of
    Noisy Labels", NeurIPS 2020; as in the official code.
    """

    class Options(Table):
        """Options of ELR+."""

        beta: float = Field(0.7, ge=0, lt=1, description="share of the old row; 0.9 for asymmetric noise and CIFAR-100")
        lam: float = Field(3.0, ge=0, description="weight of the regulariser; 1 for asymmetric noise, 7 for CIFAR-100")
        alpha: float = Field(1.0, gt=0, description="of Beta(alpha, alpha); 1.5 on WebVision")
        ramp_steps: int = Field(0, ge=0, description="S, steps until the regulariser counts in full; 0: at once")
        ema_decay: float = Field(0.997, ge=0, le=1, description="decay of the weight averages in the end")
        ema_steps: int = Field(40000, ge=0, description="steps until that; 0: min(1 - 1 / (s + 1), ema_decay) instead")
        reweight: str = Field("auto", pattern="^(auto|on|off)$", description="auto: where there are 100 classes")

    unsupported: Mapping[str, str] = MappingProxyType(
        {"accumulate": "mixing partners are drawn from the whole global batch"}
    )
    remembers = "probabilities, 2 C numbers"
    semi_supervised = True
    options: Options
    steps: Tensor

    def __init__(self, context: Context, options: Options) -> None:
        super().__init__(context, options)
        nets = [network for network in self.networks if isinstance(network, Network)]
        self.averages = nn.ModuleList(AveragedBackbone(net.backbone, options.ema_decay, "batch") for net in nets)
        self.memories = nn.ModuleList(
            SampleMemory(context.num_samples, context.num_classes, options.beta, context.memory_dtype) for _ in nets
        )
        self.weights = mixing.BetaWeights(options.alpha, larger=True)
        self.keys = [keyed_random.key(context.seed, keyed_random.name_value(f"elr_plus_{net}")) for net in (1, 2)]
        self.reweights = context.num_classes == 100 if options.reweight == "auto" else options.reweight == "on"
        self.register_buffer("steps", torch.zeros(2, dtype=torch.int64))  # that each net has trained
        self.active = 0
        self.streams = {f"train_{net}": Stream(views={f"student_{net}": "student"}) for net in "12"}
        self.passes = tuple(Pass(f"net {net}", (f"train_{net}",)) for net in "12")

    def before_pass(self, name: str) -> None:
        """Which of the nets trains."""
        self.active = [spec.name for spec in self.passes].index(name)

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """A step of the net that the stream is named for."""
        net = 0 if "train_1" in batches else 1
        batch, options = batches[f"train_{net + 1}"], self.options
        images, memory = batch.views[f"student_{net + 1}"], self.memories[net]
        assert isinstance(memory, SampleMemory)
        key = keyed_random.fold(keyed_random.fold(self.keys[net], progress.epoch), progress.step)
        weight, others = self.weights(key), mixing.partners(key, self.group, len(batch.labels))

        def mixed(values: Tensor) -> Tensor:
            return mixing.mix(values, others, weight, self.group)

        seen = self.averages[1 - net](images)
        remembered = mixed(memory.update(batch.indices, losses.probabilities(seen)))
        out = self.networks[net](mixed(images))
        labels = F.one_hot(batch.labels, self.num_classes).to(remembered.dtype)
        loss = elr_plus_loss(out.logits, mixed(labels), remembered, options.lam * self._ramp(net), self.reweights)
        forward = Forward(net, out.logits, out.sub_logits, batch.labels, batch.indices, seen, others, weight)
        return Record(loss, [forward])

    def after_step(self, progress: Progress, sound: Tensor) -> None:
        """Move the average of the net that has trained; its decay depends on how many steps that net has made."""
        net, options = self.networks[self.active], self.options
        self.steps[self.active] += sound
        done = self.steps[self.active].double()
        if options.ema_steps:
            decay = sigmoid_ramp(done + 1, options.ema_steps) * options.ema_decay
        else:
            decay = (1 - 1 / (done + 1)).clamp(max=options.ema_decay)
        average = self.averages[self.active]
        assert isinstance(average, AveragedBackbone)
        assert isinstance(net, Network)
        average.update(net.backbone, sound, decay)

    def _ramp(self, net: int) -> Tensor:
        step = self.steps[net].double() + 1
        return sigmoid_ramp(step, self.options.ramp_steps) if self.options.ramp_steps else torch.ones_like(step)

    def clean_probability(self, training: TrainingSet) -> Tensor:
        """The remembered probability of the given label, mean of both memories; elsewhere the predictor's."""
        memories = [memory for memory in self.memories if isinstance(memory, SampleMemory)]
        found = torch.stack([memory.probability_of(training.labels) for memory in memories]).nanmean(dim=0)
        return torch.where(found.isnan(), super().clean_probability(training), found)


def sigmoid_ramp(step: Tensor, length: int) -> Tensor:
    """exp(-5 (1 - min(step, length) / length)^2), of a float64 tensor."""
    return torch.exp(-5 * (1 - step.clamp(max=length) / length) ** 2)


def elr_plus_loss(logits: Tensor, targets: Tensor, remembered: Tensor, lam: Tensor, reweight: bool) -> Tensor:
    """Mean of soft CE(z, y') + lam ln(1 - <q, p~>), 0-dimensional.

    Args:
        logits: (B, C), of the mixed inputs.
        targets: (B, C), y', mixed labels.
        remembered: (B, C), q, mixed rows of the memory.
        lam: 0-dimensional, ramp included.
        reweight: multiply y' by q and renormalise.
    """
    if reweight:
        targets = targets * remembered
        targets = targets / targets.sum(dim=1, keepdim=True)
    penalty = losses.early_learning_penalty(logits, remembered)
    loss = losses.soft_cross_entropy(logits, targets) + lam.to(penalty.dtype) * penalty
    return loss.mean()


METHOD = EarlyLearningRegularizationPlus
