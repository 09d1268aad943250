"""Several processes train what one process trains: weights, averages, memories, populations, numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastnoisy import extras, methods
from fastnoisy.training import checkpoint

Pool = Callable[..., list[dict[str, Any]]]
WORDS = [
    "model.width=4", "data.subset=200", "data.holdout=0.1", "batch_size=22", "epochs=6", "threads=1", "dtype=float64",
    "distributed.sync_batchnorm=true", "optim.lr=0.0002", "noise=symmetric:0.4", "eval_every=3", "checkpoint.every=10",
]  # fmt: skip
OPTIONS = {  # so that every phase of a method is reached in six epochs
    "dividemix": ["method.warmup=2"],
    "alasca": ["method.lca_start=2"],
    "elr-plus": ["method.ema_steps=20"],
}
QUICK = ["nrd", "alasca(base=dividemix)"]
BASES = [name for name in methods.names() if name not in ("alasca", "ce")]
FORMS = [*methods.names(), *(f"alasca(base={name})" for name in BASES)]
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def words_of(form: str) -> tuple[str, list[str]]:
    """The recipe of a form, and its overrides."""
    if not form.startswith("alasca("):
        return f"digits-{form}", [*WORDS, *OPTIONS.get(form, [])]
    base = form.removeprefix("alasca(base=").removesuffix(")")
    own = [word.replace("method.", "method.base.") for word in OPTIONS.get(base, [])]
    return "digits-alasca", [*WORDS, *OPTIONS["alasca"], f"method.base={base}", *own]


def lines(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "crc32", "issues")} for line in found]


def same(one: Any, other: Any, where: str) -> None:
    """Two trees of numbers and tensors are equal but for rounding."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            same(a, b, f"{where}[{number}]")
    elif isinstance(one, torch.Tensor):
        close = {"rtol": 1e-6, "atol": 1e-6} if ".log/" in where else CLOSE  # methods log in float32
        torch.testing.assert_close(one, other, **close, msg=lambda said: f"{where}: {said}")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-6), where
    else:
        assert one == other, where


def check_same(whole: Path, run: Path, size: int) -> None:
    expected = checkpoint.load_newest(whole / "checkpoints").state
    same(expected, checkpoint.load_newest(run / "checkpoints").state, "state")
    same(lines(whole), lines(run), "metrics")
    for rank in range(size):  # every rank has what rank 0 has written
        own = torch.load(f"{run}.rank{rank}.pt", weights_only=True)
        same({key: expected[key] for key in own}, own, f"rank {rank}")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_ranks_train_what_one_process_trains(form: str, digits: Path, tmp_path: Path, ranks: Pool) -> None:
    recipe, words = words_of(form)
    for size in (1, 2, 3):
        ranks(size, recipe=recipe, words=words, store=digits, out=tmp_path / f"{size}")
    for size in (2, 3):
        check_same(tmp_path / "1", tmp_path / f"{size}", size)


@pytest.mark.parametrize("form", QUICK)
def test_three_ranks_train_what_one_process_trains(form: str, digits: Path, tmp_path: Path, ranks: Pool) -> None:
    recipe, words = words_of(form)
    for size in (1, 3):
        ranks(size, recipe=recipe, words=[*words, "epochs=3"], store=digits, out=tmp_path / f"{size}")
    check_same(tmp_path / "1", tmp_path / "3", 3)


@pytest.mark.parametrize("form", ["alasca", *(pytest.param(form, marks=pytest.mark.slow) for form in QUICK)])
def test_a_run_goes_on_with_another_number_of_ranks(form: str, digits: Path, tmp_path: Path, ranks: Pool) -> None:
    recipe, words = words_of(form)
    ranks(1, recipe=recipe, words=words, store=digits, out=tmp_path / "whole")
    task = {"recipe": recipe, "words": words, "store": digits, "out": tmp_path / "run"}
    left = ranks(2, **task, stop_at=17, asked=1)
    assert {one["interrupted"] for one in left} == {15}, "asked of one, heeded by all"
    assert len({one["path"] for one in left}) == 1
    assert "step-000000" not in left[0]["path"], "in the middle of an epoch"
    left = ranks(3, out=task["out"], resume=True, stop_at=9, asked=2)
    assert {one["interrupted"] for one in left} == {15}
    ranks(1, out=task["out"], resume=True)
    check_same(tmp_path / "whole", tmp_path / "run", 1)


def test_micro_batches_are_those_of_one_process(digits: Path, tmp_path: Path, ranks: Pool) -> None:
    words = [*WORDS, "accumulate=3", "epochs=2", "data.draw=150"]
    for size in (1, 3):
        ranks(size, recipe="digits-alasca", words=words, store=digits, out=tmp_path / f"{size}")
    check_same(tmp_path / "1", tmp_path / "3", 3)


@pytest.mark.parametrize(
    "form", [form if form in QUICK[:1] else pytest.param(form, marks=pytest.mark.slow) for form in FORMS]
)
def test_float32_gradients_of_a_step_are_those_of_one_process(
    form: str, digits: Path, tmp_path: Path, ranks: Pool
) -> None:
    """A step from one checkpoint: the momenta differ as the gradients do. Not the first step: norms of constant maps
    are exactly 0 then, and rounding decides on which side of ReLU's kink they are. Later that is rare: of three seeds
    one must agree, and a gradient that is wrong agrees on none.
    """
    recipe, words = words_of(form)
    small = ["dtype=float32", "amp=off", "epochs=3", "drop_last=true", "data.subset=100", "optim.lr=0.05"]
    small += ["checkpoint.every=1", "eval_every=20", "channels_last=off"]
    small += ["batch_size=45" if "dividemix" in form else "batch_size=90"]  # it needs two batches
    apart = []
    for seed in range(1, 4):
        begun = tmp_path / f"begun{seed}"
        ranks(1, recipe=recipe, words=[*words, *small, f"seed={seed}"], store=digits, out=begun)
        found = []
        for size in (1, 2):
            out = tmp_path / f"{seed}-{size}"
            shutil.copytree(begun, out)
            ranks(size, out=out, resume=True, words=["epochs=4"])
            state = torch.load(f"{out}.rank0.pt", weights_only=True)["optimizer"]["state"]
            found.append([kept["momentum_buffer"] for kept in state.values()])
        apart.append(
            max(float((one - two).abs().max() / max(1.0, one.abs().max())) for one, two in zip(*found, strict=True))
        )
        if apart[-1] <= 1e-5:
            return
    raise AssertionError(f"apart by {apart}")


@pytest.mark.parametrize(
    "pipeline", ["torch-loader", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ffcv", "dali"))]
)
def test_every_pipeline_feeds_ranks_as_it_feeds_one_process(
    pipeline: str, digits: Path, tmp_path: Path, ranks: Pool
) -> None:
    if pipeline in extras.EXTRAS:
        pytest.importorskip(extras.EXTRAS[pipeline].module)
    words = [*WORDS, "epochs=2", "data.workers=1"]
    ranks(1, recipe="digits-alasca", words=words, store=digits, out=tmp_path / "1")
    ranks(2, recipe="digits-alasca", words=[*words, f"pipeline={pipeline}"], store=digits, out=tmp_path / "2")
    check_same(tmp_path / "1", tmp_path / "2", 2)


def test_local_batch_statistics_are_averaged_before_they_are_used(digits: Path, tmp_path: Path, ranks: Pool) -> None:
    words = [word for word in WORDS if "sync" not in word] + ["epochs=2"]
    ranks(2, recipe="digits-nrd", words=words, store=digits, out=tmp_path / "run")
    first, second = (torch.load(f"{tmp_path}/run.rank{rank}.pt", weights_only=True) for rank in range(2))
    same(first, second, "state")


def test_only_the_first_rank_speaks(digits: Path, tmp_path: Path, ranks: Pool) -> None:
    words = [*WORDS, "epochs=1"]
    first, second = ranks(2, recipe="digits-ce", words=words, store=digits, out=tmp_path / "run")
    assert any(line.startswith("done: ") for line in first["said"])
    assert not second["said"]
    assert first["final"] == second["final"]
