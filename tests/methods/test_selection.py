"""Co-teaching, Decoupling and JoCoR against the official codes' selections, masks, losses and gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastnoisy import losses, methods
from fastnoisy.distributed import ONE
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods._pairs import KeptCount, mean_over, smallest
from fastnoisy.methods.base import Context, Method, NoiseFacts, Progress, StepBatch
from fastnoisy.models.heads import Outputs

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "golden" / "coteaching_jocor_decoupling.json").read_text()
)
INPUTS = GOLDEN["inputs"]
LABELS = torch.tensor(INPUTS["labels"])
A, B, C = (torch.tensor(INPUTS[f"logits_{name}"], dtype=torch.float64) for name in "abc")
CONTEXT = Context({"name": "preact_small", "width": 4}, 5, 6, noise=NoiseFacts(0.34))


def at(epoch: int) -> Progress:
    progress = Progress.start(100)
    progress.move(epoch, 0, 1)
    return progress


def given(name: str, first: Tensor, second: Tensor, context: Context = CONTEXT, **options: Any) -> Method:
    """The method, its two networks answering what they are told."""
    method = methods.build({"name": name, **options}, context)

    class Says(torch.nn.Module):
        def __init__(self, logits: Tensor) -> None:
            super().__init__()
            self.logits = torch.nn.Parameter(logits)

        def forward(self, images: Tensor) -> Outputs:
            return Outputs(self.logits, ())

    method.networks = torch.nn.ModuleList([Says(first), Says(second)])
    return method


def step(method: Method, epoch: int) -> tuple[Tensor, list[Tensor]]:
    batch = StepBatch({"student": torch.zeros(6, 3, 8, 8)}, LABELS, torch.arange(6))
    loss = method.step({"train": batch}, at(epoch)).loss
    loss.backward()
    return loss.detach(), [next(network.parameters()).grad for network in method.networks]  # type: ignore[misc]


@pytest.mark.parametrize("case", GOLDEN["coteaching_selection"], ids=lambda case: f"tau {case['forget_rate']}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_co_teaching_selects_what_the_official_code_does(case: dict[str, Any], dtype: torch.dtype) -> None:
    kept = KeptCount(case["forget_rate"], case["num_gradual"], "gradual").to(dtype)
    for selection in case["selections"]:
        count = kept(torch.tensor(selection["epoch"]), 6)
        for logits, chosen in ((A, selection["by_net1"]), (B, selection["by_net2"])):
            mask = smallest(losses.cross_entropy(logits, LABELS), count)
            assert mask.nonzero().flatten().tolist() == sorted(chosen)


def test_the_share_kept_is_the_integer_of_the_official_code() -> None:
    for rate in (0.2, 0.4, 0.45, 0.8):
        table = np.linspace(0, rate, 30)
        kept = KeptCount(rate, 30, "gradual").to(torch.float32)
        for epoch in (0, 7, 13, 29, 30, 99):
            expected = int((1 - (table[epoch] if epoch < 30 else rate)) * 128)
            assert kept(torch.tensor(epoch), 128).item() == expected
    plain = KeptCount(0.4, 5, "plain")
    assert [int(plain(torch.tensor(epoch), 10)) for epoch in (0, 4, 5, 9)] == [10, 10, 6, 6]


def test_co_teaching_takes_the_mean_over_the_other_nets_selection() -> None:
    """The golden's loss is the official one, which divides the mean by the number kept (3 of 6) again."""
    method = given("co-teaching", A, B, warmup=1)
    loss, grads = step(method, 40)
    official = GOLDEN["coteaching_official_loss"]
    assert loss.item() == pytest.approx(3 * (official["loss_1"] + official["loss_2"]), rel=1e-9)
    count = torch.tensor(3)
    by_1, by_2 = (smallest(losses.cross_entropy(z, LABELS), count) for z in (A, B))
    assert (grads[0][~by_2] == 0).all()
    assert (grads[1][~by_1] == 0).all()
    assert (grads[0][by_2].abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("case", GOLDEN["jocor"], ids=lambda case: f"c {case['co_lambda']}")
def test_jocor(case: dict[str, Any]) -> None:
    method = given("jocor", A, B, co_lambda=case["co_lambda"], noise_rate=case["forget_rate"], warmup=1)
    loss, grads = step(method, 50)
    assert loss.item() == pytest.approx(case["loss"], rel=1e-6)
    for found, expected in zip(grads, case["grads"], strict=True):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("noise", "kept"),
    [
        (NoiseFacts(0.25, "symmetric", 0.4), 75),
        (NoiseFacts(0.185, "asymmetric", 0.4), 80),  # CIFAR-10: 40 % of five classes, some drawn twice
        (NoiseFacts(None, "asymmetric", 0.4), 80),
        (NoiseFacts(0.4, "pairflip", 0.4), 60),
    ],
)
def test_jocor_leaves_out_half_of_the_nominal_rate_of_asymmetric_noise(noise: NoiseFacts, kept: int) -> None:
    context = Context(CONTEXT.model, 5, 6, noise=noise)
    share = methods.build({"name": "jocor", "warmup": 1}, context).kept
    assert share(torch.tensor(9), 100).item() == kept  # type: ignore[operator]
    named = methods.build({"name": "jocor", "warmup": 1, "noise_rate": 0.3}, context).kept
    assert named(torch.tensor(9), 100).item() == 70  # type: ignore[operator]


@pytest.mark.parametrize(("epoch", "warm"), [(0, True), (30, False)])
def test_decoupling_learns_where_the_networks_disagree(epoch: int, warm: bool) -> None:
    differ = sorted(GOLDEN["decoupling"]["disagreeing_indices_after_warmup"])
    assert (A.argmax(dim=1) != B.argmax(dim=1)).nonzero().flatten().tolist() == differ
    _, grads = step(given("decoupling", A, B), epoch)
    for grad in grads:
        moved = (grad.abs().sum(dim=1) > 0).nonzero().flatten().tolist()
        assert moved == (list(range(6)) if warm else differ)
    loss, _ = step(given("decoupling", A, B), 30)
    both = losses.cross_entropy(A, LABELS) + losses.cross_entropy(B, LABELS)
    assert loss.item() == pytest.approx(both[differ].sum().item() / max(0.6, len(differ)))


@pytest.mark.parametrize("epoch", [0, 30])
def test_decoupling_as_alascas_code_does_it(epoch: int) -> None:
    """Disagreeing samples from the first step on; without any, its masks are those of the golden file."""
    differ = sorted(GOLDEN["decoupling"]["disagreeing_indices_step0"])
    _, grads = step(given("decoupling", A, B, rule="alasca"), epoch)
    assert (grads[0].abs().sum(dim=1) > 0).nonzero().flatten().tolist() == differ
    _, grads = step(given("decoupling", A, A.clone(), rule="alasca"), epoch)
    golden = GOLDEN["decoupling"]
    mask = golden["no_disagreement_step0_mask" if epoch == 0 else "no_disagreement_after_warmup_mask"]
    assert (grads[0].abs().sum(dim=1) > 0).tolist() == mask


def test_nothing_selected_is_a_loss_of_zero() -> None:
    values = torch.rand(4, requires_grad=True)
    loss = mean_over(values, torch.zeros(4, dtype=torch.bool), ONE)
    loss.backward()
    assert loss.item() == 0
    assert values.grad is not None
    assert not values.grad.any()
    loss, _ = step(given("decoupling", A, A.clone()), 30)
    assert loss.item() == 0


@pytest.mark.parametrize("name", ["co-teaching", "jocor", "cdr"])
def test_an_unknown_noise_rate_is_asked_for(name: str) -> None:
    unknown = Context({"name": "preact_small", "width": 4}, 5, 6)
    with pytest.raises(FastnoisyError, match=r"must know what share .*method.noise_rate=0.2"):
        methods.build({"name": name}, unknown)
    assert methods.build({"name": name, "noise_rate": 0.2}, unknown) is not None


def test_two_networks_differ_and_their_mean_predicts() -> None:
    method = methods.build({"name": "co-teaching"}, CONTEXT).eval()
    images = torch.randn(2, 3, 16, 16)
    found = method.predictions(images)
    assert list(found) == ["both", "net1", "net2"]
    assert not torch.equal(found["net1"], found["net2"])
    torch.testing.assert_close(found["both"], (found["net1"] + found["net2"]) / 2)
