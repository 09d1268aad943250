"""Checkpoints are written beside the training."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from fastnoisy.errors import FastnoisyError
from fastnoisy.training import checkpoint, loop, setup
from fastnoisy.training.logs import Event
from fastnoisy.training.run_folder import RunFolder
from fastnoisy.training.writer import Writer

WORDS = [
    "model.width=4",
    "data.subset=120",
    "epochs=3",
    "batch_size=20",
    "checkpoint.every=1",
    "eval_every=3",
    "threads=1",
]


def test_the_training_goes_on_while_a_checkpoint_is_written(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write after the first epoch ends when the second one's steps are done, and holds the first one's weights."""
    settings, whole, run = setup.resolve("digits-alasca", WORDS, str(digits)), tmp_path / "whole", tmp_path / "run"
    loop.start(settings, whole)
    original, second = checkpoint.write, threading.Event()

    def slow(*given: Any) -> Path:
        assert second.wait(timeout=60), "the training waits for the disk"
        return original(*given)

    def observe(event: Event) -> None:
        if event.text == "epoch 2/3" and event.done == event.total:
            second.set()

    monkeypatch.setattr(checkpoint, "write", slow)
    loop.start(settings, run, observe)
    for one, other in zip(*(checkpoint.listing(out / "checkpoints") for out in (whole, run)), strict=True):
        assert one.name == other.name
        expected, found = checkpoint.load(one).state, checkpoint.load(other).state
        for name, value in expected["method"].items():
            assert torch.equal(value, found["method"][name])
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[2])
    written = last["time"]["checkpoint"]
    assert written["mib"] > 0
    assert 0 <= written["copy_seconds"] < written["seconds"]


def test_what_could_not_be_written_is_raised_to_the_training(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise FastnoisyError("no space")

    monkeypatch.setattr(RunFolder, "save", full)
    with pytest.raises(FastnoisyError, match="no space"):
        loop.start(setup.resolve("digits-ce", WORDS, str(digits)), tmp_path / "run")
    assert not any(thread.name.startswith("checkpoints") for thread in threading.enumerate())


def test_a_writer_keeps_the_order_and_tells_the_first_error() -> None:
    writer, done = Writer(), []
    for number in range(5):
        writer.submit(lambda number=number: done.append(number))
    writer.wait()
    assert done == [0, 1, 2, 3, 4]

    def fail(words: str) -> None:
        raise OSError(words)

    writer.submit(lambda: fail("first"))
    writer.submit(lambda: fail("second"))
    with pytest.raises(OSError, match="first"):
        writer.wait()
    with pytest.raises(OSError, match="second"):
        writer.close()
    writer.close()
