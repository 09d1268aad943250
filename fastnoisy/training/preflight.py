"""Before the first step: how many bytes the run will need where, and a refusal of what cannot fit."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from fastnoisy import machine, pipelines
from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import mebibytes
from fastnoisy.sample_memory import SampleMemory
from fastnoisy.training import evaluate
from fastnoisy.training.setup import Setup


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
    moments = trained * (2 if settings.optim.name == "adamw" else 1 if settings.optim.momentum else 0)
    rows = sum(_bytes(module) for module in method.modules() if isinstance(module, SampleMemory))
    state = _bytes(method)
    height, width = setup.split.canvas
    evaluated = evaluate.batch_size(settings)
    slots = pipelines.find(pipeline).slots * max(settings.batch_size, evaluated) * height * width * 3
    made = sum(map(len, setup.views.values())) * settings.batch_size // settings.accumulate
    resident = pipelines.find(pipeline).bytes_needed(setup.split) + sum(
        pipelines.find(pipeline).bytes_needed(extra.split) for extra in setup.eval_sets
    )
    device = {
        "networks, gradients and moments": state - rows + trained + moments,
        "per-sample memory": rows,
        "images held": resident,
        "canvas slots": slots,
        "views of a batch": max(made, evaluated) * height * width * 3 * 4,
    }
    host = {"decoded images while loading": min(resident, 1 << 30) if setup.device.type == "cuda" else 0}
    copy = state + moments  # of which a checkpoint is written beside the training
    (host if setup.device.type == "cuda" else device)["a copy for checkpoints"] = copy
    chosen = 2 * state if settings.select else 0  # the best one, and the new one while it replaces it
    disk = {"checkpoints": (settings.checkpoint.keep + 1) * (state + moments) + chosen}
    return Need(device, host, disk)


def check(setup: Setup, pipeline: str, out: Path) -> list[str]:
    """Lines to print before the first step.

    Raises:
        FastnoisyError: something cannot fit; says what is needed, what is there and the largest item.
    """
    need = estimate(setup, pipeline)
    where = "GPU" if setup.device.type == "cuda" else "host"
    disk_free = shutil.disk_usage(next(p for p in [out, *out.parents] if p.exists())).free
    places = [
        (
            f"{where} memory",
            need.device,
            machine.available_device(setup.device),
            "Lower batch_size or use a smaller model",
        ),
        ("host memory", need.host, machine.available_host(), "Use pipeline=torch-loader"),
        (f"disk at {os.fspath(out)}", need.disk, disk_free, "Lower checkpoint.keep or free space"),
    ]
    lines = []
    for place, items, free, remedy in places:
        total = sum(items.values())
        if not total:
            continue
        if max(items, key=lambda name: items[name]) == "images held":
            remedy = "Use pipeline=torch-loader, or convert with a smaller --resize"
        parts = ", ".join(f"{name} {mebibytes(size)}" for name, size in items.items() if size)
        if total > free:
            raise FastnoisyError(
                f"the run needs {mebibytes(total)} of {place} ({parts}), {mebibytes(free)} are free", remedy
            )
        extra = " and activations" if items is need.device else ""
        lines.append(f"{place}: {mebibytes(total)} of {mebibytes(free)} free ({parts}){extra}")
    return lines
