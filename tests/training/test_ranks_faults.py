"""What happens to a run of several processes when one of them is lost, asked to stop, hangs or fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fastnoisy.training import checkpoint

ROOT = Path(__file__).resolve().parent.parent.parent
WORDS = [
    "digits-alasca", "model.width=4", "batch_size=24", "epochs=4", "checkpoint.every=1", "threads=1", "dtype=float64",
    "eval_every=4", "distributed.sync_batchnorm=true", "optim.lr=0.0002", "distributed.timeout=15",
]  # fmt: skip
TROUBLE = """
import os, signal, sys, time
from fastnoisy.errors import FastnoisyError
from fastnoisy.training import checkpoint, step

kind, rank, at = sys.argv[1], os.environ["RANK"], int(sys.argv[2])
first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
original, done = step.Stepper.__call__, [0]

def troubled(self, *given):
    done[0] += 1
    if done[0] == at and first and rank == "1":
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
        if kind == "hang":
            time.sleep(1000)
        if kind == "raise":
            raise FastnoisyError("the cat has the disk", "Ask it")
        if kind == "bug":
            raise KeyError("a bug")
    return original(self, *given)

step.Stepper.__call__ = troubled
if kind == "full":
    torch_save, saved = checkpoint.torch.save, [0]

    def full(*given):
        saved[0] += 1
        if saved[0] == 2:
            raise OSError(28, "No space left on device")
        torch_save(*given)

    checkpoint.torch.save = full
sys.argv[1:] = sys.argv[3:]
from fastnoisy.__main__ import main
main()
"""


@pytest.fixture(scope="module")
def whole(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    done = train(digits, out, "none", 0)
    assert done.returncode == 0, done.stderr
    return out


def train(digits: Path, out: Path, kind: str, at: int, *launcher: str, resume: bool = False) -> Any:
    """Two processes under torchrun, one of which meets trouble in its step number `at`. Leaves no process behind."""
    script = out.parent / "trouble.py"
    script.write_text(TROUBLE)
    words = ["--resume", str(out)] if resume else [*WORDS, "--data", str(digits), "--out", str(out)]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", "--rdzv-id", "t", "--monitor-interval", "0.2", *launcher]
    command += [str(script), kind, str(at), "train", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT, start_new_session=True
    ) as process:
        try:
            _, said = process.communicate(timeout=240)
        finally:
            left = orphans(out)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert not left, f"processes are left: {said}"
    return Ended(process.returncode, said, time.monotonic() - began)


class Ended:
    def __init__(self, returncode: int, stderr: str, seconds: float) -> None:
        self.returncode, self.stderr, self.seconds = returncode, stderr, seconds
        self.errors = [line for line in stderr.splitlines() if line.startswith("error: ")]


def orphans(out: Path) -> list[int]:
    """Processes that name the run's folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(out).encode() in place.read_bytes() and int(place.parent.name) != os.getpid():
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


def check_same(whole: Path, run: Path) -> None:
    expected, found = (checkpoint.load_newest(one / "checkpoints").state for one in (whole, run))
    for key, value in expected["method"].items():
        torch.testing.assert_close(found["method"][key], value, rtol=1e-9, atol=1e-9, msg=key)
    numbers = [[json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()] for one in (whole, run)]
    assert [one.get("epoch") for one in numbers[0]] == [one.get("epoch") for one in numbers[1]]


@pytest.mark.slow
def test_a_killed_rank_is_started_again_and_the_run_ends_as_it_would_have(
    whole: Path, digits: Path, tmp_path: Path
) -> None:
    done = train(digits, tmp_path / "run", "kill", 60, "--max-restarts", "1")
    assert done.returncode == 0, done.stderr
    assert "resuming " in done.stderr
    check_same(whole, tmp_path / "run")


def test_a_signal_to_one_rank_stops_all_at_one_step(whole: Path, digits: Path, tmp_path: Path) -> None:
    done = train(digits, tmp_path / "run", "stop", 40)
    assert done.returncode != 0
    assert "stopped; state in " in done.stderr
    assert not done.errors
    position = checkpoint.load_newest(tmp_path / "run" / "checkpoints").position
    assert (position.epoch, position.step) == (1, 16), "one step after the signal, in the second epoch"
    assert train(digits, tmp_path / "run", "none", 0, resume=True).returncode == 0
    check_same(whole, tmp_path / "run")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("raise", "the cat has the disk"),
        pytest.param("hang", "waited too long", marks=pytest.mark.slow),
        pytest.param("bug", "", marks=pytest.mark.slow),
    ],
)
def test_one_rank_that_fails_ends_all_with_one_line(kind: str, words: str, digits: Path, tmp_path: Path) -> None:
    done = train(digits, tmp_path / "run", kind, 40)
    assert done.returncode != 0
    assert done.seconds < 100
    if words:
        assert len(done.errors) == 1, done.stderr
        assert words in done.errors[0]
        assert f"rank {'01'[kind == 'raise']} of 2 on " in done.errors[0]
    else:
        assert done.stderr.count("KeyError: 'a bug'") == 1
        assert not done.errors
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").position.epoch == 1


@pytest.mark.slow
def test_a_full_disk_costs_no_checkpoint(whole: Path, digits: Path, tmp_path: Path) -> None:
    done = train(digits, tmp_path / "run", "full", 0)
    assert done.returncode != 0
    assert len(done.errors) == 1
    assert "No space left on device" in done.errors[0]
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").position.epoch == 1
    assert train(digits, tmp_path / "run", "none", 0, resume=True).returncode == 0
    check_same(whole, tmp_path / "run")
