"""SIGINT and SIGTERM to a command: it ends at once and without a traceback, or as soon as what it is at is safe.

An exception that a handler raises can get lost: in a destructor, in a callback, in a process that is just being forked.
So a handler here raises none. Where work can be ended at any moment (a conversion goes on from its journal, imports
leave nothing) it leaves at once; where it cannot, it only notes that a stop was asked for, and the work looks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fastnoisy import files

NUMBERS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], None]


def quiet() -> None:
    """From now on both signals end this process at once. For a command's first line, before it imports anything."""
    for number in NUMBERS:
        signal.signal(number, leaving())


def leaving(words: str = "") -> Handler:
    """A handler that ends this process at once, with words on standard error.

    Files half written are removed, and locks go with the process. A process that was forked from it just leaves.
    """
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            with contextlib.suppress(Exception):  # it may be within a write
                sys.stdout.flush()
            with contextlib.suppress(OSError):
                if os.isatty(2):
                    os.write(2, b"\x1b[?25h\r\x1b[K")  # the cursor, which a progress bar hides, on a line of its own
                os.write(2, f"{words}\n".encode() if words else b"")
            files.remove_unfinished()
        os._exit(128 + number)

    return handle


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Both signals handled so, in the main thread; elsewhere nothing changes, as Python has it."""
    try:
        previous = {number: signal.signal(number, handler) for number in NUMBERS}
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


@contextmanager
def blocked() -> Iterator[None]:
    """Both signals kept back in this thread, to be delivered afterwards: around a fork, so that the child can set its
    own handlers first.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
