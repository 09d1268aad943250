"""Using a trained run: evaluation on a store, and predictions for image files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastnoisy import config, machine, pipelines
from fastnoisy.augment import parse_view
from fastnoisy.data.beton import RAW
from fastnoisy.data.encode import Plan, Rejection, Resize, encode
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Method, NoiseFacts
from fastnoisy.sample_memory import SampleMemory
from fastnoisy.training import checkpoint, evaluate, setup

_BATCH = 64


@dataclass(frozen=True)
class Report:
    """An evaluation: `predictors` maps each predictor's name to its numbers, the reported one first."""

    data: str
    images: int
    predictors: dict[str, dict[str, float]]
    classes: list[dict[str, Any]]


def evaluate_run(run: Path, store: str = "", split: str = "", device_name: str = "auto") -> Report:
    """Evaluate the newest checkpoint of a run, or the chosen one where the run selects (`checkpoint.load_reported`).

    Args:
        store: another store than the run's own; it must have the same classes.
        split: default: the run's test split.

    Raises:
        FastnoisyError: no run, no checkpoint, unknown split, other classes.
    """
    settings, found = _open_run(run)
    device = setup.choose_device(device_name)
    setup.set_threads(settings.threads)
    opened = open_store(Path(store or settings.data.store))
    part = opened.split(split or setup.test_split(settings, opened))
    names = _metadata(found, "class_names")
    setup.check_classes(f"{opened.path} ({part.name})", part.class_names, names)
    method = _restored(settings, found, len(names), device)
    view = setup.build_view(settings, "eval", "eval", device)
    labels = part.given_labels if part.clean_labels is None else part.clean_labels
    name, _ = pipelines.choose("auto", [part], device, machine.available_device(device))
    workers = pipelines.worker_count(name, settings.data.workers)
    with pipelines.open_pipeline(name, part, labels, device, workers) as pipeline:
        all_rows = np.arange(part.num_samples)
        logits = evaluate.collect_logits(method, pipeline, view, all_rows, settings.batch_size)
    truth = torch.from_numpy(labels)
    numbers = {predictor: evaluate.classification(z, truth) for predictor, z in logits.items()}
    reported = next(iter(logits.values()))
    classes = evaluate.per_class(reported, truth, part.class_names)
    return Report(f"{opened.path} ({part.name})", part.num_samples, numbers, classes)


@dataclass(frozen=True)
class Prediction:
    """What a file shows, or why that cannot be said (`problem`)."""

    path: Path
    class_name: str = ""
    probability: float = 0.0
    problem: str = ""


def predict_files(run: Path, paths: list[Path], device_name: str = "auto") -> Iterator[Prediction]:
    """Predict files, and every file below folders, in order, by what the run reports: both networks where a method has two.

    Raises:
        FastnoisyError: no run, no checkpoint, a path that does not exist.
    """
    files = _files(paths)
    settings, found = _open_run(run)
    device = setup.choose_device(device_name)
    setup.set_threads(settings.threads)
    names: list[str] = _metadata(found, "class_names")
    method = _restored(settings, found, len(names), device).eval()
    view = parse_view(_metadata(found, "view")).build(
        "eval", mean=_metadata(found, "mean"), std=_metadata(found, "std"), dtype=getattr(torch, settings.dtype)
    )
    view.to(device)
    height, width = _metadata(found, "canvas")
    plan = Plan(Resize.parse(_metadata(found, "resize")), (height, width), "raw", 90, 3 * height * width)
    for start in range(0, len(files), _BATCH):
        chunk = [(path, _read(path, plan)) for path in files[start : start + _BATCH]]
        good = [image for _, image in chunk if isinstance(image, np.ndarray)]
        canvas = torch.zeros(len(good), height, width, 3, dtype=torch.uint8)
        sizes = torch.tensor([image.shape[:2] for image in good], dtype=torch.int32).reshape(-1, 2)
        for slot, image in enumerate(good):
            canvas[slot, : image.shape[0], : image.shape[1]] = torch.from_numpy(image)
        answers: Iterator[tuple[int, float]] = iter(())
        if good:
            with torch.no_grad():
                indices = torch.arange(len(good), device=device)
                images = view(canvas.to(device).permute(0, 3, 1, 2), sizes.to(device), indices, 0)
                probabilities = method.predict(images).float().softmax(dim=1)
            best = probabilities.max(dim=1)
            answers = iter(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        for path, content in chunk:
            if isinstance(content, Rejection):
                yield Prediction(path, problem=content.reason)
            else:
                number, probability = next(answers)
                yield Prediction(path, names[number], probability)


def _open_run(run: Path) -> tuple[config.Config, checkpoint.Checkpoint]:
    if not (run / "config.toml").is_file():
        raise FastnoisyError(f"{run} holds no run: config.toml is missing", "Name the folder given to --out")
    settings = setup.check(config.read_toml(run / "config.toml"))
    return settings, checkpoint.load_reported(run / "checkpoints", settings.select, say=_warn)


def _restored(settings: config.Config, found: checkpoint.Checkpoint, num_classes: int, device: torch.device) -> Method:
    rows: int = found.state["num_samples"]
    method = setup.build_method(settings, num_classes, rows, NoiseFacts(), restored=True)
    checkpoint.restore(method, found)
    for module in method.modules():
        if isinstance(module, SampleMemory):  # no prediction reads it, and it may be larger than the device's memory
            module.rows = module.rows.new_empty(0, module.rows.shape[1])
    return method.to(device)


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _metadata(found: checkpoint.Checkpoint, key: str) -> Any:
    if key not in found.metadata:
        raise FastnoisyError(f"checkpoint {found.path} says nothing of {key!r}: it is not one of fastnoisy's")
    return json.loads(found.metadata[key])


def _files(paths: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        elif path.exists():
            files.append(path)
        else:
            raise FastnoisyError(f"{path} does not exist")
    return files


def _read(path: Path, plan: Plan) -> np.ndarray | Rejection:
    """The pixels of a file as a store would hold them, uint8 (h, w, 3), or why there are none."""
    record = encode(path.read_bytes, plan)
    if isinstance(record, Rejection):
        return record
    assert record.mode == RAW
    return np.frombuffer(bytearray(record.data), np.uint8).reshape(record.height, record.width, 3)
