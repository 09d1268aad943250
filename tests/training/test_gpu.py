"""Training on a GPU: no host synchronisation in a step, exact resume, both precisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fastnoisy import keyed_random, methods
from fastnoisy.training import checkpoint, loop, setup

pytestmark = pytest.mark.gpu
WORDS = ["device=cuda", "model.width=8", "epochs=2", "batch_size=30", "checkpoint.every=1"]


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("method", methods.names())
def test_a_step_never_waits_for_the_device(method: str, amp: str, digits: Path, tmp_path: Path) -> None:
    settings = setup.resolve(f"digits-{method}", [*WORDS, f"amp={amp}"], str(digits))
    trainer = loop.Trainer(setup.prepare(settings), tmp_path, quiet=True)
    trainer.preflight()
    pipeline = loop.pipelines.open_pipeline("resident", trainer.setup.split, trainer.labels.given, trainer.device)
    trainer.method.train()
    rows = [np.arange(30 * i, 30 * i + 30) for i in range(8)]
    given = [dict.fromkeys(trainer.method.streams, batch) for batch in pipeline.iterate(rows)]
    for number, batch in enumerate(given):
        if number == 3:  # the first steps allocate, tune and warm caches
            torch.cuda.set_sync_debug_mode("error")
        try:
            trainer.stepper(batch, trainer.progress, 0)
        finally:
            if number == len(given) - 1:
                torch.cuda.set_sync_debug_mode("default")
    torch.cuda.set_sync_debug_mode("default")
    trainer.meter.check_finite(0, 8, "")


@pytest.mark.parametrize("method", methods.names())
def test_a_run_trains_and_goes_on(method: str, digits: Path, tmp_path: Path) -> None:
    settings = setup.resolve(f"digits-{method}", WORDS, str(digits))
    final = loop.start(settings, tmp_path / "run", quiet=True)
    longer = loop.resume(tmp_path / "run", ["epochs=3"], quiet=True)
    assert final["epochs"] == 2
    assert longer["epochs"] == 3
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").position.epoch == 3


def test_keyed_numbers_are_the_same_on_the_device() -> None:
    rows = torch.arange(-1000, 1000) * 123_456_789_123
    here, there = (keyed_random.fold(keyed_random.fold(3, r), 4) for r in (rows, rows.cuda()))
    assert torch.equal(here, there.cpu())
