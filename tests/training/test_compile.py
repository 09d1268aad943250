"""Compiled steps equal eager ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fastnoisy.training import loop, setup
from fastnoisy.training.run_folder import RunFolder

# One epoch of 20 full batches. Rounding (1e-15 after the first step) grows from step to step as in any training; the
# gentle learning rate keeps the growth below the bound.
WORDS = [
    "model.width=8", "epochs=1", "batch_size=30", "dtype=float64", "threads=1", "optim.lr=0.01",
]  # fmt: skip


@pytest.mark.compiler
@pytest.mark.parametrize("method", ["nrd", pytest.param("alasca", marks=pytest.mark.slow)])
def test_twenty_compiled_steps_equal_eager_in_float64(method: str, digits: Path, tmp_path: Path) -> None:
    states = []
    for compiled in ("false", "true"):
        torch._dynamo.reset()
        settings = setup.resolve(f"digits-{method}", [*WORDS, f"compile={compiled}"], str(digits))
        run = tmp_path / compiled
        run.mkdir()
        job = loop.Job.of(setup.prepare(settings), RunFolder(run), loop.silent)
        with loop.opened(job):
            loop.train(job)
        assert job.progress.step.item() == 19
        states.append(job.state.method.state_dict())
    torch._dynamo.reset()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=0, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}")
