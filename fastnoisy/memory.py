"""How much memory this process may still take, on the host and on the GPU."""

from __future__ import annotations

from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


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


def mebibytes(size: int) -> str:
    """A number of bytes in MiB, from 1 GiB on in GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
