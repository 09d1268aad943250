"""Losses against the numbers of the official codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastnoisy import losses

PRECISIONS = [(torch.float64, 1e-9, 1e-9), (torch.float32, 1e-5, 1e-6)]


def tensors(data: Any, dtype: torch.dtype) -> tuple[dict[str, Tensor], Tensor]:
    logits = {
        k: torch.tensor(v, dtype=dtype, requires_grad=True) for k, v in data["inputs"].items() if k.startswith("logits")
    }
    return logits, torch.tensor(data["inputs"]["labels"])


def close(actual: Tensor | None, expected: Any, rtol: float, atol: float) -> None:
    assert actual is not None
    torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=rtol, atol=atol)


@pytest.fixture(params=PRECISIONS, ids=["float64", "float32"])
def precision(request: pytest.FixtureRequest) -> tuple[torch.dtype, float, float]:
    return request.param


def test_jensen_shannon_equals_gjs_code(
    golden: Callable[[str], Any], precision: tuple[torch.dtype, float, float]
) -> None:
    dtype, rtol, atol = precision
    data = golden("gjs_js")
    assert len(data["cases"]) == 16
    for case in data["cases"]:
        logits, labels = tensors(data, dtype)
        used = [logits[name] for name in case["inputs"]]
        loss = losses.generalized_jensen_shannon(used, labels, case["weights"], case["scaled"], "mean")
        loss.backward()
        close(loss, case["loss"], rtol, atol)
        for z, expected in zip(used, case["grads"], strict=True):
            close(z.grad, expected, rtol, atol)
        if len(used) == 1:
            single = losses.jensen_shannon(used[0], labels, case["weights"][0], case["scaled"], "mean")
            torch.testing.assert_close(single, loss)


def test_noise_robust_distillation_equals_golden(
    golden: Callable[[str], Any], precision: tuple[torch.dtype, float, float]
) -> None:
    dtype, rtol, atol = precision
    data = golden("nrd")
    for case in data["cases"]:
        logits, labels = tensors(data, dtype)
        student, teacher = logits["logits_a"], logits["logits_b"]
        loss = losses.noise_robust_distillation(student, teacher, labels, case["pi"], case["scaled"], "mean")
        loss.backward()
        close(loss, case["loss"], rtol, atol)
        close(student.grad, case["grads"][0], rtol, atol)
        assert teacher.grad is None


def test_cross_entropy_equals_golden(golden: Callable[[str], Any], precision: tuple[torch.dtype, float, float]) -> None:
    dtype, rtol, atol = precision
    data = golden("ce_ls_bs_mae")
    case = next(c for c in data["cases"] if c["method"] == "CE")
    logits, labels = tensors(data, dtype)
    loss = losses.cross_entropy(logits["logits_a"], labels, "mean")
    loss.backward()
    close(loss, case["loss"], rtol, atol)
    close(logits["logits_a"].grad, case["grads"][0], rtol, atol)


def test_several_teacher_views_average_their_probabilities() -> None:
    torch.manual_seed(0)
    student, one, two = torch.randn(3, 4, 5, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3])
    both = losses.noise_robust_distillation(student, [one, two], labels, (0.2, 0.6, 0.2))
    mean = ((one.softmax(1) + two.softmax(1)) / 2).log()
    torch.testing.assert_close(both, losses.noise_robust_distillation(student, mean, labels, (0.2, 0.6, 0.2)))


def test_half_precision_logits_are_raised() -> None:
    logits = torch.randn(4, 5).bfloat16()
    labels = torch.tensor([0, 1, 2, 3])
    assert losses.cross_entropy(logits, labels).dtype == torch.float32
    assert losses.jensen_shannon(logits, labels, 0.5).dtype == torch.float32


def test_bounds_and_wrong_weights() -> None:
    logits = 50 * torch.randn(64, 5, dtype=torch.float64)
    labels = torch.randint(5, (64,))
    raw = losses.jensen_shannon(logits, labels, 0.3, normalize=False)
    entropy = -(0.3 * torch.tensor(0.3).log() + 0.7 * torch.tensor(0.7).log())
    assert (raw >= 0).all()
    assert (raw <= entropy + 1e-6).all()
    with pytest.raises(ValueError, match="sum to 1"):
        losses.generalized_jensen_shannon([logits], labels, (0.3, 0.3))
    with pytest.raises(ValueError, match="strictly between"):
        losses.jensen_shannon(logits, labels, 1.0)
    with pytest.raises(ValueError, match="reduction"):
        losses.cross_entropy(logits, labels, "sum")  # type: ignore[arg-type]


@pytest.mark.parametrize("rest", ["uniform", "others"])
def test_smoothed_targets_are_distributions(rest: Any) -> None:
    targets = losses.smoothed_targets(torch.tensor([0, 2]), torch.tensor([0.3, 0.9]), 4, rest)
    torch.testing.assert_close(targets.sum(1), torch.ones(2))
    if rest == "others":
        torch.testing.assert_close(targets[0], torch.tensor([0.3, 0.7 / 3, 0.7 / 3, 0.7 / 3]))
    else:
        torch.testing.assert_close(targets[0], torch.tensor([0.3 + 0.7 / 4, 0.7 / 4, 0.7 / 4, 0.7 / 4]))
