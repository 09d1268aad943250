"""How many worker processes fit: the cores that this process may use, and the memory that its container allows."""

from __future__ import annotations

import os
from pathlib import Path

from fastnoisy.errors import FastnoisyError

WORKER_BYTES = 1 << 30  # what decoding the largest image that is accepted takes; most take a tenth


def num_workers(asked: int | None) -> int:
    """The number asked for, or one per core that this process may use and per GiB that is there.

    Ranks that a launcher started on the same machine (`LOCAL_WORLD_SIZE`) share the cores and the memory.

    Raises:
        FastnoisyError: fewer than one is asked for.
    """
    if asked is not None:
        if asked < 1:
            raise FastnoisyError(f"workers must be at least 1, got {asked}")
        return asked
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "")
    share = int(ranks) if ranks.isdigit() and int(ranks) else 1
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, memory_bytes() // WORKER_BYTES) // share)


def memory_bytes(root: Path = Path("/")) -> int:
    """The memory that this process may still take: what is free, or less where its control group says so.

    Args:
        root: where `proc` and `sys` lie.
    """
    bounds = [_meminfo(root / "proc/meminfo")]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2: one tree, and a limit may stand at any height of it
            base, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        place = base / path.strip("/")
        for folder in [place, *place.parents]:
            if folder == base or base in folder.parents:
                bounds.append(_number(folder / name))
    return min(bounds)


def _meminfo(path: Path) -> int:
    try:
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return 1 << 62  # not told


def _number(path: Path) -> int:
    try:
        text = path.read_text().strip()
    except OSError:
        return 1 << 62
    return int(text) if text.isdigit() else 1 << 62  # "max"
