"""How many worker processes fit: the cores that this process may use, and the memory that its container allows."""

from __future__ import annotations

import os

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
    return max(1, min(cores(), memory.available_host() // WORKER_BYTES // _ranks()))


def cores() -> int:
    """Cores that this rank may use, at least 1: the affinity mask, divided by the ranks that a launcher started here."""
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, (len(affinity(0)) if affinity else os.cpu_count() or 1) // _ranks())


def _ranks() -> int:
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(ranks) if ranks.isdigit() and int(ranks) else 1
