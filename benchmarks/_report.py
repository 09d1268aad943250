"""What every benchmark writes beside its numbers: machine, versions, commit; how it is clocked, called and printed."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastnoisy.errors import FastnoisyError
from fastnoisy.grids.numbers import markdown as markdown  # for every benchmark, as `mean_std`
from fastnoisy.grids.numbers import mean_std as mean_std

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parent.parent


def environment() -> dict[str, Any]:
    """Machine, versions and commit, for a result file."""
    import numpy
    import torch

    import fastnoisy

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else "unknown"

    changed = [line for line in git("status", "--porcelain").splitlines() if "benchmarks/results" not in line]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": git("rev-parse", "HEAD") + ("+changes" if changed else ""),
        "fastnoisy": fastnoisy.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def write(folder: Path, name: str, content: dict[str, Any]) -> Path:
    """Write `content` with the environment as folder/name.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"environment": environment(), **content}, indent=1) + "\n")
    return path


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median (lower to upper quartile)."""
    low, middle, high = quartiles(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def clocked(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call takes: of CPU time, or until the GPU has done it."""
    import torch

    gpu = device.type == "cuda"
    clock = time.perf_counter if gpu else time.process_time
    if gpu:
        torch.cuda.synchronize()
    start = clock()
    work()
    if gpu:
        torch.cuda.synchronize()
    return clock() - start


def command(*words: str | Path) -> str:
    """Run a command of fastnoisy in a fresh process, as a user does; what it printed.

    Raises:
        FastnoisyError: it failed; with its last line.
    """
    done = subprocess.run([sys.executable, "-m", "fastnoisy", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise FastnoisyError(f"fastnoisy {words[0]} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return done.stdout


def train(out: Path, recipe: str, *words: str, data: Path) -> bool:
    """Train into a folder, or go on with what was stopped there; whether it was trained from its beginning."""
    if (out / "config.toml").exists():
        command("train", "--resume", out, "--quiet")
        return False
    command("train", recipe, *words, "--data", data, "--out", out, "--quiet")
    return True


def run(main: click.Command) -> None:
    """Call a benchmark's command: a mistake of the user's is one line and exit code 2."""
    try:
        main(standalone_mode=True)
    except FastnoisyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
