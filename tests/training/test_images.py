"""Prediction reads what people point it at as a conversion does: bounded, in workers, in order, by name."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.training import images, loop, setup
from fastnoisy.training.run import Run
from fastnoisy.workers import Status

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("predict") / "run"
    words = ["model.width=4", "data.subset=60", "epochs=1", "batch_size=30", "threads=1", "device=cpu"]
    loop.start(setup.resolve("digits-ce", words, str(digits)), path)
    return path


@pytest.fixture
def photos(digits: Path, tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    (place / "deep").mkdir(parents=True)
    with open_store(digits) as store:
        for i in range(9):
            Image.fromarray(store.split("test").read_image(i)).save(place / ("deep" if i % 2 else "") / f"{i}.png")
    return place


def test_what_cannot_be_read_is_named_and_never_waited_for(run: Path, photos: Path) -> None:
    os.mkfifo(photos / "pipe.png")
    (photos / "gone.png").symlink_to("nowhere")
    (photos / "deep/up").symlink_to("..")
    with (photos / "sparse.png").open("wb") as file:
        file.truncate(40 << 30)
    (photos / "page.png").write_text("<!DOCTYPE html><title>404</title>")
    (photos / "list.txt").write_text("no image")
    (photos / ".ipynb_checkpoints").mkdir()
    Image.new("RGB", (8, 8)).save(photos / ".ipynb_checkpoints/x.png")
    said: list[str] = []
    found = list(Run(run, said.append).predict(photos))
    problems = {str(p.path.relative_to(photos)): p.problem for p in found if p.problem and p.path}
    assert [p.path.name for p in found if not p.problem and p.path] == [
        "0.png", "2.png", "4.png", "6.png", "8.png", "1.png", "3.png", "5.png", "7.png",
    ]  # fmt: skip
    assert problems == {
        "sparse.png": "more than 1 GiB in one file",
        "page.png": "a web page, perhaps the error that a download got",
        "deep/up": "a link to a folder that it lies in",
        "gone.png": "a link to what is not there",
        "pipe.png": "neither a file nor a folder, but a pipe, a socket or a device",
    }
    assert said == [
        f"note: {photos}: passed over what the system keeps for itself: .ipynb_checkpoints (1)",
        f"note: {photos}: passed over files whose names are of no images: .txt (1)",
    ]
    (pipe,) = Run(run).predict(photos / "pipe.png")
    assert "not a regular file" in pipe.problem


def test_the_time_limit_is_the_conversions(run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = images.encode

    def slow(read: object, plan: object) -> object:
        while getattr(read, "args", ("",))[0] == photos / "2.png":
            pass
        return encode(read, plan)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "encode", slow)
    found = {p.path.name: p.problem for p in Run(run).predict(photos, timeout=0.3) if p.path}
    assert found["2.png"] == "took longer than 0.3 s to read and decode"
    assert sum(not problem for problem in found.values()) == 8
    with pytest.raises(FastnoisyError, match="timeout"):
        next(Run(run).predict(photos, timeout=float("nan")))


def test_files_and_pixels_in_one_list_and_the_same_answers_whoever_decodes(run: Path, photos: Path) -> None:
    opened = Run(run)
    told: list[Status] = []
    pixels = np.asarray(Image.open(photos / "4.png").convert("RGB"))
    listed = [photos / "4.png", pixels, torch.from_numpy(pixels.copy()), photos, photos / "0.png"]
    found = list(opened.predict(listed, workers=3, progress=told.append))
    assert len({(p.class_name, p.probability) for p in found[:3]}) == 1
    assert [p.path for p in found[1:3]] == [None, None]
    assert told == [Status(13, 13, 0)]
    assert list(opened.predict(listed, workers=1)) == found


def test_in_a_thread_and_stopped_early(run: Path, photos: Path) -> None:
    found: list[object] = []

    def predict() -> None:
        found.extend(Run(run).predict(photos))

    thread = threading.Thread(target=predict)
    thread.start()
    thread.join(60)
    assert len(found) == 9
    answers = Run(run).predict(photos)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert list(Run(run).predict(photos)) == found


def test_the_command_writes_data_to_a_pipe_and_words_to_standard_error(run: Path, photos: Path) -> None:
    (photos / "a\x1b]0;x\x07.png").write_bytes((photos / "0.png").read_bytes())
    (photos / "b\x1b[31m.png").write_bytes(b"nothing")
    words = ["predict", str(run), str(photos), "--workers", "2", "--timeout", "30"]
    command = [sys.executable, "-m", "fastnoisy", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 11
    assert "a\x1b]0;x\x07.png," in done.stdout
    assert "\x1b" not in done.stderr
    assert "b\\x1b[31m.png: a text" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_too_little_main_memory_is_one_line(command: str, run: Path, digits: Path, tmp_path: Path) -> None:
    """What numpy, Python and torch call by different names."""
    words = ["evaluate", str(run), "--device", "cpu"]
    if command == "train":
        words = ["train", "digits-ce", "batch_size=600", "device=cpu", "threads=1", "--data", str(digits)]
        words += ["--out", str(tmp_path / "run")]
    code = f"""
import resource, sys, torch, numpy, fastnoisy.cli, fastnoisy.training.run, fastnoisy.pipelines.resident
import torch.onnx  # kornia's, in the first step: Python's own words for an import without memory are a SystemError
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
sys.argv[1:] = {words!r}
torch.set_num_threads(1)
resource.setrlimit(resource.RLIMIT_AS, (size + (12 << 20),) * 2)
fastnoisy.cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "memory" in done.stderr
    assert not (tmp_path / "run").exists()
