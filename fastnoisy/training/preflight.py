"""Before the first step: how many bytes the run will need where, and a refusal of what cannot fit."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fastnoisy import pipelines
from fastnoisy.errors import FastnoisyError
from fastnoisy.sample_memory import SampleMemory
from fastnoisy.training.setup import Setup

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Need:
    """Bytes by item, per place: `device` (GPU, or host memory where the run is on the CPU), `host`, `disk`."""

    device: dict[str, int]
    host: dict[str, int]
    disk: dict[str, int]


def _bytes(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in module.state_dict().values())


def estimate(setup: Setup, pipeline: str) -> Need:
    """What a run will hold. Activations are not in it: they depend on the kernels chosen."""
    settings, method = setup.config, setup.method
    trained = sum(p.numel() * p.element_size() for p in method.parameters() if p.requires_grad)
    memory = sum(_bytes(module) for module in method.modules() if isinstance(module, SampleMemory))
    state = _bytes(method)
    height, width = setup.split.canvas
    batch = settings.batch_size // settings.accumulate
    slots = 2 * settings.batch_size * height * width * 3
    views = sum(len(made) for made in setup.views.values())
    resident = pipelines.find(pipeline).bytes_needed(setup.split) + sum(
        pipelines.find(pipeline).bytes_needed(extra.split) for extra in setup.eval_sets
    )
    device = {
        "networks, gradients and momentum": state - memory + 2 * trained,
        "per-sample memory": memory,
        "images held": resident,
        "canvas slots": slots,
        "views of a batch": views * batch * height * width * 3 * 4,
    }
    host = {"decoded images while loading": resident if setup.device.type == "cuda" else 0}
    chosen = 2 * state if settings.select else 0  # the best one, and the new one while it replaces it
    disk = {"checkpoints": (settings.checkpoint.keep + 1) * (state + trained) + chosen}
    return Need(device, host, disk)


def available_host() -> int:
    """Bytes of main memory that this process may still take: the kernel's estimate, or the control group's if lower."""
    with open("/proc/meminfo") as file:
        rows = dict(line.split(":", 1) for line in file)
    free = int(rows["MemAvailable"].split()[0]) * 1024
    own = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2].lstrip("/") if _CGROUP.exists() else ""
    for group in {_CGROUP, _CGROUP / own}:
        limit, used, stat = (group / f"memory.{name}" for name in ("max", "current", "stat"))
        if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
            counts = dict(line.split() for line in stat.read_text().splitlines()) if stat.exists() else {}
            taken = int(used.read_text()) - int(
                counts.get("inactive_file", 0)
            )  # page cache is given back when asked for
            free = min(free, max(0, int(text) - taken))
    return free


def available_device(device: torch.device) -> int:
    """Bytes free on the GPU, or of main memory where the run is on the CPU."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_host()


def check(setup: Setup, pipeline: str, out: Path) -> list[str]:
    """Lines to print before the first step.

    Raises:
        FastnoisyError: something cannot fit; says what is needed, what is there and the largest item.
    """
    need = estimate(setup, pipeline)
    where = "GPU" if setup.device.type == "cuda" else "host"
    disk_free = shutil.disk_usage(next(p for p in [out, *out.parents] if p.exists())).free
    places = [
        (f"{where} memory", need.device, available_device(setup.device), "Lower batch_size or use a smaller model"),
        ("host memory", need.host, available_host(), "Use pipeline=torch-loader"),
        (f"disk at {os.fspath(out)}", need.disk, disk_free, "Lower checkpoint.keep or free space"),
    ]
    lines = []
    for place, items, free, remedy in places:
        total = sum(items.values())
        if not total:
            continue
        if max(items, key=lambda name: items[name]) == "images held":
            remedy = "Use pipeline=torch-loader, or convert with a smaller --resize"
        parts = ", ".join(f"{name} {_mib(size)}" for name, size in items.items() if size)
        if total > free:
            raise FastnoisyError(f"the run needs {_mib(total)} of {place} ({parts}), {_mib(free)} are free", remedy)
        extra = " and activations" if items is need.device else ""
        lines.append(f"{place}: {_mib(total)} of {_mib(free)} free ({parts}){extra}")
    return lines


def _mib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
