"""What a run says while it works: a bar on a terminal, a line now and then elsewhere, nothing when quiet."""

from __future__ import annotations

import pytest

from fastnoisy.training import logs
from fastnoisy.training.logs import Display, Event


def steps(display: Display, clock: list[float], seconds: float) -> None:
    for done in range(1, 101):
        clock[0] += seconds / 100
        display(Event("step", "epoch 1/4", done, 100))


def test_off_a_terminal_a_line_about_steps_comes_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: clock[0])
    with Display(every=30) as display:
        display(Event("note", "a [bold]note[/bold] of the run's"))
        steps(display, clock, 100)
        display(Event("epoch", "epoch 1/4  loss 1.0", metrics={"epoch": 0}))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "a [bold]note[/bold] of the run's", "no markup: a folder may be called so"
    assert said[1:-1] == [f"epoch 1/4: {done} of 100 steps" for done in (30, 60, 90)]
    assert said[-1] == "epoch 1/4  loss 1.0"


def test_short_epochs_say_nothing_of_steps(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: clock[0])
    with Display() as display:
        for epoch in range(10):
            steps(display, clock, 20)
            display(Event("epoch", f"epoch {epoch}"))
    assert capsys.readouterr().err.splitlines() == [f"epoch {epoch}" for epoch in range(10)]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(quiet=True) as display:
        display(Event("note", "a note"))
    assert capsys.readouterr().err == ""
