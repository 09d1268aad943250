"""The training loop, to be read top to bottom.

`start` makes a run folder and trains; `resume` goes on where a run folder's newest whole checkpoint stands. Both end with
an evaluation of the training set and `issues.csv`. Which sample is trained when, and what its views look like, are pure
functions of the configuration, so a resumed run needs a position and no generator's state.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastnoisy import config, machine, pipelines
from fastnoisy.batch import Batch
from fastnoisy.config import Config
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Pass, Progress, TrainingSet
from fastnoisy.order import Population, batches, num_batches
from fastnoisy.training import checkpoint, evaluate, folder, issues, optim, preflight, setup, summary
from fastnoisy.training.checkpoint import Position
from fastnoisy.training.labels import training_population
from fastnoisy.training.logs import Display, Meter, MetricsFile, Stopwatch, epoch_line
from fastnoisy.training.selection import Selection
from fastnoisy.training.step import Stepper


class Interrupted(Exception):  # noqa: N818, it is no error
    """The run was asked to stop; its state is on disk. `signal_number` says by what."""

    def __init__(self, signal_number: int, path: Path) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number, self.path = signal_number, path


def start(settings: Config, out: Path, quiet: bool = False) -> dict[str, Any]:
    """Train a configuration into a new run folder; returns the final line of metrics.jsonl.

    Raises:
        FastnoisyError: bad data, nothing that fits, a folder that already holds a run, a loss that is not finite.
        Interrupted: by SIGINT or SIGTERM; a checkpoint was written.
    """
    folder.refuse_existing(out)
    prepared = setup.prepare(settings)
    trainer = Trainer(prepared, out, quiet)
    folder.make(out)
    try:
        with folder.lock(out, trainer.display.line):
            folder.refuse_existing(out)  # made meanwhile by another process
            with trainer.opened():  # what cannot fit or be opened is refused before anything is written
                prepared.labels.save(out / "labels.npz", settings.noise, prepared.split)
                folder.write_config(out, settings)
                return trainer.run()
    except BaseException:
        with contextlib.suppress(OSError):  # it holds the run by now, or something of the user's
            out.rmdir()
        raise


def resume(out: Path, words: list[str] | None = None, quiet: bool = False, store: str = "") -> dict[str, Any]:
    """Go on with a run from its newest whole checkpoint.

    Args:
        words: overrides of what may change in a run that goes on (see `_MAY_CHANGE`); they are kept in its config.toml.

    Raises:
        FastnoisyError: no run or no whole checkpoint there, a configuration that does not fit it, or another process
            that is at work in the folder.
    """
    if not (out / "config.toml").is_file():
        raise FastnoisyError(f"{out} holds no run: config.toml is missing", "Name the folder given to --out")
    overrides = config.merge(config.parse_overrides(words or []), {"data": {"store": store}} if store else {})
    for key in config.flat_keys(overrides):
        if not key.startswith(_MAY_CHANGE):
            raise FastnoisyError(
                f"{key} cannot change in a run that goes on; what can: {', '.join(_MAY_CHANGE)}",
                f"For another {key} start a new run, for example: fastnoisy train {out}/config.toml {key}=... --out NEW",
            )
    settings = setup.check(config.merge(config.read_toml(out / "config.toml"), overrides))
    with folder.lock(out, Display(quiet).line):
        begun = bool(checkpoint.listing(out / "checkpoints"))
        trainer = Trainer(setup.prepare(settings, out / "labels.npz", restored=begun), out, quiet)
        if begun:
            trainer.restore(checkpoint.load_newest(out / "checkpoints", trainer.display.line))
        else:
            trainer.display.line("no checkpoint yet: the run starts from its beginning")
        with trainer.opened():  # before anything of the run is changed
            trainer.metrics.rewind(trainer.position.epoch)
            folder.write_config(out, settings)
            return trainer.run()


# Beginnings of keys that neither change shapes nor which sample is seen when.
_MAY_CHANGE = (
    "epochs", "optim.", "checkpoint.", "eval.", "eval_every", "log_every", "data.store", "data.stage", "data.workers",
    "pipeline", "data.hw_decoder_load",
    "device", "threads", "compile", "channels_last", "amp",
)  # fmt: skip


class Trainer:
    """One run in one process."""

    def __init__(self, prepared: setup.Setup, out: Path, quiet: bool = False) -> None:
        self.setup, self.config, self.device, self.out = prepared, prepared.config, prepared.device, out
        self.method, self.labels = prepared.method, prepared.labels
        self.display = Display(quiet)
        self.metrics = MetricsFile(out / "metrics.jsonl")
        self.position = Position()
        self.selection = Selection(self.config.select)
        clean = prepared.labels.clean
        self.meter = Meter(None if clean is None else torch.from_numpy(clean).to(self.device), self.device)
        self.progress = Progress.start(self.config.epochs, self.device)
        self.optimizer = optim.build(self.method, self.config.optim, self.device)
        self.stepper = Stepper(
            self.method, self.optimizer, prepared.views, self.config, self.device,
            lambda record, share: self.meter.observe(record, share, self.progress.step),
        )  # fmt: skip
        self.stop_signal = 0
        self.saved = ""
        self.saved_position: Position | None = None
        self.pipeline_name, self._why, self._needs = "", "", [""]
        self._held = contextlib.ExitStack()

    # -- the run ------------------------------------------------------------------------------------------------------

    def preflight(self) -> None:
        """Choose the pipeline and refuse what cannot fit, before anything is written."""
        free = machine.available_device(self.device)
        splits = [self.setup.split, *(item.split for item in self.setup.eval_sets)]
        self.pipeline_name, self._why = pipelines.choose(self.config.pipeline, splits, self.device, free)
        self._needs = preflight.check(self.setup, self.pipeline_name, self.out)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Choose the pipeline, introduce the run and hold its data open; what is wrong with them is raised on entering."""
        self.preflight()
        self.introduce()
        try:
            self.open_pipelines()
            yield
        finally:
            self.close_pipelines()

    def run(self) -> dict[str, Any]:
        """Train from the current position to the end, then evaluate and audit; to be called within `opened`."""
        checkpoint.sweep(self.out / "checkpoints")
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            with self.display:
                started, first = time.perf_counter(), self.position.epoch
                for epoch in range(self.position.epoch, self.config.epochs):
                    self._epoch(epoch, started, first)
                return self._finish()
        except FastnoisyError:
            self._stop_if_asked()  # a signal to the whole process group has ended the pipeline's processes, too
            raise
        except torch.OutOfMemoryError as error:
            raise FastnoisyError(
                f"the GPU's memory ran out in epoch {self.position.epoch}, step {self.position.step}",
                f"Go on with 'fastnoisy train --resume {self.out}' on a larger GPU, or start anew with accumulate="
                f"{2 * self.config.accumulate}, which keeps the global batch",
            ) from error
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def open_pipelines(self) -> None:
        """Open the chosen pipeline on the training split and on every evaluation set."""
        name = self.pipeline_name
        workers = pipelines.worker_count(name, self.config.data.workers)
        options = {"hw_decoder_load": self.config.data.hw_decoder_load}

        def hold(split: Split, labels: np.ndarray) -> pipelines.Pipeline:
            return self._held.enter_context(
                pipelines.open_pipeline(name, split, labels, self.device, workers, **options)
            )

        self.pipeline = hold(self.setup.split, self.labels.given)
        self.eval_pipelines = {i.name: hold(i.split, _eval_labels(i.split)) for i in self.setup.eval_sets}

    def close_pipelines(self) -> None:
        """Close what `open_pipelines` opened, were it but a part."""
        self._held.close()

    def introduce(self) -> None:
        """Say what will be trained on what."""
        for line in summary.lines(self.setup, self.pipeline_name, self._why, self._needs):
            self.display.line(line)

    # -- an epoch -----------------------------------------------------------------------------------------------------

    def _epoch(self, epoch: int, started: float, first: int) -> None:
        fresh = self.position == Position(epoch)
        self.setup.populations["train"] = training_population(self.config, self.labels, epoch)
        if fresh:
            self.meter.reset()
            self._populations(epoch)
        lr = self.config.optim.lr * self.config.optim.factor(epoch)
        optim.set_lr(self.optimizer, lr)
        self.method.train()
        watch = Stopwatch()
        for number in range(self.position.pass_number, len(self.method.plan(epoch))):
            self._pass(epoch, number, watch)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        timing = watch.summary()
        self.meter.check_finite(epoch, self.position.step, self.saved)
        line: dict[str, Any] = {"epoch": epoch, "lr": lr, "train": self.meter.summary()}
        last, best = epoch + 1 == self.config.epochs, False
        if last or (epoch + 1) % self.config.eval_every == 0:
            line["eval"] = self._evaluate()
            best = self.selection.observe(epoch, line["eval"])
        if self.selection.name:
            line["selected"] = self.selection.state()
        line["time"] = timing
        self.metrics.append(line)  # before the checkpoint: a resumed run drops lines that its checkpoint does not cover
        self.position = Position(epoch + 1)
        if last or best or (epoch + 1) % self.config.checkpoint.every == 0:
            self._save()
        if best:
            self._save_best(self.position)
        remaining = (time.perf_counter() - started) / (epoch + 1 - first) * (self.config.epochs - epoch - 1)
        self.display.line(epoch_line(line, self.config.epochs, remaining))
        self._stop_if_asked()

    def _pass(self, epoch: int, number: int, watch: Stopwatch) -> None:
        plan = self.method.plan(epoch)
        spec = plan[number]
        self.method.train()
        self.method.before_pass(spec.name)
        done = self.position.step
        total = self.steps(spec)
        supply = self.supply(spec, epoch, done)
        for step in range(done, total):
            before = time.perf_counter()
            try:
                given = next(supply)
            except FastnoisyError:
                self._keep()
                raise
            watch.waited += time.perf_counter() - before
            self.progress.move(epoch, step, total)
            self.stepper(given, self.progress, epoch)
            watch.images += sum(len(batch.indices) for batch in given.values())
            self.position = Position(epoch, number, step + 1)
            if (step + 1) % self.config.log_every == 0 or self.device.type == "cpu":
                self.meter.check_finite(epoch, total, self.saved)
                self.display.step(f"epoch {epoch + 1}/{self.config.epochs}", step + 1, total)
            if step + 1 < total:
                self._stop_if_asked()
        self.position = Position(epoch, number + 1) if number + 1 < len(plan) else self.position

    def steps(self, spec: Pass) -> int:
        """How many steps a pass takes."""
        return num_batches(len(self._population(spec.streams[0])), *self._cut(spec))

    def supply(self, spec: Pass, epoch: int, done: int) -> Iterator[dict[str, Batch]]:
        """One batch of each of the pass's streams per step, from step `done` on."""
        size, drop = self._cut(spec)
        needed = self.steps(spec) * size
        rows = {name: self._rows(name, epoch, needed, size, lead=name == spec.streams[0]) for name in spec.streams}
        iterators = {name: self.pipeline.iterate(batches(r, size, drop, done)) for name, r in rows.items()}
        while True:
            try:
                yield {name: next(iterator) for name, iterator in iterators.items()}
            except StopIteration:
                return

    def _cut(self, spec: Pass) -> tuple[int, bool]:
        """A pass's batch size, and whether a last batch that is not full is left out."""
        drop = self.config.drop_last if spec.drop_last is None else spec.drop_last
        return self.config.batch_size * spec.batch_factor, drop

    def _population(self, stream: str) -> Population:
        """What a stream runs over; a selection that no epoch has made yet (a dry run's) counts as the whole training part."""
        populations = self.setup.populations
        return populations.get(self.method.streams[stream].population, populations["train"])

    def _rows(self, stream: str, epoch: int, needed: int, size: int, lead: bool) -> np.ndarray:
        """The rows a stream visits in an epoch; a stream that is not the first of its pass starts over when it ends."""
        population = self._population(stream)
        rows = self.setup.order(population, stream, epoch)
        if lead:
            return rows
        whole = len(rows) // size * size or len(rows)  # no batch lies across two rounds: it could hold a sample twice
        rounds = [rows[:whole]]
        while len(rounds) * whole < needed:
            rounds.append(self.setup.order(population, f"{stream}/{len(rounds)}", epoch)[:whole])
        return np.concatenate(rounds)[:needed]

    def _populations(self, epoch: int) -> None:
        for name, rows in self.method.before_epoch(epoch, self._training_set()).items():
            self.setup.populations[name] = Population(name, np.sort(rows.numpy()))

    def _training_set(self) -> TrainingSet:
        """What this epoch trains on; with `data.draw` that is its draw alone."""
        rows = self.setup.populations["train"].indices
        given = torch.from_numpy(self.labels.given)
        return TrainingSet(lambda: self._predict_rows(rows), given, torch.from_numpy(rows))

    def _predict_rows(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Logits of some rows of the training split, (N, C) on the CPU; all others stay zero."""
        found = self._logits(self.pipeline, rows)
        result = {}
        for name, logits in found.items():
            result[name] = torch.zeros(self.setup.split.num_samples, logits.shape[1])
            result[name][torch.from_numpy(rows)] = logits
        return result

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def _logits(self, pipeline: pipelines.Pipeline, rows: np.ndarray) -> dict[str, Tensor]:
        return evaluate.collect_logits(
            self.method, pipeline, self.setup.eval_view, rows, self.config.batch_size, self._stop_if_asked
        )

    def _evaluate(self) -> dict[str, Any]:
        """Each evaluation set and the held-out part (against its noisy labels), by predictor."""
        sets = {name: (p, np.arange(p.split.num_samples)) for name, p in self.eval_pipelines.items()}
        if len(self.labels.holdout):
            sets["holdout"] = (self.pipeline, self.labels.holdout)
        result: dict[str, Any] = {}
        for name, (pipeline, rows) in sets.items():
            labels = pipeline.labels.cpu()[torch.from_numpy(rows)]
            logits = self._logits(pipeline, rows)
            result[name] = {predictor: evaluate.classification(z, labels) for predictor, z in logits.items()}
        return result

    def _finish(self) -> dict[str, Any]:
        """Evaluate the reported weights on the training set, write issues.csv (not of made-up pixels) and the final line.

        They are the last epoch's, or with `select` those of the epoch chosen.
        """
        line: dict[str, Any] = {"event": "final", "epochs": self.config.epochs}
        if self.selection.epoch >= 0:
            line["selected"] = self.selection.state()
            checkpoint.restore(self.method, checkpoint.load(self.out / "checkpoints" / checkpoint.BEST))
            self.display.line(f"reported is {self.selection}; every epoch's numbers are in metrics.jsonl")
        logits = self._predict_rows(np.sort(np.concatenate([self.labels.train, self.labels.holdout])))
        given, rows = torch.from_numpy(self.labels.given), torch.from_numpy(self.labels.train)
        probability = self.method.clean_probability(TrainingSet(lambda: logits, given, rows))
        reported, table = next(iter(logits)), self.out / "issues.csv"
        if self.pipeline.synthetic:
            done = f"done: {self.out}; nothing was learnt from the made-up pixels of pipeline={self.pipeline_name}"
        else:
            issues.write_issues(table, self.setup.split, self.labels, logits[reported], probability)
            done = f"done: {self.out}; most suspect labels first in {table}"
        line["reported"] = reported
        line["eval"] = self._evaluate()
        if self.labels.clean is not None:
            clean = torch.from_numpy(self.labels.clean)
            line["train"] = {
                name: evaluate.memorisation(z[rows].argmax(dim=1), given[rows], clean[rows])
                for name, z in logits.items()
            }
            line["suspects_found"] = evaluate.suspects_found(probability[rows], given[rows], clean[rows])
        self.metrics.append(line)
        self.display.line(done)
        return line

    # -- state --------------------------------------------------------------------------------------------------------

    def _save_best(self, position: Position) -> None:
        """The chosen epoch's weights and memories, for evaluation; training goes on from the numbered checkpoints."""
        path = self.out / "checkpoints" / checkpoint.BEST
        state = {"num_samples": self.setup.split.num_samples, "selection": self.selection.state()}
        metadata = setup.network_metadata(self.setup, self.method)
        checkpoint.write(path, position, self.method, metadata, state, self.device)

    def _save(self) -> Path:
        state = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.stepper.scaler.state_dict(),
            "meter": self.meter.state(),
            "num_samples": self.setup.split.num_samples,
            "selection": self.selection.state(),
            "populations": {k: torch.from_numpy(p.indices) for k, p in self.setup.populations.items() if k != "train"},
        }
        if not all(bool(p.isfinite().all()) for p in self.method.parameters()):
            raise FastnoisyError(
                f"the weights became NaN or infinite in epoch {self.position.epoch}",
                f"Lower optim.lr; the last good checkpoint is {self.saved or 'none'}",
            )
        metadata, keep = setup.network_metadata(self.setup, self.method), self.config.checkpoint.keep
        path = checkpoint.save(self.out / "checkpoints", self.position, self.method, metadata, state, self.device, keep)
        self.saved, self.saved_position = str(path), self.position
        return path

    def restore(self, found: checkpoint.Checkpoint) -> None:
        """Continue from a checkpoint: weights, memories, optimiser, sums of the epoch, position."""
        if found.position.epoch > self.config.epochs:
            raise FastnoisyError(
                f"{self.out} has already done {found.position.epoch} epochs, more than epochs={self.config.epochs}",
                "Name a larger number of epochs",
            )
        checkpoint.restore(self.method, found)
        optim.load(self.optimizer, found.state["optimizer"])
        if found.state["scaler"] and self.stepper.scaler.is_enabled():
            self.stepper.scaler.load_state_dict(found.state["scaler"])
        self.meter.load(found.state["meter"])
        for name, rows in found.state["populations"].items():
            self.setup.populations[name] = Population(name, rows.numpy())
        self.position, self.saved, self.saved_position = found.position, str(found.path), found.position
        self.selection.restore(found, self._save_best, self.display.line)
        at = f"epoch {found.position.epoch}, step {found.position.step}"
        self.display.line(f"resuming {self.out} at {at} ({found.path.name})")
        if warning := checkpoint.warn_if_other_machine(found, self.device):
            self.display.line(warning)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop_signal:  # asked twice: at once
            raise KeyboardInterrupt
        self.stop_signal = number
        print("stopping after this step ...", file=sys.stderr)

    def _keep(self) -> None:
        """Where the data fail, what was learnt so far is sound."""
        if self.stop_signal or self.position in (self.saved_position, Position(self.position.epoch)):
            return
        self.meter.check_finite(self.position.epoch, self.position.step, self.saved)
        self.display.line(f"state in {self._save()}; go on with 'fastnoisy train --resume {self.out}'")

    def _stop_if_asked(self) -> None:
        if not self.stop_signal:
            return
        self.meter.check_finite(self.position.epoch, self.position.step, self.saved)
        path = Path(self.saved) if self.position == self.saved_position else self._save()
        self.display.line(f"stopped; state in {path}; go on with 'fastnoisy train --resume {self.out}'")
        raise Interrupted(self.stop_signal, path)


def _eval_labels(split: Any) -> np.ndarray:
    """What an evaluation set is scored against: clean labels where known, else the given ones."""
    return split.given_labels if split.clean_labels is None else split.clean_labels
