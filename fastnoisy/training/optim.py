"""SGD with the learning rate as a tensor, so that a milestone changes a value and recompiles nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastnoisy.config import OptimConfig


def build(method: nn.Module, config: OptimConfig, device: torch.device) -> torch.optim.SGD:
    """SGD over every parameter that requires a gradient (EMA copies do not), weight decay on all of them as published."""
    parameters = [p for p in method.parameters() if p.requires_grad]
    lr = torch.tensor(config.lr, dtype=torch.float32, device=device)
    return torch.optim.SGD(
        parameters,
        lr=lr,  # type: ignore[arg-type]
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        fused=True,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Write the learning rate into each group's tensor, in place."""
    for group in optimizer.param_groups:
        assert isinstance(group["lr"], Tensor)
        group["lr"].fill_(lr)
