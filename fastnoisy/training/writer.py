"""A thread that writes checkpoints beside the training, which waits for a copy of its state alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Writer:
    """Does one piece of work after another in a thread of its own; at most one batch of them is under way.

    What a piece of work raises is raised to the training, when that next looks, waits or closes.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: list[Future[None]] = []

    def submit(self, work: Callable[[], None]) -> None:
        """Have this done after what was submitted before."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "checkpoints")
        self._under_way.append(self._pool.submit(work))

    def look(self) -> None:
        """Raise what has been raised meanwhile; does not wait."""
        while self._under_way and self._under_way[0].done():
            self._under_way.pop(0).result()

    def wait(self) -> None:
        """Wait until all is done."""
        while self._under_way:
            self._under_way.pop(0).result()

    def close(self) -> None:
        """Wait, and end the thread. Of several errors the first is raised."""
        try:
            self.wait()
        finally:
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None
