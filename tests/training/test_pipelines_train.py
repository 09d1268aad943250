"""Whole runs on every pipeline: the same weights, whatever brought the images; blocked order; a staged store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fastnoisy import machine, pipelines
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import open_store
from fastnoisy.training import loop, setup
from fastnoisy.training.logs import Display
from fastnoisy.training.run import Run
from fastnoisy.training.run_folder import RunFolder

WORDS = [
    "model=preact_small",
    "model.width=4",
    "epochs=2",
    "batch_size=10",
    "threads=1",
    "device=cpu",
    "views.size=32",
    "noise=symmetric:0.3",
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 JPEGs of differing sizes in two classes, and 10 to test."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for number in range(70):
        pixels = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        path = folder / "source" / ("test" if number >= 60 else "train") / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((72 + number % 5, 66 + number % 7)).save(path)
    convert(f"folder:{folder / 'source'}", folder / "store", options=ConvertOptions(resize="max=80"), progress=None)
    return folder / "store"


def run(store: Path, out: Path, *words: str) -> list[dict[str, Any]]:
    loop.start(setup.resolve("folder-nrd", [*WORDS, *words], str(store)), out)
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "crc32")} for line in found]


@pytest.mark.parametrize("name", [n for n in pipelines.names() if n not in ("resident", "synthetic")])
def test_a_run_is_the_same_on_every_pipeline(name: str, photos: Path, tmp_path: Path) -> None:
    if name == "dali":
        pytest.importorskip("nvidia.dali")
    elif name == "ffcv":
        pytest.importorskip("ffcv")
    expected = run(photos, tmp_path / "resident", "pipeline=resident")
    found = run(photos, tmp_path / name, f"pipeline={name}")
    if pipelines.find(name).exact_jpeg:
        assert found == expected
        weights = [
            load_file(tmp_path / out / "checkpoints/epoch-0002-pass-0-step-000000/model.safetensors")
            for out in ("resident", name)
        ]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    else:
        assert found[-1]["train"].keys() == expected[-1]["train"].keys()


def test_a_run_on_synthetic_data_ends_and_pretends_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("synthetic", "resident"):
        out = tmp_path / name
        final = loop.start(setup.resolve("folder-nrd", [*WORDS, f"pipeline={name}"], str(photos)), out, Display())
        assert final["event"] == "final"
        said = capsys.readouterr().err
        synthetic = name == "synthetic"
        assert ("note: pipeline synthetic shows made-up pixels" in said) == synthetic
        assert ("nothing was learnt" in said.splitlines()[-1]) == synthetic
        assert ("issues.csv" in said.splitlines()[-1]) != synthetic
        assert (out / "issues.csv").exists() != synthetic


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pipeline=torch-loader"], 3),
        (["pipeline=torch-loader", "data.workers=0"], 0),
        (["pipeline=torch-loader", "data.workers=2"], 2),
        (["pipeline=auto"], 3),
        (["pipeline=resident"], 0),  # which then chooses itself
    ],
)
def test_workers_are_one_per_core_unless_given(
    words: list[str], expected: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However torch-loader was chosen, in training and, of a finished run, in evaluation."""
    asked: list[int] = []
    cls = pipelines.find("resident" if words == ["pipeline=resident"] else "torch-loader")
    original = cls.__init__

    def note(self: Any, split: Any, labels: Any, device: Any, workers: int, options: Any) -> None:
        asked.append(workers)
        original(self, split, labels, device, 0, options)

    monkeypatch.setattr("fastnoisy.pipelines.torch_loader.cores", lambda: 3)
    monkeypatch.setattr(cls, "__init__", note)
    if words != ["pipeline=resident"]:
        forced = pipelines.Choice("torch-loader", "as if nothing else could be had", cls.Options())
        monkeypatch.setattr(pipelines, "choose", lambda *_: forced)
    run(photos, tmp_path / "run", "epochs=1", *words)
    assert asked == [expected] * len(asked)
    assert len(asked) >= 2
    asked.clear()
    Run(tmp_path / "run").evaluate()
    assert asked == [expected]


def test_blocked_order_with_a_staged_store(photos: Path, tmp_path: Path) -> None:
    random = run(photos, tmp_path / "random", "pipeline=resident")
    blocked = run(photos, tmp_path / "a", "pipeline=resident", "data.order=blocked", "data.window=1")
    assert blocked == random, "one page holds all of this store, so both orders are one"
    staged = run(
        photos, tmp_path / "b", "pipeline=torch-loader", "data.order=blocked", f"data.stage={tmp_path / 'local'}"
    )
    assert staged == blocked
    copies = [path for path in (tmp_path / "local").iterdir() if path.is_dir()]
    assert len(copies) == 1
    with open_store(copies[0]) as copy:
        assert set(copy.splits) == {"train", "test"}


def test_the_order_of_a_run_is_blocked(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = setup.prepare(setup.resolve("folder-nrd", [*WORDS, "data.order=blocked", "data.window=2"], str(photos)))
    pages = np.arange(prepared.split.num_samples) // 10
    monkeypatch.setattr(type(prepared.split), "pages", property(lambda self: pages))
    visited = pages[prepared.order(prepared.populations["train"], "main", 0)]
    for start in (0, 20, 40):
        assert len(set(visited[start : start + 20].tolist())) == 2
    assert sorted(visited.tolist()) == pages.tolist()


def test_auto_says_why(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("ffcv")
    monkeypatch.setattr(machine, "available_host", lambda: 1_500_000)  # the images, 1.0 MB, take more than half
    monkeypatch.setattr("fastnoisy.training.preflight.check", lambda *_: [])
    prepared = setup.prepare(setup.resolve("folder-nrd", WORDS, str(photos)))
    with Display() as display, loop.opened(loop.Job.of(prepared, RunFolder(tmp_path / "run"), display)):
        pass
    said = capsys.readouterr().err
    assert "pipeline ffcv: the decoded images take" in said
