"""DivideMix: two networks split the training set for each other and learn from it semi-supervised."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fastnoisy import keyed_random, losses, mixing
from fastnoisy.config import Table
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods._pairs import TwoNetworks
from fastnoisy.methods.base import Context, Forward, Pass, Progress, Record, StepBatch, Stream, TrainingSet
from fastnoisy.models.heads import Network


class DivideMix(TwoNetworks):
    """DivideMix: each network's losses split clean from wrong labels for the other, which trains by MixMatch.

    After a warm-up with cross-entropy, each epoch: a two-component Gaussian mixture of each net's per-sample losses
    gives w_i, the probability of the lower component. Net k takes the other net's split: labelled where w > threshold,
    else unlabelled.
    Targets: labelled sharpen(w e_y + (1 - w) p), unlabelled sharpen(mean of both nets), each over two views; all are
    mixed with lam ~ Beta(alpha, alpha), max(lam, 1 - lam). loss = soft CE + lam_u ramp(t) mean (p - t)^2 + KL(uniform
    || mean p). Li et al., "DivideMix: Learning with Noisy Labels as Semi-supervised Learning", ICLR 2020; as in the
    official CIFAR code.
    Otherwise here: a part smaller than a batch is filled with the labels nearest to the threshold, and a last batch
    that is not full is left out. The official WebVision and Clothing1M code gives the network the labelled half of a
    mixed batch alone; here it sees both halves, and `lam_u=0` leaves the other half the penalty on the mean prediction.
    """

    class Options(Table):
        """Options of DivideMix."""

        warmup: int = Field(
            10, ge=0, description="epochs of cross-entropy, in batches of twice the size; 30 on CIFAR-100"
        )
        threshold: float = Field(0.5, ge=0, le=1, description="w above which a label is kept; 0.6 at 90 % noise")
        lam_u: float = Field(25.0, ge=0, description="weight of the unlabelled loss; 0 at 20 % and asymmetric noise")
        temperature: float = Field(0.5, gt=0, description="of the sharpening")
        alpha: float = Field(4.0, gt=0, description="of Beta(alpha, alpha); 0.5 on WebVision and Clothing1M")
        ramp: float = Field(16.0, gt=0, description="epochs after the warm-up until lam_u counts in full")
        history: int = Field(1, ge=1, description="epochs over which the losses are averaged; 5 at 90 % noise")
        negative_entropy: Literal["auto", "on", "off"] = Field(
            "auto", description="penalty on confidence in the warm-up; auto: where noise depends on the class"
        )

    unsupported: Mapping[str, str] = MappingProxyType(
        {"accumulate": "mixing partners are drawn from the whole global batch"}
    )
    remembers = "losses and their verdict, 4 numbers"
    semi_supervised = True
    options: Options
    clean: Tensor
    losses: Tensor

    def __init__(self, context: Context, options: Options) -> None:
        super().__init__(context, options)
        self.batch_size = context.batch_size
        self.keys = [keyed_random.key(context.seed, keyed_random.name_value(f"dividemix_{net}")) for net in (1, 2)]
        self.weights = mixing.BetaWeights(options.alpha, larger=True)
        asked = options.negative_entropy
        self.penalty = context.noise.class_dependent if asked == "auto" else asked == "on"
        # -1: not judged yet. Registered, so that a run that goes on in the middle of an epoch has its split.
        self.register_buffer("clean", torch.full((2, context.num_samples), -1.0))
        self.register_buffer("losses", torch.zeros(options.history, 2, context.num_samples))
        self.streams = {}
        for net in ("1", "2"):
            views = {f"first_{net}": "student", f"second_{net}": "student"}  # draws are keyed by the name
            self.streams[f"all_{net}"] = Stream(views={f"first_{net}": "student"})
            self.streams[f"labelled_{net}"] = Stream(f"labelled_{net}", views)
            self.streams[f"unlabelled_{net}"] = Stream(f"unlabelled_{net}", views)
        self.warm = tuple(Pass(f"warm-up {net}", (f"all_{net}",), batch_factor=2) for net in "12")
        self.mixed = tuple(Pass(f"net {net}", (f"labelled_{net}", f"unlabelled_{net}"), drop_last=True) for net in "12")
        self.passes = (*self.warm, *self.mixed)

    def plan(self, epoch: int) -> tuple[Pass, ...]:
        """Warm-up of either net, then training of either."""
        return self.warm if epoch < self.options.warmup else self.mixed

    def before_pass(self, name: str) -> None:
        """The net that does not train predicts in evaluation mode."""
        for other, spec in enumerate(reversed(self.mixed)):
            if name == spec.name:
                self.networks[other].eval()

    def before_epoch(self, epoch: int, training: TrainingSet) -> dict[str, Tensor]:
        """Judge every label by either net; the split of one is the population of the other.

        Raises:
            FastnoisyError: fewer training images than two batches.
        """
        if epoch < self.options.warmup:
            return {}
        rows = training.rows
        if len(rows) < 2 * self.batch_size:
            raise FastnoisyError(
                f"DivideMix splits the training images into two sets of at least a batch of {self.batch_size}, "
                f"and there are {len(rows)} images",
                "Lower batch_size",
            )
        found = training.predict()
        done = epoch - self.options.warmup
        populations = {}
        for net in range(2):
            logits = found[f"net{net + 1}"][rows]
            judged = losses.cross_entropy(logits, training.labels[rows]).double()
            judged = (judged - judged.min()) / (judged.max() - judged.min()).clamp(min=1e-12)
            self.losses[done % self.options.history, net, rows] = judged.to(self.losses)
            recent = self.losses[: done + 1, net, rows].double().mean(dim=0).cpu()
            probability = clean_component(recent.numpy())
            self.clean[net, rows] = torch.from_numpy(probability).to(self.clean)
            order = rows[torch.from_numpy(np.argsort(-probability, kind="stable"))]
            kept = int((probability > self.options.threshold).sum())
            kept = min(max(kept, self.batch_size), len(rows) - self.batch_size)  # each part fills a batch
            populations[f"labelled_{2 - net}"], populations[f"unlabelled_{2 - net}"] = order[:kept], order[kept:]
        return populations

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """A step of the net that the streams are named for."""
        net = 0 if next(iter(batches)).endswith("1") else 1
        name = f"{net + 1}"
        if f"all_{name}" in batches:
            return self._warm_up(batches[f"all_{name}"], net)
        return self._mixmatch(batches[f"labelled_{name}"], batches[f"unlabelled_{name}"], net, progress)

    def _warm_up(self, batch: StepBatch, net: int) -> Record:
        out = self.networks[net](batch.views[f"first_{net + 1}"])
        loss = losses.cross_entropy(out.logits, batch.labels, "mean")
        if self.penalty:
            loss = loss + losses.negative_entropy(out.logits, "mean")
        return Record(loss, [Forward(net, out.logits, out.sub_logits, batch.labels, batch.indices)])

    def _mixmatch(self, labelled: StepBatch, unlabelled: StepBatch, net: int, progress: Progress) -> Record:
        options, names = self.options, (f"first_{net + 1}", f"second_{net + 1}")
        views = [batch.views[name] for batch in (labelled, unlabelled) for name in names]
        trained, other = self.networks[net], self.networks[1 - net]
        assert isinstance(trained, Network)
        assert isinstance(other, Network)
        with torch.no_grad():
            own = [trained.backbone(view) for view in views]
            guesses = [losses.probabilities(z) for z in (*own[2:], *(other.backbone(view) for view in views[2:]))]
            guessed = sharpen(torch.stack(guesses).mean(dim=0), options.temperature)
            believed = (losses.probabilities(own[0]) + losses.probabilities(own[1])) / 2
            judged = self.clean[1 - net].index_select(0, labelled.indices).clamp(min=0)
            trust = judged.unsqueeze(1).to(believed.dtype)
            given = F.one_hot(labelled.labels, self.num_classes).to(believed.dtype)
            refined = sharpen(trust * given + (1 - trust) * believed, options.temperature)
            targets = torch.cat([refined, refined, guessed, guessed])
            seen = [(own[0] + own[1]) / 2, (own[2] + own[3]) / 2]
        key = keyed_random.fold(keyed_random.fold(self.keys[net], progress.epoch), progress.step)
        weight = self.weights(key)
        others = mixing.partners(key, self.group, *(len(view) for view in views))
        out = trained(mixing.mix(torch.cat(views), others, weight, self.group))
        targets = mixing.mix(targets, others, weight, self.group)
        half = 2 * len(labelled.labels)
        supervised = losses.soft_cross_entropy(out.logits[:half], targets[:half], "mean")
        consistency = losses.squared_error(out.logits[half:], targets[half:], "mean")
        amount = ((progress.epoch + progress.fraction - options.warmup) / options.ramp).clamp(0, 1)
        loss = supervised + (options.lam_u * amount).to(consistency.dtype) * consistency
        loss = loss + losses.uniform_prior_penalty(out.logits, self.group)
        forward = Forward(
            net, out.logits, out.sub_logits, _twice(labelled.labels, unlabelled.labels),
            _twice(labelled.indices, unlabelled.indices), _twice(*seen), others, weight,
        )  # fmt: skip
        return Record(loss, [forward], {"supervised": supervised.detach(), "consistency": consistency.detach()})

    def clean_probability(self, training: TrainingSet) -> Tensor:
        """The mean of both nets' w; of rows that were not judged, the predictor's probability of the given label."""
        judged = self.clean.float().mean(dim=0).cpu()
        return torch.where(judged >= 0, judged, super().clean_probability(training))


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """p^(1/T), renormalised, (B, C)."""
    powered = probabilities.pow(1 / temperature)
    return powered / powered.sum(dim=1, keepdim=True)


def clean_component(values: np.ndarray) -> np.ndarray:
    """The probability, float64 (n,), of the component with the lower mean in a mixture of two Gaussians fitted to the
    per-sample losses (n,): 10 iterations, tolerance 1e-2, variances at least 5e-4, as in the official code. All ones
    where all losses are equal.
    """
    from sklearn.exceptions import ConvergenceWarning  # a second to import, which `fastnoisy methods` would pay
    from sklearn.mixture import GaussianMixture

    if np.ptp(values) == 0:
        return np.ones(len(values))
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten iterations are what the method asks for
        mixture.fit(values.reshape(-1, 1))
    probability: np.ndarray = mixture.predict_proba(values.reshape(-1, 1))[:, mixture.means_.argmin()]
    return probability


def _twice(labelled: Tensor, unlabelled: Tensor) -> Tensor:
    """What belongs to both views of either part, in the order in which the views are joined."""
    return torch.cat([labelled, labelled, unlabelled, unlabelled])


METHOD = DivideMix
