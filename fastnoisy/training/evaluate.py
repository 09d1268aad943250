"""Evaluation: logits over a set of rows, and the numbers made of them. Outside the hot path, so torchmetrics does them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from fastnoisy.augment.views import View
from fastnoisy.methods.base import Method
from fastnoisy.pipelines.base import Pipeline

ECE_BINS = 15


@torch.no_grad()
def collect_logits(
    method: Method,
    pipeline: Pipeline,
    view: View,
    rows: np.ndarray,
    batch_size: int,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """Each predictor's logits in evaluation mode, float32 (n, C) on the CPU in the order of `rows`.

    The method is put back into the mode it was in. `poll` is called between batches and may raise, to stop.
    """
    was_training = method.training
    method.eval()
    parts: dict[str, list[Tensor]] = {}
    cut = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    try:
        for batch in pipeline.iterate(cut):
            images = view(batch.images, batch.sizes, batch.indices, 0)
            for name, logits in method.predictions(images).items():
                parts.setdefault(name, []).append(logits.float().cpu())
            poll()
    finally:
        method.train(was_training)
    return {name: torch.cat(pieces) for name, pieces in parts.items()}


def classification(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Shares in [0, 1]: `accuracy` (top-1), `top5` (where there are more than five classes) and `ece` (15 bins (lo, hi]).

    Args:
        logits: (n, C) float.
        labels: (n,) int64.
    """
    result = {"accuracy": (logits.argmax(dim=1) == labels).double().mean().item()}
    num_classes = logits.shape[1]
    if num_classes > 5:
        top = logits.topk(5, dim=1).indices
        result["top5"] = (top == labels.unsqueeze(1)).any(dim=1).double().mean().item()
    # torchmetrics' bins are [lo, hi), with one more for exactly 1; a hair less than each probability makes them (lo, hi]
    probabilities = torch.nextafter(logits.double().softmax(dim=1), torch.zeros((), dtype=torch.float64))
    ece = multiclass_calibration_error(probabilities, labels, num_classes, n_bins=ECE_BINS, norm="l1")
    result["ece"] = float(ece)
    return result


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
