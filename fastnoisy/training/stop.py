"""Stopping a run from outside: by a signal, where the command line asks for that, or by another thread."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from fastnoisy import signals
from fastnoisy.distributed import Group, Pending, Ranks


class Interrupted(Exception):  # noqa: N818, it is no error
    """The run was asked to stop; its state is on disk. `signal_number` says by what, `path` is the checkpoint."""

    def __init__(self, signal_number: int, path: Path) -> None:
        super().__init__(f"stopped by signal {signal_number}; its state is in {path}")
        self.signal_number, self.path = signal_number, path


class Stop:
    """Tells a run to stop after the step under way.

    Attributes:
        signal_number: 0 until it is asked.
        heeded: whether a run looks at it, as it does from the moment at which it has something to keep.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self.heeded = False

    def ask(self, signal_number: int = signal.SIGINT) -> None:
        """Ask it to stop, from any thread."""
        self.signal_number = signal_number

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """Within, a run looks at it after each step."""
        self.heeded = True
        try:
            yield
        finally:
            self.heeded = False


class Vote:
    """Whether any rank was asked to stop, found out by all of them at the same place.

    Args:
        stop: what this rank is asked by.
    """

    def __init__(self, stop: Stop, group: Group) -> None:
        self.stop, self.group = stop, group
        self._begun: Pending | None = None

    def at_step(self) -> int:
        """The signal that a rank was asked to stop by, or 0; with several ranks as it stood one step ago, so that
        nobody waits for the answer.
        """
        if not isinstance(self.group, Ranks):
            return self.stop.signal_number
        found = self._take()
        self._begun = self.group.largest(self.stop.signal_number)
        return found

    def now(self) -> int:
        """The same as it stands now; all ranks wait for one another."""
        if not isinstance(self.group, Ranks):
            return self.stop.signal_number
        found = self._take()
        return max(found, int(self.group.largest(self.stop.signal_number).take()))

    def _take(self) -> int:
        begun, self._begun = self._begun, None
        return 0 if begun is None else int(begun.take())


@contextmanager
def on_signals() -> Iterator[Stop]:
    """A `Stop` that SIGINT and SIGTERM ask, in the main thread.

    Before a run looks at it there is nothing to keep, and a signal ends the process at once, as a second one does.
    """
    stop, leave = Stop(), signals.leaving()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.signal_number or not stop.heeded:
            leave(number, frame)
        stop.ask(number)
        signals.tell(b"stopping after this step ...\n")

    with signals.handled(handle):
        yield stop
