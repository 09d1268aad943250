"""A run says within its first minute how long it will take."""

from __future__ import annotations

import pytest

from fastnoisy.training.eta import ADVICE, Eta


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def said(seconds: list[float], left: int, on_cpu: bool = True) -> list[tuple[int, str]]:
    """The lines, each with the step after which it came, of steps that take so long."""
    clock, lines = Clock(), []
    eta = Eta(lambda line: lines.append((done, str(line))), on_cpu, clock)
    for done, taken in enumerate(seconds, 1):  # noqa: B007
        clock.now += taken
        eta.step(lambda: left)
    return lines


def test_it_is_said_once_after_twenty_seconds_without_the_first_step() -> None:
    (line,) = said([9.0, *[0.5] * 100], left=200)
    assert line == (23, "about 1m40s to the end: 200 steps at 0.50 s, evaluations not counted")


def test_of_a_slow_first_step_it_is_said_at_once() -> None:
    ((done, line),) = said([50.0, 40.0], left=10)
    assert done == 1
    assert line.startswith("about 8m20s to the end: 10 steps at 50.00 s")


def test_a_short_run_says_nothing() -> None:
    assert said([0.1] * 50, left=0) == []


@pytest.mark.parametrize(
    ("on_cpu", "left", "advised"), [(True, 40_000, True), (True, 100, False), (False, 40_000, False)]
)
def test_above_an_hour_on_a_cpu_it_says_what_to_change(on_cpu: bool, left: int, advised: bool) -> None:
    ((_, line),) = said([0.5] * 60, left, on_cpu)
    assert line.endswith(ADVICE) == advised
