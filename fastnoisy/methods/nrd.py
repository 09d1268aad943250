"""Noise-robust distillation: an EMA teacher on a view that the student never trains on.

"Neural Vicinal Risk Minimization: Noise-robust Distillation for Noisy Labels", AISafety workshop, IJCAI 2024.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fastnoisy import losses
from fastnoisy.config import Table, Triple
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import (
    AveragedBackbone,
    Context,
    Forward,
    Method,
    Progress,
    Record,
    StepBatch,
    Stream,
    TrainingSet,
)
from fastnoisy.models.base import Backbone
from fastnoisy.models.heads import Outputs


class NoiseRobustDistillation(Method):
    """NRD: weighted Jensen-Shannon divergence between label, student and EMA teacher, each net on its own view.

    loss = Z * JSD_w(e_y, softmax(student(x_s)), softmax(teacher(x_t))), teacher without gradient (Eq. 19, 25-27);
    after each step teacher <- decay * teacher + (1 - decay) * student (Eq. 24). The student is reported, the teacher
    logged. "Neural Vicinal Risk Minimization: Noise-robust Distillation for Noisy Labels", AISafety workshop, IJCAI
    2024. Z is that of the GJS code by default (N1), the teacher's BatchNorm statistics are its own (N2).
    """

    class Options(Table):
        """Options of NRD."""

        weights: Triple = Field((0.2, 0.6, 0.2), description="weights of label, student and teacher (Table 5)")
        normalize: Literal["gjs", "none"] = Field("gjs", description="Z of the GJS code, or the bare divergence (N1)")
        ema_decay: float = Field(0.99, ge=0, le=1, description="beta of Eq. 24")
        teacher_bn: Literal["batch", "ema", "student"] = Field("batch", description="the teacher's BatchNorm (N2)")
        teacher: str = Field("ema", description="ema, or frozen:PATH of a model.safetensors (Eq. 20)")
        teacher_views: int = Field(1, ge=1, le=16, description="teacher views averaged per step (Eq. 22)")

    suite = "nrd"
    options: Options

    def __init__(self, context: Context, options: Options) -> None:
        super().__init__(context, options)
        network = context.network()
        self.networks.append(network)
        self.frozen = options.teacher != "ema"
        rule = "ema" if self.frozen else options.teacher_bn
        self.teacher = AveragedBackbone(network.backbone, options.ema_decay, rule)
        if self.frozen and not context.restored:
            _load_teacher(self.teacher.average, Path(options.teacher.removeprefix("frozen:")))
        names = ["teacher", *(f"teacher_{i}" for i in range(2, options.teacher_views + 1))]
        self.teacher_names = tuple(names)
        self.streams = {"train": Stream(views={"student": "student", **dict.fromkeys(names, "teacher")})}

    @classmethod
    def option_problems(cls, options: Options) -> list[str]:
        """Weights must be a distribution with a proper label weight; a frozen teacher must exist."""
        found = []
        if min(options.weights) < 0 or abs(sum(options.weights) - 1) > 1e-6 or not 0 < options.weights[0] < 1:
            found.append(
                f"method.weights: must be non-negative, sum to 1, the first within (0, 1), got {options.weights}"
            )
        kind = options.teacher.partition(":")[0]
        if options.teacher != "ema" and kind != "frozen":
            found.append(f"method.teacher: must be 'ema' or 'frozen:PATH', got {options.teacher!r}")
        return found

    @classmethod
    def spelled_out(cls, options: dict[str, Any]) -> dict[str, Any]:
        """With the frozen teacher's absolute path."""
        kind, _, path = options["teacher"].partition(":")
        return {**options, "teacher": f"frozen:{os.path.abspath(path)}"} if kind == "frozen" else options

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """Algorithm 1: teacher forward without gradient, student forward, divergence."""
        batch = batches["train"]
        teacher = [self.teacher(batch.views[name]) for name in self.teacher_names]
        out = self.networks[0](batch.views["student"])
        loss = losses.noise_robust_distillation(
            out.logits, teacher, batch.labels, self.options.weights, self.options.normalize == "gjs", "mean"
        )
        agree = (teacher[0].argmax(dim=1) == out.logits.argmax(dim=1)).float().mean()
        forward = Forward(0, out.logits, out.sub_logits, batch.labels, batch.indices)
        return Record(loss, [forward], {"teacher_agreement": agree})

    def after_step(self, progress: Progress, sound: Tensor) -> None:
        """Move the teacher, from the first step on."""
        if not self.frozen:
            self.teacher.update(self.primary_network().backbone, sound)

    def predictors(self, outputs: Sequence[Outputs], images: Tensor) -> dict[str, Tensor]:
        """Student (reported, decision N3) and teacher."""
        return {"student": outputs[0].logits, "teacher": self.teacher(images)}

    def clean_probability(self, training: TrainingSet) -> Tensor:
        """The teacher's probability of the given label: it never trains on labels, so it has memorised least."""
        probabilities = training.predict()["teacher"].float().softmax(dim=1)
        return probabilities.gather(1, training.labels.unsqueeze(1)).squeeze(1)


def _load_teacher(backbone: Backbone, path: Path) -> None:
    if not path.is_file():
        raise FastnoisyError(
            f"the frozen teacher {path} does not exist", "Name the model.safetensors of a run's checkpoint"
        )
    try:
        tensors: dict[str, Any] = load_file(path)
        tensors = {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")}
        with torch.no_grad():
            backbone.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise FastnoisyError(
            f"the frozen teacher {path} does not fit this network: {str(error).splitlines()[0]}",
            "Use the model.safetensors of a run with the same model and the same number of classes",
        ) from error


METHOD = NoiseRobustDistillation
