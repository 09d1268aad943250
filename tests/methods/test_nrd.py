"""NRD: the moving average, the teacher's BatchNorm, frozen and several teachers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fastnoisy import methods
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import AveragedBackbone, Context, Method, Progress, StepBatch
from fastnoisy.training import setup

CONTEXT = Context({"name": "preact_small", "width": 4}, num_classes=5, num_samples=20)


def progress(epoch: int = 0) -> Progress:
    return Progress(torch.tensor(epoch), torch.tensor(0), 10, torch.tensor(0.0))


def nrd(**options: Any) -> Method:
    torch.manual_seed(0)
    return methods.build({"name": "nrd", **options}, CONTEXT)


def batch(method: Method, size: int = 6) -> dict[str, StepBatch]:
    generator = torch.Generator().manual_seed(1)
    views = {name: torch.randn(size, 3, 16, 16, generator=generator) for name in method.streams["train"].views}
    labels = torch.arange(size) % 5
    return {"train": StepBatch(views, labels, torch.arange(size))}


def train_one_step(method: Method, data: dict[str, StepBatch]) -> None:
    method.train()
    record = method.step(data, progress())
    record.loss.backward()
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
    method.after_step(progress(), torch.tensor(True))


def test_average_follows_the_golden_trace(golden: Callable[[str], Any]) -> None:
    trace = golden("nrd")["ema"]

    class Weights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor(trace["ema_init"], dtype=torch.float64))

    source = Weights()
    average = AveragedBackbone(source, trace["beta"], "batch")  # type: ignore[arg-type]
    for theta, expected in zip(trace["theta_per_step"], trace["ema_per_step"], strict=True):
        with torch.no_grad():
            source.w.copy_(torch.tensor(theta, dtype=torch.float64))
        average.update(source, torch.tensor(True))  # type: ignore[arg-type]
        torch.testing.assert_close(next(average.parameters()).tolist(), expected, rtol=1e-9, atol=1e-12)


def test_teacher_starts_as_copy_and_gets_no_gradient() -> None:
    method = nrd()
    student, teacher = method.primary_network().backbone, method.teacher.average
    for a, b in zip(student.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not b.requires_grad
    data = batch(method)
    method.train()
    method.step(data, progress()).loss.backward()
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("rule", ["batch", "ema", "student"])
def test_teacher_batch_norm_rules(rule: str) -> None:
    method = nrd(teacher_bn=rule)
    before = {k: v.clone() for k, v in method.teacher.average.named_buffers()}
    train_one_step(method, batch(method))
    student = dict(method.primary_network().backbone.named_buffers())
    assert method.teacher.average.training == (rule == "batch")
    for name, buffer in method.teacher.average.named_buffers():
        if rule == "student" or not buffer.is_floating_point():
            assert torch.equal(buffer, student[name]), name
        elif rule == "ema":
            torch.testing.assert_close(buffer, 0.99 * before[name] + 0.01 * student[name])
        else:
            assert not torch.equal(buffer, before[name])
            assert not torch.equal(buffer, student[name])  # it saw another view


def test_several_teacher_views_are_drawn_apart() -> None:
    method = nrd(teacher_views=3)
    assert dict(method.streams["train"].views) == {
        "student": "student",
        "teacher": "teacher",
        "teacher_2": "teacher",
        "teacher_3": "teacher",
    }
    method.train()
    assert method.step(batch(method), progress()).loss.isfinite()


def test_frozen_teacher_keeps_its_weights(tmp_path: Path) -> None:
    torch.manual_seed(5)
    other = CONTEXT.network()
    save_file(dict(other.state_dict()), tmp_path / "model.safetensors")
    method = nrd(teacher=f"frozen:{tmp_path / 'model.safetensors'}")
    train_one_step(method, batch(method))
    for a, b in zip(other.backbone.parameters(), method.teacher.average.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(FastnoisyError, match="does not fit this network"):
        methods.build(
            {"name": "nrd", "teacher": f"frozen:{tmp_path / 'model.safetensors'}"},
            Context({"name": "preact_small", "width": 8}, 5, 20),
        )
    with pytest.raises(FastnoisyError, match="does not exist"):
        nrd(teacher="frozen:/none")


def test_a_frozen_teachers_path_is_written_down_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (
        ["method.teacher=frozen:a/model.safetensors"],
        ["method.base=nrd(teacher='frozen:a/model.safetensors')"],
    ):
        settings = setup.resolve("cifar10-alasca" if "base" in words[0] else "cifar10-nrd", words)
        table = settings.config.method.get("base", settings.config.method)
        assert table["teacher"] == f"frozen:{tmp_path / 'a' / 'model.safetensors'}"


@pytest.mark.parametrize("weights", [[0.5, 0.5, 0.5], [0.0, 0.5, 0.5], [-0.1, 0.6, 0.5]])
def test_wrong_weights_are_refused(weights: list[float]) -> None:
    assert "sum to 1" in methods.problems({"name": "nrd", "weights": weights})[0]
