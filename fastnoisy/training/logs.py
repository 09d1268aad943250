"""What a run says while it works: events, how they are shown, and the words and times in them."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Record


class Meter:
    """Sums over an epoch, kept on the device so that a step never waits for them.

    It holds the clean labels, where they are known: they serve these numbers and reach no method.

    Args:
        clean: int64 (N,) on the device, or None.
    """

    def __init__(self, clean: Tensor | None, device: torch.device) -> None:
        self.clean, self.device = clean, device
        self.reset()

    def reset(self) -> None:
        """Start an epoch."""
        names = ("loss", "steps", "samples", "right_given", "right_clean", "wrong", "memorised")
        self.sums: dict[str, Tensor] = {n: torch.zeros((), dtype=torch.float64, device=self.device) for n in names}
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=self.device)

    @torch.no_grad()
    def observe(self, record: Record, share: float, step: Tensor) -> None:
        """Add one micro-batch; `share` is its part of the global batch, `step` the 0-dimensional step in the epoch."""
        loss = record.loss.detach().double()
        self.bad_step = torch.where((self.bad_step < 0) & ~loss.isfinite(), step, self.bad_step)
        self._add("loss", loss * share)
        self._add("steps", torch.full_like(loss, share))
        for name, value in record.logs.items():
            self._add(f"log/{name}", value.detach().double() * share)
        for forward in record.forwards:
            predicted = forward.logits.detach().argmax(dim=1)
            given_right = predicted == forward.labels
            self._add("samples", torch.full_like(loss, len(predicted)))
            self._add("right_given", given_right.sum())
            if self.clean is not None:
                clean = self.clean.index_select(0, forward.indices)
                wrong = clean != forward.labels
                self._add("right_clean", (predicted == clean).sum())
                self._add("wrong", wrong.sum())
                self._add("memorised", (wrong & given_right).sum())

    def _add(self, name: str, value: Tensor) -> None:
        total = self.sums.get(name)
        self.sums[name] = value.double() if total is None else total + value

    def summary(self) -> dict[str, float]:
        """Means of the epoch so far, as plain numbers (this waits for the device)."""
        s = {name: value.item() for name, value in self.sums.items()}
        result = {"loss": s["loss"] / max(s["steps"], 1e-12), "accuracy_given": s["right_given"] / max(s["samples"], 1)}
        if self.clean is not None:
            result["accuracy_clean"] = s["right_clean"] / max(s["samples"], 1)
            if s["wrong"]:
                result["memorised"] = s["memorised"] / s["wrong"]
        for name, value in s.items():
            if name.startswith("log/"):
                result[name.removeprefix("log/")] = value / max(s["steps"], 1e-12)
        return result

    def check_finite(self, epoch: int, steps: int, last_checkpoint: str) -> None:
        """Stop the run where the loss became NaN or infinite (this waits for the device).

        Raises:
            FastnoisyError: names epoch, step and the last good checkpoint.
        """
        bad = int(self.bad_step.item())
        if bad >= 0:
            raise FastnoisyError(
                f"the loss became NaN or infinite at epoch {epoch}, step {bad} of {steps}",
                f"Lower optim.lr or switch amp off; the last good checkpoint is {last_checkpoint or 'none'}",
            )

    def state(self) -> dict[str, Tensor]:
        """The sums, for a checkpoint."""
        return {**self.sums, "bad_step": self.bad_step}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from `state()`."""
        self.reset()
        for name, value in state.items():
            if name == "bad_step":
                self.bad_step = value.to(self.device)
            else:
                self.sums[name] = value.to(self.device)


@dataclass(frozen=True)
class Event:
    """What a run says of itself while it works. Its text, `str(event)`, is what a person reads.

    Attributes:
        kind: `note`, a line about the run; `step`, `done` of `total` steps of a pass are done; `epoch`, an epoch has ended
            and `metrics` is its line of metrics.jsonl.
        text: for people, without `done` and `total`.
    """

    kind: Literal["note", "step", "epoch"]
    text: str
    done: int = 0
    total: int = 0
    metrics: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.text}: {self.done:,} of {self.total:,} steps" if self.kind == "step" else self.text


Observer = Callable[[Event], None]


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
