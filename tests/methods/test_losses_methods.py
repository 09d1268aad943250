"""Methods that are a loss: their step is that loss on their logits; GJS's views."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastnoisy import losses, methods
from fastnoisy.config import parse_call
from fastnoisy.methods.base import Context, Method, Progress, StepBatch, TrainingSet
from fastnoisy.models.heads import Network

CONTEXT = Context({"name": "preact_small", "width": 4}, num_classes=5, num_samples=20)
PROGRESS = Progress.start(10)

Loss = Callable[[Tensor, Tensor], Tensor]
CASES: list[tuple[str, Loss]] = [
    ("bs", lambda z, y: losses.soft_bootstrapping(z, y, 0.5)),
    ("bs(beta=0.8)", lambda z, y: losses.soft_bootstrapping(z, y, 0.8)),
    ("bs(beta=0.2, variant=hard)", lambda z, y: losses.hard_bootstrapping(z, y, 0.2)),
    ("ls", lambda z, y: losses.label_smoothing(z, y, 0.1)),
    ("ls(epsilon=0.7)", lambda z, y: losses.label_smoothing(z, y, 0.7)),
    ("sce", lambda z, y: losses.symmetric_cross_entropy(z, y, 0.1, 1.0)),
    ("sce(alpha=1, beta=0.4, floor=0.01)", lambda z, y: losses.symmetric_cross_entropy(z, y, 1, 0.4, 0.01)),
    ("gce", lambda z, y: losses.generalized_cross_entropy(z, y, 0.7)),
    ("gce(q=0.5, floor=0.2)", lambda z, y: losses.generalized_cross_entropy(z, y, 0.5, floor=0.2)),
    ("nce-rce", lambda z, y: losses.nce_rce(z, y, 10, 0.1)),
    ("nce-rce(alpha=1, beta=1)", lambda z, y: losses.nce_rce(z, y, 1, 1)),
    ("js", lambda z, y: losses.jensen_shannon(z, y, 0.5)),
    ("js(weight=0.9, normalize=none)", lambda z, y: losses.jensen_shannon(z, y, 0.9, False)),
    ("mae", losses.mean_absolute_error),
]


def build(text: str, context: Context = CONTEXT) -> Method:
    torch.manual_seed(0)
    return methods.build(parse_call(text), context).train()


def batch(method: Method, size: int = 8) -> dict[str, StepBatch]:
    generator = torch.Generator().manual_seed(1)
    views = {name: torch.randn(size, 3, 16, 16, generator=generator) for name in method.streams["train"].views}
    return {"train": StepBatch(views, torch.arange(size) % 5, torch.arange(size))}


def gradients(method: Method) -> list[Tensor]:
    found = [p.grad for p in method.parameters()]
    assert all(g is not None for g in found)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(("text", "loss"), CASES, ids=[text for text, _ in CASES])
def test_a_step_is_the_mean_of_its_loss(text: str, loss: Loss) -> None:
    method = build(text)
    assert dict(method.streams["train"].views) == {"student": "student"}
    assert method.suite == ("alasca" if text == "mae" else "nrd"), "the methods of NRD's tables, and the others"
    data = batch(method)
    record = method.step(data, PROGRESS)
    (forward,) = record.forwards
    torch.testing.assert_close(record.loss, loss(forward.logits, data["train"].labels).mean())
    expected = build("ce").step(data, PROGRESS).forwards[0].logits  # the same weights: the method adds none
    assert torch.equal(forward.logits, expected)


@pytest.mark.parametrize("concatenate", [False, True])
@pytest.mark.parametrize("views", [2, 3])
def test_gjs_is_the_divergence_between_label_and_every_view(concatenate: bool, views: int) -> None:
    method = build(f"gjs(weight=0.4, views={views}, concatenate={concatenate})")
    names = ["student", "student_2", "student_3"][:views]
    assert dict(method.streams["train"].views) == dict.fromkeys(names, "student")
    data = batch(method)
    record = method.step(data, PROGRESS)
    network = build("ce").networks[0]
    images = [data["train"].views[name] for name in names]
    logits = network(torch.cat(images)).logits.chunk(views) if concatenate else [network(x).logits for x in images]
    weights = [0.4] + [0.6 / views] * views
    expected = losses.generalized_jensen_shannon(logits, data["train"].labels, weights, reduction="mean")
    torch.testing.assert_close(record.loss, expected)
    torch.testing.assert_close(record.forwards[0].logits, logits[0])
    assert 0 <= record.logs["view_agreement"] <= 1
    record.loss.backward()
    expected.backward()
    for a, b in zip(gradients(method), network.parameters(), strict=True):
        torch.testing.assert_close(a, b.grad)  # through every view


def norm_forwards(module: torch.nn.Module) -> dict[str, int]:
    """Name of each BatchNorm -> how often it has run, counted from now on."""
    counts: dict[str, int] = {}
    for name, norm in module.named_modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            counts[name] = 0
            norm.register_forward_hook(lambda *_, name=name: counts.__setitem__(name, counts[name] + 1))
    return counts


def test_gjs_views_have_their_own_batch_statistics_unless_concatenated() -> None:
    apart, together = build("gjs"), build("gjs(concatenate=True)")
    data = batch(apart)
    data["train"].views["student_2"].mul_(3)
    counts = [norm_forwards(m) for m in (apart, together)]
    assert not torch.allclose(*(m.step(data, PROGRESS).forwards[0].logits for m in (apart, together)))
    assert [set(count.values()) for count in counts] == [{2}, {1}]


def test_gjs_without_normalisation_is_the_bare_divergence() -> None:
    data = batch(build("gjs"))
    scaled, bare = (build(f"gjs(weight=0.3, normalize={z})").step(data, PROGRESS).loss for z in ("gjs", "none"))
    torch.testing.assert_close(scaled, bare * losses.jensen_shannon_scale(0.3))


@pytest.mark.parametrize("concatenate", [False, True])
def test_alasca_around_gjs_uses_the_first_view(concatenate: bool) -> None:
    method = build(f"alasca(base=gjs(concatenate={concatenate}))")
    assert list(method.streams["train"].views) == ["student", "student_2"]
    data = batch(method)
    network = method.primary_network()
    assert isinstance(network, Network)
    head_forwards = norm_forwards(network.heads)
    record = method.step(data, PROGRESS)
    (forward,) = record.forwards
    assert [z.shape for z in forward.sub_logits] == [(8, 5)] * len(network.heads)
    assert len(network.heads) > 0
    memory: Any = method.memories[0]  # type: ignore[index]
    torch.testing.assert_close(memory.rows[:8], 0.3 * forward.logits.detach())
    assert set(head_forwards.values()) == {1}
    record.loss.backward()
    gradients(method)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("bs(beta=1.1)", "method.beta"),
        ("bs(variant=medium)", "method.variant"),
        ("ls(epsilon=-0.1)", "method.epsilon"),
        ("sce(alpha=-1)", "method.alpha"),
        ("sce(floor=0)", "method.floor"),
        ("gce(q=0)", "method.q"),
        ("gce(q=1.5)", "method.q"),
        ("nce-rce(beta=-1)", "method.beta"),
        ("js(weight=0)", "method.weight"),
        ("js(weight=1)", "method.weight"),
        ("gjs(weight=1)", "method.weight"),
        ("gjs(views=1)", "method.views"),
        ("mae(q=1)", "method.q"),
    ],
)
def test_options_have_bounds(text: str, key: str) -> None:
    (problem,) = methods.problems(parse_call(text))
    assert key in problem


def test_als_equals_the_printed_and_the_smoothing_scale() -> None:
    golden = json.loads((Path(__file__).parent.parent / "golden" / "alasca_resolved.json").read_text())
    logits = torch.tensor(golden["inputs"]["logits_a"], dtype=torch.float64, requires_grad=True)
    labels, expected = torch.tensor(golden["inputs"]["labels"]), golden["eq2_als_on_main"]
    found = losses.adaptive_label_smoothing(logits, labels)
    scaled = torch.tensor(expected["value_with_omega_over_L (label-smoothing scale)"], dtype=torch.float64)
    torch.testing.assert_close(found, scaled)
    printed = torch.tensor(expected["value_as_printed"], dtype=torch.float64)
    torch.testing.assert_close(losses.adaptive_label_smoothing(logits, labels, "sum"), printed)
    found.sum().backward()
    beta = logits.detach().softmax(dim=1).gather(1, labels.unsqueeze(1))
    target = beta * torch.nn.functional.one_hot(labels, 5) + (1 - beta) / 5
    torch.testing.assert_close(logits.grad, logits.detach().softmax(dim=1) - target, msg="beta carries no gradient")


def test_als_warms_up_with_cross_entropy() -> None:
    method = build("als(warmup=3)")
    logits, labels = torch.randn(8, 5), torch.arange(8) % 5
    for epoch, expected in ((2, losses.cross_entropy), (3, losses.adaptive_label_smoothing)):
        progress = Progress.start(10)
        progress.move(epoch, 0, 1)
        found = method.loss(logits, labels, torch.arange(8), progress)  # type: ignore[operator]
        torch.testing.assert_close(found, expected(logits, labels))


def test_truncated_gce_leaves_out_what_it_does_not_believe() -> None:
    method = build("gce(truncate=0.5, prune_start=4, prune_every=2, q=0.7)")
    logits = torch.full((20, 5), -2.0)
    logits[:, 0] = 4
    labels = (torch.arange(20) >= 12).long()  # the last eight are not believed
    training = TrainingSet(lambda: {"main": logits}, labels, torch.arange(2, 20))
    for epoch, kept in ((3, 20), (5, 20), (4, 12)):
        assert method.before_epoch(epoch, training) == {}
        assert int(method.kept.sum()) == kept  # type: ignore[operator, union-attr]
    rows = torch.tensor([3, 19])
    progress = Progress.start(10)
    progress.move(4, 0, 1)
    found = method.loss(logits[rows], labels[rows], rows, progress)  # type: ignore[operator]
    p = logits[3].softmax(dim=0)[0]
    assert found.tolist() == pytest.approx([((1 - p**0.7) / 0.7 - (1 - 0.5**0.7) / 0.7).item(), 0.0])
    progress.move(3, 0, 1)
    whole = method.loss(logits[rows], labels[rows], rows, progress)  # type: ignore[operator]
    torch.testing.assert_close(whole, losses.generalized_cross_entropy(logits[rows], labels[rows], 0.7))
    assert "kept" in method.state_dict()
    assert "kept" not in build("gce").state_dict()
