"""How long a run will take, said once within its first minute."""

from __future__ import annotations

import time
from collections.abc import Callable

from fastnoisy.training.logs import duration

_SOON, _LATEST = 20.0, 45.0  # seconds from the start: with a step to compare, and with one alone
_LONG = 3600.0  # seconds, above which a CPU's user is told what to change
ADVICE = (
    "To be faster on a CPU: for your own folder a pretrained network (a folder-* recipe without pretrained=false; "
    "with model.freeze=true its classifier alone), smaller images (views.size=), a smaller network, or fewer epochs"
)


class Eta:
    """Told of every step, it says once how long the rest will take.

    Args:
        say: takes the line.
        on_cpu: whether advice is given where it takes long.
        clock: seconds.
    """

    def __init__(
        self, say: Callable[[str], object], on_cpu: bool, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._say, self._on_cpu, self._clock = say, on_cpu, clock
        self._start = clock()
        self._first = 0.0
        self._done = 0
        self._said = False

    def step(self, left: Callable[[], int]) -> None:
        """A step is done; `left` counts those to the end of the run, and is asked once."""
        if self._said:
            return
        now = self._clock()
        self._done += 1
        if self._done == 1:
            self._first = now
        since = now - self._start
        if not (since >= _SOON and self._done > 1) and since < _LATEST:
            return
        self._said = True
        pace = (now - self._first) / (self._done - 1) if self._done > 1 else since
        steps = left()
        rest = pace * steps
        line = f"about {duration(rest)} to the end: {steps:,} steps at {pace:.2f} s, evaluations not counted"
        self._say(f"{line}. {ADVICE}" if self._on_cpu and rest > _LONG else line)
