"""What a run says: metrics.jsonl always, one line per epoch, a progress bar on a terminal."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fastnoisy.files import replacing


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
