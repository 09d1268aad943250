"""Evaluation: logits over a set of rows, and the numbers made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastnoisy.augment import View
from fastnoisy.batch import Batch
from fastnoisy.config import Config
from fastnoisy.data.store import Split
from fastnoisy.distributed import ONE, Group
from fastnoisy.methods.base import Method
from fastnoisy.pipelines.base import Pipeline
from fastnoisy.training.precision import amp_dtype, autocast

ECE_BINS = 15


Poll = Callable[[], None]


@dataclass(frozen=True)
class Evaluator:
    """Predicts rows of a pipeline with a method in evaluation mode, in batches of its own size, under the run's
    autocast.

    Attributes:
        view: the evaluation view.
        batch_size: images at a time.
        amp: dtype to autocast to, or None.
    """

    method: Method
    view: View
    batch_size: int
    amp: torch.dtype | None = None
    group: Group = ONE

    @classmethod
    def of(cls, config: Config, method: Method, view: View, device: torch.device, group: Group = ONE) -> Evaluator:
        """As a run's configuration has it."""
        return cls(method, view, batch_size(config), amp_dtype(config, device), group)

    @torch.no_grad()
    def logits(self, pipeline: Pipeline, rows: np.ndarray, poll: Poll = lambda: None) -> dict[str, Tensor]:
        """Each predictor's logits, float32 (n, C) on the CPU in the order of `rows`, the same on all ranks: each
        predicts a part of the rows.

        The method is put back into the mode it was in. `poll` is called before each batch and may raise, to stop.
        """
        group = self.group
        if group.size > 1 and len(rows) >= group.size:
            alone = replace(self, group=ONE)
            found = alone.logits(pipeline, np.array_split(rows, group.size)[group.rank], poll)
            return {name: group.gather(logits) for name, logits in found.items()}
        was_training = self.method.training
        self.method.eval()
        found = {}
        size = self.batch_size
        cut = [rows[i : i + size] for i in range(0, len(rows), size)]
        try:
            for number, batch in enumerate(pipeline.iterate(cut)):
                poll()
                for name, logits in self._predict(batch).items():
                    if name not in found:
                        found[name] = _host_rows(len(rows), logits)
                    # without waiting: the copies queue up behind the batches and are waited for once
                    found[name][number * size : number * size + len(logits)].copy_(logits, non_blocking=True)
        finally:
            self.method.train(was_training)
        if pipeline.device.type == "cuda":
            torch.cuda.synchronize(pipeline.device)
        return found

    def scattered(
        self, pipeline: Pipeline, rows: np.ndarray, num_samples: int, poll: Poll = lambda: None
    ) -> dict[str, Tensor]:
        """The same, each put at its row of (num_samples, C); all other rows are zero."""
        result = {}
        for name, logits in self.logits(pipeline, rows, poll).items():
            result[name] = torch.zeros(num_samples, logits.shape[1])
            result[name][torch.from_numpy(rows)] = logits
        return result

    def _predict(self, batch: Batch) -> dict[str, Tensor]:
        images = self.view(batch.images, batch.sizes, batch.indices, 0)
        with autocast(batch.images.device, self.amp):
            return self.method.predictions(images)


def batch_size(config: Config) -> int:
    """Images of a batch of evaluation: nothing is kept for a backward then, so more fit than in training."""
    return config.eval_batch_size or max(config.batch_size, 256)


def _host_rows(count: int, like: Tensor) -> Tensor:
    """Room for `count` rows of float32 on the host, pinned where that lets copies from a GPU not wait."""
    pinned = like.device.type == "cuda" and count * like.shape[1] * 4 < 1 << 30
    return torch.empty(count, like.shape[1], pin_memory=pinned)


def truth_of(split: Split) -> np.ndarray:
    """What a split is scored against, int64 (N,): clean labels where they are known, else the given ones."""
    return split.given_labels if split.clean_labels is None else split.clean_labels


def classification(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Shares in [0, 1]: `accuracy` (top-1), `top5` (where there are more than five classes) and `ece` (15 bins (lo,
    hi]).

    Args:
        logits: (n, C) float.
        labels: (n,) int64.
    """
    result = {"accuracy": (logits.argmax(dim=1) == labels).double().mean().item()}
    num_classes = logits.shape[1]
    if num_classes > 5:
        top = logits.topk(5, dim=1).indices
        result["top5"] = (top == labels.unsqueeze(1)).any(dim=1).double().mean().item()
    result["ece"] = expected_calibration_error(logits.double().softmax(dim=1), labels)
    return result


def expected_calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """The mean over samples of |accuracy - mean confidence| of their bin, in float64; NaN where there is no sample.

    The bins of Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, as in the first author's code: 15 of
    one width, (lo, hi], so that a confidence on an edge belongs to the lower one; 0 belongs to the first.

    Args:
        probabilities: (n, C) float; each sample's largest is its confidence.
        labels: (n,) int64.
    """
    confidence, predicted = probabilities.double().max(dim=1)
    edges = torch.arange(1, ECE_BINS, dtype=torch.float64, device=confidence.device) / ECE_BINS
    excess = confidence - (predicted == labels).double()
    gaps = confidence.new_zeros(ECE_BINS).index_add_(0, torch.bucketize(confidence, edges), excess)
    return (gaps.abs().sum() / len(labels)).item()


def per_class(logits: Tensor, labels: Tensor, class_names: list[str]) -> list[dict[str, Any]]:
    """Rows of a table: class, number of images, share predicted right (None where a class has no image)."""
    right = (logits.argmax(dim=1) == labels).double()
    table = []
    for number, name in enumerate(class_names):
        members = labels == number
        count = int(members.sum())
        table.append({"class": name, "images": count, "accuracy": right[members].mean().item() if count else None})
    return table


def memorisation(predicted: Tensor, given: Tensor, clean: Tensor) -> dict[str, float]:
    """Against the training set: `accuracy_given`, `accuracy_clean`, and `memorised`: the share of the wrongly labelled
    samples whose wrong label is what is predicted. All (n,) int64; `memorised` is absent where no label is wrong.
    """
    wrong = given != clean
    result = {
        "accuracy_given": (predicted == given).double().mean().item(),
        "accuracy_clean": (predicted == clean).double().mean().item(),
    }
    if wrong.any():
        result["memorised"] = (predicted[wrong] == given[wrong]).double().mean().item()
    return result


def suspects_found(clean_probability: Tensor, given: Tensor, clean: Tensor) -> float | None:
    """Of the k samples held most suspect, k the number of wrong labels, the share that is wrong; None where k is 0."""
    wrong = given != clean
    count = int(wrong.sum())
    if not count:
        return None
    suspects = clean_probability.argsort(stable=True)[:count]
    return wrong[suspects].double().mean().item()
