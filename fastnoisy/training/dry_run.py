"""A dry run: everything is resolved and opened, a few steps are trained and thrown away, nothing is written.

What it tells (memory, images per second, share of time spent waiting for data, time to the end) is measured, on the
run's own data, network and views.
"""

from __future__ import annotations

import math
import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from fastnoisy.methods.base import Pass
from fastnoisy.training import setup
from fastnoisy.training.job import Given, Job, opened, silent
from fastnoisy.training.logs import Event, Observer, duration
from fastnoisy.training.run_folder import RunFolder
from fastnoisy.training.settings import Settings

STEPS = 3


@dataclass(frozen=True)
class DryRun:
    """What a dry run measured.

    Attributes:
        warm_up_seconds: the first step, in which kernels are chosen or compiled.
        step_seconds: the median of the steps after it.
        images_per_second: training images (of all streams) per second at that pace.
        wait_share: share of the measured steps' time spent waiting for data, 0 to 1.
        eval_seconds: of one batch of the evaluation view.
        peak_bytes: of GPU memory; of the whole process where there is no GPU.
        total_seconds: to the end of the run, evaluations included.
    """

    warm_up_seconds: float
    step_seconds: float
    images_per_second: float
    wait_share: float
    eval_seconds: float
    peak_bytes: int
    total_seconds: float


def run(settings: Settings, out: Path, observe: Observer = silent) -> DryRun:
    """Try a run: one step to warm up, then `STEPS` measured ones, and one batch of evaluation.

    Args:
        out: where the run would be written; only its disk is looked at.

    Raises:
        FastnoisyError: as a run's start.
    """
    job = Job.of(setup.prepare(settings, observe=observe, trial=True), RunFolder(out), observe)
    with opened(job):
        found = _measure(job)
    for line in _lines(job, found):
        job.say(line)
    return found


def _measure(job: Job) -> DryRun:
    config, device, method = job.config, job.setup.device, job.state.method
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    method.train()
    method.before_pass(_last_plan(job)[0].name)
    supply = _endless(job)
    seconds, waits, images = [], [], 0
    for step in range(1 + STEPS):
        start = time.perf_counter()
        given = next(supply)
        waited = time.perf_counter() - start
        job.progress.move(0, step, 1 + STEPS)
        job.stepper(given.batches, job.progress, given.totals)
        job.observe(Event("step", "trying", step + 1, 1 + STEPS))
        _synchronise(device)
        seconds.append(time.perf_counter() - start)
        waits.append(waited)
        images = sum(given.totals.values())
    job.state.meter.check_finite(0, 1 + STEPS, "")
    pace = statistics.median(seconds[1:])
    rows = job.setup.labels.train[: job.evaluator.batch_size]
    timed = []
    for _ in range(2):  # the first chooses kernels
        start = time.perf_counter()
        job.evaluator.logits(job.pipeline, rows)
        timed.append(time.perf_counter() - start)
    steps = _steps(job)
    test = sum(p.split.num_samples for p in job.eval_pipelines.values()) + len(job.setup.labels.holdout)
    rounds = math.ceil(config.epochs / config.eval_every) + bool(config.select)
    batches = (rounds * test + len(job.setup.labels.train)) / len(rows)
    total = seconds[0] + steps * pace + batches * timed[1]
    waiting = sum(waits[1:]) / sum(seconds[1:])
    return DryRun(seconds[0], pace, images / pace, waiting, timed[1], _peak(device), total)


def _last_plan(job: Job) -> tuple[Pass, ...]:
    """The passes of the last epoch: what most epochs are like, a warm-up is not."""
    return job.state.method.plan(job.config.epochs - 1)


def _steps(job: Job) -> int:
    """Steps of all epochs. A selection, whose size is not known yet, counts as the whole training part."""
    plans = [job.state.method.plan(epoch) for epoch in range(job.config.epochs)]
    return sum(job.feed.steps(spec, job.state.populations) for plan in plans for spec in plan)


def _endless(job: Job) -> Iterator[Given]:
    """Batches of the first pass, epoch after epoch: a small data set may not have enough steps in one."""
    spec = _last_plan(job)[0]
    for epoch in range(2 + STEPS):
        yield from job.supply(spec, epoch, 0)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _lines(job: Job, found: DryRun) -> list[str]:
    config, out, on_gpu = job.config, job.folder.path, job.setup.device.type == "cuda"
    where = "GPU memory at its peak" if on_gpu else "memory of the whole process at its peak"
    return [
        f"dry run: {STEPS} steps of batch {config.batch_size} after one to warm up ({found.warm_up_seconds:.2f} s)",
        f"  speed    {found.images_per_second:,.0f} img/s, {1000 * found.step_seconds:.0f} ms a step, "
        f"{found.wait_share:.0%} of it waiting for data",
        f"  memory   {found.peak_bytes / 2**30:.2f} GiB, {where}",
        f"  ETA      {duration(found.total_seconds)} for {config.epochs} epochs, {_steps(job):,} steps, "
        "evaluations included",
        f"nothing was written; {out} holds a run already, so train with another --out"
        if job.folder.config_path.exists()
        else "nothing was written; leave out --dry-run to train",
    ]
