"""Training on a GPU: no host synchronisation in a step, exact resume, both precisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fastnoisy import keyed_random, methods, pipelines
from fastnoisy.training import checkpoint, loop, setup
from fastnoisy.training.run_folder import RunFolder

FORMS = [*methods.names(), *(f"alasca method.base={name}" for name in methods.names() if name not in ("alasca", "ce"))]
SHAPES = [
    "ce",
    "nrd",
    "dividemix",
    "alasca method.base=elr-plus",
]  # of a step; these run on a CPU too: the test itself works
WORDS = ["epochs=2", "batch_size=30", "checkpoint.every=1"]


def words_of(form: str, device: str) -> tuple[str, list[str]]:
    """Recipe and overrides; with a warm-up of one epoch, so that the second has what comes after it."""
    method, *rest = form.split()
    table = methods.wrapped({"name": method, **({"base": rest[0].partition("=")[2]} if rest else {})}) or {
        "name": method
    }
    if "warmup" in methods.find(table["name"]).Options.model_fields:
        rest.append("method.base.warmup=1" if table["name"] != method else "method.warmup=1")
    return f"digits-{method}", [*WORDS, f"model.width={8 if device == 'cuda' else 4}", f"device={device}", *rest]


@pytest.mark.parametrize(
    ("form", "amp", "device"),
    [
        *(pytest.param(f, amp, "cuda", marks=pytest.mark.gpu) for f in FORMS for amp in ("off", "bf16", "fp16")),
        *((form, "off", "cpu") for form in SHAPES),
    ],
)
def test_a_step_never_waits_for_the_device(form: str, amp: str, device: str, digits: Path, tmp_path: Path) -> None:
    """All passes of a method, the selecting ones with a split."""
    recipe, words = words_of(form, device)
    settings = setup.resolve(recipe, [*words, f"amp={amp}"], str(digits))
    prepared = setup.prepare(settings)
    job = loop.Job.of(prepared, RunFolder(tmp_path), loop.silent)
    method = job.state.method
    pipeline = pipelines.open_pipeline("resident", prepared.split, prepared.labels.given, prepared.device)
    given = list(pipeline.iterate([np.arange(30 * i, 30 * i + 30) for i in range(8)]))
    for buffer in (b for name, b in method.named_buffers() if name.endswith("clean")):  # judged, as after a split
        buffer.uniform_(0, 1)
    for spec in method.passes:
        method.train()
        method.before_pass(spec.name)
        for number, batch in enumerate(given):
            job.progress.move(1, number, len(given))
            if device == "cuda" and number == 3:  # the first steps allocate, tune and warm caches
                torch.cuda.set_sync_debug_mode("error")
            try:
                job.stepper(dict.fromkeys(spec.streams, batch), job.progress)
            finally:
                if device == "cuda":
                    torch.cuda.set_sync_debug_mode("default")
    job.state.meter.check_finite(0, 8, "")


@pytest.mark.gpu
@pytest.mark.parametrize("form", FORMS)
def test_a_run_trains_and_goes_on(form: str, digits: Path, tmp_path: Path) -> None:
    recipe, words = words_of(form, "cuda")
    settings = setup.resolve(recipe, words, str(digits))
    final = loop.start(settings, tmp_path / "run")
    longer = loop.resume(tmp_path / "run", ["epochs=3"])
    assert final["epochs"] == 2
    assert longer["epochs"] == 3
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").position.epoch == 3


@pytest.mark.gpu
def test_keyed_numbers_are_the_same_on_the_device() -> None:
    rows = torch.arange(-1000, 1000) * 123_456_789_123
    here, there = (keyed_random.fold(keyed_random.fold(3, r), 4) for r in (rows, rows.cuda()))
    assert torch.equal(here, there.cpu())
