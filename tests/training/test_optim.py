"""The optimiser is torch's SGD, step by step and in its state, but for what it loads."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fastnoisy.config import OptimConfig
from fastnoisy.training import optim

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = OptimConfig(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
DEVICE = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def gradients(module: nn.Module, step: int) -> None:
    for number, p in enumerate(module.parameters()):
        p.grad = torch.sin(torch.arange(p.numel()) * (step + number + 1.0)).view_as(p)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_its_steps_are_those_of_torchs_sgd(momentum: float) -> None:
    ours, theirs = network(), network()
    config = CONFIG.model_copy(update={"momentum": momentum, "nesterov": momentum > 0})
    mine = optim.build(ours, config, DEVICE)
    other = torch.optim.SGD(
        theirs.parameters(), lr=0.1, momentum=momentum, nesterov=momentum > 0, weight_decay=0.01, fused=True
    )
    for step in range(4):
        for module, optimizer in ((ours, mine), (theirs, other)):
            optimizer.zero_grad()
            assert all(p.grad is None for p in module.parameters())
            gradients(module, step)
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert a.requires_grad
        assert a.grad_fn is None, "the step is outside autograd"
    assert isinstance(mine, torch.optim.SGD)
    assert mine.state_dict()["state"].keys() == (other.state_dict()["state"].keys() if momentum else set())


def test_its_state_goes_on() -> None:
    whole, part = network(), network()
    first = optim.build(whole, CONFIG, DEVICE)
    for step in range(4):
        gradients(whole, step)
        first.step()
        if step == 1:
            part.load_state_dict(whole.state_dict())
            second = optim.build(part, CONFIG, DEVICE)
            optim.load(second, copy.deepcopy(first.state_dict()))  # which are the momenta themselves
    for step in (2, 3):
        gradients(part, step)
        second.step()
    for a, b in zip(whole.parameters(), part.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_scaler_skips_a_step_whose_gradients_overflowed() -> None:
    module = network()
    optimizer, scaler = optim.build(module, CONFIG, DEVICE), torch.amp.GradScaler("cpu", init_scale=4.0)
    before = [p.detach().clone() for p in module.parameters()]
    scaler.scale(module(torch.full((2, 3), float("inf"))).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    optimizer.zero_grad()
    scaler.scale(module(torch.ones(2, 3)).sum()).backward()
    scaler.step(optimizer)
    assert not any(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_an_eager_step_loads_no_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from fastnoisy.config import OptimConfig\n"
        "from fastnoisy.training import optim\n"
        "module = torch.nn.Linear(2, 2)\n"
        "optimizer = optim.build(module, OptimConfig(lr=0.1), torch.device('cpu'))\n"
        "optimizer.zero_grad()\n"
        "module(torch.ones(1, 2)).sum().backward()\n"
        "torch.amp.GradScaler('cpu', enabled=False).step(optimizer)\n"
        "optim.load(optimizer, optimizer.state_dict())\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_a_run_and_the_listing_of_methods_load_nothing_idle(digits: Path, tmp_path: Path) -> None:
    """What is heavy and serves other commands or methods: a second and more of every start. (Of scipy numba
    loads `linalg`, whose functions it could call.)
    """
    words = ["train", "digits-nrd", "epochs=1", "data.subset=64", "model.width=4", "threads=1", "--data", str(digits)]
    for command in ([*words, "--out", str(tmp_path / "run")], ["methods"], ["recipes", "show", "cifar10-nrd"]):
        code = (
            "import sys\n"
            "from fastnoisy.cli import cli\n"
            f"cli.main({command!r}, standalone_mode=False)\n"
            "heavy = {'scipy.stats', 'scipy.sparse', 'scipy.special', 'sklearn', 'matplotlib', 'timm'}\n"
            "heavy |= {'torchvision', 'torchmetrics', 'pandas'}\n"
            "idle = {*heavy, 'torch._dynamo'} & set(sys.modules)\n"
            "assert not idle, idle"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120, capture_output=True)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_momenta_that_are_read_back_have_their_parameters_memory_order(name: str) -> None:
    """A checkpoint holds them contiguous, and torch's fused kernels do not look whether orders differ."""
    config = OptimConfig(name=name, lr=0.1, momentum=0.9)  # type: ignore[arg-type]
    nets = [nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    ours = [optim.build(net, config, DEVICE) for net in nets]
    for step in range(3):
        for net, optimizer in zip(nets, ours, strict=True):
            for number, p in enumerate(net.parameters()):
                p.grad = torch.empty_like(p).copy_(
                    torch.sin(torch.arange(p.numel()) * (step + number + 1.0)).view(p.shape)
                )
            optimizer.step()
        state = {
            number: {key: value.contiguous() for key, value in kept.items()}
            for number, kept in ours[1].state_dict()["state"].items()
        }
        optim.load(ours[1], {"state": state})
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(a, b)
