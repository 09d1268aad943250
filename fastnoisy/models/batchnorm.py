"""BatchNorm over several ranks: statistics of the global batch, or of each rank's own with buffers kept alike."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fastnoisy.distributed import Group


class _Sum(torch.autograd.Function):
    """The sum over the ranks. Each rank's loss is a part of the whole, so gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return group.sum(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.group.sum(gradients[0]), None


def _normalised(norm: Any, x: Tensor) -> Tensor:
    """What `F.batch_norm` in train mode gives for the rows of all ranks, for this rank's own (B_r, C, ...)."""
    group: Group = norm.group
    wide = x if x.dtype == torch.float64 else x.float()
    dims, shape = [d for d in range(x.ndim) if d != 1], [1, -1, *[1] * (x.ndim - 2)]
    here = torch.full((1,), x.numel() // x.shape[1], dtype=wide.dtype, device=x.device)
    together = _Sum.apply(torch.cat([wide.sum(dims), here]), group)  # one message
    count = together[-1:].detach()
    mean = together[:-1] / count
    centred = wide - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(dims), group) / count
    if norm.track_running_stats:
        with torch.no_grad():
            share = norm.momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked += 1
                if share is None:
                    share = 1 / norm.num_batches_tracked.to(wide.dtype)  # a tensor: the count lies on the device
            norm.running_mean.lerp_(mean.detach().to(norm.running_mean.dtype), share)
            unbiased = variance.detach() * (count / (count - 1))
            norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), share)
    result = centred * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        result = result * norm.weight.view(shape) + norm.bias.view(shape)
    return result.to(x.dtype)


@cache
def _over_ranks(kind: type[Any]) -> type[Any]:
    """A kind of BatchNorm with the statistics of all ranks; what it does after the norm (timm's activate) stays."""

    def forward(self: Any, x: Tensor) -> Tensor:
        if not self.training:
            return kind.forward(self, x)  # type: ignore[no-any-return]
        result = _normalised(self, x)
        for name in ("drop", "act"):
            after = getattr(self, name, None)
            result = result if after is None else after(result)
        return result

    return type(f"{kind.__name__}OverRanks", (kind,), {"forward": forward, "__doc__": _over_ranks.__doc__})


def synchronise(method: nn.Module, group: Group, device: torch.device) -> None:
    """Have every BatchNorm take its statistics over the ranks' rows together, in place; of one rank nothing changes.

    On GPUs over NCCL by torch's own SyncBatchNorm (timm's conversion of it, which knows its own norms), else by sums
    over the group in float32 or better.
    """
    if group.size == 1:
        return
    if device.type == "cuda" and torch.distributed.get_backend().endswith("nccl"):
        by_torch(method)
        return
    for module in method.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = _over_ranks(type(module))  # type: ignore[arg-type]
            module.group = group  # type: ignore[assignment]


def by_torch(method: nn.Module) -> None:
    """Have torch's own SyncBatchNorm in place of every BatchNorm of a method; its tensors stay where they are."""
    from timm.layers import convert_sync_batchnorm

    for name, child in list(method.named_children()):
        setattr(method, name, convert_sync_batchnorm(child))


@torch.no_grad()
def average(method: nn.Module, group: Group) -> None:
    """Set the running means and variances to the mean over the ranks, where each has taken them of its own rows: at the
    end of an epoch and before a checkpoint, so that all ranks predict alike. Train-mode steps do not read them.
    """
    if group.size == 1:
        return
    names = ("running_mean", "running_var")
    found = [b for name, b in method.named_buffers() if name.rpartition(".")[2] in names]
    if not found:
        return
    flat = group.sum(torch.cat([buffer.double().view(-1) for buffer in found])) / group.size
    for buffer, part in zip(found, flat.split([len(b) for b in found]), strict=True):
        buffer.copy_(part)
