"""A training process is killed in the middle of an epoch; the resumed run ends in the same bits."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fastnoisy import keyed_random
from fastnoisy.training import checkpoint, loop

WORDS = [
    "model.width=4",
    "epochs=4",
    "batch_size=4",
    "eval_every=1",
    "checkpoint.every=1",
    "threads=1",
]


def start(digits: Path, run: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "fastnoisy",
        "train",
        "digits-alasca",
        *WORDS,
        "--data",
        str(digits),
        "--out",
        str(run),
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_epoch(run: Path, process: subprocess.Popen[str], count: int) -> None:
    metrics = run / "metrics.jsonl"
    for _ in range(12_000):
        if metrics.exists() and len(metrics.read_text().splitlines()) >= count:
            return
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)
    raise AssertionError("the run did not get anywhere")


@pytest.fixture(scope="module")
def whole(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    process = start(digits, run)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return run


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=["SIGKILL", "SIGTERM"]
)
def test_killed_in_the_middle_of_an_epoch(number: signal.Signals, whole: Path, digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(digits, run)
    wait_for_epoch(run, process, 2)
    time.sleep(0.3)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + signal.SIGTERM, said
        assert "go on with 'fastnoisy train --resume" in said
        assert checkpoint.load_newest(run / "checkpoints").position.step > 0, "this was to be the middle of an epoch"
    assert not (run / "issues.csv").exists()
    torch.set_num_threads(1)
    loop.resume(run)
    a, b = (checkpoint.load_newest(r / "checkpoints") for r in (whole, run))
    assert a.position == b.position
    for name in a.state["method"]:
        assert torch.equal(a.state["method"][name], b.state["method"][name]), name
    assert (whole / "issues.csv").read_bytes() == (run / "issues.csv").read_bytes()


@pytest.mark.slow
def test_killed_again_and_again_at_any_moment(whole: Path, digits: Path, tmp_path: Path) -> None:
    """Start-up, steps, evaluation, a checkpoint being written: wherever SIGKILL falls, the run ends the same."""
    run, kills = tmp_path / "run", 0
    for attempt in range(60):
        if (run / "config.toml").exists():
            command = [sys.executable, "-m", "fastnoisy", "train", "--resume", str(run)]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        else:
            process = start(digits, run)
        # from during the imports to past an epoch's end; later attempts get more time, so that it ends
        wait = 2 + keyed_random.below(keyed_random.key(9, attempt), 4000 + 300 * attempt) / 1000
        try:
            _, said = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, said
        break
    assert kills >= 3
    a, b = (checkpoint.load_newest(r / "checkpoints") for r in (whole, run))
    assert all(torch.equal(a.state["method"][name], b.state["method"][name]) for name in a.state["method"])
    assert (whole / "issues.csv").read_bytes() == (run / "issues.csv").read_bytes()
    assert not list((run / "checkpoints").glob(".*"))
