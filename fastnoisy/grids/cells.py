"""Training one cell of a grid in a process of its own, wherever that is: skipped when finished, resumed when begun."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastnoisy.errors import FastnoisyError
from fastnoisy.grids.grid import Cell

_LOOK = 0.2  # seconds
_TOLD_EVERY = 30.0
_PATIENCE = 600.0  # for a run that was asked to stop to write its checkpoint
# It ends, with a checkpoint, when this process does, which need not have the time to say so.
_START = """
import signal, sys
from fastnoisy import signals, workers
signals.quiet()
workers.end_with(int(sys.argv.pop(1)), signal.SIGTERM)
from fastnoisy import cli
cli.main()
"""
_AT_WORK = "is at work in"  # of RunFolder's error


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        name: the cell's.
        state: `found` finished, `trained`, `stopped` or `failed`.
        seconds: that it took now.
        problem: of one that failed, its last line.
    """

    name: str
    state: str
    seconds: float = 0.0
    problem: str = ""


def is_finished(folder: Path) -> bool:
    """Whether a run has ended."""
    from fastnoisy.training.run_folder import RunFolder

    lines, _ = RunFolder(folder).metrics.read()
    return bool(lines) and lines[-1].get("event") == "final"


def check(folder: Path, cell: Cell, store: str) -> None:
    """That a cell's folder, where there is one, holds the run that the cell stands for.

    Raises:
        FastnoisyError: the cell's words are wrong, or the folder holds a run of other values.
    """
    from fastnoisy.training import setup
    from fastnoisy.training.run_folder import RunFolder

    settings = setup.resolve(cell.recipe, cell.words, store)
    differs = RunFolder(folder).begun_otherwise(settings)
    if differs:
        listed = ", ".join(f"{key} {there!r} instead of {here!r}" for key, (here, there) in differs.items())
        raise FastnoisyError(f"{folder} was begun with {listed}", "Remove it, or name another folder with --out")


def train(
    folder: Path,
    cell: Cell,
    store: str,
    environment: Mapping[str, str] | None = None,
    stopped: Callable[[], bool] = lambda: False,
    say: Callable[[str], object] = lambda line: None,
) -> Outcome:
    """Train a cell, go on with it, or find it finished. A cell that another process has at work is waited for.

    Args:
        environment: what its process is told beside this one's environment.
        stopped: asked now and then; where it is true the run writes a checkpoint and ends.
        say: told how far it is now and then.
    """
    began, log = time.monotonic(), folder.with_name(f"{folder.name}.log")
    if is_finished(folder):
        return Outcome(cell.name, "found")
    while True:
        if is_finished(folder):  # by the process that had it at work
            return Outcome(cell.name, "trained", time.monotonic() - began)
        if stopped():
            return Outcome(cell.name, "stopped", time.monotonic() - began)
        code = _run(_command(folder, cell, store), log, {**os.environ, **(environment or {})}, folder, stopped, say)
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        if code == 0:
            log.unlink(missing_ok=True)
            return Outcome(cell.name, "trained", time.monotonic() - began)
        if stopped():
            return Outcome(cell.name, "stopped", time.monotonic() - began)
        if not any(_AT_WORK in line for line in said):
            last = said[-1].removeprefix("error: ") if said else f"its process ended with {code}"
            return Outcome(cell.name, "failed", time.monotonic() - began, f"{last} ({log})")
        say(f"{cell.name}: another process is at work on it")
        time.sleep(10 * _LOOK)


def _command(folder: Path, cell: Cell, store: str) -> list[str]:
    own = [sys.executable, "-c", _START, str(os.getpid()), "train", "--quiet"]
    if (folder / "config.toml").is_file():
        return [*own, "--resume", str(folder), *(["--data", store] if store else [])]
    return [*own, cell.recipe, *cell.words, *(["--data", store] if store else []), "--out", str(folder)]


def _run(
    command: list[str], log: Path, environment: dict[str, str], folder: Path, stopped: Callable[[], bool],
    say: Callable[[str], object],
) -> int:  # fmt: skip
    """The exit code of a training's process, which ends with this one."""
    told, asked = time.monotonic(), 0.0
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, start_new_session=True
        )  # fmt: skip
    while process.poll() is None:
        time.sleep(_LOOK)
        now = time.monotonic()
        if stopped() and not asked:
            process.terminate()
            asked = now
        elif asked and now - asked > _PATIENCE:
            process.kill()
        if now - told > _TOLD_EVERY:
            told = now
            metrics = folder / "metrics.jsonl"
            epochs = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
            say(f"{folder.name}: {epochs} epochs done")
    return process.returncode
