"""fastnoisy from Python: the examples of docs/python.md, in a thread, in a notebook and twice in one process."""

from __future__ import annotations

import importlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fastnoisy
from fastnoisy.errors import FastnoisyError

ROOT = Path(__file__).resolve().parent.parent
CELLS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), flags=re.S)
WORDS = ("model=preact_small(width=4)", "views.size=32", "epochs=1", "batch_size=8", "device=cpu")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with photographs of two classes."""
    rng = np.random.default_rng(1)
    for number in range(40):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8) // 2 + 120 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).resize((70 + number % 5, 66)).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def unheard(event: fastnoisy.Event) -> None:
    """An observer that shows nothing."""


def surroundings() -> dict[str, Any]:
    """What belongs to the caller. What others' packages change when they are imported is not ours: they are imported
    here.
    """
    for name in ("fastnoisy.training.run", "sklearn.mixture", "timm", "kornia", "numba", "torch._dynamo"):
        importlib.import_module(name)
    state = np.random.get_state()
    return {
        "threads": torch.get_num_threads(),
        "handlers": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)},
        "torch": torch.get_rng_state().tolist(),
        "numpy": (state[0], state[1].tolist(), *state[2:]),
        "python": random.getstate(),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "warnings": list(warnings.filters),
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
    }


def test_the_cells_of_a_notebook(place: Path) -> None:
    """A plain exec of each cell in one namespace, as notebooks do, is the documentation's examples."""
    torch.set_num_threads(2)  # not what the tests have, so that one which is put back shows
    before, space = surroundings(), {"__name__": "__main__"}
    for cell in CELLS:
        exec(compile(cell, "cell", "exec"), space)
    after = surroundings()
    assert [what for what in before if after[what] != before[what]] == []
    assert len(CELLS) == 5
    assert (place / "runs/stopped/config.toml").exists(), "a run that was stopped can go on"


def test_from_a_thread_and_twice_in_one_process(place: Path) -> None:
    before = surroundings()
    found: list[Any] = []

    def work(number: int) -> None:
        try:
            store = fastnoisy.convert("photos", f"stores/{number}", resize="max=80", test_fraction=0.2, workers=1).path
            run = fastnoisy.train(
                "folder-alasca", *WORDS, "pipeline=torch-loader", data=store, out=f"runs/{number}", progress=unheard
            )
            assert run.final is not None
            run = fastnoisy.load(run.path).resume("epochs=2", progress=unheard)
            paths = [prediction.class_name for prediction in run.predict("photos")]
            found.append((run.final["eval"], paths, run.evaluate().predictors, [i.index for i in run.issues()]))
        except BaseException as error:
            found.append(error)

    for number in (1, 2):
        thread = threading.Thread(target=work, args=(number,))
        thread.start()
        thread.join()
    work(3)
    assert not isinstance(found[0], BaseException), found[0]
    assert found[0] == found[1] == found[2]
    after = surroundings()
    assert [what for what in before if after[what] != before[what]] == []


def test_predictions_leave_the_caller_alone_between_two_images(place: Path) -> None:
    fastnoisy.convert("photos", "store", resize="max=80", test_fraction=0.2, workers=1)
    with pytest.warns(UserWarning, match="note: lr never falls"):  # nobody listens, so a note is a warning
        run = fastnoisy.train("folder-ce", *WORDS, "threads=2", data="store", out="run")
    assert torch.get_num_threads() == 1
    answers = run.predict([np.zeros((70, 66, 3), np.uint8), Path("photos/a/0.jpg"), torch.zeros(2, 9, 9, 3).byte()])
    first = next(answers)
    assert torch.get_num_threads() == 1
    assert first.path is None
    assert [p.path for p in answers] == [Path("photos/a/0.jpg"), None, None]
    with pytest.raises(FastnoisyError, match=r"pixels are uint8 \(h, w, 3\).*float32"):
        next(run.predict(np.zeros((4, 4, 3), np.float32)))
    pixels = np.asarray(Image.open("photos/a/0.jpg").convert("RGB"))
    as_file, as_pixels = run.predict(["photos/a/0.jpg", pixels])
    assert as_file.probability == pytest.approx(as_pixels.probability, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (("seed=x",), {}, "seed"),
        ((), {"data": "nowhere"}, "nowhere"),
        ((), {"out": ""}, "is no folder for a run"),
    ],
)
def test_a_mistake_is_an_error_and_leaves_nothing(words: Any, options: Any, said: str, place: Path) -> None:
    fastnoisy.convert("photos", "store", resize="max=80", workers=1)
    before = sorted(place.rglob("*"))
    with pytest.raises(FastnoisyError, match=said):
        fastnoisy.train("folder-ce", *WORDS, *words, **{"data": "store", "out": "run", **options})
    assert sorted(place.rglob("*")) == before


def test_a_dry_run_is_of_one_process(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(FastnoisyError, match="measures one process"):
        fastnoisy.dry_run("folder-ce", *WORDS, data="store", out="run")


def test_the_face_is_typed_listed_and_imported_on_use() -> None:
    assert (Path(fastnoisy.__file__).parent / "py.typed").exists()
    assert set(fastnoisy.__all__) <= set(dir(fastnoisy))
    code = (
        "import sys, fastnoisy\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "assert all(getattr(fastnoisy, name) is not None for name in fastnoisy.__all__)\n"
        "assert not hasattr(fastnoisy, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)
