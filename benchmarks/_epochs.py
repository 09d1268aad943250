"""How epochs of many pipelines are timed in turn: by the wall and by processor time, workers included."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.order import Population, batches, order
from fastnoisy.pipelines.base import Pipeline

Epoch = Callable[[], Iterator[int]]
"""One pass over all images; yields the number of images of each batch."""

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Competitor:
    """Who is timed: seconds by the wall and of CPU time per image, one of each per repetition."""

    name: str
    epoch: Epoch
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def cpu_seconds() -> float:
    """CPU time of this process and of its living children."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / _TICK
    return total


def settle() -> None:
    """Wait until nothing decodes ahead any more: DALI goes on filling its queue after an epoch's last batch."""
    for _ in range(100):
        before = cpu_seconds()
        time.sleep(0.02)
        if cpu_seconds() - before < 0.004:
            return


def ours(pipeline: Pipeline, batch_size: int, times: int = 1) -> Epoch:
    """An epoch of a pipeline in our order; `times`: deliver each batch so often, as for views that are decoded
    apart.
    """
    rows, number = Population("all", np.arange(pipeline.split.num_samples)), 0

    def epoch() -> Iterator[int]:
        nonlocal number
        number += 1
        cut = [part for part in batches(order(rows, "train", 1, number), batch_size, False) for _ in range(times)]
        for place, batch in enumerate(pipeline.iterate(cut)):
            yield len(batch.indices) * (place % times == 0)

    return epoch


def measure(found: list[Competitor], repetitions: int, device: torch.device) -> None:
    """Fill in the times: one epoch to warm up (and to compile), then the repetitions."""
    for repetition in range(-1, repetitions):
        turn = repetition % len(found)
        for one in found[turn:] + found[:turn]:
            settle()
            wall, cpu = time.perf_counter(), cpu_seconds()
            count = sum(one.epoch())
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
            if repetition >= 0:
                one.wall.append(wall / count)
                one.cpu.append(cpu / count)
        print(f"repetition {repetition + 1} of {repetitions}", file=sys.stderr)


def tiny_store(folder: Path) -> Path:
    """A store of 48 made JPEGs of some 80x70 pixels."""
    rng = np.random.default_rng(0)
    for number in range(48):
        path = folder / "source" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        coarse.resize((72 + number % 20, 66 + number % 11)).save(path)
    convert(f"folder:{folder / 'source'}", folder / "store", options=ConvertOptions(resize="max=96"), progress=None)
    return folder / "store"
