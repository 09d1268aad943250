"""Losses as pure functions: per sample, the formula in the docstring, computed in float32 or better.

Everywhere `logits` is (B, C) float, `labels` (B,) int64; the result is (B,) with `reduction="none"` (the default) or
its mean with `reduction="mean"`. Half-precision logits are raised to float32 first; float64 stays float64.
Source of the formulas and of their numerical conventions: the papers named in each docstring and the GJS reference
code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fastnoisy.distributed import ONE, Group

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


def _log_probabilities(logits: Tensor, floor: float) -> Tensor:
    """log max(softmax(z), floor), (B, C), without a detour over probabilities that underflow; floor 0 does not
    clamp.
    """
    log_p = _raise_precision(logits).log_softmax(dim=1)
    return log_p.clamp(min=math.log(floor)) if floor > 0 else log_p


def _of_label(values: Tensor, labels: Tensor) -> Tensor:
    return values.gather(1, labels.unsqueeze(1)).squeeze(1)


def _within(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")


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


def label_smoothing(logits: Tensor, labels: Tensor, epsilon: float, reduction: Reduction = "none") -> Tensor:
    """-sum_k t_k log softmax(z)_k with t = (1 - epsilon) e_y + epsilon / C (Szegedy et al. 2016).

    The GJS code reports KL(t || softmax(z)): the same gradient, the value lower by the entropy of t.
    """
    _within(epsilon, "epsilon")
    loss = F.cross_entropy(_raise_precision(logits), labels, reduction="none", label_smoothing=epsilon)
    return _reduce(loss, reduction)


def adaptive_label_smoothing(
    logits: Tensor, labels: Tensor, scale: str = "mean", reduction: Reduction = "none"
) -> Tensor:
    """beta CE + (1 - beta) Omega, beta = softmax(z)_y without gradient, Omega = mean over k of -log p_k.

    Args:
        scale: `mean`: label smoothing by 1 - beta per sample; `sum`: as printed, Omega C times as large.

    Source: ALASCA, Eq. 1 and 2.
    """
    if scale not in ("mean", "sum"):
        raise ValueError(f"scale must be 'mean' or 'sum', not {scale!r}")
    log_p = _log_probabilities(logits, 0)
    own = _of_label(log_p, labels)
    beta = own.detach().exp()
    omega = -(log_p.mean(dim=1) if scale == "mean" else log_p.sum(dim=1))
    return _reduce(-beta * own + (1 - beta) * omega, reduction)


def soft_bootstrapping(logits: Tensor, labels: Tensor, beta: float, reduction: Reduction = "none") -> Tensor:
    """-(1 - beta) log p_y - beta sum_k p_k log p_k, gradient through p in both places (Reed et al. 2015).

    `beta` is the weight on the prediction, as in the GJS code and NRD's Table 5; Reed et al. call 1 - beta so.
    Logarithms are clamped at log 1e-7, so that a class below it has no gradient through its logarithm.
    """
    _within(beta, "beta")
    p = probabilities(logits)
    return _reduce(_bootstrapping(logits, labels, p, beta), reduction)


def hard_bootstrapping(logits: Tensor, labels: Tensor, beta: float, reduction: Reduction = "none") -> Tensor:
    """-(1 - beta) log p_y - beta log p_k with k = argmax p (Reed et al. 2015); `beta` and the clamp as in
    `soft_bootstrapping`.
    """
    _within(beta, "beta")
    predicted = F.one_hot(logits.argmax(dim=1), logits.shape[1])
    return _reduce(_bootstrapping(logits, labels, predicted, beta), reduction)


def _bootstrapping(logits: Tensor, labels: Tensor, predicted: Tensor, beta: float) -> Tensor:
    log_p = _log_probabilities(logits, _FLOOR)
    return -(1 - beta) * _of_label(log_p, labels) - beta * (predicted * log_p).sum(dim=1)


def reverse_cross_entropy(logits: Tensor, labels: Tensor, floor: float = 1e-4, reduction: Reduction = "none") -> Tensor:
    """-sum_k p_k log t_k with t = e_y clamped to [floor, 1] and p to [1e-7, 1]: about -log(floor) (1 - p_y)."""
    if not 0 < floor < 1:
        raise ValueError(f"floor must lie strictly between 0 and 1, got {floor}")
    p = probabilities(logits).clamp(_FLOOR, 1)
    log_target = F.one_hot(labels, p.shape[1]).to(p.dtype).clamp(min=floor).log()
    return _reduce(-(p * log_target).sum(dim=1), reduction)


def symmetric_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    alpha: float,
    beta: float,
    floor: float = 1e-4,
    reduction: Reduction = "none",
    *,
    clamp_label: bool = False,
) -> Tensor:
    """alpha CE + beta RCE (Wang et al. 2019), RCE as in `reverse_cross_entropy`.

    Args:
        alpha: weight of cross-entropy.
        beta: weight of reverse cross-entropy.
        floor: what the label's zeros become under the logarithm: 1e-4 in the authors' and the GJS code, exp(-4) in
            FINE's.
        clamp_label: its zeros become `floor` in the cross-entropy too, as in ALASCA's code.
    """
    if clamp_label:
        target = F.one_hot(labels, logits.shape[1]).to(logits.dtype).clamp(min=floor)
        forward = soft_cross_entropy(logits, target)
    else:
        forward = cross_entropy(logits, labels)
    return _reduce(alpha * forward + beta * reverse_cross_entropy(logits, labels, floor), reduction)


def generalized_cross_entropy(
    logits: Tensor, labels: Tensor, q: float, reduction: Reduction = "none", *, floor: float = _FLOOR
) -> Tensor:
    """(1 - p_y^q) / q (Zhang & Sabuncu 2018): cross-entropy as q -> 0, mean absolute error at q = 1.

    Args:
        q: in (0, 1].
        floor: p_y is clamped to at least this; a clamped sample has no gradient. 1e-7 in the GJS code, 1e-4 in
            ALASCA's; 0 does not clamp.
    """
    if not 0 < q <= 1:
        raise ValueError(f"q must be above 0 and at most 1, got {q}")
    # through the logarithm: p^q itself has an infinite slope at an underflowed p, and 1 - p^q cancels at small q
    log_p = _of_label(_log_probabilities(logits, floor), labels)
    return _reduce(-torch.expm1(q * log_p) / q, reduction)


def truncated_generalized_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    q: float,
    k: float,
    reduction: Reduction = "none",
    *,
    kept: Tensor | None = None,
) -> Tensor:
    """w ((1 - p_y^q) / q - (1 - k^q) / q), w = 1 where p_y > k and 0 elsewhere (Zhang & Sabuncu 2018).

    Args:
        q: in (0, 1].
        k: in (0, 1); samples whose label is less probable carry neither loss nor gradient.
        kept: (B,), w as it was found earlier (the reference code renews it every ten epochs); by default of these
            logits. The mean counts the others as zeros.
    """
    if not 0 < k < 1:
        raise ValueError(f"k must lie strictly between 0 and 1, got {k}")
    loss = generalized_cross_entropy(logits, labels, q, floor=0) - (1 - k**q) / q
    weight = _of_label(probabilities(logits.detach()), labels) > k if kept is None else kept
    return _reduce(weight.to(loss.dtype) * loss, reduction)


def mean_absolute_error(logits: Tensor, labels: Tensor, reduction: Reduction = "none") -> Tensor:
    """1 - p_y (Ghosh et al. 2017; half of the L1 distance between e_y and p)."""
    return _reduce(1 - _of_label(probabilities(logits), labels), reduction)


def normalized_cross_entropy(logits: Tensor, labels: Tensor, reduction: Reduction = "none") -> Tensor:
    """log p_y / sum_k log p_k, unclamped (Ma et al. 2020)."""
    log_p = _raise_precision(logits).log_softmax(dim=1)
    return _reduce(_of_label(log_p, labels) / log_p.sum(dim=1), reduction)


def nce_rce(logits: Tensor, labels: Tensor, alpha: float, beta: float, reduction: Reduction = "none") -> Tensor:
    """alpha NCE + beta RCE: an active and a passive loss (Ma et al. 2020).

    NCE as in `normalized_cross_entropy`, RCE as in `reverse_cross_entropy` with floor 1e-4.
    """
    reverse = reverse_cross_entropy(logits, labels)
    return _reduce(alpha * normalized_cross_entropy(logits, labels) + beta * reverse, reduction)


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
        normalize: multiply by Z of `jensen_shannon_scale` (the GJS code's form for CIFAR); False is the bare
            divergence.
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


def early_learning_penalty(
    logits: Tensor, memory: Tensor, floor: float = 1e-4, reduction: Reduction = "none"
) -> Tensor:
    """ln(1 - <t, p~>), p~ = softmax(z) clamped to [floor, 1 - floor] and not renormalised; gradient through p~ alone.

    Args:
        memory: (B, C), the remembered probabilities t.

    Source: Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020, Eq. 6.
    """
    clamped = probabilities(logits).clamp(floor, 1 - floor)
    return _reduce((1 - (memory.detach().to(clamped.dtype) * clamped).sum(dim=1)).log(), reduction)


def jocor(first: Tensor, second: Tensor, labels: Tensor, co_lambda: float, reduction: Reduction = "none") -> Tensor:
    """(1 - c)(CE(z1) + CE(z2)) + c (KL(p2 || p1) + KL(p1 || p2)), gradient through both networks everywhere.

    Args:
        first, second: logits (B, C) of the two networks.
        co_lambda: c in [0, 1].

    Source: Wei et al., "Combating Noisy Labels by Agreement: A Joint Training Method with Co-Regularization", CVPR
    2020.
    """
    _within(co_lambda, "co_lambda")
    log_p, log_q = (_log_probabilities(z, 0) for z in (first, second))
    symmetric_kl = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=1)
    supervised = cross_entropy(first, labels) + cross_entropy(second, labels)
    return _reduce((1 - co_lambda) * supervised + co_lambda * symmetric_kl, reduction)


def negative_entropy(logits: Tensor, reduction: Reduction = "none") -> Tensor:
    """sum_k p_k ln p_k, at most 0: added, it keeps a network from confidence (DivideMix's warm-up, Eq. 3)."""
    log_p = _log_probabilities(logits, 0)
    return _reduce((log_p.exp() * log_p).sum(dim=1), reduction)


def squared_error(logits: Tensor, targets: Tensor, reduction: Reduction = "none") -> Tensor:
    """Mean over the classes of (softmax(z) - t)^2 for target distributions t, (B, C) (MixMatch, Eq. 4)."""
    return _reduce((probabilities(logits) - targets).square().mean(dim=1), reduction)


def uniform_prior_penalty(logits: Tensor, group: Group = ONE) -> Tensor:
    """KL(uniform || mean over the global batch of softmax(z)), 0-dimensional: no class may vanish.

    Source: DivideMix, Eq. 11.
    """
    mean = group.mean(probabilities(logits))
    return -(mean.log() + math.log(len(mean))).mean()
