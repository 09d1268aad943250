"""SGD with the learning rate as a tensor, so that a milestone changes a value and recompiles nothing."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from fastnoisy.config import OptimConfig


class SGD(torch.optim.SGD):
    """torch's own, without the wrappers that keep a compiler out of its calls: each of them loads torch._dynamo on its
    first call, 1.2 CPU-seconds of every run that compiles nothing. Where there is no such wrapper, this is torch's
    class.
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)


def build(method: nn.Module, config: OptimConfig, device: torch.device) -> torch.optim.SGD:
    """SGD over every parameter that requires a gradient (EMA copies do not), weight decay on all of them as
    published.
    """
    parameters = [p for p in method.parameters() if p.requires_grad]
    lr = torch.tensor(config.lr, dtype=torch.float32, device=device)
    optimizer = SGD(
        parameters,
        lr=lr,  # type: ignore[arg-type]
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        fused=True,
    )
    if config.momentum:
        # The fused kernel leaves a first momentum uninitialised where fp16's scaler skips the first step. Zeros give
        # the same first step as no momentum: 0 * m + gradient.
        for p in parameters:
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


def load(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over the momenta of a checkpoint; the hyperparameters stay those of this run's configuration."""
    optimizer.load_state_dict({"state": state["state"], "param_groups": optimizer.state_dict()["param_groups"]})


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Write the learning rate into each group's tensor, in place."""
    for group in optimizer.param_groups:
        assert isinstance(group["lr"], Tensor)
        group["lr"].fill_(lr)
