"""A step on CUDA tensors that hold nothing, without a GPU.

It copies nothing from the host, reads nothing back, and has no shape that depends on data. Forward, loss, meter and
hooks run; backward and the optimiser's kernel cannot, and are stubs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastnoisy import methods
from fastnoisy.batch import Batch
from fastnoisy.config import Config, parse_call
from fastnoisy.methods.base import Context, NoiseFacts, Progress
from fastnoisy.training import setup
from fastnoisy.training.meter import Meter
from fastnoisy.training.step import Stepper

Move = Callable[[nn.Module], None]
NAMES = methods.names()
FORMS = [*NAMES, *(f"alasca(base={name})" for name in NAMES if name not in ("alasca", "ce"))]
CONTEXT = Context(
    {"name": "preact_small", "width": 4}, num_classes=5, num_samples=40, seed=1, noise=NoiseFacts(0.4), batch_size=16
)


@functools.cache
def config(*words: str) -> Config:
    return setup.resolve("digits-ce", ["device=cpu", "batch_size=16", *words]).config


class NoHost(TorchDispatchMode):
    """Refuses every operation that a tensor of the host takes part in."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        on_host = [tuple(tensor.shape) for tensor in tensors if tensor.device.type != "cuda"]
        assert not on_host, f"{func} has tensors of the host, of shapes {on_host}"
        return out


@contextmanager
def stubs(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> Iterator[None]:
    """A backward that gives every trained parameter a gradient, and an optimiser whose step does nothing."""

    def backward(loss: Tensor, *_: Any, **__: Any) -> None:
        assert loss.shape == ()
        assert loss.requires_grad
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", backward)
        patch.setattr(optimizer, "step", lambda: None)
        yield


def run(move: Move, name: str, *words: str) -> None:
    """Two steps of every pass."""
    settings = config(*words)
    method = methods.build(parse_call(name), CONTEXT).train()
    with FakeTensorMode():
        device = torch.device("cuda")
        move(method)
        optimizer = torch.optim.SGD(
            [p for p in method.parameters() if p.requires_grad], lr=0.1, momentum=0.9, fused=True
        )
        labels = torch.zeros(40, dtype=torch.int64, device=device)
        meter, progress = Meter(labels, device), Progress.start(10, device)
        views: Any = {
            stream: {view: lambda images, sizes, indices, key: images.float() for view in spec.views}
            for stream, spec in method.streams.items()
        }
        stepper = Stepper(method, optimizer, views, settings, device, meter)
        images = torch.zeros(16, 16, 16, 3, dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
        sizes = torch.zeros(16, 2, dtype=torch.int32, device=device)
        batch = Batch(images, sizes, labels[:16], torch.zeros(16, dtype=torch.int64, device=device))
        with stubs(optimizer, stepper.parameters), NoHost():
            for spec in method.passes:
                method.train()
                method.before_pass(spec.name)
                for step in range(2):
                    progress.move(3, step, 2)
                    stepper(dict.fromkeys(spec.streams, batch), progress)


@pytest.mark.parametrize("name", FORMS)
def test_a_step_never_touches_the_host(name: str, move: Move) -> None:
    run(move, name, "amp=off")


@pytest.mark.parametrize("name", ["nrd", "alasca(base=elr-plus)", "dividemix"])
@pytest.mark.parametrize("amp", ["auto", "fp16"])
@pytest.mark.usefixtures("_half_precision")
def test_nor_does_one_in_half_precision(name: str, amp: str, move: Move) -> None:
    run(move, name, f"amp={amp}")


@pytest.mark.parametrize(
    "name", ["gce(truncate=0.5)", "nrd(teacher_bn=ema)", "nrd(teacher_bn=student)", "gjs(concatenate=True)"]
)
def test_nor_do_options_that_take_another_way(name: str, move: Move) -> None:
    run(move, name, "amp=off")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: value.item(),
        lambda value: value.cpu(),
        lambda value: value + torch.tensor([1.0]).to(value.device),
        lambda value: value[value > 0],
        lambda value: 1.0 if value > 0 else 0.0,
    ],
)
def test_it_would_be_noticed(spoil: Any) -> None:
    refused = (AssertionError, DataDependentOutputException, DynamicOutputShapeException)
    with FakeTensorMode():
        value = torch.zeros((), device="cuda")
        with NoHost(), pytest.raises(refused):
            spoil(value)
