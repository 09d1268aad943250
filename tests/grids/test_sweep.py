"""Sweeps from the command line: what is trained, read, gone on with, waited for, refused; and comparisons of runs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import fastnoisy
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.grids import numbers
from fastnoisy.training import checkpoint

WORDS = ["epochs=2", "model.width=4", "data.subset=200", "threads=1", "eval_every=1", "checkpoint.every=1"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stores") / "digits"
    convert("digits", out, options=ConvertOptions(), progress=None)
    return out


def command(recipes: str, *words: str, out: Path, digits: Path) -> list[str]:
    return [
        sys.executable, "-m", "fastnoisy", "sweep", recipes, *WORDS, *words, "--data", str(digits), "--out", str(out),
    ]  # fmt: skip


def sweep(*given: Any, **named: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*given, **named), capture_output=True, text=True, timeout=600)


def results(out: Path) -> dict[str, Any]:
    """Every run's numbers and weights."""
    found: dict[str, Any] = {}
    for run in sorted(path for path in out.iterdir() if path.is_dir()):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        plain = [{k: v for k, v in line.items() if k not in ("time", "crc32")} for line in lines]
        found[run.name] = plain, checkpoint.load_newest(run / "checkpoints").state["method"]
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, (lines, weights) in one.items():
        assert lines == other[name][0]
        assert all(torch.equal(value, other[name][1][key]) for key, value in weights.items())


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(2400):
        if condition():
            return
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)
    raise AssertionError("it did not get there")


def test_a_sweep_trains_reads_and_goes_on(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid"
    done = sweep("digits-ce,digits-nrd", "seed=1,2", out=out, digits=digits)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        f"digits-{m},seed={s}" for m in ("ce", "nrd") for s in (1, 2)
    ]
    assert "4 of 4: digits-nrd,seed=2: finished in " in done.stderr
    assert "| digits-nrd " in done.stdout
    assert "gain ± s.e." in done.stdout
    before = results(out)
    shutil.rmtree(out / "digits-ce,seed=2")
    alone = fastnoisy.train("digits-ce", *WORDS, "seed=1", data=digits, out=tmp_path / "alone", progress=print)
    assert alone.final == before["digits-ce,seed=1"][0][-1], "a cell is an ordinary run"
    last = out / "digits-nrd,seed=1" / "metrics.jsonl"
    last.write_text("\n".join(last.read_text().splitlines()[:-1]) + "\n")  # as if it had been interrupted
    again = sweep("digits-ce,digits-nrd", "seed=1,2", out=out, digits=digits)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("was finished already") == 2
    same(results(out), before)
    compared = subprocess.run(
        [sys.executable, "-m", "fastnoisy", "compare", *map(str, sorted(out.iterdir())), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    groups = json.loads(compared.stdout)["groups"]
    assert [(name, len(group["runs"])) for name, group in groups.items()] == [("digits-ce", 2), ("digits-nrd", 2)]
    gains = [b["accuracy"] - a["accuracy"] for a, b in zip(*(group["runs"] for group in groups.values()), strict=True)]
    assert groups["digits-nrd"]["gain"] == pytest.approx(sum(gains) / 2)


def test_a_folder_that_holds_another_run_is_refused_before_anything_is_trained(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid"
    fastnoisy.train(
        "digits-ce", *WORDS, "seed=2", "model.width=5", data=digits, out=out / "digits-ce,seed=2", progress=print
    )
    done = sweep("digits-ce", "seed=1,2", out=out, digits=digits)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "digits-ce,seed=2 was begun with model.width 5 instead of 4" in done.stderr
    assert not (out / "digits-ce,seed=1").exists()


def test_a_run_that_fails_is_told_and_the_others_are_trained(digits: Path, tmp_path: Path) -> None:
    done = sweep("digits-dividemix", "batch_size=32,150", "method.warmup=0", out=tmp_path / "grid", digits=digits)
    assert done.returncode == 2
    assert "1 of 2 runs failed" in done.stderr
    assert "Lower batch_size" in done.stderr
    assert "| digits-dividemix" in done.stdout or "| batch_size=32" in done.stdout


def test_it_chooses_on_the_labels_held_out_and_needs_some(digits: Path, tmp_path: Path) -> None:
    words = ["optim.lr=0.0001,0.05", "--select", "holdout"]
    done = sweep("digits-ce", *words, out=tmp_path / "grid", digits=digits)
    assert done.returncode == 2
    assert "no labels held out to choose by. Add for example data.holdout=0.1" in done.stderr
    assert not (tmp_path / "grid").exists()
    groups = {
        "a": [{"holdout": 0.5, "accuracy": 0.9, "run": "x"}], "b": [{"holdout": 0.6, "accuracy": 0.1, "run": "y"}]
    }  # fmt: skip
    from fastnoisy.grids.result import best_held_out

    assert best_held_out(groups) == "b", "never by test data"
    done = sweep("digits-ce", *words, "data.holdout=0.2", out=tmp_path / "grid", digits=digits)
    assert done.returncode == 0, done.stderr
    assert "best on the labels held out: optim.lr=" in done.stdout


def test_a_signal_stops_the_runs_with_their_checkpoints(digits: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "grid"
    assert sweep("digits-ce", "seed=1,2", "epochs=30", out=whole, digits=digits).returncode == 0
    with subprocess.Popen(
        command("digits-ce", "seed=1,2", "epochs=30", out=out, digits=digits), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: len(checkpoint.listing(out / "digits-ce,seed=1" / "checkpoints")) > 1, process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped; it goes on when the same command is given again" in said
    assert sweep("digits-ce", "seed=1,2", "epochs=30", out=out, digits=digits).returncode == 0
    same(results(out), results(whole))


@pytest.mark.slow
@pytest.mark.parametrize("ray", [[], ["--ray", "local"]], ids=["here", "ray"])
def test_twelve_cells_of_a_driver_that_is_killed_and_started_again(
    ray: list[str], digits: Path, tmp_path: Path
) -> None:
    if ray:
        pytest.importorskip("ray", reason="pip install 'fastnoisy[cluster]'")
    words = ["seed=1,2,3", "noise=symmetric:0.2,symmetric:0.6", "epochs=20"]
    whole, out = tmp_path / "whole", tmp_path / "grid"
    assert sweep("digits-ce,digits-nrd", *words, out=whole, digits=digits).returncode == 0
    with subprocess.Popen(
        command("digits-ce,digits-nrd", *words, *ray, out=out, digits=digits), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: out.is_dir() and sum(1 for _ in out.glob("*/issues.csv")) >= 3, process)
        process.kill()
        process.communicate(timeout=60)
    done = sweep("digits-ce,digits-nrd", *words, *ray, out=out, digits=digits)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("was finished already") >= 3
    same(results(out), results(whole))


def test_gains_are_paired_by_seed() -> None:
    ce = [{"seed": 1, "accuracy": 0.5}, {"seed": 2, "accuracy": 0.7}]
    nrd = [{"seed": 2, "accuracy": 0.8}, {"seed": 3, "accuracy": 0.1}, {"seed": 1, "accuracy": 0.7}]
    found = numbers.against(nrd, ce)
    assert found["gain"] == pytest.approx(0.15)
    assert found["gain_se"] == pytest.approx(0.05)
    assert found["error_ratio"] == pytest.approx(0.25 / 0.4)
    assert numbers.against([{"seed": 9, "accuracy": 0.5}], ce) == {}
