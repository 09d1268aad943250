"""This machine: the memory and the cores that this process may still take, and how many workers fit into them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastnoisy.errors import FastnoisyError

if TYPE_CHECKING:  # how many workers convert is asked before anything needs torch
    import torch

WORKER_BYTES = 1 << 30  # what decoding the largest image that is accepted takes; most take a tenth
_UNLIMITED = 1 << 60  # version 1 says 2**63 less a page where there is no limit
_NAMES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}
_CACHE = {1: "total_inactive_file", 2: "inactive_file"}  # in memory.stat; of a group and all below it in either version


@dataclass(frozen=True, order=True)
class Limit:
    """What a control group may take and takes, in bytes; `used` without the page cache that is given back when asked
    for.
    """

    left: int
    total: int
    used: int


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[tuple[int, Path]]:
    """This process's control group and all above it, whose limits hold as well: Slurm sets a job's, not its steps'.

    Args:
        controller: of version 1: "memory", "cpu".
        root: where `proc` and `sys` lie.

    Yields:
        (version of the interface, folder), the innermost first.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2: one tree
            version, base = 2, root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            version, base = 1, root / "sys/fs/cgroup" / controller
        else:
            continue
        place = base / path.strip("/")  # a container may see its own group at `base` and nothing at this place
        for folder in [place, *place.parents]:
            if folder == base or base in folder.parents:
                yield version, folder


def limits(root: Path = Path("/")) -> list[Limit]:
    """The limits of main memory that control groups set, the tightest first; none where nothing is limited."""
    found = []
    for version, folder in control_groups("memory", root):
        total, used = (_text(folder / name).strip() for name in _NAMES[version])
        if total.isdigit() and int(total) < _UNLIMITED:
            counts = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
            taken = max(0, int(used or 0) - int(counts.get(_CACHE[version], 0)))
            found.append(Limit(max(0, int(total) - taken), int(total), taken))
    return sorted(found)


def available_host(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process may still take: the kernel's estimate, or a control group's if lower.

    Args:
        root: where `proc` and `sys` lie. 2**62 bytes are returned where the kernel tells nothing.
    """
    rows = dict(line.split(":", 1) for line in _text(root / "proc/meminfo").splitlines())
    free = int(rows["MemAvailable"].split()[0]) << 10 if "MemAvailable" in rows else 1 << 62
    return min([free, *(limit.left for limit in limits(root))])


def available_device(device: torch.device) -> int:
    """Bytes free on the GPU, or of main memory where the run is on the CPU."""
    if device.type != "cuda":
        return available_host()
    import torch

    return int(torch.cuda.mem_get_info(device)[0])


def has_bf16(device: torch.device, root: Path = Path("/")) -> bool:
    """Whether the device computes with bfloat16 natively; elsewhere it is slower than float32, or not there.

    Args:
        root: where `proc` lies.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    lines = (line.partition(":") for line in _text(root / "proc/cpuinfo").splitlines())
    flags = {flag for key, _, value in lines if key.strip() in ("flags", "Features") for flag in value.split()}
    return bool(flags & {"amx_bf16", "avx512_bf16", "bf16"})  # the last as ARM calls it


def mebibytes(size: int) -> str:
    """A number of bytes in MiB, from 1 GiB on in GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _text(path: Path) -> str:
    """A file of the kernel's; empty where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


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
    return max(1, min(cores(), available_host() // WORKER_BYTES // _ranks()))


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


def free_cores(seconds: float = 0.5, root: Path = Path("/")) -> float:
    """How many of the cores that this process may use are free of others' work, looked at for so long.

    What runs at a lowered priority counts as free, for it gives way, and so does what this process itself computes. All
    of them where the kernel tells nothing.

    Args:
        root: where `proc` lies.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    mask = affinity(0) if affinity else set(range(os.cpu_count() or 1))
    before, own, began = _free_ticks(mask, root), sum(os.times()[:2]), time.monotonic()
    time.sleep(seconds)
    after, own, passed = _free_ticks(mask, root), sum(os.times()[:2]) - own, time.monotonic() - began
    shares = [
        (after[core][0] - before[core][0]) / (after[core][1] - before[core][1])
        for core in before.keys() & after.keys()
        if after[core][1] > before[core][1]
    ]
    told = sum(shares) + (len(mask) - len(shares))
    return min(float(len(mask)), told + own / passed)


def _free_ticks(mask: set[int], root: Path) -> dict[int, tuple[int, int]]:
    """Of each core, how many ticks of its clock were free, and how many have passed."""
    found = {}
    for line in _text(root / "proc/stat").splitlines():
        core = re.match(r"cpu(\d+) ", line)
        if core and int(core[1]) in mask:
            user, nice, system, idle, waiting, *rest = map(int, line.split()[1:9])
            found[int(core[1])] = nice + idle + waiting, user + nice + system + idle + waiting + sum(rest)
    return found


def _ranks() -> int:
    return _positive("LOCAL_WORLD_SIZE") or _slurm_tasks()


def _slurm_tasks() -> int:
    """Tasks of this srun on this machine; 1 outside one. A batch script has SLURM_PROCID too, but is no step: it is
    alone.
    """
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
