"""Mixup and CDR against the official codes' numbers; keyed mixing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from fastnoisy import keyed_random, losses, methods, mixing
from fastnoisy.distributed import ONE
from fastnoisy.methods.base import Context, Method, NoiseFacts, Progress, StepBatch
from fastnoisy.models.heads import Outputs

GOLDEN = Path(__file__).parent.parent / "golden"
MIXUP: dict[str, Any] = json.loads((GOLDEN / "mixup.json").read_text())
CDR: dict[str, Any] = json.loads((GOLDEN / "cdr.json").read_text())
F64 = torch.float64


class Given(nn.Module):
    """A network that notes its images and answers what it is told."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Outputs:
        self.images = images
        return Outputs(self.logits, ())


def test_mixup_mixes_inputs_and_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, expected = MIXUP["inputs"], MIXUP["outputs"]
    method = methods.build({"name": "mixup"}, Context({"name": "preact_small", "width": 4}, 5, 6))
    network = Given(torch.tensor(inputs["logits_a"], dtype=F64))
    method.networks = nn.ModuleList([network])
    monkeypatch.setattr(mixing, "partners", lambda key, group, size: torch.tensor(inputs["perm"]))
    method.weights.forward = lambda key: torch.tensor(inputs["lam"], dtype=F64)  # type: ignore[union-attr, assignment]
    images = torch.tensor(inputs["x"], dtype=F64)
    labels = torch.tensor(inputs["labels"])
    record = method.step({"train": StepBatch({"student": images}, labels, torch.arange(6))}, Progress.start(10))
    record.loss.backward()
    torch.testing.assert_close(network.images, torch.tensor(expected["mixed_x"], dtype=F64))
    assert record.loss.item() == pytest.approx(expected["loss"], rel=1e-6)
    torch.testing.assert_close(network.logits.grad, torch.tensor(expected["grads"][0], dtype=F64), rtol=1e-6, atol=1e-8)


def test_partners_are_permutations_of_their_own_per_step() -> None:
    seen = set()
    for step in range(20):
        found = mixing.partners(torch.tensor(keyed_random.key(1, step)), ONE, 16)
        assert found.sort().values.tolist() == list(range(16))
        assert torch.equal(found, mixing.partners(torch.tensor(keyed_random.key(1, step)), ONE, 16))
        seen.add(tuple(found.tolist()))
    assert len(seen) == 20


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_weights_are_beta_distributed(alpha: float) -> None:
    keys = torch.tensor([keyed_random.key(3, number) for number in range(20_000)])
    plain, larger = mixing.BetaWeights(alpha), mixing.BetaWeights(alpha, larger=True).to(torch.float16)
    drawn = np.array([plain(key).item() for key in keys])
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 0.01
    assert larger(keys[0]).dtype == F64, "a change of precision does not reach the table"
    assert [larger(key).item() for key in keys[:50]] == [max(value, 1 - value) for value in drawn[:50]]


def small_net(inputs: dict[str, Any]) -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5)).to(F64)
    with torch.no_grad():
        for layer, number in ((net[0], "1"), (net[2], "2")):
            layer.weight.copy_(torch.tensor(inputs[f"W{number}"], dtype=F64))
            layer.bias.copy_(torch.tensor(inputs[f"b{number}"], dtype=F64))
    return net


def build_cdr(rate: float) -> Method:
    context = Context({"name": "preact_small", "width": 4}, 5, 6, noise=NoiseFacts(rate))
    return methods.build({"name": "cdr"}, context)


@pytest.mark.parametrize("case", CDR["cases"], ids=lambda case: f"tau {case['noise_rate']}")
def test_a_step_of_cdr(case: dict[str, Any]) -> None:
    inputs = CDR["inputs"]
    method, net = build_cdr(case["noise_rate"]), small_net(inputs)
    method.networks = nn.ModuleList([net])
    loss = losses.cross_entropy(net(torch.tensor(inputs["x"], dtype=F64)), torch.tensor(inputs["labels"]), "mean")
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-6)
    method.after_backward(Progress.start(10))
    torch.optim.SGD(net.parameters(), lr=case["lr"]).step()
    for (layer, kind), name in zip(
        ((net[0], "weight"), (net[0], "bias"), (net[2], "weight"), (net[2], "bias")),  # type: ignore[index]
        ("W1", "b1", "W2", "b2"),
        strict=True,
    ):
        expected = torch.tensor(case["params_after"][name], dtype=F64)
        torch.testing.assert_close(getattr(layer, kind).detach(), expected, rtol=1e-6, atol=1e-8)


def test_cdr_leaves_batchnorm_and_biases_alone() -> None:
    method = build_cdr(0.6).train()
    batch = StepBatch({"student": torch.randn(6, 3, 16, 16)}, torch.arange(6) % 5, torch.arange(6))
    method.step({"train": batch}, Progress.start(10)).loss.backward()
    before = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    method.after_backward(Progress.start(10))
    kept = total = 0
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None
        if parameter.ndim == 1:
            assert torch.equal(parameter.grad, before[name]), name
        else:
            moved = parameter.grad != 0
            torch.testing.assert_close(parameter.grad[moved], 0.4 * before[name][moved])
            kept, total = kept + int(moved.sum()), total + moved.numel()
    assert kept == int(0.4 * total)
