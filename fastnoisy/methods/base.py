"""The Method contract: what the loop asks of a method, and what a method tells a wrapper.

A method is an `nn.Module` that owns its networks and its state, all registered, so that all of it is in every
checkpoint. It declares *streams* (which rows, which views of each) and the *passes* of an epoch (which streams feed its
steps, how many), and turns one batch of each stream into a `Record`. It never sees a clean label.

In a step there is no host synchronisation (no `.item()`, no data-dependent shapes): selections are masks of fixed
shape, and whatever changes with time comes in as 0-dimensional tensors, so that nothing recompiles at a milestone.
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
from fastnoisy.distributed import ONE, Group
from fastnoisy.errors import FastnoisyError
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
    """A part of an epoch: steps that draw one batch from each of `streams`; the first stream's end ends the pass.

    Attributes:
        batch_factor: this pass's batches are so many times the configuration's `batch_size`.
        drop_last: whether a last batch that is not full is left out; None: as the configuration says. A pass over a
            selection, whose size changes from epoch to epoch, leaves it out, or every epoch would bring a new shape.
    """

    name: str = "train"
    streams: tuple[str, ...] = ("train",)
    batch_factor: int = 1
    drop_last: bool | None = None


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
    """Where the run is.

    Attributes:
        epoch, step: 0-dimensional int64 tensors on the device; the step counts within the pass.
        epochs: how many the run will have.
        fraction: 0-dimensional float64 on the device: how much of the pass was done before this step, 0 to 1.
    """

    epoch: Tensor
    step: Tensor
    epochs: int
    fraction: Tensor

    @classmethod
    def start(cls, epochs: int, device: torch.device | str = "cpu") -> Progress:
        """The beginning of a run."""
        epoch, step = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        return cls(epoch, step, epochs, torch.zeros((), dtype=torch.float64, device=device))

    def move(self, epoch: int, step: int, steps: int) -> None:
        """Write a position into the tensors, in place: step `step` of `steps`."""
        self.epoch.fill_(epoch)
        self.step.fill_(step)
        self.fraction.fill_(step / max(1, steps))


@dataclass
class Forward:
    """What a wrapper needs to know of one trained network's forward in a step.

    Attributes:
        network: which of `Method.networks` it was.
        logits: (B, C) of the main classifier.
        sub_logits: (B, C) of each sub-classifier, shallowest first.
        labels, indices: (B,) int64, of the samples of this forward.
        memory_logits: (B, C) that a memory shall see; the main logits where None.
        partners: (B,) int64, what inputs were mixed with, or None: positions in the *global* batch, that is in the
            rows of this forward on all ranks as `Context.group` gathers them.
        own_weight: (B,) or 0-dimensional: the weight of the own image in each mixed input, or None.
    """

    network: int
    logits: Tensor
    sub_logits: tuple[Tensor, ...]
    labels: Tensor
    indices: Tensor
    memory_logits: Tensor | None = None
    partners: Tensor | None = None
    own_weight: Tensor | None = None


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
class NoiseFacts:
    """What a method may know of the noise, and never which labels are wrong.

    Attributes:
        rate: how many of the training labels are wrong, 0 to 1: measured where clean labels are known, else None.
        kind: of the configured noise: `symmetric`, `asymmetric`, `pairflip`, `instance`, `human`, `file` or `none`.
        nominal: the configured rate; 0 where the noise has none.
        estimate: the rate as it was estimated from the labels; None where no option asks for it.
    """

    rate: float | None = None
    kind: str = "none"
    nominal: float = 0.0
    estimate: float | None = None

    @property
    def class_dependent(self) -> bool:
        """Whether wrong labels depend on the true class alone."""
        return self.kind in ("asymmetric", "pairflip")


@dataclass(frozen=True)
class Context:
    """What a method is built from.

    Attributes:
        model: the configuration's `model` table.
        num_classes: C.
        num_samples: rows of the data set, for memories addressed by row.
        taps: stages that trained networks carry sub-classifiers on; None: the network's `default_taps`; (): none.
        recompute: whether sub-classifiers are computed again in the backward; see `Network`.
        group: the ranks; selections, means over them and mixing run over the global batch through it.
        memory_dtype: dtype of per-sample memories.
        batch_size: the global batch of a pass whose `batch_factor` is 1.
        seed: the run's, for draws of the method's own (mixing partners and weights).
        noise: what is known of the noise; see `NoiseFacts`.
        restored: a checkpoint will be put into the method, so files it would start from need not be there.
    """

    model: dict[str, Any]
    num_classes: int
    num_samples: int
    taps: tuple[int, ...] | None = ()
    memory_dtype: torch.dtype = torch.float32
    restored: bool = False
    batch_size: int = 1
    seed: int = 0
    noise: NoiseFacts = NoiseFacts()
    recompute: bool = False
    group: Group = ONE

    def noise_rate(self, named: float | str | None) -> float:
        """The rate that a method which must know it goes by: the one that its options name, else the known one.

        Args:
            named: of the type `NoiseRate`.

        Raises:
            FastnoisyError: neither is there.
        """
        rate = self.noise.rate if named is None else self.noise.estimate if isinstance(named, str) else named
        if rate is None and not self.restored:
            raise FastnoisyError(
                "this method must know what share of the labels is wrong, and of this data set it is not known",
                "Set it, for example method.noise_rate=0.2, or method.noise_rate=estimate (of a wrapped method "
                "method.base.noise_rate)",
            )
        return rate or 0.0

    def network(self) -> Network:
        """A freshly initialised network to train, with sub-classifiers where `taps` asks for them. The backbone is
        drawn first: with and without heads it starts from the same weights.
        """
        backbone = models.build(self.model, self.num_classes, restored=self.restored)
        taps = backbone.default_taps if self.taps is None else self.taps
        return Network(backbone, self.num_classes, taps, self.recompute)

    def with_heads(self, taps: Iterable[int] | None = None, recompute: bool = False) -> Context:
        """The same with sub-classifiers on `taps`, by default on the network's `default_taps`."""
        return replace(self, taps=None if taps is None else tuple(taps), recompute=recompute)


@dataclass(frozen=True)
class TrainingSet:
    """What a method may ask of the training set between epochs and at the end.

    Attributes:
        predict: runs over the training set's evaluation view and gives each of `Method.predictions` as (N, C) float32
            logits on the CPU; rows that were not asked for are zero: between epochs all but `rows`, at the end those
            that are neither trained on nor held out.
        labels: int64 (N,) on the CPU, the given labels of all rows of the data set.
        rows: int64 (n,) on the CPU, ascending, the rows that the epoch, or at the end the run, trains on.
    """

    predict: Callable[[], dict[str, Tensor]]
    labels: Tensor
    rows: Tensor


class Method(nn.Module):
    """Base of all methods. The file's last line names its class: `METHOD = MyMethod`; the docstring's first line is its
    one-line description.

    Class attributes:
        streams, passes: see `Stream` and `Pass`; a method whose options change them sets them on the instance. `plan`
            says which passes an epoch has, where they are not all of them.
        suite: the set-up used where the user names none.
        networks_needed, needs_noise_rate: what the method's listing says.
        remembers: what is kept of every training sample, and how many numbers; empty: nothing.
        semi_supervised: whether it takes labels from some samples: ALASCA's ramp then ends higher, and its own networks
            predict.
        unsupported: settings that the method does not work with, each with the reason. Known: `accumulate`.
    """

    class Options(Table):
        """No options."""

    suite: ClassVar[str] = "alasca"
    networks_needed: ClassVar[int] = 1
    needs_noise_rate: ClassVar[bool] = False
    remembers: ClassVar[str] = ""
    semi_supervised: bool = False

    streams: Mapping[str, Stream] = {"train": Stream()}
    passes: tuple[Pass, ...] = (Pass(),)
    unsupported: Mapping[str, str] = {}
    networks: nn.ModuleList

    def __init__(self, context: Context, options: Any) -> None:
        super().__init__()
        self.options = options
        self.num_classes = context.num_classes
        self.group = context.group
        self.networks = nn.ModuleList()

    @classmethod
    def option_problems(cls, options: Any) -> list[str]:
        """Problems between options that no single field can see, one line each."""
        return []

    @classmethod
    def spelled_out(cls, options: dict[str, Any]) -> dict[str, Any]:
        """A run's options as they are written down, where a run may be begun again from another folder: absolute
        paths.
        """
        return options

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """One batch of each of the pass's streams to a `Record`. Runs under autocast and, if asked, compiled."""
        raise NotImplementedError

    def plan(self, epoch: int) -> tuple[Pass, ...]:
        """The passes of an epoch, a pure function of it; by default all of `passes`."""
        return self.passes

    def before_epoch(self, epoch: int, training: TrainingSet) -> dict[str, Tensor]:
        """Called before each epoch; returns populations to make or replace, name -> int64 rows (selection methods).

        What it keeps goes into buffers of fixed shape, so that a run that goes on in the middle of the epoch has it.
        """
        return {}

    def before_pass(self, name: str) -> None:
        """Called before each pass, and when a run goes on within one; all modules are in train mode then."""

    def after_backward(self, progress: Progress) -> None:
        """Called when the global batch's gradients are complete, before the optimiser's step (gradient masks)."""

    def after_step(self, progress: Progress, sound: Tensor) -> None:
        """Called after the optimiser's step (moving averages of weights).

        Args:
            sound: 0-dimensional bool on the device, whether this step's loss and gradients and all earlier ones were
                finite. Where it is false the weights were left alone, and so must be what follows them.
        """

    def predictions(self, images: Tensor) -> dict[str, Tensor]:
        """Logits (B, C) of each predictor the method has, for normalised images; the first is the one reported."""
        return self.predictors([network(images) for network in self.networks], images)

    def predictors(self, outputs: Sequence[Outputs], images: Tensor) -> dict[str, Tensor]:
        """The predictors, from what each of `networks` says of the images: a wrapper adds its own to the same
        forward.
        """
        return {"main": outputs[0].logits}

    def predict(self, images: Tensor) -> Tensor:
        """Logits (B, C) of the reported predictor."""
        return next(iter(self.predictions(images).values()))

    def primary_network(self) -> Network:
        """The network whose weights a checkpoint holds as its model."""
        network = self.networks[0]
        assert isinstance(network, Network)
        return network

    def clean_probability(self, training: TrainingSet) -> Tensor:
        """How probable it is that each given label is right.

        Returns:
            float (N,) in [0, 1] on the CPU; by default the reported predictor's probability of the given label.
        """
        logits = next(iter(training.predict().values()))
        return logits.float().softmax(dim=1).gather(1, training.labels.unsqueeze(1)).squeeze(1)


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
    own, moved by its own train-mode forwards; `ema`: floats are averaged with the same decay, others copied;
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
    def update(self, source: Backbone, sound: Tensor, decay: Tensor | None = None) -> None:
        """One step of the average, after the optimiser's step. No host synchronisation.

        Args:
            sound: 0-dimensional bool; where it is false nothing moves.
            decay: 0-dimensional, this step's; None: the constant one. Buffers always follow the constant one.
        """
        averages: list[Tensor] = list(self.average.parameters())
        weights: list[Tensor] = list(source.parameters())
        if decay is None:
            self._lerp(averages, weights, sound)
        else:
            kept = torch.where(sound, decay, torch.ones_like(decay))
            torch._foreach_mul_(averages, kept.to(averages[0].dtype))
            torch._foreach_add_(averages, torch._foreach_mul(weights, (1 - kept).to(averages[0].dtype)))
        if self.buffer_rule == "batch":
            return
        pairs = list(zip(self.average.buffers(), source.buffers(), strict=True))
        averaged = [pair for pair in pairs if self.buffer_rule == "ema" and pair[0].is_floating_point()]
        self._lerp([own for own, _ in averaged], [other for _, other in averaged], sound)
        for own, other in pairs:
            if not (self.buffer_rule == "ema" and own.is_floating_point()):
                own.copy_(other)  # of a step that was not sound they are put back by now, to what the copy has

    def _lerp(self, own: list[Tensor], others: list[Tensor], sound: Tensor) -> None:
        if own:
            # A weight per tensor, all one: with a number instead it could not depend on a flag that the host never
            # sees. The same bits in float32 and float64; eagerly a launch per tensor, in a compiled step one.
            weight = sound.to(own[0].dtype) * (1 - self.decay)
            torch._foreach_lerp_(own, others, [weight] * len(own))
