"""What a run says: metrics.jsonl always, one line per epoch, a progress bar on a terminal."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from fastnoisy.errors import FastnoisyError
from fastnoisy.files import replacing
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


class MetricsFile:
    """metrics.jsonl: one JSON object per epoch; timing sits under `time`, so that the rest can be compared exactly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """All complete lines; a line cut off by a crash is dropped."""
        lines = []
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return lines

    def rewind(self, epoch: int) -> None:
        """Drop what was written for `epoch` and later ones, and any final line: a resumed run writes it again."""
        kept = [line for line in self.read() if "epoch" in line and line["epoch"] < epoch]
        with replacing(self.path) as partial:
            partial.write_text("".join(_json(line) for line in kept))

    def append(self, line: dict[str, Any]) -> None:
        """Write one object and flush it."""
        with self.path.open("a") as file:
            file.write(_json(line))


def _json(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"


class Display:
    """Lines on standard error, and under them a bar on a terminal. Use as a context manager."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(file=sys.stderr, soft_wrap=True, quiet=quiet, highlight=False)
        self.bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
            self.bar = Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True)
            self.bar.start()
            self._task = self.bar.add_task("", total=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def line(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False)

    def step(self, description: str, done: int, total: int) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(self._task, description=description, completed=done, total=total)


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
