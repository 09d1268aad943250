"""What the training loop works with: the job, its batches on this rank, its checkpoints, and how it is stopped.

With several ranks all of them call the same here in the same order. Rank 0 speaks and writes.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from fastnoisy import machine, order, pipelines
from fastnoisy.batch import Batch
from fastnoisy.config import Config
from fastnoisy.data.store import Split
from fastnoisy.distributed import ONE, Group
from fastnoisy.methods.base import Pass, Progress
from fastnoisy.models import batchnorm
from fastnoisy.order import share
from fastnoisy.training import checkpoint, optim, preflight, setup, summary
from fastnoisy.training.checkpoint import Origin
from fastnoisy.training.eta import Eta
from fastnoisy.training.evaluate import Evaluator
from fastnoisy.training.feed import Feed
from fastnoisy.training.logs import Event, Observer
from fastnoisy.training.meter import Meter
from fastnoisy.training.run_folder import RunFolder
from fastnoisy.training.selection import Selection
from fastnoisy.training.setup import Setup
from fastnoisy.training.state import Position, TrainState
from fastnoisy.training.step import Stepper
from fastnoisy.training.stop import Interrupted, Stop, Vote
from fastnoisy.training.writer import Writer


def silent(event: Event) -> None:
    """An observer that shows nothing."""


@dataclass(frozen=True)
class Given:
    """The batches of one step.

    Attributes:
        batches: this rank's part of each stream's.
        totals: the rows of each, of all ranks.
    """

    batches: dict[str, Batch]
    totals: dict[str, int]

    @property
    def shape(self) -> tuple[tuple[str, int], ...]:
        """What a step compiles anew for, the same on all ranks."""
        return tuple(self.totals.items())


@dataclass
class Job:
    """What the loop works with; all of it but `state` stays as it is.

    Attributes:
        setup: the resolved run: configuration, data, labels, method, views.
        folder: where it is written.
        state: what a checkpoint holds.
        observe: told what happens.
        stop: asked to stop by whoever holds it.
        group: the ranks.
        vote: what the ranks find out about each other's `stop`.
        met: shapes of the steps so far: the first of each may compile, and is waited for.
        progress: the position as tensors on the device.
        saved: the newest checkpoint and its position; None before the first.
        writer: writes checkpoints.
        written: of the newest one that is on the disk: MiB, seconds that the training waited for the copy, and that
            writing it took.
        pipeline, eval_pipelines: open within `opened`.
    """

    setup: Setup
    folder: RunFolder
    state: TrainState
    stepper: Stepper
    feed: Feed
    evaluator: Evaluator
    progress: Progress
    observe: Observer = silent
    stop: Stop = field(default_factory=Stop)
    group: Group = ONE
    vote: Vote = field(init=False)
    met: set[tuple[tuple[str, int], ...]] = field(default_factory=set)
    saved: tuple[Path, Position] | None = None
    writer: Writer = field(default_factory=Writer)
    written: dict[str, float] = field(default_factory=dict)
    schedule: optim.Schedule | None = None
    eta: Eta = field(init=False)
    pipeline: pipelines.Pipeline = field(init=False)
    eval_pipelines: dict[str, pipelines.Pipeline] = field(init=False)

    @classmethod
    def of(
        cls,
        prepared: Setup,
        folder: RunFolder,
        observe: Observer,
        stop: Stop | None = None,
        group: Group = ONE,
    ) -> Job:
        """At the beginning of a run."""
        config, device, method = prepared.config, prepared.device, prepared.method
        clean = prepared.labels.clean
        meter = Meter(None if clean is None else torch.from_numpy(clean).to(device), device)
        progress = Progress.start(config.epochs, device)
        optimizer = optim.build(method, config.optim, device)
        stepper = Stepper(method, optimizer, prepared.views, config, device, meter, group)
        state = TrainState(
            method, optimizer, stepper.scaler, meter, Selection(config.select), dict(prepared.populations)
        )
        feed = Feed(method.streams, prepared.order, config.batch_size, config.drop_last)
        evaluator = Evaluator.of(config, method, prepared.eval_view, device, group)
        job = cls(prepared, folder, state, stepper, feed, evaluator, progress, observe, stop or Stop(), group)
        job.vote = Vote(job.stop, group)
        if config.optim.schedule == "cosine":
            job.schedule = optim.Schedule(config.optim.warmup, config.epochs)
        return job

    @property
    def config(self) -> Config:
        """The configuration."""
        return self.setup.config

    def say(self, line: str) -> None:
        """Tell the observer a line."""
        self.observe(Event("note", line))

    def supply(self, spec: Pass, epoch: int, first: int) -> Iterator[Given]:
        """The batches of a pass's steps from `first` on, this rank's part of them."""
        rows = self.feed.batches(spec, self.state.populations, epoch, first)
        totals: dict[str, deque[int]] = {name: deque() for name in rows}  # a pipeline is some batches ahead

        def own(name: str) -> Iterator[np.ndarray]:
            for whole in rows[name]:
                totals[name].append(len(whole))
                yield share(whole, self.group.rank, self.group.size, self.config.accumulate)

        supply = {name: self.pipeline.iterate(own(name)) for name in rows}
        for _ in range(first, self.feed.steps(spec, self.state.populations)):
            batches = {name: next(found) for name, found in supply.items()}
            yield Given(batches, {name: totals[name].popleft() for name in rows})

    def merge(self) -> None:
        """Bring together what the ranks have each for themselves: the epoch's sums on rank 0, and the running
        statistics of networks, whose mean all of them go on with.
        """
        self.state.meter.merge(self.group)
        batchnorm.average(self.state.method, self.group)


@contextmanager
def opened(job: Job) -> Iterator[None]:
    """Choose the pipeline, refuse what cannot fit, say what will be trained, and hold the data open."""
    prepared, config, device = job.setup, job.config, job.setup.device
    splits = [prepared.split, *(item.split for item in prepared.eval_sets)]
    free = machine.available_device(device)
    choice = pipelines.choose(prepared.settings.pipeline, splits, device, free)
    needs = preflight.check(prepared, choice.name, job.folder.path)
    for line in summary.lines(prepared, choice.name, choice.why, needs):
        job.say(line)
    with ExitStack() as held:
        held.callback(job.writer.close)

        def hold(split: Split, labels: np.ndarray) -> pipelines.Pipeline:
            return held.enter_context(pipelines.open_pipeline(choice, split, labels, device, config.data.workers))

        job.pipeline = hold(prepared.split, prepared.labels.given)
        job.eval_pipelines = {s.name: hold(s.split, s.truth) for s in prepared.eval_sets}
        yield


# -- checkpoints and stops --------------------------------------------------------------------------------------------


def check_finite(job: Job) -> None:
    """Stop the run where a loss was not finite; no checkpoint is written after it."""
    position = job.state.position
    plan = job.state.method.plan(position.epoch)
    total = job.feed.steps(plan[min(position.pass_number, len(plan) - 1)], job.state.populations)
    job.state.meter.check_finite(position.epoch, total, str(job.saved[0]) if job.saved else "")


def _origin(job: Job) -> Origin:
    return Origin(
        job.config.model_dump(),
        job.setup.labels.digest,
        job.folder.metrics.mark(),
        job.setup.split.num_samples,
        order.name(len(job.setup.populations["train"])),
    )


def save(job: Job, best: bool = False) -> Path:
    """Have a checkpoint of the state written, beside the training; returns its folder.

    The training waits until the last one is written, so that there is but one copy of the state, and for the copy.

    Args:
        best: write its weights as those of the chosen epoch, too.
    """
    job.merge()
    path = job.folder.checkpoints / job.state.position.name
    job.saved = path, job.state.position
    if job.group.leads:
        job.writer.wait()
        began = time.perf_counter()
        taken = job.state.snapshot()
        job.folder.refuse_bad_weights(job.state, taken)
        primary, device = checkpoint.prefix(job.state.method), job.setup.device
        metadata, origin = setup.network_metadata(job.setup, job.state.method), _origin(job)
        copied = time.perf_counter() - began

        def write() -> None:
            begun = time.perf_counter()
            job.folder.save(taken, primary, metadata, origin, device, job.config.checkpoint.keep)
            size = sum(file.stat().st_size for file in path.iterdir())
            job.written = {"mib": size / 2**20, "copy_seconds": copied, "seconds": time.perf_counter() - begun}

        job.writer.submit(write)
        if best:
            job.writer.submit(lambda: job.folder.save_best(taken, primary, metadata, origin, device))
    return path


def save_best(job: Job) -> None:
    """Write the state's weights as those of the chosen epoch."""
    if job.group.leads:
        primary, metadata = checkpoint.prefix(job.state.method), setup.network_metadata(job.setup, job.state.method)
        job.folder.save_best(job.state.snapshot(copy=False), primary, metadata, _origin(job), job.setup.device)


def settle(job: Job) -> None:
    """Wait until all checkpoints are written; of several ranks all wait."""
    job.writer.wait()
    job.group.barrier()


def saved_position(job: Job) -> Position | None:
    """Where the newest checkpoint stands."""
    return job.saved[1] if job.saved else None


def poll_of(job: Job, text: str, count: int) -> Callable[[], None]:
    """To be called before each batch of `count` images: tells the observer, and stops where that is asked for; of
    several ranks, which are not all at the same batch, none does.
    """
    count = -(-count // job.group.size)
    total, begun = math.ceil(count / job.evaluator.batch_size), itertools.count()

    def poll() -> None:
        if job.group.size == 1:
            stop_if_asked(job, job.vote.now())
        job.observe(Event("step", text, next(begun), total, unit="batches"))

    return poll


def stop_if_asked(job: Job, signal_number: int) -> None:
    """Where a stop is asked for: write the state, unless it is on disk already, and leave.

    Args:
        signal_number: what the vote gave; 0: no stop is asked for.

    Raises:
        Interrupted: a stop was asked for.
        FastnoisyError: a loss was not finite, so that the state is not worth keeping.
    """
    if not signal_number:
        return
    check_finite(job)
    path = job.saved[0] if job.saved and job.saved[1] == job.state.position else save(job)
    settle(job)
    job.say(f"stopped; state in {path}; go on with 'fastnoisy train --resume {job.folder.path}'")
    raise Interrupted(signal_number, path)
