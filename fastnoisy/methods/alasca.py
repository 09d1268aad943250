"""ALASCA: adaptive label smoothing on sub-classifiers, around any other method.

"ALASCA: Rethinking Label Smoothing for Deep Learning Under Label Noise", ICML 2022 workshop version; decisions A1-A5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fastnoisy import losses, methods, mixing
from fastnoisy.config import Table, call_table
from fastnoisy.methods._wrapper import Wrapper
from fastnoisy.methods.base import Context, Forward, Method, Progress, Record, StepBatch, TrainingSet
from fastnoisy.models.heads import Outputs
from fastnoisy.sample_memory import SampleMemory


class Alasca(Wrapper):
    """ALASCA: sub-classifiers on every stage learn adaptively smoothed labels; the base method's loss is left alone.

    loss = base + lam * sum_i CE(sub_i, conf * e_yhat + (1 - conf) * rest), over the whole batch.
    Memory per sample: z <- w z + (1 - w) z_main; gamma = softmax(sharpening * z)_yhat; conf = 1 - a_t + a_t * gamma.
    yhat is the prediction where main and deepest sub-classifier agree (from epoch 21 on), else the given label.
    """

    class Options(Table):
        """Options of ALASCA."""

        base: str | dict[str, Any] = Field(
            "ce", description="the wrapped method, with options: base=gce, base=gce(q=0.5)"
        )
        lam: float = Field(2.0, ge=0, description="weight of the sub-classifiers' losses")
        ema: Literal["on", "off"] = Field("on", description="off: gamma from the current logits, without memory")
        memory_weight: float = Field(0.7, ge=0, lt=1, description="w, the share of the old row")
        memory_dtype: Literal["float32", "bfloat16"] = Field("float32", description="of the per-sample memory")
        sharpening: float = Field(3.0, gt=0, description="factor on the logits before gamma; 1 is used where ema=off")
        lca: Literal["off", "agreement", "main_only"] = Field("agreement", description="label correction")
        lca_start: int = Field(21, ge=0, description="first epoch (0-based) with label correction (A4)")
        lca_agree: Literal["deepest", "all"] = Field("deepest", description="which sub-classifiers must agree (A3)")
        rest: Literal["uniform", "others"] = Field("uniform", description="where 1 - conf goes (A1)")
        ramp: Literal["linear", "none", "aaai"] = Field(
            "linear", description="a_t (A2); none: 1; aaai: min(1, t / ramp_epochs)"
        )
        ramp_start: float = Field(0.1, ge=0, le=1, description="a_t at epoch 0 of the linear ramp")
        ramp_end: float | None = Field(
            None,
            ge=0,
            le=1,
            description="a_t from half of the epochs on; default: 0.7, around the semi-supervised DivideMix and ELR+ "
            "0.9",
        )
        ramp_epochs: int = Field(30, ge=1, description="length of the aaai ramp; 3 on Clothing1M")
        stages: list[int] | None = Field(
            None, min_length=1, description="stages with heads; default: the deepest three before the last"
        )
        recompute: bool = Field(
            False, description="compute the heads again in the backward: less memory, more time, the same numbers"
        )

        shared_ema: bool = Field(
            False, description="two networks: one memory, moved by both in turn, as in the authors' code (A9)"
        )

    suite = "alasca"
    remembers = "logits, C numbers per trained network"
    options: Options

    def __init__(self, context: Context, options: Options) -> None:
        inner = context.with_heads(options.stages, options.recompute)
        super().__init__(context, options, methods.build(call_table(options.base), inner))
        dtype = torch.bfloat16 if options.memory_dtype == "bfloat16" else context.memory_dtype
        self.memories = nn.ModuleList(
            SampleMemory(context.num_samples, context.num_classes, options.memory_weight, dtype)
            for _ in (self.base.networks[: 1 if options.shared_ema else None] if options.ema == "on" else ())
        )
        self.ramp_end = _ramp_end(self.base) if options.ramp_end is None else options.ramp_end

    @classmethod
    def spelled_out(cls, options: dict[str, Any]) -> dict[str, Any]:
        """With the end of the ramp."""
        base = methods.find(call_table(options["base"])["name"])
        return {**options, "ramp_end": _ramp_end(base) if options["ramp_end"] is None else options["ramp_end"]}

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """The base's step plus the sub-classifiers' losses, reading nothing of the base but its record."""
        record = self.base.step(batches, progress)
        for forward in record.forwards:
            subs, logs = self._sub_loss(forward, progress)
            record.loss = record.loss + self.options.lam * subs
            record.logs.update(logs)
        return record

    def _sub_loss(self, forward: Forward, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            targets, logs = self.targets(forward, progress)
            if forward.partners is not None and forward.own_weight is not None:
                targets = mixing.mix(targets, forward.partners, forward.own_weight.reshape(-1, 1), self.group)
        total = torch.stack([losses.soft_cross_entropy(z, targets, "mean") for z in forward.sub_logits]).sum()
        return total, {**logs, "sub_loss": total.detach()}

    def targets(self, forward: Forward, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """The sub-classifiers' targets (B, C) of one forward, and what is logged of them. Updates the memory."""
        options = self.options
        seen = forward.logits if forward.memory_logits is None else forward.memory_logits
        if options.ema == "on":
            memory = self.memories[0 if options.shared_ema else forward.network]
            assert isinstance(memory, SampleMemory)
            logits = options.sharpening * memory.update(forward.indices, seen)
        else:
            logits = seen.detach()
        labels = corrected_labels(forward, progress.epoch, options)
        gamma = losses.probabilities(logits).gather(1, labels.unsqueeze(1)).squeeze(1)
        amount = ramp(progress.epoch, progress.epochs, options, self.ramp_end).to(gamma.dtype)
        confidence = 1 - amount + amount * gamma
        targets = losses.smoothed_targets(labels, confidence, forward.logits.shape[1], options.rest)
        logs = {"confidence": confidence.mean(), "corrected": (labels != forward.labels).float().mean()}
        return targets, logs

    def predictors(self, outputs: Sequence[Outputs], images: Tensor) -> dict[str, Tensor]:
        """`ensemble`, reported: the mean of main and deepest sub-classifier's logits, as the authors' code predicts
        (A5), over all networks; and the base's own predictors beside it, which come first around a semi-supervised
        method.
        """
        ensemble = {"ensemble": torch.stack([output.ensemble for output in outputs]).mean(dim=0)}
        own = self.base.predictors(outputs, images)
        return {**own, **ensemble} if self.base.semi_supervised else {**ensemble, **own}

    def clean_probability(self, training: TrainingSet) -> Tensor:
        """The remembered probability of the given label, softmax(sharpening * z)_y; without memory the ensemble's.

        Rows that were never visited (held-out samples) fall back to the ensemble.
        """
        ensemble = training.predict()["ensemble"].float()
        if self.options.ema == "on":
            memories = [memory for memory in self.memories if isinstance(memory, SampleMemory)]
            rows = torch.stack([memory.rows.float() for memory in memories]).mean(dim=0).cpu()
            visited = (rows != 0).any(dim=1, keepdim=True)
            ensemble = torch.where(visited, self.options.sharpening * rows, ensemble)
        return ensemble.softmax(dim=1).gather(1, training.labels.unsqueeze(1)).squeeze(1)


def corrected_labels(forward: Forward, epoch: Tensor, options: Alasca.Options) -> Tensor:
    """yhat, (B,) int64: see the class. Predictions are the forward's own, not averaged (methods.md 2.3).

    Of mixed inputs the main classifier's prediction is that for the plain image, where the base has one; where it has
    none (Mixup) nothing is corrected, for what is predicted may be the partner.
    """
    mixed = forward.partners is not None
    if options.lca == "off" or (mixed and forward.memory_logits is None):
        return forward.labels
    plain = forward.memory_logits if mixed and forward.memory_logits is not None else forward.logits
    predicted = plain.argmax(dim=1)
    agree = torch.ones_like(predicted, dtype=torch.bool)
    if options.lca == "agreement":
        asked = forward.sub_logits if options.lca_agree == "all" else forward.sub_logits[-1:]
        for logits in asked:
            agree = agree & (logits.argmax(dim=1) == predicted)
    return torch.where(agree & (epoch >= options.lca_start), predicted, forward.labels)


def ramp(epoch: Tensor, epochs: int, options: Alasca.Options, end: float) -> Tensor:
    """a_t, 0-dimensional float64 on the epoch's device; the linear one goes from `ramp_start` to `end` (methods.md
    2.4).
    """
    t = epoch.to(torch.float64)
    if options.ramp == "none":
        return torch.ones_like(t)
    if options.ramp == "aaai":
        return (t / options.ramp_epochs).clamp(max=1)
    return options.ramp_start + (end - options.ramp_start) * (t / (epochs / 2)).clamp(max=1)


def _ramp_end(base: Method | type[Method]) -> float:
    return 0.9 if base.semi_supervised else 0.7


METHOD = Alasca
