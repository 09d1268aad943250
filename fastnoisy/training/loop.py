"""The training loop, to be read top to bottom: epoch, pass, step, evaluation, checkpoint.

`start` makes a run folder and trains; `resume` goes on where the newest whole checkpoint of one stands. What changes
while it trains is `Job.state` alone. Which sample is trained when, and what its views look like, are pure functions of
the configuration, so a run that goes on needs a position and no generator's state.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastnoisy import order
from fastnoisy.distributed import ONE, Group
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import TrainingSet
from fastnoisy.order import Population
from fastnoisy.training import checkpoint, evaluate, issues, optim, setup
from fastnoisy.training.checkpoint import Checkpoint
from fastnoisy.training.eta import Eta
from fastnoisy.training.job import (
    Given,
    Job,
    check_finite,
    opened,
    poll_of,
    save,
    save_best,
    saved_position,
    settle,
    silent,
    stop_if_asked,
)
from fastnoisy.training.labels import Labels, training_population
from fastnoisy.training.logs import Event, Observer, Stopwatch, epoch_line, notes
from fastnoisy.training.run_folder import RunFolder, Say, run_folder
from fastnoisy.training.settings import Settings
from fastnoisy.training.state import Position, load_method
from fastnoisy.training.stop import Interrupted, Stop

__all__ = ["Interrupted", "Job", "Stop", "opened", "resume", "silent", "start", "train"]


# -- beginning and going on -------------------------------------------------------------------------------------------


def start(
    settings: Settings, out: Path, observe: Observer = silent, stop: Stop | None = None, group: Group = ONE
) -> dict[str, Any]:
    """Train a configuration into a new run folder; returns the final line of metrics.jsonl.

    Where it raises before anything was trained, no folder stays behind.

    Args:
        group: the ranks. Each of them calls this; rank 0 observes and writes.

    Raises:
        FastnoisyError: bad data, nothing that fits, a folder that already holds a run, a loss that is not finite.
        Interrupted: `stop` was asked; a checkpoint was written.
    """
    observe = observe if group.leads else silent
    folder = run_folder(out, group)
    folder.refuse_existing()
    job = Job.of(setup.prepare(settings, observe=observe, group=group), folder, observe, stop, group)
    # What cannot fit or be opened is refused before anything is written.
    with job.stop.looked_at(), folder.new(job.say), opened(job):
        folder.write_config(job.setup.settings)
        folder.write_labels(job.setup.labels, job.setup.settings, job.setup.split)
        return train(job)


def resume(
    out: Path,
    words: Sequence[str] = (),
    store: str = "",
    observe: Observer = silent,
    stop: Stop | None = None,
    group: Group = ONE,
) -> dict[str, Any]:
    """Go on with a run from its newest whole checkpoint; returns the final line of metrics.jsonl.

    Args:
        words: overrides of what may change in a run that goes on; they are kept in its config.toml.
        store: the folder of its data set, where that has moved.
        group: the ranks, as many as one likes; see `start`.

    Raises:
        FastnoisyError: no run or no whole checkpoint there, a configuration or a file that does not fit it, or another
            process that is at work in the folder.
        Interrupted: `stop` was asked; a checkpoint was written.
    """
    observe = observe if group.leads else silent
    say = notes(observe)
    folder = run_folder(out, group)
    folder.require()
    with folder.locked(say):
        found, kept, settings = group.from_first(lambda: _read(folder, words, store, say))
        prepared = setup.prepare(settings, kept, restored=found is not None, observe=observe, group=group)
        job = Job.of(prepared, folder, observe, stop, group)
        if found:
            _restore(job, found)
        else:
            say("no checkpoint yet: the run starts from its beginning")
        with job.stop.looked_at(), opened(job):  # before anything of the run is changed
            if found:
                folder.set_aside_after(found, say)
                _reconcile_best(job)
            folder.rewind(found.origin.metrics if found else None, job.state.position.epoch, say)
            folder.write_config(prepared.settings)
            if not found:
                folder.write_labels(prepared.labels, prepared.settings, prepared.split)
            return train(job)


def _read(
    folder: RunFolder, words: Sequence[str], store: str, say: Say
) -> tuple[Checkpoint | None, Labels | None, Settings]:
    """What a run goes on from: its newest whole checkpoint, its labels and its configuration."""
    found = folder.newest(say) if folder.has_checkpoint else None
    kept = folder.read_labels() if found or folder.labels_path.exists() else None
    began = found.origin.config if found else kept.origin.config if kept and kept.origin else None
    settings = folder.read_config(began, say, words, store)
    if found and kept and kept.digest != found.origin.labels:
        raise FastnoisyError(
            f"{folder.labels_path} is not what checkpoint {found.path.name} was trained on",
            "Put the run's own labels.npz back, or start a new run",
        )
    return found, kept, settings


def _restore(job: Job, found: Checkpoint) -> None:
    """Continue from a checkpoint."""
    if found.position.epoch > job.config.epochs:
        raise FastnoisyError(
            f"{job.folder.path} has already done {found.position.epoch} epochs, more than epochs={job.config.epochs}",
            "Name a larger number of epochs",
        )
    now = order.name(len(job.setup.populations["train"]))
    if found.origin.order != now:
        raise FastnoisyError(
            f"checkpoint {found.path} was trained in the order {found.origin.order!r}, and these samples would go on "
            f"in the order {now!r}",
            "Go on with the version of fastnoisy that has begun the run",
        )
    job.state.restore(found.state, f"checkpoint {found.path}")
    if not job.group.leads:
        job.state.meter.clear()
    job.saved = found.path, found.position
    at = f"epoch {found.position.epoch}, step {found.position.step}"
    job.say(f"resuming {job.folder.path} at {at} ({found.path.name})")
    if warning := checkpoint.other_machine(found, job.setup.device):
        job.say(warning)


def _reconcile_best(job: Job) -> None:
    def look() -> int | None:
        best = job.folder.best()
        return best.position.epoch - 1 if best else None

    on_disk = job.group.from_first(look)
    position = job.state.position
    between = position.epoch if position == Position(position.epoch) else -1  # the state stands between two epochs
    job.state.selection.reconcile(on_disk, between, lambda: save_best(job), job.say)


# -- the loop ---------------------------------------------------------------------------------------------------------


def train(job: Job) -> dict[str, Any]:
    """Train from the state's position to the end, then evaluate and audit; to be called within `opened`."""
    job.folder.sweep()
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
            stop_if_asked(job, job.vote.now())
        settle(job)
        return _finish(job, evaluated)
    except FastnoisyError:
        if job.group.size == 1:
            # a signal to the whole process group has ended the pipeline's processes, too
            stop_if_asked(job, job.stop.signal_number)
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
        selected = method.before_epoch(epoch, _training_set(job))
        if selected:  # a fit may come out a little otherwise on another processor
            job.group.take_over(method.buffers())
        for name, rows in job.group.from_first(lambda: selected).items():
            state.populations[name] = Population(name, np.sort(rows.numpy()))
    lr = config.optim.lr * (job.schedule(epoch) if job.schedule else config.optim.factor(epoch))
    optim.set_lr(state.optimizer, lr)
    watch = Stopwatch()
    for number in range(state.position.pass_number, len(method.plan(epoch))):
        _pass(job, epoch, number, watch)
    if job.setup.device.type == "cuda":
        torch.cuda.synchronize(job.setup.device)
    timing = watch.summary()
    check_finite(job)
    job.merge()

    line: dict[str, Any] = {"epoch": epoch, "lr": lr, "train": state.meter.summary()}
    last, best = epoch + 1 == config.epochs, False
    if last or (epoch + 1) % config.eval_every == 0:
        line["eval"] = _evaluate(job)
        best = state.selection.observe(epoch, line["eval"])
    if state.selection.name:
        line["selected"] = state.selection.state()
    line["time"] = {**timing, **({"checkpoint": job.written} if job.written else {})}
    job.folder.append(line)  # before the checkpoint, which says how much of the file is its own
    state.position = Position(epoch + 1)
    if last or best or (epoch + 1) % config.checkpoint.every == 0:
        save(job, best)
    return line


def _pass(job: Job, epoch: int, number: int, watch: Stopwatch) -> None:
    """The steps of one pass, from the state's position on."""
    state, method = job.state, job.state.method
    plan = method.plan(epoch)
    spec = plan[number]
    method.train()
    method.before_pass(spec.name)
    done, total = state.position.step, job.feed.steps(spec, state.populations)
    supply = job.supply(spec, epoch, done)
    for step in range(done, total):
        before = time.perf_counter()
        given = _next(job, supply)
        watch.waited += time.perf_counter() - before
        job.progress.move(epoch, step, total)
        if job.schedule is not None:
            now = epoch + (number + step / total) / len(plan)
            optim.set_lr(state.optimizer, job.config.optim.lr * job.schedule(now))
        with job.group.in_time(given.shape in job.met):
            job.stepper(given.batches, job.progress, given.totals)
        job.met.add(given.shape)
        watch.images += sum(given.totals.values())
        state.position = Position(epoch, number, step + 1)
        job.eta.step(lambda: _steps_left(job))
        job.writer.look()
        if (step + 1) % job.config.log_every == 0 or job.setup.device.type == "cpu":
            check_finite(job)
            job.observe(Event("step", f"epoch {epoch + 1}/{job.config.epochs}", step + 1, total))
        if step + 1 < total:
            with job.group.in_time():
                asked = job.vote.at_step()
            stop_if_asked(job, asked)
    if number + 1 < len(plan):
        state.position = Position(epoch, number + 1)


def _steps_left(job: Job) -> int:
    """Steps to the end of the run. A selection, whose size is not known yet, counts as the whole training part."""
    now = job.state.position
    plans = [job.state.method.plan(epoch) for epoch in range(now.epoch, job.config.epochs)]
    steps = [[job.feed.steps(spec, job.state.populations) for spec in plan] for plan in plans]
    return sum(map(sum, steps)) - sum(steps[0][: now.pass_number]) - now.step


def _next(job: Job, supply: Iterator[Given]) -> Given:
    """The next step's batches. Where the data fail, what was learnt so far is sound, and is kept; of several ranks the
    others know nothing of it, and all go on from the last checkpoint.
    """
    try:
        return next(supply)
    except FastnoisyError:
        position = job.state.position
        if job.group.size > 1:
            raise
        if not job.stop.signal_number and position not in (saved_position(job), Position(position.epoch)):
            check_finite(job)
            path = save(job)
            settle(job)
            job.say(f"state in {path}; go on with 'fastnoisy train --resume {job.folder.path}'")
        raise


# -- evaluation -------------------------------------------------------------------------------------------------------


def _training_set(job: Job) -> TrainingSet:
    """What this epoch trains on; with `data.draw` that is its draw alone."""
    rows, total = job.state.populations["train"].indices, job.setup.split.num_samples
    given = torch.from_numpy(job.setup.labels.given)
    return TrainingSet(
        lambda: job.evaluator.scattered(job.pipeline, rows, total, poll_of(job, "predicting train", len(rows))),
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
        found = job.evaluator.logits(pipeline, rows, poll_of(job, f"evaluating {name}", len(rows)))
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
        best = job.group.from_first(lambda: checkpoint.load(job.folder.checkpoints / checkpoint.BEST))
        load_method(state.method, best.state["method"], f"checkpoint {best.path}")
        job.say(f"reported is {state.selection}; every epoch's numbers are in metrics.jsonl")
    rows = np.sort(np.concatenate([labels.train, labels.holdout]))
    poll = poll_of(job, "predicting train", len(rows))
    logits = job.evaluator.scattered(job.pipeline, rows, job.setup.split.num_samples, poll)
    given, train_rows = torch.from_numpy(labels.given), torch.from_numpy(labels.train)
    probability = state.method.clean_probability(TrainingSet(lambda: logits, given, train_rows))
    line["reported"] = reported = next(iter(logits))
    if not job.group.leads:
        done = ""
    elif job.pipeline.synthetic:
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
    job.folder.append(line)
    job.say(done)
    final: dict[str, Any] = job.group.from_first(lambda: line)  # which only rank 0 has whole
    return final
