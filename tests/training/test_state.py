"""The state of a run: a snapshot stays as it was taken, and restoring one puts all of it back, in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastnoisy.errors import FastnoisyError
from fastnoisy.order import Population
from fastnoisy.training import loop, setup
from fastnoisy.training.run_folder import RunFolder
from fastnoisy.training.state import Position

WORDS = ["model.width=4", "data.subset=60", "batch_size=20", "threads=1", "device=cpu", "data.holdout=0.1"]


def job(digits: Path, tmp_path: Path, *words: str) -> loop.Job:
    settings = setup.resolve("digits-alasca", [*WORDS, *words], str(digits))
    return loop.Job.of(setup.prepare(settings), RunFolder(tmp_path / "run"), loop.silent)


def step(made: loop.Job) -> None:
    """One real step on the first rows."""
    with loop.opened(made):
        rows = made.setup.labels.train[:20]
        batch = next(iter(made.pipeline.iterate([rows])))
        made.state.method.train()
        made.progress.move(0, 0, 3)
        made.stepper({"train": batch}, made.progress)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def test_later_steps_leave_a_snapshot_as_it_is_and_it_restores_all(digits: Path, tmp_path: Path) -> None:
    """What a warm-up needs: a few steps, and then back to where it was, in the tensors that were there."""
    made = job(digits, tmp_path, "select=holdout")
    state = made.state
    step(made)
    state.populations["clean"] = Population("clean", np.array([3, 5]))
    state.position = Position(2, 1, 7)
    state.selection.epoch, state.selection.accuracy = 1, 0.5
    before = state.snapshot()
    kept = state.snapshot()
    pointers = {name: tensor.data_ptr() for name, tensor in state.method.state_dict().items()}
    step(made)
    state.populations["clean"] = Population("clean", np.array([4]))
    state.position = Position(3)
    state.selection.epoch = 2
    assert not same(state.snapshot(), before)
    assert same(kept, before)
    state.restore(kept, "a snapshot")
    assert same(state.snapshot(), before)
    assert {name: tensor.data_ptr() for name, tensor in state.method.state_dict().items()} == pointers


def test_what_a_snapshot_holds_is_plain(digits: Path, tmp_path: Path) -> None:
    """`torch.load(weights_only=True)` reads it."""
    made = job(digits, tmp_path)
    torch.save(made.state.snapshot(), tmp_path / "state.pt")
    assert same(torch.load(tmp_path / "state.pt", weights_only=True), made.state.snapshot())


def test_another_methods_snapshot_is_refused(digits: Path, tmp_path: Path) -> None:
    other = job(digits, tmp_path, "method.ema=off").state.snapshot()
    with pytest.raises(FastnoisyError, match=r"mine does not fit: memories\.0\.rows is in only one of the two"):
        job(digits, tmp_path).state.restore(other, "mine")
