"""How many worker processes fit: the cores that this process may use, and the memory that its container allows."""

from __future__ import annotations

import os
from pathlib import Path

from fastnoisy import memory
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
    """The memory that this process may still take: see `fastnoisy.memory.available_host`."""
    return memory.available_host(root)
