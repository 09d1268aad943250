"""How far it is with what takes long outside the training loop: a bar on a terminal, or lines now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]  # told how much has been done since its last call
_EVERY = 10.0  # seconds between lines


@contextmanager
def bar(description: str, total: int) -> Iterator[Advance]:
    """Show how much of something is done, with the time left; nothing where standard error is no terminal.

    Args:
        description: what is going on.
        total: how much there is to do, of whatever unit.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task, waiting, drawn = shown.add_task(description, total=total), 0, time.monotonic()

        def advance(done: int) -> None:
            nonlocal waiting, drawn
            waiting += done
            if time.monotonic() - drawn >= 0.1:  # drawing costs more than reading a small image
                shown.update(task, advance=waiting)
                waiting, drawn = 0, time.monotonic()

        yield advance


def telling(say: Callable[[str], object], words: str) -> Callable[[], None]:
    """What is called as parts of something are done, whose number nobody knows: it says how many now and then.

    Args:
        words: with {} for the number.
    """
    done, told = 0, time.monotonic()

    def poll() -> None:
        nonlocal done, told
        done += 1
        if time.monotonic() - told > _EVERY:
            told = time.monotonic()
            say(words.format(done))

    return poll
