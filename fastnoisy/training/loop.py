"""The training loop, to be read top to bottom: epoch, pass, step, evaluation, checkpoint.

`start` makes a run folder and trains; `resume` goes on where the newest whole checkpoint of one stands. What changes
while it trains is `Job.state` alone. Which sample is trained when, and what its views look like, are pure functions of
the configuration, so a run that goes on needs a position and no generator's state.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastnoisy import machine, pipelines
from fastnoisy.batch import Batch
from fastnoisy.config import Config
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Progress, TrainingSet
from fastnoisy.order import Population
from fastnoisy.training import checkpoint, evaluate, issues, optim, preflight, setup, summary
from fastnoisy.training.checkpoint import Checkpoint, Origin
from fastnoisy.training.device import refuse_ranks
from fastnoisy.training.eta import Eta
from fastnoisy.training.evaluate import Evaluator
from fastnoisy.training.feed import Feed
from fastnoisy.training.labels import training_population
from fastnoisy.training.logs import Event, Observer, Stopwatch, epoch_line, notes
from fastnoisy.training.meter import Meter
from fastnoisy.training.run_folder import RunFolder
from fastnoisy.training.selection import Selection
from fastnoisy.training.settings import Settings
from fastnoisy.training.setup import Setup
from fastnoisy.training.state import Position, TrainState, load_method
from fastnoisy.training.step import Stepper
from fastnoisy.training.stop import Interrupted, Stop

__all__ = ["Interrupted", "Job", "Stop", "opened", "resume", "start", "train"]


def silent(event: Event) -> None:
    """An observer that shows nothing."""


@dataclass
class Job:
    """What the loop works with; all of it but `state` stays as it is.

    Attributes:
        setup: the resolved run: configuration, data, labels, method, views.
        folder: where it is written.
        state: what a checkpoint holds.
        observe: told what happens.
        stop: asked to stop by whoever holds it.
        progress: the position as tensors on the device.
        saved: the newest checkpoint and its position; None before the first.
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
    saved: tuple[Path, Position] | None = None
    schedule: optim.Schedule | None = None
    eta: Eta = field(init=False)
    pipeline: pipelines.Pipeline = field(init=False)
    eval_pipelines: dict[str, pipelines.Pipeline] = field(init=False)

    @classmethod
    def of(cls, prepared: Setup, folder: RunFolder, observe: Observer, stop: Stop | None = None) -> Job:
        """At the beginning of a run."""
        config, device, method = prepared.config, prepared.device, prepared.method
        clean = prepared.labels.clean
        meter = Meter(None if clean is None else torch.from_numpy(clean).to(device), device)
        progress = Progress.start(config.epochs, device)
        optimizer = optim.build(method, config.optim, device)
        stepper = Stepper(method, optimizer, prepared.views, config, device, meter)
        state = TrainState(
            method, optimizer, stepper.scaler, meter, Selection(config.select), dict(prepared.populations)
        )
        feed = Feed(method.streams, prepared.order, config.batch_size, config.drop_last)
        evaluator = Evaluator.of(config, method, prepared.eval_view, device)
        job = cls(prepared, folder, state, stepper, feed, evaluator, progress, observe, stop or Stop())
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


# -- beginning and going on -------------------------------------------------------------------------------------------


def start(settings: Settings, out: Path, observe: Observer = silent, stop: Stop | None = None) -> dict[str, Any]:
    """Train a configuration into a new run folder; returns the final line of metrics.jsonl.

    Where it raises before anything was trained, no folder stays behind.

    Raises:
        FastnoisyError: bad data, nothing that fits, a folder that already holds a run, a loss that is not finite.
        Interrupted: `stop` was asked; a checkpoint was written.
    """
    refuse_ranks()
    folder = RunFolder(out)
    folder.refuse_existing()
    job = Job.of(setup.prepare(settings, observe=observe), folder, observe, stop)
    # What cannot fit or be opened is refused before anything is written.
    with job.stop.looked_at(), folder.new(job.say), opened(job):
        folder.write_config(job.setup.settings)
        folder.write_labels(job.setup.labels, job.setup.settings, job.setup.split)
        return train(job)


def resume(
    out: Path, words: Sequence[str] = (), store: str = "", observe: Observer = silent, stop: Stop | None = None
) -> dict[str, Any]:
    """Go on with a run from its newest whole checkpoint; returns the final line of metrics.jsonl.

    Args:
        words: overrides of what may change in a run that goes on; they are kept in its config.toml.
        store: the folder of its data set, where that has moved.

    Raises:
        FastnoisyError: no run or no whole checkpoint there, a configuration or a file that does not fit it, or another
            process that is at work in the folder.
        Interrupted: `stop` was asked; a checkpoint was written.
    """

    say = notes(observe)
    refuse_ranks()
    folder = RunFolder(out)
    folder.require()
    with folder.locked(say):
        found = folder.newest(say) if folder.has_checkpoint else None
        kept = folder.read_labels() if found or folder.labels_path.exists() else None
        began = found.origin.config if found else kept.origin.config if kept and kept.origin else None
        settings = folder.read_config(began, say, words, store)
        if found and kept and kept.digest != found.origin.labels:
            raise FastnoisyError(
                f"{folder.labels_path} is not what checkpoint {found.path.name} was trained on",
                "Put the run's own labels.npz back, or start a new run",
            )
        prepared = setup.prepare(settings, kept, restored=found is not None, observe=observe)
        job = Job.of(prepared, folder, observe, stop)
        if found:
            _restore(job, found)
        else:
            say("no checkpoint yet: the run starts from its beginning")
        with job.stop.looked_at(), opened(job):  # before anything of the run is changed
            if found:
                folder.set_aside_after(found, say)
                _reconcile_best(job)
            folder.metrics.rewind(found.origin.metrics if found else None, job.state.position.epoch, say)
            folder.write_config(prepared.settings)
            if not found:
                folder.write_labels(prepared.labels, prepared.settings, prepared.split)
            return train(job)


def _restore(job: Job, found: Checkpoint) -> None:
    """Continue from a checkpoint."""
    if found.position.epoch > job.config.epochs:
        raise FastnoisyError(
            f"{job.folder.path} has already done {found.position.epoch} epochs, more than epochs={job.config.epochs}",
            "Name a larger number of epochs",
        )
    job.state.restore(found.state, f"checkpoint {found.path}")
    job.saved = found.path, found.position
    at = f"epoch {found.position.epoch}, step {found.position.step}"
    job.say(f"resuming {job.folder.path} at {at} ({found.path.name})")
    if warning := checkpoint.other_machine(found, job.setup.device):
        job.say(warning)


def _reconcile_best(job: Job) -> None:
    best = job.folder.best()
    on_disk = best.position.epoch - 1 if best else None
    position = job.state.position
    between = position.epoch if position == Position(position.epoch) else -1  # the state stands between two epochs
    job.state.selection.reconcile(on_disk, between, lambda: _save_best(job), job.say)


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

        def hold(split: Split, labels: np.ndarray) -> pipelines.Pipeline:
            return held.enter_context(pipelines.open_pipeline(choice, split, labels, device, config.data.workers))

        job.pipeline = hold(prepared.split, prepared.labels.given)
        job.eval_pipelines = {s.name: hold(s.split, s.truth) for s in prepared.eval_sets}
        yield


# -- the loop ---------------------------------------------------------------------------------------------------------


def train(job: Job) -> dict[str, Any]:
    """Train from the state's position to the end, then evaluate and audit; to be called within `opened`."""
    checkpoint.sweep(job.folder.checkpoints)
    state, epochs = job.state, job.config.epochs
    started, first = time.perf_counter(), state.position.epoch
    job.eta = Eta(job.say, job.setup.device.type == "cpu")
    evaluated: dict[int, Any] = {}  # by this process; what an earlier one found may be of other evaluation sets
    try:
        for epoch in range(first, epochs):
            line = _epoch(job, epoch)
            evaluated[epoch] = line.get("eval")
            left = (time.perf_counter() - started) / (epoch + 1 - first) * (epochs - epoch - 1)
            job.observe(Event("epoch", epoch_line(line, epochs, left), metrics=line))
            _stop_if_asked(job)
        return _finish(job, evaluated)
    except FastnoisyError:
        _stop_if_asked(job)  # a signal to the whole process group has ended the pipeline's processes, too
        raise
    except torch.OutOfMemoryError as error:
        raise FastnoisyError(
            f"the GPU's memory ran out in epoch {state.position.epoch}, step {state.position.step}",
            f"Go on with 'fastnoisy train --resume {job.folder.path}' on a larger GPU, or start anew with accumulate="
            f"{2 * job.config.accumulate}, which keeps the global batch",
        ) from error


def _epoch(job: Job, epoch: int) -> dict[str, Any]:
    """Train and evaluate one epoch; returns its line of metrics.jsonl, which is written, as are checkpoints."""
    state, config, method = job.state, job.config, job.state.method
    state.populations["train"] = training_population(config, job.setup.labels, epoch)
    if state.position == Position(epoch):
        state.meter.reset()
        for name, rows in method.before_epoch(epoch, _training_set(job)).items():
            state.populations[name] = Population(name, np.sort(rows.numpy()))
    lr = config.optim.lr * (job.schedule(epoch) if job.schedule else config.optim.factor(epoch))
    optim.set_lr(state.optimizer, lr)
    watch = Stopwatch()
    for number in range(state.position.pass_number, len(method.plan(epoch))):
        _pass(job, epoch, number, watch)
    if job.setup.device.type == "cuda":
        torch.cuda.synchronize(job.setup.device)
    timing = watch.summary()
    _check_finite(job)

    line: dict[str, Any] = {"epoch": epoch, "lr": lr, "train": state.meter.summary()}
    last, best = epoch + 1 == config.epochs, False
    if last or (epoch + 1) % config.eval_every == 0:
        line["eval"] = _evaluate(job)
        best = state.selection.observe(epoch, line["eval"])
    if state.selection.name:
        line["selected"] = state.selection.state()
    line["time"] = timing
    job.folder.metrics.append(line)  # before the checkpoint, which says how much of the file is its own
    state.position = Position(epoch + 1)
    if last or best or (epoch + 1) % config.checkpoint.every == 0:
        _save(job)
    if best:
        _save_best(job)
    return line


def _pass(job: Job, epoch: int, number: int, watch: Stopwatch) -> None:
    """The steps of one pass, from the state's position on."""
    state, method = job.state, job.state.method
    plan = method.plan(epoch)
    spec = plan[number]
    method.train()
    method.before_pass(spec.name)
    done, total = state.position.step, job.feed.steps(spec, state.populations)
    rows = job.feed.batches(spec, state.populations, epoch, done)
    supply = {name: job.pipeline.iterate(batches) for name, batches in rows.items()}
    for step in range(done, total):
        before = time.perf_counter()
        given = _next(job, supply)
        watch.waited += time.perf_counter() - before
        job.progress.move(epoch, step, total)
        if job.schedule is not None:
            now = epoch + (number + step / total) / len(plan)
            optim.set_lr(state.optimizer, job.config.optim.lr * job.schedule(now))
        job.stepper(given, job.progress)
        watch.images += sum(len(batch.indices) for batch in given.values())
        state.position = Position(epoch, number, step + 1)
        job.eta.step(lambda: _steps_left(job))
        if (step + 1) % job.config.log_every == 0 or job.setup.device.type == "cpu":
            _check_finite(job)
            job.observe(Event("step", f"epoch {epoch + 1}/{job.config.epochs}", step + 1, total))
        if step + 1 < total:
            _stop_if_asked(job)
    if number + 1 < len(plan):
        state.position = Position(epoch, number + 1)


def _steps_left(job: Job) -> int:
    """Steps to the end of the run. A selection, whose size is not known yet, counts as the whole training part."""
    now = job.state.position
    plans = [job.state.method.plan(epoch) for epoch in range(now.epoch, job.config.epochs)]
    steps = [[job.feed.steps(spec, job.state.populations) for spec in plan] for plan in plans]
    return sum(map(sum, steps)) - sum(steps[0][: now.pass_number]) - now.step


def _next(job: Job, supply: dict[str, Iterator[Batch]]) -> dict[str, Batch]:
    """The next batch of each stream. Where the data fail, what was learnt so far is sound, and is kept."""
    try:
        return {name: next(batches) for name, batches in supply.items()}
    except FastnoisyError:
        position = job.state.position
        if not job.stop.signal_number and position not in (_saved_position(job), Position(position.epoch)):
            _check_finite(job)
            job.say(f"state in {_save(job)}; go on with 'fastnoisy train --resume {job.folder.path}'")
        raise


def _check_finite(job: Job) -> None:
    """Stop the run where a loss was not finite; no checkpoint is written after it."""
    position = job.state.position
    plan = job.state.method.plan(position.epoch)
    total = job.feed.steps(plan[min(position.pass_number, len(plan) - 1)], job.state.populations)
    job.state.meter.check_finite(position.epoch, total, str(job.saved[0]) if job.saved else "")


# -- evaluation -------------------------------------------------------------------------------------------------------


def _training_set(job: Job) -> TrainingSet:
    """What this epoch trains on; with `data.draw` that is its draw alone."""
    rows, total = job.state.populations["train"].indices, job.setup.split.num_samples
    given = torch.from_numpy(job.setup.labels.given)
    return TrainingSet(
        lambda: job.evaluator.scattered(job.pipeline, rows, total, _poll(job, "predicting train", len(rows))),
        given,
        torch.from_numpy(rows),
    )


def _evaluate(job: Job) -> dict[str, Any]:
    """Each evaluation set and the held-out part (against its noisy labels), by predictor."""
    sets = {item.name: (job.eval_pipelines[item.name], item.rows) for item in job.setup.eval_sets}
    if len(job.setup.labels.holdout):
        sets["holdout"] = (job.pipeline, job.setup.labels.holdout)
    result: dict[str, Any] = {}
    for name, (pipeline, rows) in sets.items():
        labels = pipeline.labels.cpu()[torch.from_numpy(rows)]
        found = job.evaluator.logits(pipeline, rows, _poll(job, f"evaluating {name}", len(rows)))
        result[name] = {predictor: evaluate.classification(z, labels) for predictor, z in found.items()}
    return result


def _finish(job: Job, evaluated: dict[int, Any]) -> dict[str, Any]:
    """Predict the training set with the reported weights, write issues.csv (not of synthetic pixels) and the final
    line.

    The weights are the last epoch's, or with `select` those of the epoch chosen.

    Args:
        evaluated: the evaluations at hand, by epoch.
    """
    state, labels = job.state, job.setup.labels
    line: dict[str, Any] = {"event": "final", "epochs": job.config.epochs}
    reported_epoch = job.config.epochs - 1
    if state.selection.epoch >= 0:
        reported_epoch = state.selection.epoch
        line["selected"] = state.selection.state()
        best = checkpoint.load(job.folder.checkpoints / checkpoint.BEST)
        load_method(state.method, best.state["method"], f"checkpoint {best.path}")
        job.say(f"reported is {state.selection}; every epoch's numbers are in metrics.jsonl")
    rows = np.sort(np.concatenate([labels.train, labels.holdout]))
    poll = _poll(job, "predicting train", len(rows))
    logits = job.evaluator.scattered(job.pipeline, rows, job.setup.split.num_samples, poll)
    given, train_rows = torch.from_numpy(labels.given), torch.from_numpy(labels.train)
    probability = state.method.clean_probability(TrainingSet(lambda: logits, given, train_rows))
    line["reported"] = reported = next(iter(logits))
    if job.pipeline.synthetic:
        name = job.setup.settings.pipeline.name
        done = f"done: {job.folder.path}; nothing was learnt from the made-up pixels of pipeline={name}"
    else:
        table = job.folder.issues_path
        written = issues.write_issues(table, job.setup.split, labels, logits[reported], probability)
        line["issues"], told = written
        job.say("\n".join(told))
        done = f"done: {job.folder.path}; most suspect labels first in {table}"
    line["eval"] = evaluated.get(reported_epoch) or _evaluate(job)
    if labels.clean is not None:
        clean = torch.from_numpy(labels.clean)
        line["train"] = {
            name: evaluate.memorisation(z[train_rows].argmax(dim=1), given[train_rows], clean[train_rows])
            for name, z in logits.items()
        }
        line["suspects_found"] = evaluate.suspects_found(probability[train_rows], given[train_rows], clean[train_rows])
    job.folder.metrics.append(line)
    job.say(done)
    return line


# -- checkpoints and stops --------------------------------------------------------------------------------------------


def _origin(job: Job) -> Origin:
    return Origin(
        job.config.model_dump(), job.setup.labels.digest, job.folder.metrics.mark(), job.setup.split.num_samples
    )


def _save(job: Job) -> Path:
    metadata, device = setup.network_metadata(job.setup, job.state.method), job.setup.device
    path = job.folder.save(job.state, metadata, _origin(job), device, job.config.checkpoint.keep)
    job.saved = path, job.state.position
    return path


def _save_best(job: Job) -> None:
    metadata = setup.network_metadata(job.setup, job.state.method)
    job.folder.save_best(job.state, metadata, _origin(job), job.setup.device)


def _saved_position(job: Job) -> Position | None:
    return job.saved[1] if job.saved else None


def _poll(job: Job, text: str, count: int) -> Callable[[], None]:
    """To be called before each batch of `count` images: tells the observer, and stops where that is asked for."""
    total, begun = math.ceil(count / job.evaluator.batch_size), itertools.count()

    def poll() -> None:
        _stop_if_asked(job)
        job.observe(Event("step", text, next(begun), total, unit="batches"))

    return poll


def _stop_if_asked(job: Job) -> None:
    """Where a stop is asked for: write the state, unless it is on disk already, and leave.

    Raises:
        Interrupted: a stop was asked for.
        FastnoisyError: a loss was not finite, so that the state is not worth keeping.
    """
    if not job.stop.signal_number:
        return
    _check_finite(job)
    path = job.saved[0] if job.saved and job.saved[1] == job.state.position else _save(job)
    job.say(f"stopped; state in {path}; go on with 'fastnoisy train --resume {job.folder.path}'")
    raise Interrupted(job.stop.signal_number, path)
