"""A bar on standard error for what takes long outside the training loop; nothing where that is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]  # told how much has been done since its last call


@contextmanager
def bar(description: str, total: int) -> Iterator[Advance]:
    """Show how much of something is done, with the time left.

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
