"""How many threads a run takes: as many as cores are free when it starts, and the same when it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fastnoisy import machine
from fastnoisy.training import loop, setup
from fastnoisy.training.device import threads_at_start
from fastnoisy.training.logs import Event
from fastnoisy.training.run import Run

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(machine, "cores", lambda: 4)


def refuse() -> float:
    raise AssertionError("nobody needs to look at the machine's load")


@pytest.mark.parametrize(("free", "threads"), [(4.0, 4), (3.6, 4), (3.4, 3), (1.1, 1), (0.0, 1), (5.0, 4)])
def test_one_per_free_core(free: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_cores", lambda: free)
    number, line = threads_at_start(0, CPU)
    assert number == threads
    told = f"threads={threads}: {free:.1f} of 4 cores are free of other work now; threads=N sets another number"
    assert line == ("" if threads == 4 else told)


def test_what_was_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_cores", refuse)
    assert threads_at_start(7, CPU) == (7, "")
    assert threads_at_start(0, CUDA) == (4, "")
    for text, number in (("3", 3), ("2,1", 2)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert threads_at_start(0, CPU) == (number, "")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(machine, "cores", lambda: 1)
    assert threads_at_start(0, CPU) == (1, "")


def test_a_run_says_it_and_keeps_it(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_cores", lambda: 2.1)
    words = ["device=cpu", "data.subset=100", "batch_size=50", "model.width=4", "epochs=1"]
    said: list[Event] = []
    loop.start(setup.resolve("digits-ce", words, str(digits)), tmp_path / "run", said.append)
    lines = [str(event) for event in said]
    assert "threads=2: 2.1 of 4 cores are free of other work now; threads=N sets another number" in lines
    assert any("device cpu, 2 threads" in line for line in lines)
    assert Run(tmp_path / "run").config.threads == 2
    monkeypatch.setattr(machine, "free_cores", refuse)
    loop.resume(tmp_path / "run", ["epochs=2"], observe=said.append)
    assert Run(tmp_path / "run").config.threads == 2
    monkeypatch.setattr(machine, "free_cores", lambda: 0.9)
    loop.resume(tmp_path / "run", ["epochs=3", "threads=0"])
    assert Run(tmp_path / "run").config.threads == 1
