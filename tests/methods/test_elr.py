"""ELR and ELR+ against the official code's losses, gradients and memories; what is remembered judges labels."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fastnoisy import losses, methods, mixing
from fastnoisy.distributed import ONE
from fastnoisy.methods.base import Context, Progress, StepBatch, TrainingSet
from fastnoisy.methods.elr_plus import elr_plus_loss, sigmoid_ramp
from fastnoisy.sample_memory import SampleMemory

GOLDEN = Path(__file__).parent.parent / "golden"
ELR: dict[str, Any] = json.loads((GOLDEN / "elr.json").read_text())
PLUS: dict[str, Any] = json.loads((GOLDEN / "elr_plus.json").read_text())
F64 = torch.float64


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


@pytest.mark.parametrize("case", ELR["cases"], ids=lambda case: f"beta {case['beta']} lam {case['lambda']}")
def test_elr_over_three_steps(case: dict[str, Any]) -> None:
    options = {"name": "elr", "beta": case["beta"], "lam": case["lambda"]}
    context = Context({"name": "preact_small", "width": 4}, 5, case["num_examples"], memory_dtype=F64)
    method = methods.build(options, context).to(F64)
    labels, indices = torch.tensor(ELR["inputs"]["labels"]), torch.tensor(case["indices"])
    for step in case["steps"]:
        logits = tensor(ELR["inputs"][step["logits"]]).requires_grad_()
        loss = method.loss(logits, labels, indices, Progress.start(10)).mean()  # type: ignore[operator]
        loss.backward()
        assert loss.item() == pytest.approx(step["loss"], rel=1e-6)
        torch.testing.assert_close(logits.grad, tensor(step["grads"][0]), rtol=1e-6, atol=1e-8)
        rows = method.memory.rows  # type: ignore[union-attr]
        torch.testing.assert_close(rows, tensor(step["target_memory_after"]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", PLUS["cases"], ids=lambda case: case["mode"][:8])
def test_elr_plus_over_two_steps(case: dict[str, Any]) -> None:
    inputs = PLUS["inputs"]
    memory = SampleMemory(6, 5, case["beta"], F64)
    others, weight = torch.tensor(case["mix_index"]), torch.tensor(case["mixup_lambda"], dtype=F64)
    labels = torch.nn.functional.one_hot(torch.tensor(inputs["labels"]), 5).to(F64)
    for step in case["steps"]:
        seen = tensor(inputs[step["ema_net_logits_on_unmixed_input"]])
        rows = memory.update(torch.arange(6), losses.probabilities(seen))
        torch.testing.assert_close(memory.rows, tensor(step["pred_hist_after"]), rtol=1e-6, atol=1e-9)
        remembered = mixing.mix(rows, others, weight, ONE)
        torch.testing.assert_close(remembered, tensor(step["q"]), rtol=1e-6, atol=1e-9)
        logits = tensor(inputs[step["net_logits_on_mixed_input"]]).requires_grad_()
        length = case["coef_step"]
        ramp = sigmoid_ramp(tensor(step["iteration"]), length) if length else tensor(1.0)
        targets = mixing.mix(labels, others, weight, ONE)
        loss = elr_plus_loss(logits, targets, remembered, case["lambda"] * ramp, case["mode"].startswith("C == 100"))
        loss.backward()
        assert loss.item() == pytest.approx(step["loss"], rel=1e-6)
        torch.testing.assert_close(logits.grad, tensor(step["grads"][0]), rtol=1e-6, atol=1e-8)


def test_the_ramps() -> None:
    for step, value in PLUS["sigmoid_rampup"]:
        assert sigmoid_ramp(tensor(float(step)), 40).item() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("steps", "decay", "values"),
    [
        (40000, 0.997, PLUS["ema_weight_schedule"]["true_ema_step_40000_alpha_0.997"]),
        (0, 0.9999, PLUS["ema_weight_schedule"]["false_alpha_0.9999"]),
    ],
)
def test_the_averages_decay(steps: int, decay: float, values: list[Any]) -> None:
    """From weights of 1 towards weights of 0 the average keeps exactly its decay."""
    context = Context({"name": "preact_small", "width": 4}, 5, 10, memory_dtype=F64)
    method = methods.build({"name": "elr-plus", "ema_steps": steps, "ema_decay": decay}, context).to(F64)
    method.before_pass("net 2")
    for step, expected in values:
        with torch.no_grad():
            for p in method.averages[1].parameters():  # type: ignore[index]
                p.fill_(1)
            for p in method.networks[1].parameters():
                p.fill_(0)
        method.steps[1] = step - 1  # type: ignore[index]
        method.after_step(Progress.start(10), torch.tensor(True))
        found = next(iter(method.averages[1].parameters())).flatten()[0].item()  # type: ignore[index]
        assert found == pytest.approx(expected, rel=1e-9)
        assert method.steps[0] == 0  # type: ignore[index]


def test_the_regulariser_of_a_step_rises_from_its_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The official code adds to its step before it takes the loss."""
    import fastnoisy.methods.elr_plus as module

    seen = []
    honest = elr_plus_loss
    monkeypatch.setattr(module, "elr_plus_loss", lambda *args: seen.append(args[3].item()) or honest(*args))
    context = Context({"name": "preact_small", "width": 4}, 5, 10)
    method = methods.build({"name": "elr-plus", "ramp_steps": 40, "lam": 2.0}, context).train()
    batch = StepBatch({"student_1": torch.randn(8, 3, 16, 16)}, torch.arange(8) % 5, torch.arange(8))
    progress = Progress.start(10)
    method.before_pass("net 1")
    for _ in range(2):
        method.step({"train_1": batch}, progress)
        method.after_step(progress, torch.tensor(True))
    assert seen == pytest.approx([2 * dict(PLUS["sigmoid_rampup"])[1], 2 * math.exp(-5 * (38 / 40) ** 2)])


def test_each_net_learns_from_the_other_nets_average() -> None:
    torch.manual_seed(0)
    context = Context({"name": "preact_small", "width": 4}, 5, 10)
    method = methods.build({"name": "elr-plus"}, context).train()
    images, labels = torch.randn(8, 3, 16, 16), torch.arange(8) % 5
    for net, spec in enumerate(method.passes):
        method.before_pass(spec.name)
        (stream,) = spec.streams
        (view,) = method.streams[stream].views
        record = method.step({stream: StepBatch({view: images}, labels, torch.arange(8))}, Progress.start(10))
        expected = method.averages[1 - net](images).softmax(dim=1)  # type: ignore[index]
        rows = method.memories[net].rows[:8]  # type: ignore[index]
        torch.testing.assert_close(rows, 0.3 * expected, rtol=1e-4, atol=1e-6)
        (forward,) = record.forwards
        assert forward.network == net
        record.loss.backward()
        trained = [any(p.grad is not None for p in network.parameters()) for network in method.networks]
        assert trained == [net == 0, net == 1]
        method.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", ["elr", "elr-plus"])
def test_what_is_remembered_judges_labels(name: str) -> None:
    context = Context({"name": "preact_small", "width": 4}, 3, 4)
    method = methods.build({"name": name}, context)
    memories = [method.memory] if name == "elr" else list(method.memories)  # type: ignore[arg-type]
    for memory in memories:
        memory.rows[1] = torch.tensor([0.1, 0.2, 0.1])  # type: ignore[union-attr]
    logits = torch.tensor([[0.0, 0, 0]] * 4)
    found = method.clean_probability(TrainingSet(lambda: {"x": logits}, torch.tensor([0, 1, 2, 0]), torch.arange(4)))
    torch.testing.assert_close(found, torch.tensor([1 / 3, 0.5, 1 / 3, 1 / 3]))
