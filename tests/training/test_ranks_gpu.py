"""Ranks on a GPU: NCCL with one rank, two ranks on one GPU over gloo, checkpoints beside."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fastnoisy.models import batchnorm
from fastnoisy.training import checkpoint

Pool = Callable[..., list[dict[str, Any]]]
pytestmark = pytest.mark.gpu
WORDS = [
    "model.width=4", "data.subset=200", "batch_size=20", "epochs=3", "dtype=float64", "device=cuda", "eval_every=3",
    "checkpoint.every=1", "optim.lr=0.0002", "distributed.sync_batchnorm=true",
]  # fmt: skip


def close(one: Path, other: Path) -> None:
    expected, found = (checkpoint.load_newest(run / "checkpoints").state["method"] for run in (one, other))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-8, msg=name)


@pytest.mark.parametrize("form", ["nrd", "alasca", "mixup"])
def test_nccl_with_one_rank_is_one_process(form: str, digits: Path, tmp_path: Path, ranks: Pool) -> None:
    for name, more in (("alone", {}), ("nccl", {"backend": "nccl"})):
        ranks(1, recipe=f"digits-{form}", words=WORDS, store=digits, out=tmp_path / name, **more)
    close(tmp_path / "alone", tmp_path / "nccl")


@pytest.mark.parametrize("form", ["nrd", "alasca", "mixup"])
def test_two_ranks_on_one_gpu_over_gloo_are_one_process(form: str, digits: Path, tmp_path: Path, ranks: Pool) -> None:
    words = [*WORDS, "distributed.backend=gloo"]
    for size in (1, 2):
        ranks(size, recipe=f"digits-{form}", words=words, store=digits, out=tmp_path / f"{size}")
    close(tmp_path / "1", tmp_path / "2")


def test_torchs_own_norm_over_nccl_is_batch_norm(digits: Path, tmp_path: Path) -> None:
    """One rank's global batch is its own."""
    import torch.distributed as dist

    from fastnoisy.training import ranks as joining

    joining.connect(dist.FileStore(str(tmp_path / "store"), 1), 0, 1, "nccl", 60.0)
    try:
        plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))
        plain = plain.to("cuda", torch.float64)
        holder = nn.Module()
        holder.net = copy.deepcopy(plain)
        batchnorm.by_torch(holder)
        images = torch.randn(6, 3, 9, 9, device="cuda", dtype=torch.float64)
        for net in (plain, holder.net):
            net(images).square().mean().backward()  # type: ignore[operator]
        for one, other in zip(plain.parameters(), holder.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)
    finally:
        dist.destroy_process_group()


def test_a_checkpoint_is_written_beside_the_steps(digits: Path, tmp_path: Path, ranks: Pool) -> None:
    ranks(1, recipe="digits-alasca", words=[*WORDS, "epochs=4"], store=digits, out=tmp_path / "run")
    times = [json.loads(line).get("time", {}) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    written = [time["checkpoint"] for time in times if "checkpoint" in time]
    assert written
    assert all(one["copy_seconds"] >= 0 and one["mib"] > 0 for one in written)
