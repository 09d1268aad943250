"""The Method contract: what the loop asks of a method, and what a method tells a wrapper.

A method is an `nn.Module` that owns its networks and its state, all registered, so that all of it is in every checkpoint.
It declares *streams* (which rows, which views of each) and the *passes* of an epoch (which streams feed its steps, how
many), and turns one batch of each stream into a `Record`. It never sees a clean label.

In a step there is no host synchronisation (no `.item()`, no data-dependent shapes): selections are masks of fixed shape,
and whatever changes with time comes in as 0-dimensional tensors, so that nothing recompiles at a milestone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastnoisy import models
from fastnoisy.config import Table
from fastnoisy.models.base import Backbone
from fastnoisy.models.heads import Network, Outputs


@dataclass(frozen=True)
class Stream:
    """A supply of samples.

    Attributes:
        population: the named set of rows that it runs over; `train` is the whole training part.
        views: name -> view program of the configuration. Two names may share a program: draws are keyed by the name.
    """

    population: str = "train"
    views: Mapping[str, str] = field(default_factory=lambda: {"student": "student"})


@dataclass(frozen=True)
class Pass:
    """A part of an epoch: steps that draw one batch from each of `streams`; the first stream's end ends the pass."""

    name: str = "train"
    streams: tuple[str, ...] = ("train",)


@dataclass(frozen=True)
class StepBatch:
    """One stream's batch as a step sees it.

    Attributes:
        views: name -> float images (B, 3, h, w), normalised.
        labels: int64 (B,), the given labels.
        indices: int64 (B,), rows in the data set.
    """

    views: dict[str, Tensor]
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True)
class Progress:
    """Where the run is. `epoch` and `step` are 0-dimensional int64 tensors on the device; `epochs` is the plan's length."""

    epoch: Tensor
    step: Tensor
    epochs: int


@dataclass
class Forward:
    """What a wrapper needs to know of one trained network's forward in a step.

    Attributes:
        network: which of `Method.networks` it was.
        logits: (B, C) of the main classifier.
        sub_logits: (B, C) of each sub-classifier, shallowest first.
        labels, indices: (B,) int64, of the samples of this forward.
        memory_logits: (B, C) that a memory shall see; the main logits where None.
        partners: (B,) int64 positions within this forward that inputs were mixed with, or None.
        partner_weight: (B,) or 0-dimensional: the own share of each mixed input, or None.
    """

    network: int
    logits: Tensor
    sub_logits: tuple[Tensor, ...]
    labels: Tensor
    indices: Tensor
    memory_logits: Tensor | None = None
    partners: Tensor | None = None
    partner_weight: Tensor | None = None


@dataclass
class Record:
    """What a step returns.

    Attributes:
        loss: 0-dimensional, the mean over the batch that is back-propagated.
        forwards: one per trained network that ran.
        logs: name -> 0-dimensional tensor, averaged over the epoch.
    """

    loss: Tensor
    forwards: list[Forward]
    logs: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a method is built from.

    Attributes:
        model: the configuration's `model` table.
        num_classes: C.
        num_samples: rows of the data set, for memories addressed by row.
        taps: stages that trained networks carry sub-classifiers on; None: the network's `default_taps`; (): none.
        memory_dtype: dtype of per-sample memories.
        restored: a checkpoint will be put into the method, so files it would start from need not be there.
    """

    model: dict[str, Any]
    num_classes: int
    num_samples: int
    taps: tuple[int, ...] | None = ()
    memory_dtype: torch.dtype = torch.float32
    restored: bool = False

    def network(self) -> Network:
        """A freshly initialised network to train, with sub-classifiers where `taps` asks for them. The backbone is drawn
        first: with and without heads it starts from the same weights.
        """
        backbone = models.build(self.model, self.num_classes, restored=self.restored)
        return Network(backbone, self.num_classes, backbone.default_taps if self.taps is None else self.taps)

    def with_heads(self, taps: Iterable[int] | None = None) -> Context:
        """The same with sub-classifiers on `taps`, by default on the network's `default_taps`."""
        return replace(self, taps=None if taps is None else tuple(taps))


Predict = Callable[[], dict[str, Tensor]]
"""Runs over the training set's evaluation view and gives each of `Method.predictions` as (N, C) logits on the CPU."""


class Method(nn.Module):
    """Base of all methods. The file's last line names its class: `METHOD = MyMethod`; the docstring's first line is its
    one-line description.

    Class attributes:
        streams, passes: see `Stream` and `Pass`; a method whose options change them sets them on the instance.
        suite: the set-up used where the user names none.
        networks_needed, needs_noise_rate: what the method's listing says.
        over_global_batch: whether selections, means and mixing run over the global batch of all ranks.
    """

    class Options(Table):
        """No options."""

    suite: ClassVar[str] = "alasca"
    networks_needed: ClassVar[int] = 1
    needs_noise_rate: ClassVar[bool] = False
    over_global_batch: ClassVar[bool] = True

    streams: Mapping[str, Stream] = {"train": Stream()}
    passes: tuple[Pass, ...] = (Pass(),)
    networks: nn.ModuleList

    def __init__(self, context: Context, options: Any) -> None:
        super().__init__()
        self.options = options
        self.num_classes = context.num_classes
        self.networks = nn.ModuleList()

    @classmethod
    def option_problems(cls, options: Any) -> list[str]:
        """Problems between options that no single field can see, one line each."""
        return []

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """One batch of each of the pass's streams to a `Record`. Runs under autocast and, if asked, compiled."""
        raise NotImplementedError

    def before_epoch(self, epoch: int, predict: Predict) -> dict[str, Any]:
        """Called before each epoch; returns populations to replace, name -> int64 rows (selection methods)."""
        return {}

    def after_backward(self, progress: Progress) -> None:
        """Called when the global batch's gradients are complete, before the optimiser's step (gradient masks)."""

    def after_step(self, progress: Progress) -> None:
        """Called after the optimiser's step (moving averages of weights)."""

    def predictions(self, images: Tensor) -> dict[str, Tensor]:
        """Logits (B, C) of each predictor the method has, for normalised images; the first is the one reported."""
        return self.predictors([network(images) for network in self.networks], images)

    def predictors(self, outputs: Sequence[Outputs], images: Tensor) -> dict[str, Tensor]:
        """The predictors, from what each of `networks` says of the images: a wrapper adds its own to the same forward."""
        return {"main": outputs[0].logits}

    def predict(self, images: Tensor) -> Tensor:
        """Logits (B, C) of the reported predictor."""
        return next(iter(self.predictions(images).values()))

    def primary_network(self) -> Network:
        """The network whose weights a checkpoint holds as its model."""
        network = self.networks[0]
        assert isinstance(network, Network)
        return network

    def clean_probability(self, predict: Predict, labels: Tensor) -> Tensor:
        """How probable it is that each given label is right.

        Args:
            predict: see `Predict`.
            labels: int64 (N,), given labels on the CPU.

        Returns:
            float (N,) in [0, 1] on the CPU; by default the reported predictor's probability of the given label.
        """
        logits = next(iter(predict().values()))
        return logits.float().softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)


class SingleNetwork(Method):
    """A method of one network, one view and a loss of logits and labels: subclasses define `loss` alone."""

    def __init__(self, context: Context, options: Any) -> None:
        super().__init__(context, options)
        self.networks.append(context.network())

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """Per-sample losses (B,)."""
        raise NotImplementedError

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """Forward of the student view, mean of the losses."""
        batch = batches["train"]
        out = self.networks[0](batch.views["student"])
        loss = self.loss(out.logits, batch.labels, batch.indices, progress).mean()
        return Record(loss, [Forward(0, out.logits, out.sub_logits, batch.labels, batch.indices)])


class AveragedBackbone(nn.Module):
    """An exponential moving average of a backbone's weights: ema <- decay * ema + (1 - decay) * theta.

    Starts as a copy of the initial weights (NRD 1.3). BatchNorm buffers follow `buffers`: `batch`: they are this copy's
    own, moved by its own train-mode forwards; `ema`: float buffers are averaged with the same decay and integer ones copied;
    `student`: all are copied. Under the last two its forwards run in evaluation mode (decision N2).
    """

    def __init__(self, source: Backbone, decay: float, buffers: str) -> None:
        super().__init__()
        self.decay, self.buffer_rule = decay, buffers
        self.average = copy.deepcopy(source).requires_grad_(False)

    def train(self, mode: bool = True) -> AveragedBackbone:
        """Train mode reaches the copy only where its own batch statistics are wanted."""
        super().train(mode)
        self.average.train(mode and self.buffer_rule == "batch")
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits (B, C), without gradient."""
        with torch.no_grad():
            return self.average(images)

    @torch.no_grad()
    def update(self, source: Backbone) -> None:
        """One step of the average, after the optimiser's step. No host synchronisation."""
        torch._foreach_lerp_(list(self.average.parameters()), list(source.parameters()), 1 - self.decay)
        if self.buffer_rule == "batch":
            return
        pairs = list(zip(self.average.buffers(), source.buffers(), strict=True))
        floats = [(a, b) for a, b in pairs if a.is_floating_point() and self.buffer_rule == "ema"]
        if floats:
            torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - self.decay)
        for a, b in pairs:
            if not (a.is_floating_point() and self.buffer_rule == "ema"):
                a.copy_(b)
