"""DivideMix against the official code's targets, losses, ramp and mixture; its split, passes and mixing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastnoisy import losses, methods
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Context, Method, NoiseFacts, Progress, StepBatch, TrainingSet
from fastnoisy.methods.dividemix import clean_component, sharpen

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent.parent / "golden" / "dividemix.json").read_text())
INPUTS, EXPECTED = GOLDEN["inputs"], GOLDEN["outputs"]
LABELS = torch.tensor(INPUTS["labels"])
F64 = torch.float64
A, B, C, D = (torch.tensor(INPUTS[f"logits_{name}"], dtype=F64) for name in "abcd")
CONTEXT = Context({"name": "preact_small", "width": 4}, 5, 40, batch_size=4)


def expected(name: str) -> Tensor:
    return torch.tensor(EXPECTED[name], dtype=F64)


def build(context: Context = CONTEXT, **options: Any) -> Method:
    torch.manual_seed(0)
    return methods.build({"name": "dividemix", **options}, context)


def test_targets() -> None:
    guess = sharpen(torch.stack([z.softmax(dim=1) for z in (A, B, C, D)]).mean(dim=0), 0.5)
    torch.testing.assert_close(guess, expected("co_guess_target(a,b,c,d)"), rtol=1e-6, atol=1e-9)
    trust = torch.tensor(INPUTS["w_clean_prob"], dtype=F64).unsqueeze(1)
    given = torch.nn.functional.one_hot(LABELS, 5).to(F64)
    refined = sharpen(trust * given + (1 - trust) * (A.softmax(dim=1) + B.softmax(dim=1)) / 2, 0.5)
    torch.testing.assert_close(refined, expected("co_refine_target(labels,w,a,b)"), rtol=1e-6, atol=1e-9)
    supervised = losses.soft_cross_entropy(A, expected("co_refine_target(labels,w,a,b)"), "mean")
    assert supervised.item() == pytest.approx(EXPECTED["Lx(logits_a,co_refine)"], rel=1e-6)
    consistency = losses.squared_error(B, expected("co_guess_target(a,b,c,d)"), "mean")
    assert consistency.item() == pytest.approx(EXPECTED["Lu(logits_b,co_guess)"], rel=1e-6)


def test_penalties() -> None:
    found = losses.uniform_prior_penalty(torch.cat([A, B]))
    assert found.item() == pytest.approx(EXPECTED["kl_prior_penalty(mean over a and b)"], rel=1e-6)
    assert losses.negative_entropy(A, "mean").item() == pytest.approx(
        EXPECTED["neg_entropy_penalty(logits_a)"], rel=1e-6
    )


def test_the_mixture() -> None:
    values = np.array(INPUTS["losses"])
    found = clean_component((values - values.min()) / (values.max() - values.min()))
    np.testing.assert_allclose(found, EXPECTED["gmm_clean_prob"], rtol=1e-5, atol=1e-6)
    assert clean_component(np.full(7, 0.3)).tolist() == [1.0] * 7


class Says(torch.nn.Module):
    """A backbone that answers each view by what stands in its first row and column."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones((), dtype=F64))
        self.offset = offset

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images[:, 0, 0, :5] + self.offset * torch.arange(5)


def test_a_step_is_algorithm_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written out once more, sample by sample, with the mixing that the method drew."""
    method = build(warmup=10, lam_u=25.0).to(F64).train()
    for net, network in enumerate(method.networks):
        network.backbone = Says(0.3 * net)  # type: ignore[union-attr]
    method.before_pass("net 1")
    drawn: list[Any] = []
    from fastnoisy import mixing

    original = mixing.mix
    monkeypatch.setattr(mixing, "mix", lambda v, o, w, group: (drawn.append((o, w)), original(v, o, w, group))[1])
    trust = torch.rand(40, generator=torch.Generator().manual_seed(0))
    method.clean[1] = trust  # type: ignore[index]
    generator = torch.Generator().manual_seed(1)

    def stream(first: int) -> StepBatch:
        views = {name: torch.randn(4, 3, 8, 8, generator=generator, dtype=F64) for name in ("first_1", "second_1")}
        return StepBatch(views, torch.arange(4) % 5, torch.arange(first, first + 4))

    labelled, unlabelled = stream(0), stream(10)
    progress = Progress.start(300)
    progress.move(14, 3, 6)  # epoch 14.5: 4.5 epochs after the warm-up
    record = method.step({"labelled_1": labelled, "unlabelled_1": unlabelled}, progress)

    def p(view: Tensor, net: int) -> Tensor:
        return (view[:, 0, 0, :5] + 0.3 * net * torch.arange(5)).softmax(dim=1)

    targets = []
    for i in range(4):
        own = sum(p(view, 0)[i] for view in labelled.views.values()) / 2
        w = trust[i].double()
        mixed = w * torch.nn.functional.one_hot(labelled.labels[i], 5) + (1 - w) * own
        targets.append(mixed**2 / (mixed**2).sum())
    for i in range(4):
        both = sum(p(view, net)[i] for view in unlabelled.views.values() for net in (0, 1)) / 4
        targets.append(both**2 / (both**2).sum())
    rows = [*range(4), *range(4), *range(4, 8), *range(4, 8)]
    views = torch.cat([*labelled.views.values(), *unlabelled.views.values()])
    others, weight = drawn[0]
    assert 0.5 <= weight.item() <= 1
    loss_x = loss_u = 0.0
    mean = torch.zeros(5, dtype=F64)
    for i in range(16):
        j = int(others[i])
        z = weight * views[i, 0, 0, :5] + (1 - weight) * views[j, 0, 0, :5]
        t = weight * targets[rows[i]] + (1 - weight) * targets[rows[j]]
        mean += z.softmax(dim=0) / 16
        if i < 8:
            loss_x += -(t * z.log_softmax(dim=0)).sum().item() / 8
        else:
            loss_u += (z.softmax(dim=0) - t).square().mean().item() / 8
    penalty = (0.2 * (0.2 / mean).log()).sum().item()
    assert record.loss.item() == pytest.approx(loss_x + 25 * 4.5 / 16 * loss_u + penalty, rel=1e-9)
    (forward,) = record.forwards
    assert forward.network == 0
    assert forward.indices.tolist() == [*range(4), *range(4), *range(10, 14), *range(10, 14)]
    assert forward.memory_logits is not None
    torch.testing.assert_close(forward.memory_logits[:4], forward.memory_logits[4:8])


@pytest.mark.parametrize("row", EXPECTED["ramp"], ids=lambda row: f"epoch {row[0]}")
def test_the_ramp(row: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a lam_u that drowns all else the loss is the ramp's."""
    method = build(warmup=10, lam_u=25e9).train()
    progress = Progress.start(300)
    progress.move(int(row[0]), 0, 6)
    monkeypatch.setattr(losses, "squared_error", lambda z, t, reduction: (z * 0).sum() + 1)
    views = {name: torch.randn(4, 3, 8, 8) for name in ("first_1", "second_1")}
    batch = StepBatch(views, torch.arange(4), torch.arange(4))
    loss = method.step({"labelled_1": batch, "unlabelled_1": batch}, progress).loss
    assert loss.item() == pytest.approx(row[1] * 1e9, rel=1e-5, abs=100)


def judged(method: Method, epoch: int, wrong: int, rows: Tensor | None = None) -> dict[str, Tensor]:
    """Populations where both nets are sure of label 0, and the first `wrong` rows have label 1."""
    logits = torch.zeros(40, 5)
    logits[:, 0] = 4 + torch.linspace(0, 0.3, 40)
    labels = (torch.arange(40) < wrong).long()
    found = {"both": logits, "net1": logits, "net2": logits.flip(0)}
    training = TrainingSet(lambda: found, labels, rows)  # type: ignore[arg-type]
    return method.before_epoch(epoch, training)


def test_the_split_of_one_net_is_the_other_nets_population() -> None:
    method = build(warmup=3)
    assert judged(method, 2, 8, torch.arange(40)) == {}
    found = judged(method, 3, 8, torch.arange(40))
    for net in ("1", "2"):
        assert sorted(found[f"labelled_{net}"].tolist()) == list(range(8, 40))
        assert sorted(found[f"unlabelled_{net}"].tolist()) == list(range(8))
    probability = method.clean_probability(
        TrainingSet(lambda: {"both": torch.zeros(40, 5)}, torch.zeros(40, dtype=torch.int64), torch.arange(40))
    )
    assert (probability[:8] < 0.1).all()
    assert (probability[8:] > 0.9).all()
    part = build(warmup=0)
    found = judged(part, 0, 8, torch.arange(4, 36))
    assert sorted(found["labelled_1"].tolist()) == list(range(8, 36))
    assert (part.clean[:, :4] == -1).all()  # type: ignore[index]


def test_each_part_fills_a_batch() -> None:
    for wrong in (0, 1, 39):
        found = judged(build(warmup=0), 0, wrong, torch.arange(40))
        for net in ("1", "2"):
            sizes = len(found[f"labelled_{net}"]), len(found[f"unlabelled_{net}"])
            assert min(sizes) >= 4
            assert sum(sizes) == 40
    with pytest.raises(FastnoisyError, match=r"at least a batch of 4, and there are 7 images"):
        judged(build(warmup=0), 0, 1, torch.arange(7))


def test_losses_are_averaged_over_epochs() -> None:
    once, thrice = build(warmup=0), build(warmup=0, history=3)
    for epoch in range(4):
        judged(thrice, epoch, 8 + 8 * (epoch % 2), torch.arange(40))
        judged(once, epoch, 8 + 8 * (epoch % 2), torch.arange(40))
    stored = thrice.losses[:, 0, :]  # type: ignore[index]
    assert torch.equal(stored[0], once.losses[0, 0])  # type: ignore[index]
    assert not torch.equal(stored[0], stored[2])
    for method in (once, thrice):
        recent = method.losses[:, 0].double().mean(dim=0)  # type: ignore[index]
        expected = torch.from_numpy(clean_component(recent.numpy())).float()
        torch.testing.assert_close(method.clean[0], expected)  # type: ignore[index]


def test_passes_by_epoch() -> None:
    method = build(warmup=2).train()
    assert [p.name for p in method.plan(1)] == ["warm-up 1", "warm-up 2"]
    assert [p.batch_factor for p in method.plan(1)] == [2, 2]
    assert [p.name for p in method.plan(2)] == ["net 1", "net 2"]
    assert all(p.drop_last for p in method.plan(2))
    for name, modes in (("warm-up 1", [True, True]), ("net 1", [True, False]), ("net 2", [False, True])):
        method.train()
        method.before_pass(name)
        assert [network.training for network in method.networks] == modes


def test_confidence_is_penalised_where_noise_depends_on_the_class() -> None:
    asymmetric = Context(CONTEXT.model, 5, 40, batch_size=4, noise=NoiseFacts(0.4, "asymmetric", 0.4))
    batch = StepBatch({"first_1": torch.randn(8, 3, 8, 8)}, torch.arange(8) % 5, torch.arange(8))
    found = []
    for context in (CONTEXT, asymmetric):
        record = build(context).train().step({"all_1": batch}, Progress.start(10))
        found.append(record.loss.item())
        entropy = losses.negative_entropy(record.forwards[0].logits, "mean").item()
    assert found[1] == pytest.approx(found[0] + entropy, rel=1e-5)
