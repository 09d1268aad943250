"""Runs that train on a fresh draw every epoch and report the epoch that is best on clean images: resumed anywhere, they
are the same run, and the chosen model is the right one.
"""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.sources import base
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.training import checkpoint, loop, selection, setup
from fastnoisy.training.logs import Display
from fastnoisy.training.run import Run
from fastnoisy.training.run_folder import RunFolder
from fastnoisy.training.state import Position
from fastnoisy.training.step import Stepper
from fastnoisy.training.stop import on_signals

SMALL = [
    "views.size=16", "model=preact_small(width=4)", "batch_size=4", "epochs=4", "threads=1", "data.draw=12",
    "optim.lr=0.02",
    "checkpoint.every=3", "checkpoint.keep=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clothing")
    source = base.find("clothing1m").make_example(folder / "raw")
    convert(source, folder / "store", options=ConvertOptions(resize="shorter=24"), progress=None)
    return folder / "store"


ACCURACIES = [0.3, 0.7, 0.5, 0.6]  # of the epochs: real ones on so few images would often be equal


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    original = selection.Selection.observe

    def observe(self: selection.Selection, epoch: int, evaluated: dict[str, Any]) -> bool:
        return original(self, epoch, {self.name: {"scripted": {"accuracy": ACCURACIES[epoch]}}})

    monkeypatch.setattr(selection.Selection, "observe", observe)


def resolve(method: str, store: Path, *words: str) -> Any:
    return setup.resolve(f"clothing1m-{method}", [*SMALL, *words], str(store))


def lines(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "crc32")} for line in found]


def same(one: Path, two: Path) -> None:
    for a, b in (
        (checkpoint.load_newest(one / "checkpoints"), checkpoint.load_newest(two / "checkpoints")),
        (checkpoint.load(one / "checkpoints/best"), checkpoint.load(two / "checkpoints/best")),
    ):
        assert a.position == b.position
        assert all(torch.equal(a.state["method"][name], b.state["method"][name]) for name in a.state["method"])
        assert a.state["selection"] == b.state["selection"]
    assert (one / "issues.csv").read_text() == (two / "issues.csv").read_text()


@pytest.mark.parametrize("method", ["ce", "nrd", "alasca"])
def test_stopped_anywhere_and_resumed_is_the_same_run(
    method: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loop.start(resolve(method, store), tmp_path / "whole")
    assert whole["selected"] == {"by": "val", "epoch": 1, "accuracy": 0.7}
    original = Stepper.__call__
    for stop_at in (2, 3, 8, 12) if method == "ce" else (4,):  # three steps an epoch
        run, calls = tmp_path / f"stopped-{stop_at}", 0

        def counted(self: Stepper, *args: Any) -> None:
            nonlocal calls
            original(self, *args)
            calls += 1
            if calls == stop_at:  # noqa: B023
                signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr(Stepper, "__call__", counted)
        with pytest.raises(loop.Interrupted), on_signals() as stop:
            loop.start(resolve(method, store), run, stop=stop)
        monkeypatch.setattr(Stepper, "__call__", original)
        assert loop.resume(run) == whole
        assert lines(run) == lines(tmp_path / "whole")
        same(tmp_path / "whole", run)


def test_each_epoch_sees_its_own_draw(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, list[int]] = {}
    original = Stepper.__call__

    def watched(self: Stepper, batches: Any, progress: Any, totals: Any) -> None:
        epoch = int(progress.epoch)
        seen.setdefault(epoch, []).extend(batches["train"].indices.tolist())
        original(self, batches, progress, totals)

    monkeypatch.setattr(Stepper, "__call__", watched)
    loop.start(resolve("ce", store), tmp_path / "run")
    given = open_store(store).split("train").given_labels
    assert len({tuple(sorted(rows)) for rows in seen.values()}) > 1
    for rows in seen.values():
        assert len(rows) == len(set(rows)) == 12
        assert len({int(given[row]) for row in rows}) == 12, "fewer images than classes: of no class more than one"


def test_the_folder_holds_the_chosen_model_and_evaluation_takes_it(store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    final = loop.start(resolve("ce", store), run)
    best = checkpoint.load(run / "checkpoints/best")
    assert best.position == Position(2)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["best", "epoch-0004-pass-0-step-000000"]
    assert final["eval"]["test"] == lines(run)[1]["eval"]["test"] != lines(run)[3]["eval"]["test"]
    assert [line["selected"]["epoch"] for line in lines(run)[:4]] == [0, 1, 1, 1]
    numbers = Run(run).evaluate().predictors["main"]
    assert numbers["ece"] == pytest.approx(final["eval"]["test"]["main"]["ece"], abs=1e-6)
    (run / "checkpoints/best/model.safetensors").write_bytes(b"")
    with pytest.raises(FastnoisyError, match="best is damaged"):
        Run(run).evaluate()


class CutError(Exception):
    """The machine went away."""


def test_cut_between_a_checkpoint_and_the_chosen_model(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loop.start(resolve("ce", store), tmp_path / "whole")
    original, run = RunFolder.save_best, tmp_path / "run"

    def cut(folder: RunFolder, taken: Any, *given: Any) -> None:
        if taken["position"]["epoch"] == 2:
            raise CutError
        original(folder, taken, *given)

    monkeypatch.setattr(RunFolder, "save_best", cut)
    with pytest.raises(CutError):
        loop.start(resolve("ce", store), run)
    monkeypatch.setattr(RunFolder, "save_best", original)
    assert checkpoint.load(run / "checkpoints/best").position == Position(1), "the one before"
    assert loop.resume(run) == whole
    same(tmp_path / "whole", run)


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_chosen_model_that_does_not_fit_its_checkpoint(
    kept: int, lost: bool, store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Newer checkpoints are damaged, so that `best` may lie in the future of the one gone on from, or `best` is
    lost.
    """
    words = ("checkpoint.every=1", "checkpoint.keep=4")
    run = tmp_path / "run"
    whole = loop.start(resolve("ce", store, *words), run)
    shutil.copytree(run, tmp_path / "whole")
    (run / "issues.csv").unlink()
    for newer in checkpoint.listing(run / "checkpoints")[kept:]:
        (newer / "state.pt").write_bytes(b"")
    if lost:
        shutil.rmtree(run / "checkpoints/best")
    final = loop.resume(run, observe=Display())
    said = "the best of the epochs from" in capfd.readouterr().err
    if (kept, lost) == (3, True):  # its weights are nowhere: epoch 4 is the best of what is trained again
        assert final["selected"] == {"by": "val", "epoch": 3, "accuracy": 0.6}
        assert said
        return
    assert final == whole
    assert not said, "the chosen model was at hand, or made again from the checkpoint of its epoch"
    same(tmp_path / "whole", run)


def test_where_nothing_can_be_chosen_any_more_the_last_epoch_is_reported(store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    loop.start(resolve("ce", store), run)
    shutil.rmtree(run / "checkpoints/best")
    final = loop.resume(run)
    assert "selected" not in final
    assert final["eval"]["test"] == lines(run)[3]["eval"]["test"]


def test_a_store_without_the_deciding_split_is_refused(digits: Path, tmp_path: Path) -> None:
    words = ["model.width=4", "data.subset=100", "epochs=1", "select=val"]
    with pytest.raises(
        FastnoisyError, match=r"select=val: .* has no such split .*only train, test.*report the last epoch"
    ):
        loop.start(setup.resolve("digits-ce", words, str(digits)), tmp_path / "run")
    held = loop.start(
        setup.resolve("digits-ce", [*words[:3], "select=holdout", "data.holdout=0.2"], str(digits)),
        tmp_path / "b",
    )
    assert held["selected"]["by"] == "holdout"
