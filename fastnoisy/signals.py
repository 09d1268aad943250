"""SIGINT and SIGTERM to a command: it ends at once and without a traceback, or as soon as what it is at is safe.

An exception that a handler raises can get lost: in a destructor, in a callback, in a process that is just being forked.
So a handler here raises none. Where work can be ended at any moment (a conversion goes on from its journal, imports
leave nothing) it leaves at once; where it cannot, it only notes that a stop was asked for, and the work looks.

This is imported before all else that a command needs, so it imports little: until it is, Ctrl-C ends in a traceback of
Python's own.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 0.5  # seconds for what has been printed
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
            if _Whole.inside:
                _Whole.leave = lambda: handle(number, None)
                return
            # A module that is just being imported has written nothing.
            remove = getattr(sys.modules.get("fastnoisy.files"), "remove_unfinished", None)
            if remove is not None:
                remove()
            # What has been printed goes out, unless nobody reads it: `| less`, and the user does not scroll.
            with contextlib.suppress(Exception):  # it may be within a write, or in another thread than the main one
                signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + number))
                signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
                sys.stdout.flush()
            cursor = b"\x1b[?25h\r\x1b[K" if os.isatty(2) else b""  # which a progress bar hides, on a line of its own
            tell(cursor + (f"{words}\n".encode() if words else b""))
        os._exit(128 + number)

    return handle


def tell(words: bytes) -> None:
    """Write a few words to standard error from a handler, or none where nobody reads it: a handler never waits."""
    with contextlib.suppress(OSError, ValueError):
        if words and select.select([], [2], [], 0)[1]:  # then a pipe has room for 4,096 bytes
            os.write(2, words)


class _Whole:
    """How many blocks of `whole` this process is in, and what a signal meanwhile has asked for."""

    inside = 0
    leave: Callable[[], None] | None = None
    lock = threading.Lock()


@contextmanager
def whole() -> Iterator[None]:
    """For what is soon done and must not be left half done, as two renames: a signal ends the process after it.

    In any thread: handlers run in the main one, beside it, and look at the count.
    """
    with _Whole.lock:
        _Whole.inside += 1
    try:
        yield
    finally:
        with _Whole.lock:
            _Whole.inside -= 1
        if not _Whole.inside and _Whole.leave is not None:
            _Whole.leave()


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
