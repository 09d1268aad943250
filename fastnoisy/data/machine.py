"""How many worker processes fit: the cores that this process may use, and the memory that its container allows."""

from __future__ import annotations

import os
import re

from fastnoisy import memory
from fastnoisy.errors import FastnoisyError

WORKER_BYTES = 1 << 30  # what decoding the largest image that is accepted takes; most take a tenth


def num_workers(asked: int | None) -> int:
    """The number asked for, or one per core that this process may use and per GiB that is there.

    Ranks that a launcher started on the same machine, torchrun or SLURM's srun, share the cores and the memory.

    Raises:
        FastnoisyError: fewer than one is asked for.
    """
    if asked is not None:
        if asked < 1:
            raise FastnoisyError(f"workers must be at least 1, got {asked}")
        return asked
    return max(1, min(cores(), memory.available_host() // WORKER_BYTES // _ranks()))


def cores() -> int:
    """Cores that this rank may use, at least 1: the affinity mask, divided by the ranks that a launcher started here.

    It is not divided where srun has given each task cores of its own: then the mask has less than the step has here
    (`SLURM_CPUS_ON_NODE`), or than the machine. A mask of all the step's cores is one that its tasks share.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    machine = os.cpu_count() or 1
    usable = len(affinity(0)) if affinity else machine
    ranks = _positive("LOCAL_WORLD_SIZE")
    if ranks is None:
        bound = usable < min(machine, _positive("SLURM_CPUS_ON_NODE") or machine)
        ranks = 1 if bound else _slurm_tasks()
    return max(1, usable // ranks)


def _ranks() -> int:
    return _positive("LOCAL_WORLD_SIZE") or _slurm_tasks()


def _slurm_tasks() -> int:
    """Tasks of this srun on this machine; 1 outside one. A batch script has SLURM_PROCID too, but is no step: it is alone."""
    if not os.environ.get("SLURM_PROCID", "").isdigit():
        return 1
    told = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    if not told and "SLURM_STEP_ID" in os.environ:
        told = os.environ.get("SLURM_TASKS_PER_NODE", "")
    node = os.environ.get("SLURM_NODEID", "0")
    passed = 0
    for entry in told.split(","):  # "8(x2),4": two machines with 8, then one with 4
        found = re.fullmatch(r"([0-9]{1,6})(?:\(x([0-9]{1,6})\))?", entry.strip())
        if not found or not node.isdigit():
            return 1
        passed += int(found[2] or 1)
        if int(node) < passed:
            return max(1, int(found[1]))
    return 1


def _positive(name: str) -> int | None:
    """The number that a variable of the environment holds; None where it holds no positive one."""
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() and int(text) else None
