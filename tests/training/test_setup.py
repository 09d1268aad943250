"""What a run is refused before it begins, and the device it is put on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.errors import FastnoisyError
from fastnoisy.training import setup
from fastnoisy.training.device import choose_device

WORDS = ["model=preact_small(width=4)", "batch_size=4", "threads=1", "device=cpu", "views.size=16"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes in train and val, without a test split."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(12):
        path = folder / "source" / ("val" if number >= 8 else "train") / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 20 * number, np.uint8)).save(path)
    convert(f"folder:{folder / 'source'}", folder / "store", options=ConvertOptions(), progress=None)
    return folder / "store"


def test_a_set_named_like_the_one_that_chooses_the_epoch_is_refused(store: Path) -> None:
    """It would take the own split's place, and the epoch would be chosen on it."""
    with pytest.raises(FastnoisyError, match=r"eval\.val: the name is taken by the run's own data"):
        setup.resolve("folder-ce", [*WORDS, "select=val", f"eval.val={store}"], str(store))


def test_a_set_named_like_the_split_that_stands_in_for_the_test_is_refused(store: Path) -> None:
    settings = setup.resolve("folder-ce", [*WORDS, f"eval.val={store}"], str(store))
    with pytest.raises(FastnoisyError, match=r"eval\.val: the name is taken .*eval\.val2="):
        setup.prepare(settings)
    settings = setup.resolve("folder-ce", [*WORDS, f"eval.val2={store}/val"], str(store))
    assert [item.name for item in setup.prepare(settings).eval_sets] == ["val", "val2"]


def test_the_gpu_that_is_named_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else pinned memory and what FFCV copies would go by GPU 0."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    for name in ("cpu", "cuda", "auto"):
        choose_device(name)
    assert current == []
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert current == [torch.device("cuda:1")]
    with pytest.raises(FastnoisyError, match="this machine has 2 GPUs"):
        choose_device("cuda:2")
    assert len(current) == 1


@pytest.mark.parametrize("width", [1_000_000, 10**15])
def test_a_network_that_no_memory_holds_is_refused_in_a_line(width: int, store: Path) -> None:
    words = [word for word in WORDS if not word.startswith("model=")]
    settings = setup.resolve("folder-nrd", [*words, f"model=preact_small(width={width})"], str(store))
    with pytest.raises(FastnoisyError, match=r"model preact_small of method nrd (takes|cannot be built)"):
        setup.prepare(settings)
