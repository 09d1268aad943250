"""BatchNorm over ranks: the statistics and gradients of the whole batch, and what stands in place of what."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from fastnoisy import methods
from fastnoisy.config import parse_call
from fastnoisy.distributed import ONE, Group
from fastnoisy.methods.base import Context
from fastnoisy.models import batchnorm

PARTS = (5, 2, 4)


class Threads(Group):
    """A rank among threads, for sums."""

    def __init__(self, rank: int, size: int, given: list[Any], gate: threading.Barrier) -> None:
        self.rank, self.size, self.given, self.gate = rank, size, given, gate

    def sum(self, value: Tensor) -> Tensor:
        self.given[self.rank] = value.detach()
        self.gate.wait()
        total = torch.stack(list(self.given)).sum(dim=0)
        self.gate.wait()
        return total

    gather = agree = barrier = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: Any) -> Threads:
        return self


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(3), nn.BatchNorm2d(3, momentum=None), BatchNormAct2d(3)], ids=str)
def test_ranks_normalise_as_one_process(norm: nn.Module) -> None:
    norm = norm.to(torch.float64).train()
    images = torch.randn(sum(PARTS), 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 + 1
    whole, expected = copy.deepcopy(norm), images.clone().requires_grad_()
    for _ in range(2):
        out = whole(expected)
    (out * out.detach().cos()).sum().backward()
    given, gate = [None] * len(PARTS), threading.Barrier(len(PARTS), timeout=60)

    def run(rank: int) -> tuple[nn.Module, Tensor, Tensor]:
        group = Threads(rank, len(PARTS), given, gate)
        holder = nn.Module()
        holder.norm = copy.deepcopy(norm)
        batchnorm.synchronise(holder, group, torch.device("cpu"))
        own = images.split(PARTS)[rank].clone().requires_grad_()
        for _ in range(2):
            found = holder.norm(own)  # type: ignore[operator]
        (found * found.detach().cos()).sum().backward()
        return holder.norm, found.detach(), own.grad  # type: ignore[return-value]

    torch.autograd.set_multithreading_enabled(False)  # else all ranks' backwards wait in one thread
    try:
        with ThreadPoolExecutor(len(PARTS)) as pool:
            ranks = list(pool.map(run, range(len(PARTS))))
    finally:
        torch.autograd.set_multithreading_enabled(True)
    torch.testing.assert_close(torch.cat([found for _, found, _ in ranks]), out.detach())
    torch.testing.assert_close(torch.cat([grad for _, _, grad in ranks]), expected.grad)
    weights = torch.stack([module.weight.grad for module, _, _ in ranks]).sum(dim=0)  # type: ignore[union-attr]
    torch.testing.assert_close(weights, whole.weight.grad)
    for module, _, _ in ranks:
        for (name, own), buffer in zip(module.named_buffers(), whole.buffers(), strict=True):
            torch.testing.assert_close(own, buffer, msg=name)
        assert torch.equal(module.eval()(images), module(images))
        torch.testing.assert_close(module(images), copy.deepcopy(whole).eval()(images))


def test_of_one_rank_nothing_changes() -> None:
    holder = nn.Sequential(nn.BatchNorm2d(3))
    batchnorm.synchronise(holder, ONE, torch.device("cpu"))
    batchnorm.average(holder, ONE)
    assert type(holder[0]) is nn.BatchNorm2d


def test_torchs_own_norm_takes_the_place_of_every_norm() -> None:
    context = Context({"name": "preact_small", "width": 4}, num_classes=5, num_samples=20, batch_size=8)
    method = methods.build(parse_call("alasca(base=nrd)"), context)
    names, before = list(method.state_dict()), sum(isinstance(m, nn.BatchNorm2d) for m in method.modules())
    kept = {name: tensor.data_ptr() for name, tensor in method.state_dict().items()}
    batchnorm.by_torch(method)
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in method.modules()) == before > 0
    assert not any(isinstance(m, nn.BatchNorm2d) for m in method.modules())
    assert list(method.state_dict()) == names
    moved = [name for name, tensor in method.state_dict().items() if tensor.data_ptr() != kept[name]]
    assert not [name for name in moved if not name.endswith("num_batches_tracked")]
