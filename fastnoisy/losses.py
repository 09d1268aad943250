"""Losses as pure functions: per sample, the formula in the docstring, computed in float32 or better.

Everywhere `logits` is (B, C) float, `labels` (B,) int64; the result is (B,) with `reduction="none"` (the default) or its
mean with `reduction="mean"`. Half-precision logits are raised to float32 first; float64 stays float64.
Source of the formulas and of their numerical conventions: the papers named in each docstring and the GJS reference code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Reduction = Literal["none", "mean"]
_FLOOR = 1e-7  # the GJS code clamps probabilities here before a logarithm


def _raise_precision(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _reduce(loss: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "mean":
        return loss.mean()
    raise ValueError(f"reduction must be 'none' or 'mean', not {reduction!r}")


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over classes, (B, C), in float32 or better."""
    return _raise_precision(logits).softmax(dim=1)


def cross_entropy(logits: Tensor, labels: Tensor, reduction: Reduction = "none") -> Tensor:
    """-log softmax(z)_y."""
    return _reduce(F.cross_entropy(_raise_precision(logits), labels, reduction="none"), reduction)


def soft_cross_entropy(logits: Tensor, targets: Tensor, reduction: Reduction = "none") -> Tensor:
    """-sum_k t_k log softmax(z)_k for target distributions t, (B, C)."""
    logits = _raise_precision(logits)
    return _reduce(-(targets.to(logits.dtype) * logits.log_softmax(dim=1)).sum(dim=1), reduction)


def smoothed_targets(
    labels: Tensor, confidence: Tensor, num_classes: int, rest: Literal["uniform", "others"] = "uniform"
) -> Tensor:
    """Per-sample label smoothing: confidence on the label, the remainder spread.

    Args:
        labels: (B,) int64.
        confidence: (B,) float in [0, 1].
        rest: `uniform`: (1 - confidence) / C on every class, the label included (ALASCA Eq. 3, workshop code);
            `others`: (1 - confidence) / (C - 1) on the other classes only (AAAI 2023 code).

    Returns:
        (B, C) distributions of confidence's dtype.
    """
    one_hot = F.one_hot(labels, num_classes).to(confidence.dtype)
    confidence = confidence.unsqueeze(1)
    if rest == "uniform":
        return confidence * one_hot + (1 - confidence) / num_classes
    if rest == "others":
        return confidence * one_hot + (1 - confidence) / (num_classes - 1) * (1 - one_hot)
    raise ValueError(f"rest must be 'uniform' or 'others', not {rest!r}")


def weighted_jensen_shannon(distributions: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i w_i KL(p_i || m) with m = sum_i w_i p_i, natural logarithm, (B,).

    Numerics as in the GJS reference code: m is clamped to [1e-7, 1] before its logarithm, each p_i to at least 1e-7
    inside its own, and entries with p_i = 0 contribute nothing. Bounds: 0 <= result <= entropy of the weights.

    Args:
        distributions: n tensors (B, C), rows summing to 1.
        weights: n floats summing to 1.

    Raises:
        ValueError: counts differ, a weight is negative or the weights do not sum to 1.
    """
    if len(distributions) != len(weights):
        raise ValueError(f"{len(distributions)} distributions but {len(weights)} weights")
    if min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise ValueError(f"weights must be non-negative and sum to 1, got {list(weights)} (sum {sum(weights):g})")
    mixture = sum(w * p for w, p in zip(weights, distributions, strict=True))
    log_mixture = torch.as_tensor(mixture).clamp(_FLOOR, 1).log()
    total = torch.zeros_like(log_mixture[:, 0])
    for w, p in zip(weights, distributions, strict=True):
        terms = p * (p.clamp(min=_FLOOR).log() - log_mixture)
        total = total + w * torch.where(p > 0, terms, torch.zeros_like(terms)).sum(dim=1)
    return total


def jensen_shannon_scale(label_weight: float) -> float:
    """Z = -1 / ((1 - w) ln(1 - w)): the normalisation of the GJS code, so that the limit w -> 0 is cross-entropy.

    Raises:
        ValueError: unless 0 < w < 1.
    """
    if not 0 < label_weight < 1:
        raise ValueError(f"the label's weight must lie strictly between 0 and 1, got {label_weight}")
    return -1.0 / ((1 - label_weight) * math.log(1 - label_weight))


def generalized_jensen_shannon(
    views_logits: Sequence[Tensor],
    labels: Tensor,
    weights: Sequence[float],
    normalize: bool = True,
    reduction: Reduction = "none",
) -> Tensor:
    """Z * JSD_w(e_y, softmax(z_1), ..., softmax(z_n)), gradient through every view (Englesson & Azizpour 2021).

    Args:
        views_logits: n tensors (B, C), one per view.
        weights: n + 1 floats summing to 1; the first belongs to the label.
        normalize: multiply by Z of `jensen_shannon_scale` (the GJS code's form for CIFAR); False is the bare divergence.
    """
    predictions = [probabilities(z) for z in views_logits]
    one_hot = F.one_hot(labels, predictions[0].shape[1]).to(predictions[0].dtype)
    loss = weighted_jensen_shannon([one_hot, *predictions], weights)
    return _reduce(loss * jensen_shannon_scale(weights[0]) if normalize else loss, reduction)


def jensen_shannon(
    logits: Tensor, labels: Tensor, weight: float, normalize: bool = True, reduction: Reduction = "none"
) -> Tensor:
    """Z * JSD_(w, 1-w)(e_y, softmax(z)): the one-view form of `generalized_jensen_shannon`; `weight` is the label's."""
    return generalized_jensen_shannon([logits], labels, (weight, 1 - weight), normalize, reduction)


def noise_robust_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor | Sequence[Tensor],
    labels: Tensor,
    weights: Sequence[float],
    normalize: bool = True,
    reduction: Reduction = "none",
) -> Tensor:
    """Z * JSD_w(e_y, softmax(student), softmax(teacher)) without gradient to the teacher (NRD Eq. 19, 25-27).

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C), or several such for several teacher views, whose softmaxes are averaged (Eq. 22).
        weights: (label, student, teacher), summing to 1.
        normalize: multiply by Z = -1/((1-w0) ln(1-w0)) (decision N1: on for CIFAR, off for WebVision).
    """
    views = [teacher_logits] if isinstance(teacher_logits, Tensor) else list(teacher_logits)
    teacher = torch.stack([probabilities(z.detach()) for z in views]).mean(dim=0)
    student = probabilities(student_logits)
    one_hot = F.one_hot(labels, student.shape[1]).to(student.dtype)
    loss = weighted_jensen_shannon([one_hot, student, teacher.to(student.dtype)], weights)
    return _reduce(loss * jensen_shannon_scale(weights[0]) if normalize else loss, reduction)
