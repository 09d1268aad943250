"""A step writes its state in place, and a loss that is not finite moves none of it: every method, form and pass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastnoisy import methods
from fastnoisy.batch import Batch
from fastnoisy.config import Config, parse_call
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Context, NoiseFacts, Pass, Progress
from fastnoisy.training import optim, setup
from fastnoisy.training.meter import Meter
from fastnoisy.training.step import Stepper

NAMES = methods.names()
FORMS = [*NAMES, *(f"alasca(base={name})" for name in NAMES if name not in ("alasca", "ce"))]
FORMS += ["nrd(teacher_bn=ema)", "nrd(teacher_bn=student)", "elr-plus(ema_steps=0)", "gce(truncate=0.5, prune_start=0)"]
FORMS += ["alasca(recompute=True)", "alasca(base=co-teaching, shared_ema=True)", "alasca(memory_dtype=bfloat16)"]
CONTEXT = Context(
    {"name": "preact_small", "width": 4}, num_classes=5, num_samples=40, seed=1, noise=NoiseFacts(0.4), batch_size=16
)
DEVICE = torch.device("cpu")


@functools.cache
def config(*words: str) -> Config:
    return setup.resolve("digits-ce", ["device=cpu", "optim.lr=0.05", "batch_size=16", *words]).config


class Run:
    """A method that makes steps, on views that can be spoilt."""

    def __init__(self, name: str, *words: str) -> None:
        torch.manual_seed(3)
        self.method = methods.build(parse_call(name), CONTEXT)
        for key, buffer in self.method.named_buffers():  # judged, as after a split
            if key.endswith("clean"):
                buffer.uniform_(0, 1)
        settings = config(*words)
        self.optimizer = optim.build(self.method, settings.optim, DEVICE)
        self.meter = Meter(torch.arange(40) % 5, DEVICE)
        self.progress = Progress.start(10)
        self.spoil: Callable[[Tensor], Tensor] = lambda images: images
        views: Any = {
            stream: {view: functools.partial(self._view, number) for number, view in enumerate(spec.views)}
            for stream, spec in self.method.streams.items()
        }
        self.stepper = Stepper(self.method, self.optimizer, views, settings, DEVICE, self.meter)
        self.number = 0

    def _view(self, number: int, images: Tensor, sizes: Tensor, indices: Tensor, key: Tensor) -> Tensor:
        assert key.shape == ()
        return self.spoil(images.float() / 64 - 2 + 0.1 * number)

    def step(self, spec: Pass) -> None:
        generator = torch.Generator().manual_seed(self.number)
        batches = {}
        for number, stream in enumerate(spec.streams):
            rows = torch.randperm(40, generator=generator)[:16]
            labels = rows % 5
            images = torch.randint(256, (16, 3, 16, 16), generator=generator, dtype=torch.uint8)
            images[:, number] = (40 * labels).to(torch.uint8).view(-1, 1, 1)
            batches[stream] = Batch(images, torch.full((16, 2), 16, dtype=torch.int32), labels, rows)
        self.method.train()
        self.method.before_pass(spec.name)
        self.progress.move(2, self.number, 20)
        self.stepper(batches, self.progress)
        self.number += 1

    def state(self) -> dict[str, Tensor]:
        """What must not move where a loss is not finite."""
        momenta = [self.optimizer.state[p]["momentum_buffer"] for p in self.stepper.parameters]
        named = {f"momentum {number}": momentum for number, momentum in enumerate(momenta)}
        return {**self.method.state_dict(keep_vars=True), **named}

    def places(self) -> dict[str, int]:
        """Where everything that a step writes to lies."""
        tensors = {
            **self.state(),
            **dict(self.method.named_buffers()),
            **self.meter.state(),
            "sound": self.stepper.sound,
        }
        tensors |= {"epoch": self.progress.epoch, "step": self.progress.step, "fraction": self.progress.fraction}
        tensors |= {f"lr {number}": group["lr"] for number, group in enumerate(self.optimizer.param_groups)}
        scaler = self.stepper.scaler
        if scaler.is_enabled():
            tensors |= {"scale": scaler._scale, "growth": scaler._growth_tracker}  # type: ignore[dict-item]
        return {name: tensor.data_ptr() for name, tensor in tensors.items()}


def bits(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    return {
        name: tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [*((name, ()) for name in FORMS), *((name, ("amp=fp16",)) for name in ("nrd", "alasca(base=elr)"))],
    ids=str,
)
def test_a_step_rebinds_nothing(name: str, words: tuple[str, ...]) -> None:
    run = Run(name, *words)
    for spec in run.method.passes:
        run.step(spec)
        before, values = run.places(), bits(run.state())
        for _ in range(2):
            run.step(spec)
        assert run.places() == before
        assert bits(run.state()) != values
        run.meter.reset()


def not_a_number(images: Tensor) -> Tensor:
    """One image of the batch is spoilt."""
    return torch.where(torch.arange(len(images)).view(-1, 1, 1, 1) == 3, torch.nan, images)


def check_that_nothing_moves(run: Run, spec: Pass) -> None:
    """A spoilt step, and the sound ones after it."""
    run.step(spec)
    assert run.stepper.sound
    before = bits(run.state())
    run.spoil = not_a_number
    run.step(spec)
    assert not run.stepper.sound
    after = bits(run.state())
    assert [key for key in before if before[key] != after[key]] == []
    run.spoil = lambda images: images
    run.step(spec)
    after = bits(run.state())
    assert [key for key in before if before[key] != after[key]] == []
    with pytest.raises(FastnoisyError, match=rf"NaN or infinite at epoch 2, step {run.number - 2} of 20"):
        run.meter.check_finite(2, 20, "")


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", FORMS)
def test_a_loss_that_is_not_finite_moves_nothing(name: str, accumulate: int) -> None:
    run = Run(name, f"accumulate={accumulate}")
    if accumulate > 1 and "accumulate" in run.method.unsupported:
        assert run.method.unsupported["accumulate"]  # such a run is refused
        return
    for spec in run.method.passes:
        run.stepper.sound.fill_(True)
        run.meter.reset()
        check_that_nothing_moves(run, spec)


@pytest.mark.parametrize("name", ["nrd", "alasca"])
def test_of_fp16_a_loss_that_is_not_finite_moves_nothing(name: str) -> None:
    run = Run(name, "amp=fp16")
    check_that_nothing_moves(run, run.method.passes[0])


@pytest.mark.compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", ["alasca(base=elr)"])
def test_compiled_a_loss_that_is_not_finite_moves_nothing(name: str) -> None:
    torch._dynamo.reset()
    run = Run(name, "compile=true")
    check_that_nothing_moves(run, run.method.passes[0])
    torch._dynamo.reset()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_moves_nothing(value: float) -> None:
    """The loss itself is finite: what is not comes up in the backward."""
    run = Run("nrd")
    (spec,) = run.method.passes
    run.step(spec)
    before = bits(run.state())
    hook = run.stepper.parameters[0].register_hook(lambda gradient: gradient.index_fill(0, torch.tensor(0), value))
    run.step(spec)
    hook.remove()
    run.step(spec)
    assert bits(run.state()) == before
    assert run.meter.bad_step.item() == 1
    assert run.meter.sums["loss"].isfinite()


def test_of_fp16_an_infinite_gradient_is_skipped_and_no_error() -> None:
    run = Run("nrd", "amp=fp16")
    (spec,) = run.method.passes
    run.step(spec)
    scale, before = run.stepper.scaler.get_scale(), bits(run.state())
    hook = run.stepper.parameters[0].register_hook(lambda gradient: gradient * torch.inf)
    run.step(spec)
    hook.remove()
    after = bits(run.state())
    trained = [key for key, p in run.method.named_parameters() if p.requires_grad]
    assert all(before[key] == after[key] for key in trained)
    assert run.stepper.sound
    assert run.stepper.scaler.get_scale() == scale / 2
    run.meter.check_finite(2, 20, "")
    run.step(spec)
    assert any(before[key] != bits(run.state())[key] for key in trained)


def test_the_first_bad_step_is_the_one_named() -> None:
    run = Run("ce")
    (spec,) = run.method.passes
    run.spoil = not_a_number
    for _ in range(3):
        run.step(spec)
    assert run.meter.bad_step.item() == 0


def test_names_of_logs_may_differ_between_epochs() -> None:
    """A sum stays where it is, and an epoch that does not have it does not report it."""
    from fastnoisy.methods.base import Record

    meter = Meter(None, DEVICE)
    meter.observe(Record(torch.tensor(1.0), [], {"x": torch.tensor(2.0)}), 1.0)
    place = meter.sums["log/x"].data_ptr()
    assert meter.summary()["x"] == 2
    meter.reset()
    meter.observe(Record(torch.tensor(1.0), []), 1.0)
    assert "x" not in meter.summary()
    assert "log/x" not in meter.state()
    meter.observe(Record(torch.tensor(3.0), [], {"x": torch.tensor(6.0)}), 0.5)
    assert meter.sums["log/x"].data_ptr() == place
    assert meter.summary()["x"] == 2
