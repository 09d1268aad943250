"""How many operations a step dispatches on the path a GPU takes, without a GPU: about one launch each.

Views, forward, meter and hooks are counted on CUDA tensors that hold nothing, backward and the optimiser on the CPU.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from fastnoisy.batch import Batch
from fastnoisy.methods.base import NoiseFacts, Progress
from fastnoisy.training import optim, setup
from fastnoisy.training.meter import Meter
from fastnoisy.training.step import Stepper

Move = Callable[[nn.Module], None]
pytestmark = pytest.mark.usefixtures("_half_precision")
FREE = {  # views of memory, memory alone, what is told of a tensor: nothing is launched
    "view", "_unsafe_view", "expand", "permute", "slice", "t", "transpose", "unsqueeze", "squeeze", "select", "split",
    "split_with_sizes", "detach", "alias", "as_strided", "unbind", "lift_fresh", "is_pinned", "empty", "empty_like",
    "empty_strided", "new_empty", "new_empty_strided", "device", "sym_size",
}  # fmt: skip


class Count(TorchDispatchMode):
    """Counts what is dispatched while it is `on`."""

    def __init__(self, on: bool) -> None:
        super().__init__()
        self.on, self.names = on, Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        space, _, name = func._schema.name.partition("::")
        if self.on and (space == "fastnoisy" or name not in FREE):
            self.names[f"{space}::{name}" if space == "fastnoisy" else name] += 1
        return func(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def switched(self, on: bool) -> Iterator[None]:
        before, self.on = self.on, on
        try:
            yield
        finally:
            self.on = before


def step(stepper: Stepper, device: torch.device, count: Count, back: Any, update: Any, streams: Any) -> None:
    """One step of the first pass, with `back` for backward and `update` for the optimiser's step."""
    progress = Progress.start(10, device)
    progress.move(3, 1, 390)
    images = torch.zeros(8, 32, 32, 3, dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
    labels = torch.zeros(8, dtype=torch.int64, device=device)
    batch = Batch(images, None, labels, torch.arange(8, device=device))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", back)
        patch.setattr(stepper.optimizer, "step", update)
        with count:
            stepper(dict.fromkeys(streams, batch), progress)


def dispatched(move: Move, recipe: str, *words: str, executor: str = "cuda") -> Counter[str]:
    """What a step of a recipe dispatches, by name."""
    settings = setup.resolve(recipe, ["device=cpu", *words])
    config, cuda = settings.config, torch.device("cuda")

    def made() -> Any:
        method = setup.build_method(settings, 10, 50000, NoiseFacts(0.4)).train()
        (spec,) = list(method.plan(3))[:1]
        method.before_pass(spec.name)
        return method, spec

    method, spec = made()
    views: Any = {
        stream: {
            name: setup.build_view(settings, program, name, executor=executor)
            for name, program in method.streams[stream].views.items()
        }
        for stream in spec.streams
    }
    forward = Count(on=True)
    with FakeTensorMode():
        move(method)
        for stream in views.values():
            for view in stream.values():
                move(view)
        trained = [p for p in method.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, fused=True)
        meter = Meter(torch.zeros(50000, dtype=torch.int64, device=cuda), cuda)
        stepper = Stepper(method, optimizer, views, config, cuda, meter)

        def no_backward(loss: Tensor, *_: Any) -> None:
            with forward.switched(False):
                for parameter in stepper.parameters:
                    parameter.grad = torch.zeros_like(parameter)

        step(stepper, cuda, forward, no_backward, lambda: None, spec.streams)

    method, spec = made()
    cpu = torch.device("cpu")
    blank: Any = {
        stream: dict.fromkeys(method.streams[stream].views, lambda images, *_: images.float())
        for stream in spec.streams
    }
    optimizer = optim.build(method, config.optim, cpu)
    stepper = Stepper(method, optimizer, blank, config, cpu, Meter(torch.zeros(50000, dtype=torch.int64), cpu))
    rest, real, update = Count(on=False), torch.Tensor.backward, optimizer.step

    def backward(loss: Tensor, *_: Any) -> None:
        with rest.switched(True):
            real(loss)

    def updated() -> None:
        with rest.switched(True):
            update()

    step(stepper, cpu, rest, backward, updated, spec.streams)
    return forward.names + rest.names


@pytest.mark.parametrize("words", [["amp=off"], ["amp=bf16", "channels_last=on"]], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("recipe", "model", "views", "most"),
    [("cifar10-nrd", "gjs_preact34", 2, 680), ("cifar10-alasca", "resnet34_cifar", 1, 640)],
)
def test_a_step_dispatches_few_operations(
    recipe: str, model: str, views: int, most: int, words: list[str], move: Move
) -> None:
    names = dispatched(move, recipe, f"model={model}", *words)
    assert names["fastnoisy::view"] == views
    assert names.total() <= most, names.most_common(20)


def test_what_the_reference_dispatches_would_be_noticed(move: Move) -> None:
    assert dispatched(move, "cifar10-nrd", "model=gjs_preact34", "amp=off", executor="reference").total() > 2000
