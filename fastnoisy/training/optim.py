"""Optimisers with the learning rate as a tensor, so that a milestone changes a value and recompiles nothing."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from fastnoisy.config import OptimConfig
from fastnoisy.models.heads import Network


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


class AdamW(torch.optim.AdamW):
    """torch's own, as `SGD`."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)


def build(method: nn.Module, config: OptimConfig, device: torch.device) -> torch.optim.Optimizer:
    """The optimiser over every parameter that requires a gradient (EMA copies do not).

    SGD decays all of them, as published; AdamW all but biases and norms. Either is torch's fused one, which leaves a
    step out by a flag on the device.

    Raises:
        FastnoisyError: `head_lr` for a network whose classifier is not known.
    """
    groups = _groups(method, config)
    for group in groups:
        group["lr"] = torch.tensor(config.lr * group["lr_scale"], dtype=torch.float32, device=device)
    if config.name == "adamw":
        return AdamW(groups, weight_decay=config.weight_decay, fused=True)
    optimizer = SGD(
        groups,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        fused=True,
    )
    if config.momentum:
        # The fused kernel leaves a first momentum uninitialised where fp16's scaler skips the first step. Zeros give
        # the same first step as no momentum: 0 * m + gradient.
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


def _groups(method: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Parameter groups with `lr_scale`: one where all are treated alike, in the order of the method's parameters."""
    trained = [p for p in method.parameters() if p.requires_grad]
    heads: set[Tensor] = set()
    if config.head_lr != 1:
        networks = [module for module in method.modules() if isinstance(module, Network)]
        parts: list[nn.Module] = [network.heads for network in networks]
        parts += [network.backbone.head for network in networks if network.backbone.fresh_head]
        heads = {p for part in parts for p in part.parameters()}
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for p in trained:
        groups.setdefault((p in heads, config.name == "adamw" and p.dim() < 2), []).append(p)
    return [
        {
            "params": parameters,
            "lr_scale": config.head_lr if head else 1.0,
            **({"weight_decay": 0.0} if plain else {}),
        }
        for (head, plain), parameters in groups.items()
    ]


class Schedule:
    """What lr is multiplied by at a time in epochs: timm's cosine with warm-up.

    Args:
        warmup: epochs of the linear rise.
        epochs: of the run, at whose end it is 0.
    """

    def __init__(self, warmup: float, epochs: int) -> None:
        from timm.scheduler import CosineLRScheduler

        self._shadow = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        # in thousandths: of one epoch it would say that it has no effect; numbers of any type do
        times: Any = {"t_initial": 1000 * epochs, "warmup_t": 1000 * warmup}
        self._scheduler = CosineLRScheduler(self._shadow, warmup_lr_init=0.01, **times)

    def __call__(self, time: float) -> float:
        """The factor at `time`, 0 to the number of epochs."""
        self._scheduler.step(1000 * time)  # type: ignore[arg-type]
        return float(self._shadow.param_groups[0]["lr"])


def load(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over the momenta of a checkpoint, each in the memory order of its parameter: the fused kernels walk through
    both side by side, and where the orders differ they compute wrong weights in silence (torch 2.14). The
    hyperparameters stay those of this run's configuration.
    """
    optimizer.load_state_dict({"state": state["state"], "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Write the learning rate, times each group's own factor, into the group's tensor, in place."""
    for group in optimizer.param_groups:
        assert isinstance(group["lr"], Tensor)
        group["lr"].fill_(lr * group["lr_scale"])
