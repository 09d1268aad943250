"""A run's folder: the one owner of its paths, its lock, every write and every read.

    config.toml     the resolved configuration; its presence says that the folder holds a run
    labels.npz      the labels trained on, and what they were drawn for
    metrics.jsonl   a line per epoch, and a final one
    checkpoints/    the newest, and `best` where the run selects an epoch
    issues.csv      the training labels, most suspect first; when the run has ended

What is read back is checked: a file that is damaged is refused or set aside with a line, never taken in silence.
Nothing that is not of a run is moved or deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from fastnoisy import config
from fastnoisy.data.store import Split
from fastnoisy.distributed import Group
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import FileLock, HeldError, free_name, replacing
from fastnoisy.training import checkpoint, setup
from fastnoisy.training.checkpoint import Checkpoint, Origin
from fastnoisy.training.labels import Labels, read_labels, write_labels
from fastnoisy.training.metrics import MetricsFile
from fastnoisy.training.settings import Settings
from fastnoisy.training.state import Position, TrainState

Say = Callable[[str], None]


class RunFolder:
    """See the module. Nothing is touched until a method is called.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path, self.labels_path = path / "config.toml", path / "labels.npz"
        self.issues_path, self.checkpoints = path / "issues.csv", path / "checkpoints"
        self.metrics = MetricsFile(path / "metrics.jsonl")

    # -- whose it is --------------------------------------------------------------------------------------------------

    def require(self) -> None:
        """Raise FastnoisyError where the folder holds no run."""
        if not self.config_path.is_file():
            raise FastnoisyError(f"{self.path} holds no run: config.toml is missing", "Name the folder given to --out")

    def refuse_existing(self) -> None:
        """Raise FastnoisyError where a new run cannot be made: a run or a part of one is there, or no folder."""
        if self.config_path.exists():
            raise FastnoisyError(
                f"{self.path} already holds a run",
                f"Go on with it by 'fastnoisy train --resume {self.path}', or name another folder",
            )
        if self.path.exists() and not self.path.is_dir():
            raise FastnoisyError(f"{self.path} is a file, not a folder", "Name a folder with --out")
        left = [p.name for p in (self.labels_path, self.metrics.path, self.issues_path) if p.exists()]
        left += ["checkpoints"] if self.checkpoints.is_dir() and any(self.checkpoints.iterdir()) else []
        if left:  # trained on, a new run would go on from another one's weights
            raise FastnoisyError(
                f"{self.path} holds what is left of another run ({', '.join(left)}) without its config.toml",
                "Remove the folder, or name another one",
            )

    @contextmanager
    def new(self, say: Say) -> Iterator[None]:
        """Make the folder and hold its lock. Where the block raises before anything was trained, nothing stays behind.

        Raises:
            FastnoisyError: it holds a run or cannot be written to.
        """
        made = [p for p in (self.path, *self.path.parents) if not p.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        try:
            with self.locked(say):
                self.refuse_existing()  # made meanwhile by another process
                try:
                    yield
                except BaseException:
                    if not checkpoint.listing(self.checkpoints) and not self.metrics.path.exists():
                        self.config_path.unlink(missing_ok=True)
                        self.labels_path.unlink(missing_ok=True)
                        with suppress(OSError):
                            self.checkpoints.rmdir()
                    raise
        except BaseException:
            for folder in made:
                with suppress(OSError):  # it holds the run by now, or something of the user's
                    folder.rmdir()
            raise

    @contextmanager
    def locked(self, say: Say) -> Iterator[None]:
        """One process at a time works in the folder; the lock goes with the process, however it ends.

        Args:
            say: told where the file system has no locks; the run goes on, for better unguarded than not at all.

        Raises:
            FastnoisyError: another process holds the lock, or the folder cannot be written to.
        """
        try:
            lock = FileLock(self.path / ".lock", temporary=True)
        except HeldError as held:
            by = f" ({held.holder})" if held.holder else ""
            raise FastnoisyError(f"another process{by} is at work in {self.path}", "Wait for it or stop it") from None
        except OSError as error:
            raise self._not_writable(error) from error
        with lock:
            if lock.problem:
                say(f"note: {self.path} cannot be locked ({lock.problem}); see that no other process works in it")
            yield

    def _not_writable(self, error: OSError) -> FastnoisyError:
        return FastnoisyError(
            f"{self.path} cannot be written to: {error.strerror}", "Name a folder that can be written to with --out"
        )

    # -- the configuration --------------------------------------------------------------------------------------------

    def write_config(self, settings: Settings) -> None:
        """Write config.toml, whole or not at all."""
        with replacing(self.config_path, durable=True) as partial:
            partial.write_text(config.to_toml(settings.config.model_dump()), encoding="utf-8")

    def read_config(
        self, began: Mapping[str, Any] | None, say: Say, words: Sequence[str] = (), store: str = ""
    ) -> Settings:
        """The run's configuration: that of config.toml with overrides.

        Args:
            began: what was trained under, of the newest checkpoint or else of the labels: a config.toml that says
                otherwise was edited by hand, which counts as overrides do. None: nothing was trained.
            say: told what was edited.
            words: `key=value` overrides.
            store: what --data named.

        Raises:
            FastnoisyError: no run, or something that cannot change in a run that goes on.
        """
        self.require()
        written = setup.check(config.read_toml(self.config_path))
        overrides = config.merge(config.parse_overrides(words), {"data": {"store": store}} if store else {})
        for key in config.flatten(overrides):
            if not config.may_change(key):
                raise FastnoisyError(
                    f"{key} cannot change in a run that goes on; what can: {', '.join(config.changeable())}",
                    f"For another {key} start a new run, for example: fastnoisy train {self.config_path} {key}=... "
                    "--out NEW",
                )
        if began is not None:
            edited = config.changed(setup.check(began).config, written.config)
            for key, (old, new) in edited.items():
                if not config.may_change(key):
                    raise FastnoisyError(
                        f"{self.config_path} was edited: {key} is {new!r}, the run was trained with {old!r}, and that "
                        "cannot change in a run that goes on",
                        f"Write {key} = {old!r} again, or start a new run",
                    )
            if edited:
                listed = ", ".join(f"{key} {old!r} -> {new!r}" for key, (old, new) in edited.items())
                say(f"note: {self.config_path} has changed since the last checkpoint: {listed}")
        return setup.check(config.merge(written.config.model_dump(), overrides)) if overrides else written

    def begun_otherwise(self, settings: Settings) -> dict[str, tuple[Any, Any]]:
        """By which values the run in the folder is another one than these settings': dotted key -> (asked for, there);
        empty where it is the same, or there is none. What may change and what a start fills in are no differences.
        """
        if not self.config_path.is_file():
            return {}
        written = setup.check(config.read_toml(self.config_path)).config
        found = config.changed(settings.config, written)
        return {key: pair for key, pair in found.items() if not config.may_change(key) and pair[0] is not None}

    # -- labels -------------------------------------------------------------------------------------------------------

    def write_labels(self, labels: Labels, settings: Settings, split: Split) -> None:
        """Write labels.npz, with the configuration that the run begins with."""
        write_labels(self.labels_path, labels, settings.config.model_dump(), split)

    def read_labels(self) -> Labels:
        """The labels trained on, checked; see `labels.read_labels`."""
        return read_labels(self.labels_path)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is one, were it damaged."""
        return bool(checkpoint.listing(self.checkpoints))

    def newest(self, say: Say) -> Checkpoint:
        """The newest whole checkpoint; see `checkpoint.load_newest`."""
        return checkpoint.load_newest(self.checkpoints, say)

    def best(self) -> Checkpoint | None:
        """The checkpoint of the chosen epoch; None where there is none that is whole."""
        try:
            return checkpoint.load(self.checkpoints / checkpoint.BEST)
        except FastnoisyError:
            return None

    def reported(self, newest: Checkpoint) -> Checkpoint:
        """The checkpoint whose numbers a run reports: the newest, or where the run selects an epoch the best so far.

        Raises:
            FastnoisyError: the best one is damaged.
        """
        if newest.origin.config["select"] and (self.checkpoints / checkpoint.BEST).is_dir():
            return checkpoint.load(self.checkpoints / checkpoint.BEST)
        return newest

    def set_aside_after(self, found: Checkpoint, say: Say) -> None:
        """Give damaged checkpoints that are newer than the one gone on from another name; they are not deleted."""
        listed = checkpoint.listing(self.checkpoints)
        for path in listed[listed.index(found.path) + 1 :]:
            aside = free_name(path.with_name(f"{path.name}.damaged"))
            path.rename(aside)
            say(f"the damaged checkpoint {path.name} is kept as {aside.name}")

    def save(
        self, taken: Mapping[str, Any], primary: str, metadata: dict[str, str], origin: Origin, device: torch.device,
        keep: int,
    ) -> None:  # fmt: skip
        """Write the checkpoint of a snapshot and remove all but the newest `keep`.

        Args:
            taken: a `TrainState.snapshot`.
            primary: of `checkpoint.prefix`.

        Raises:
            FastnoisyError: the disk refuses; older checkpoints stay then.
        """
        checkpoint.write(self.checkpoints / name_of(taken), taken, primary, metadata, origin, device)
        checkpoint.sweep(self.checkpoints)
        for old in checkpoint.listing(self.checkpoints)[:-keep]:
            shutil.rmtree(old, ignore_errors=True)

    def save_best(
        self, taken: Mapping[str, Any], primary: str, metadata: dict[str, str], origin: Origin, device: torch.device
    ) -> None:
        """Write the chosen epoch's weights and memories, for evaluation; training goes on from the numbered
        checkpoints.
        """
        kept = {name: taken[name] for name in ("method", "selection", "position")}
        checkpoint.write(self.checkpoints / checkpoint.BEST, kept, primary, metadata, origin, device)

    def append(self, line: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        self.metrics.append(line)

    def rewind(self, mark: dict[str, Any] | None, epoch: int, say: Say) -> None:
        """Drop what a run that goes on writes again; see `MetricsFile.rewind`."""
        self.metrics.rewind(mark, epoch, say)

    def sweep(self) -> None:
        """Remove what an interrupted write of a checkpoint left behind."""
        checkpoint.sweep(self.checkpoints)

    def refuse_bad_weights(self, state: TrainState, taken: Mapping[str, Any]) -> None:
        """Raise FastnoisyError where weights of a snapshot are not finite."""
        trained = [name for name, _ in state.method.named_parameters()]
        if not all(bool(taken["method"][name].isfinite().all()) for name in trained):
            last = next(reversed(checkpoint.listing(self.checkpoints)), "none")
            raise FastnoisyError(
                f"the weights became NaN or infinite in epoch {state.position.epoch}",
                f"Lower optim.lr; the last good checkpoint is {last}",
            )


def name_of(taken: Mapping[str, Any]) -> str:
    """The name of a snapshot's checkpoint."""
    return Position(**taken["position"]).name


class SeenFolder(RunFolder):
    """A run's folder as ranks other than the first have it: they read it, if they can see it, and write nothing."""

    def require(self) -> None:
        """The first rank looks."""

    def refuse_existing(self) -> None:
        """The first rank looks."""

    @contextmanager
    def new(self, say: Say) -> Iterator[None]:
        """The first rank makes it."""
        yield

    @contextmanager
    def locked(self, say: Say) -> Iterator[None]:
        """The first rank holds the lock."""
        yield

    def write_config(self, settings: Settings) -> None:
        """The first rank writes."""

    def write_labels(self, labels: Labels, settings: Settings, split: Split) -> None:
        """The first rank writes."""

    def set_aside_after(self, found: Checkpoint, say: Say) -> None:
        """The first rank renames."""

    def append(self, line: dict[str, Any]) -> None:
        """The first rank writes."""

    def rewind(self, mark: dict[str, Any] | None, epoch: int, say: Say) -> None:
        """The first rank writes."""

    def sweep(self) -> None:
        """The first rank removes."""


def run_folder(path: Path, group: Group) -> RunFolder:
    """The folder as a rank may use it."""
    return RunFolder(path) if group.leads else SeenFolder(path)
