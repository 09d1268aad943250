"""Losses against the numbers of the official codes."""

from __future__ import annotations

import math
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


GOLDENS = {
    "CE": lambda z, y, case: losses.cross_entropy(z, y, "mean"),
    "LS": lambda z, y, case: losses.label_smoothing(z, y, case["eps"], "mean") - entropy_of_smoothing(case["eps"], z),
    "BS": lambda z, y, case: losses.soft_bootstrapping(z, y, case["t_weight_on_prediction"], "mean"),
    "MAE": lambda z, y, case: losses.mean_absolute_error(z, y, "mean"),
}
FLOORS = {"gjs": 1e-7, "alasca": 1e-4, "fine": 0.0}


def entropy_of_smoothing(epsilon: float, logits: Tensor) -> float:
    """The GJS code reports KL, which is cross-entropy less the entropy of the targets."""
    target = losses.smoothed_targets(
        torch.tensor([0]), torch.tensor([1 - epsilon], dtype=torch.float64), logits.shape[1]
    )
    return torch.special.entr(target).sum().item()


def run_case(data: Any, case: Any, precision: tuple[torch.dtype, float, float], loss_of: Callable[..., Tensor]) -> None:
    """Value and gradient of one golden case on logits_a."""
    dtype, rtol, atol = precision
    logits, labels = tensors(data, dtype)
    z = logits["logits_a"]
    loss = loss_of(z, labels)
    loss.backward()
    close(loss, case["loss"], rtol, atol)
    close(z.grad, case["grads"][0], rtol, atol)


def test_ce_ls_bs_mae_equal_golden(golden: Callable[[str], Any], precision: tuple[torch.dtype, float, float]) -> None:
    data = golden("ce_ls_bs_mae")
    assert {c["method"] for c in data["cases"]} == set(GOLDENS)
    for case in data["cases"]:
        run_case(data, case, precision, lambda z, y, case=case: GOLDENS[case["method"]](z, y, case))


def test_symmetric_cross_entropy_equals_golden(
    golden: Callable[[str], Any], precision: tuple[torch.dtype, float, float]
) -> None:
    data = golden("sce")

    def loss(z: Tensor, y: Tensor, variant: str, alpha: float, beta: float) -> Tensor:
        floor = math.exp(-4) if variant == "fine" else 1e-4
        return losses.symmetric_cross_entropy(z, y, alpha, beta, floor, "mean", clamp_label=variant == "alasca")

    assert {c["variant"] for c in data["cases"]} == {"gjs", "alasca", "fine"}
    for case in data["cases"]:
        arguments = (case["variant"], case["alpha"], case["beta"])
        run_case(data, case, precision, lambda z, y, arguments=arguments: loss(z, y, *arguments))


def test_generalized_cross_entropy_equals_golden(
    golden: Callable[[str], Any], precision: tuple[torch.dtype, float, float]
) -> None:
    data = golden("gce")
    kept = torch.tensor(data["inputs"]["trunc_weights"]).squeeze(1)

    def loss(z: Tensor, y: Tensor, case: Any) -> Tensor:
        if case["variant"] == "truncated":
            return losses.truncated_generalized_cross_entropy(z, y, case["q"], case["k"], "mean", kept=kept)
        return losses.generalized_cross_entropy(z, y, case["q"], "mean", floor=FLOORS[case["variant"]])

    assert {c["variant"] for c in data["cases"]} == {*FLOORS, "truncated"}
    for case in data["cases"]:
        run_case(data, case, precision, lambda z, y, case=case: loss(z, y, case))
    case = next(c for c in data["cases"] if c["variant"] == "truncated")
    logits, labels = tensors(data, precision[0])
    renewed = losses.truncated_generalized_cross_entropy(logits["logits_a"], labels, case["q"], case["k"])
    assert (renewed != 0).tolist() == [w == [1.0] for w in case["weights_after_update"]]


def test_nce_rce_equals_golden(golden: Callable[[str], Any], precision: tuple[torch.dtype, float, float]) -> None:
    data = golden("nce_rce")

    def loss(z: Tensor, y: Tensor, case: Any) -> Tensor:
        if "only" in case:
            alone = {"NCE": losses.normalized_cross_entropy, "RCE": losses.reverse_cross_entropy}[case["only"]]
            return alone(z, y, reduction="mean")  # type: ignore[operator]
        return losses.nce_rce(z, y, case["alpha"], case["beta"], "mean")

    assert len(data["cases"]) == 7
    for case in data["cases"]:
        run_case(data, case, precision, lambda z, y, case=case: loss(z, y, case))


def test_hard_bootstrapping_is_cross_entropy_to_label_and_argmax(golden: Callable[[str], Any]) -> None:
    logits, labels = tensors(golden("ce_ls_bs_mae"), torch.float64)
    z = logits["logits_a"][:5]  # the last row is under the clamp
    target = 0.3 * torch.eye(5, dtype=torch.float64)[labels[:5]] + 0.7 * torch.eye(5, dtype=torch.float64)[z.argmax(1)]
    torch.testing.assert_close(
        losses.hard_bootstrapping(z, labels[:5], 0.7), losses.soft_cross_entropy(z, target), rtol=1e-12, atol=1e-12
    )
    extreme = losses.hard_bootstrapping(logits["logits_a"][5:], labels[5:], 0.0)
    torch.testing.assert_close(extreme, torch.full_like(extreme, -math.log(1e-7)))


def test_limits_of_the_families() -> None:
    z, y = torch.randn(8, 5, dtype=torch.float64), torch.arange(8) % 5
    ce, mae = losses.cross_entropy(z, y), losses.mean_absolute_error(z, y)
    near = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(losses.generalized_cross_entropy(z, y, 1.0), mae)
    torch.testing.assert_close(losses.generalized_cross_entropy(z, y, 1e-6), ce, **near)
    torch.testing.assert_close(losses.jensen_shannon(z, y, 1e-6), ce, **near)
    torch.testing.assert_close(losses.label_smoothing(z, y, 0.0), ce)
    torch.testing.assert_close(losses.soft_bootstrapping(z, y, 0.0), ce)
    torch.testing.assert_close(losses.reverse_cross_entropy(z, y), -math.log(1e-4) * mae)
    assert losses.normalized_cross_entropy(z, y).lt(1).all()


LOSSES: dict[str, Callable[..., Tensor]] = {
    "label_smoothing": lambda z, y, **kw: losses.label_smoothing(z, y, 0.5, **kw),
    "soft_bootstrapping": lambda z, y, **kw: losses.soft_bootstrapping(z, y, 0.5, **kw),
    "hard_bootstrapping": lambda z, y, **kw: losses.hard_bootstrapping(z, y, 0.5, **kw),
    "symmetric_cross_entropy": lambda z, y, **kw: losses.symmetric_cross_entropy(z, y, 0.1, 1.0, **kw),
    "generalized_cross_entropy": lambda z, y, **kw: losses.generalized_cross_entropy(z, y, 0.7, **kw),
    "unclamped gce": lambda z, y, **kw: losses.generalized_cross_entropy(z, y, 0.7, floor=0.0, **kw),
    "truncated gce": lambda z, y, **kw: losses.truncated_generalized_cross_entropy(z, y, 0.7, 0.5, **kw),
    "mean_absolute_error": losses.mean_absolute_error,
    "nce_rce": lambda z, y, **kw: losses.nce_rce(z, y, 1.0, 1.0, **kw),
    "jensen_shannon": lambda z, y, **kw: losses.jensen_shannon(z, y, 0.5, **kw),
    "generalized_jensen_shannon": lambda z, y, **kw: losses.generalized_jensen_shannon(
        [z, z], y, (0.4, 0.3, 0.3), **kw
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_per_sample_reduced_and_finite_where_a_probability_underflows(name: str) -> None:
    z = torch.zeros(3, 5)
    z[0, 0], z[1, 1] = 300.0, -300.0  # p is 0 in float32
    labels = torch.tensor([4, 1, 2])
    for dtype in (torch.float32, torch.bfloat16):
        logits = z.to(dtype, copy=True).requires_grad_()
        each = LOSSES[name](logits, labels)
        assert each.shape == (3,)
        assert each.dtype == torch.float32
        mean = LOSSES[name](logits, labels, reduction="mean")
        torch.testing.assert_close(mean, each.mean())
        mean.backward()
        assert each.isfinite().all()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, y: losses.label_smoothing(z, y, 1.1), "epsilon must lie between 0 and 1, got 1.1"),
        (lambda z, y: losses.soft_bootstrapping(z, y, -0.1), "beta must lie between"),
        (lambda z, y: losses.hard_bootstrapping(z, y, 2), "beta must lie between"),
        (lambda z, y: losses.symmetric_cross_entropy(z, y, 1, 1, 0.0), "floor must lie strictly between"),
        (lambda z, y: losses.generalized_cross_entropy(z, y, 0.0), "q must be above 0"),
        (lambda z, y: losses.truncated_generalized_cross_entropy(z, y, 0.7, 1.0), "k must lie strictly between"),
    ],
)
def test_wrong_parameters_are_refused(call: Callable[..., Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2, 3), torch.tensor([0, 1]))


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
