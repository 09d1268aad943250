"""ALASCA against the official code's numbers (workshop and AAAI losses) and against our resolution of decision A2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from fastnoisy import losses, methods
from fastnoisy.methods.alasca import Alasca, corrected_labels
from fastnoisy.methods.base import (
    Context,
    Forward,
    Method,
    NoiseFacts,
    Progress,
    Record,
    StepBatch,
    TrainingSet,
)

WORKSHOP = {"ramp": "none", "rest": "uniform", "lca": "agreement", "sharpening": 3.0}
AAAI = {"ramp": "aaai", "rest": "others", "lca": "off", "sharpening": 3.0}
CLOTHING = {"ramp": "aaai", "ramp_epochs": 3, "rest": "others", "lca": "off", "ema": "off"}
PRECISIONS = [
    pytest.param(torch.float64, 1e-9, 1e-9, id="float64"),
    pytest.param(torch.float32, 1e-5, 1e-6, id="float32"),
]


class GivenLogits(Method):
    """A base whose forward is what the golden file says."""

    def __init__(self, context: Context, options: Any) -> None:
        super().__init__(context, options)
        self.networks.append(torch.nn.Identity())
        self.next: tuple[Tensor, list[Tensor]]

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        batch = batches["train"]
        main, subs = self.next
        loss = losses.cross_entropy(main, batch.labels, "mean")
        return Record(loss, [Forward(0, main, tuple(subs), batch.labels, batch.indices)])


def wrapped(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, **options: Any) -> tuple[Alasca, GivenLogits]:
    base = GivenLogits(Context({}, 5, 8), None)
    monkeypatch.setattr(methods, "build", lambda table, context: base)
    parsed = Alasca.Options(lam=2.0, memory_weight=0.7, stages=[1, 2], **options)
    return Alasca(Context({"name": "none"}, 5, 8, memory_dtype=dtype), parsed), base


def replay(
    monkeypatch: pytest.MonkeyPatch,
    data: Any,
    case: Any,
    epochs: int,
    precision: tuple[torch.dtype, float, float],
    **options: Any,
) -> None:
    dtype, rtol, atol = precision
    method, base = wrapped(monkeypatch, dtype, **options)
    labels = torch.tensor(data["inputs"]["labels"])
    indices = torch.tensor(case.get("indices") or data["inputs"].get("indices") or list(range(len(labels))))

    def close(actual: Tensor | None, expected: Any) -> None:
        assert actual is not None
        torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=rtol, atol=atol)

    for step in case["steps"]:
        names = [step.get("main", "logits_a"), *step.get("subs", ["logits_c", "logits_d"])]
        logits = [torch.tensor(data["inputs"][n], dtype=dtype, requires_grad=True) for n in names]
        base.next = (logits[0], logits[1:])
        progress = Progress(torch.tensor(step["epoch"]), torch.tensor(0), epochs, torch.tensor(0.0))
        record = method.step({"train": StepBatch({}, labels, indices)}, progress)
        record.loss.backward()
        close(record.loss, step["loss"])
        for z, expected in zip(logits, step["grads"], strict=True):
            close(z.grad, expected)
        if "ema_after" in step:
            close(method.memories[0].rows, step["ema_after"])


@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISIONS)
@pytest.mark.parametrize(
    ("number", "options"), [(0, WORKSHOP), (1, AAAI), (2, CLOTHING)], ids=["workshop", "aaai", "clothing1m"]
)
def test_official_losses(
    monkeypatch: pytest.MonkeyPatch, golden: Callable[[str], Any], number: int, options: dict[str, Any],
    dtype: torch.dtype, rtol: float, atol: float,
) -> None:  # fmt: skip
    data = golden("alasca")
    replay(monkeypatch, data, data["cases"][number], 120, (dtype, rtol, atol), **options)


@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISIONS)
@pytest.mark.parametrize("number", [0, 1])
def test_resolution_of_the_ramp(
    monkeypatch: pytest.MonkeyPatch,
    golden: Callable[[str], Any],
    number: int,
    dtype: torch.dtype,
    rtol: float,
    atol: float,
) -> None:
    data = golden("alasca_resolved")
    case = data["cases"][number]
    options = {"ramp_start": case["alpha_init"], "ramp_end": case["alpha_final"]}
    replay(monkeypatch, data, case, case["total_epochs"], (dtype, rtol, atol), **options)


def test_ramp_equals_golden(golden: Callable[[str], Any]) -> None:
    from fastnoisy.methods.alasca import ramp

    for epoch, alpha in golden("schedules")["alasca_alpha"]:
        assert ramp(torch.tensor(epoch), 120, Alasca.Options(), 0.7).item() == pytest.approx(alpha)


def forward(main: list[int], subs: list[list[int]], labels: list[int]) -> Forward:
    def one_hot(classes: list[int]) -> Tensor:
        return 5 * torch.nn.functional.one_hot(torch.tensor(classes), 4).double()

    return Forward(0, one_hot(main), tuple(map(one_hot, subs)), torch.tensor(labels), torch.arange(len(labels)))


@pytest.mark.parametrize(
    ("options", "epoch", "expected"),
    [
        ({}, 20, [0, 0, 0]),
        ({}, 21, [1, 0, 2]),
        ({"lca_start": 20}, 20, [1, 0, 2]),
        ({"lca_agree": "all"}, 30, [0, 0, 2]),
        ({"lca": "main_only"}, 30, [1, 3, 2]),
        ({"lca": "off"}, 30, [0, 0, 0]),
    ],
)
def test_label_correction(options: dict[str, Any], epoch: int, expected: list[int]) -> None:
    from fastnoisy.methods.alasca import corrected_labels

    one = forward(main=[1, 3, 2], subs=[[2, 3, 2], [1, 1, 2]], labels=[0, 0, 0])
    assert corrected_labels(one, torch.tensor(epoch), Alasca.Options(**options)).tolist() == expected


def test_wraps_any_base_with_heads_on_the_student_alone() -> None:
    context = Context({"name": "preact_small", "width": 4}, 5, 20)
    for base in ("ce", "nrd(weights=[0.1, 0.8, 0.1])"):
        method = methods.build({"name": "alasca", "base": base}, context)
        assert len(method.primary_network().heads) == 2
        assert method.streams == method.base.streams
        assert not [name for name, _ in method.named_modules() if "teacher" in name and "heads" in name]
    assert "cannot wrap itself" in methods.problems({"name": "alasca", "base": "alasca"})[0]
    assert "known: als, bs, cdr, ce," in methods.problems({"name": "alasca", "base": "foo"})[0]
    assert "did you mean" in methods.problems({"name": "alasca", "base": "nrf"})[0]
    assert "method.base: " in methods.problems({"name": "alasca", "base": "nrd(weight=3)"})[0]


def test_targets_of_mixed_inputs_are_mixed() -> None:
    method = methods.build({"name": "alasca", "lca": "off"}, Context({"name": "preact_small", "width": 4}, 4, 3))
    one = forward(main=[1, 3, 2], subs=[[2, 3, 2], [1, 1, 2]], labels=[0, 1, 2])
    one.logits, one.sub_logits = one.logits.float(), tuple(z.float() for z in one.sub_logits)
    progress = Progress.start(10)
    plain, _ = method.targets(one, progress)
    method.memories[0].rows.zero_()
    one.partners, one.own_weight = torch.tensor([1, 2, 0]), torch.tensor(0.25)
    loss, _ = method._sub_loss(one, progress)
    mixed = 0.25 * plain + 0.75 * plain[one.partners]
    expected = sum(losses.soft_cross_entropy(z, mixed, "mean") for z in one.sub_logits)
    torch.testing.assert_close(loss, expected)


def test_of_mixed_inputs_the_plain_images_prediction_counts() -> None:
    """Main and deepest head must agree, the main classifier on the plain image; without one nothing is corrected."""
    options = Alasca.Options(lca_start=0)
    eye = 9 * torch.eye(5)
    mixed, plain, sub = eye[[1, 1, 1]], eye[[2, 2, 3]], eye[[2, 1, 3]]
    labels, others = torch.zeros(3, dtype=torch.int64), torch.tensor([1, 2, 0])
    weight = torch.tensor(0.7)
    epoch = torch.tensor(30)
    forward = Forward(0, mixed, (sub,), labels, torch.arange(3), plain, others, weight)
    assert corrected_labels(forward, epoch, options).tolist() == [2, 0, 3]
    forward = Forward(0, mixed, (sub,), labels, torch.arange(3), None, others, weight)
    assert corrected_labels(forward, epoch, options).tolist() == [0, 0, 0]
    forward = Forward(0, mixed, (sub,), labels, torch.arange(3))
    assert corrected_labels(forward, epoch, options).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("base", "end", "reported"),
    [("ce", 0.7, "ensemble"), ("co-teaching", 0.7, "ensemble"), ("dividemix", 0.9, "both"), ("elr-plus", 0.9, "both")],
)
def test_around_semi_supervised_methods_the_ramp_ends_higher_and_main_classifiers_predict(
    base: str, end: float, reported: str
) -> None:
    context = Context({"name": "preact_small", "width": 4}, 5, 40, batch_size=8, noise=NoiseFacts(0.4))
    method = methods.build({"name": "alasca", "base": base}, context).eval()
    assert isinstance(method, Alasca)
    assert method.ramp_end == methods.complete({"name": "alasca", "base": base})["ramp_end"] == end
    found = method.predictions(torch.randn(2, 3, 16, 16))
    assert next(iter(found)) == reported
    assert "ensemble" in found
    named = {"name": "alasca", "base": base, "ramp_end": 0.5}
    assert methods.complete(named)["ramp_end"] == 0.5
    assert methods.build(named, context).ramp_end == 0.5


def test_one_memory_for_two_networks() -> None:
    """Both networks move the same rows, one after the other, as one criterion object does in the authors' code (A9)."""
    torch.manual_seed(0)
    context = Context({"name": "preact_small", "width": 4}, 5, 40, batch_size=8, noise=NoiseFacts(0.4))
    method = methods.build({"name": "alasca", "base": "co-teaching", "shared_ema": True}, context).train()
    assert isinstance(method, Alasca)
    (memory,) = method.memories
    indices = torch.arange(8)
    batch = StepBatch({"student": torch.randn(8, 3, 16, 16)}, indices % 5, indices)
    record = method.step({"train": batch}, Progress.start(10))
    first, second = (forward.logits.detach() for forward in record.forwards)
    torch.testing.assert_close(memory.rows[:8], 0.7 * (0.3 * first) + 0.3 * second)
    images = torch.randn(40, 3, 16, 16)
    with torch.no_grad():
        found = method.eval().predictions(images)
    scores = method.clean_probability(TrainingSet(lambda: found, torch.arange(40) % 5, torch.arange(40)))
    assert scores.shape == (40,)
