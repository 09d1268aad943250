"""Stopping a run from outside: by a signal, where the command line asks for that, or by another thread."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class Interrupted(Exception):  # noqa: N818, it is no error
    """The run was asked to stop; its state is on disk. `signal_number` says by what, `path` is the checkpoint."""

    def __init__(self, signal_number: int, path: Path) -> None:
        super().__init__(f"stopped by signal {signal_number}; its state is in {path}")
        self.signal_number, self.path = signal_number, path


class Stop:
    """Tells a run to stop after the step under way. `signal_number` is 0 until it is asked."""

    def __init__(self) -> None:
        self.signal_number = 0

    def ask(self, signal_number: int = signal.SIGINT) -> None:
        """Ask it to stop, from any thread."""
        self.signal_number = signal_number


@contextmanager
def on_signals() -> Iterator[Stop]:
    """A `Stop` that SIGINT and SIGTERM ask; the second one stops at once. In the main thread alone, as Python has
    it.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.signal_number:
            raise KeyboardInterrupt
        stop.ask(number)
        print("stopping after this step ...", file=sys.stderr)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
