"""What a run says while it works: events, how they are shown, and the words and times in them."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fastnoisy.errors import message
from fastnoisy.workers import Status


@dataclass(frozen=True)
class Event:
    """What a run says of itself while it works. Its text, `str(event)`, is what a person reads.

    Attributes:
        kind: `note`, a line about the run; `step`, `done` of `total` steps of a pass are done; `epoch`, an epoch has
            ended and `metrics` is its line of metrics.jsonl.
        text: for people, without `done` and `total`.
        unit: what is counted.
    """

    kind: Literal["note", "step", "epoch"]
    text: str
    done: int = 0
    total: int = 0
    metrics: Mapping[str, Any] | None = None
    unit: str = "steps"

    def __str__(self) -> str:
        text = f"{self.text}: {self.done:,} of {self.total:,} {self.unit}" if self.kind == "step" else self.text
        return message(text)


Observer = Callable[[Event], None]


def notes(observe: Observer) -> Callable[[str], None]:
    """What tells an observer lines."""
    return lambda line: observe(Event("note", line))


def feature_steps(observe: Observer) -> Callable[[Status], None]:
    """What tells an observer how many images' features there are."""
    return lambda status: observe(
        Event("step", "features of the training images", status.done, status.total, unit="images")
    )


def warn(line: str) -> None:
    """Give a line as a Python warning: where nobody listens, what is odd must not go unsaid."""
    warnings.warn(message(line), stacklevel=3)


def warn_of_notes(event: Event) -> None:
    """An observer that shows notes and warnings, as Python's, and nothing else."""
    if event.kind == "note" and event.text.startswith(("note:", "warning:")):
        warn(event.text)


class Display:
    """Shows events on standard error: lines, and the steps as a bar on a terminal or as a line now and then elsewhere.

    Use it as a context manager, and call it with each event.

    Args:
        quiet: show nothing.
        every: seconds between lines about steps where there is no terminal.
    """

    def __init__(self, quiet: bool = False, every: float = 30.0) -> None:
        self.console = Console(file=sys.stderr, soft_wrap=True, quiet=quiet, highlight=False)
        self.every = every
        self._told = time.monotonic()
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True)
            self._task = self._bar.add_task("", total=1, visible=False)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, event: Event) -> None:
        """Show an event."""
        now = time.monotonic()
        if event.kind != "step":
            self._told = now
            self.console.print(str(event), markup=False)
        elif self._bar is not None:
            self._bar.update(self._task, visible=True, description=event.text, completed=event.done, total=event.total)
        elif now - self._told >= self.every:
            self._told = now
            self.console.print(str(event), markup=False)


class Stopwatch:
    """Wall-clock of an epoch: all of it, and the part spent waiting for data."""

    def __init__(self) -> None:
        self.start, self.waited, self.images = time.perf_counter(), 0.0, 0

    def summary(self) -> dict[str, float]:
        """`seconds`, `img_per_s` and `wait_share` (0 to 1) since the start."""
        seconds = time.perf_counter() - self.start
        return {
            "seconds": seconds,
            "img_per_s": self.images / seconds if seconds else math.nan,
            "wait_share": self.waited / seconds if seconds else math.nan,
        }


def duration(seconds: float) -> str:
    """A time a person reads: `42s`, `3m10s`, `2h05m`."""
    s = round(seconds)
    if s < 60:
        return f"{s}s"
    return f"{s // 60}m{s % 60:02d}s" if s < 3600 else f"{s // 3600}h{s % 3600 // 60:02d}m"


def epoch_line(line: dict[str, Any], epochs: int, remaining: float) -> str:
    """An epoch's line of metrics.jsonl in words; `remaining` is in seconds."""
    train, timing = line["train"], line["time"]
    parts = [f"epoch {line['epoch'] + 1}/{epochs}", f"loss {train['loss']:.4f}", f"given {train['accuracy_given']:.1%}"]
    if "memorised" in train:
        parts.append(f"memorised {train['memorised']:.1%}")
    for name, predictors in line.get("eval", {}).items():
        parts += [f"{name} {p} {numbers['accuracy']:.2%}" for p, numbers in predictors.items()]
    if "selected" in line:
        parts.append(f"best epoch on {line['selected']['by']} so far: {line['selected']['epoch'] + 1}")
    parts.append(f"{timing['img_per_s']:,.0f} img/s, waiting {timing['wait_share']:.0%}")
    parts += [f"lr {line['lr']:g}", f"ETA {duration(remaining)}"]
    return "  ".join(parts)
