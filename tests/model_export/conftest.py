"""Small runs on photographs of differing size, and what follows preprocessing.json without fastnoisy."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import fastnoisy

WORDS = ("views.size=32", "epochs=1", "batch_size=8", "device=cpu", "threads=1")
NETWORKS = {"own": "model=preact_small(width=4)", "timm": "model=test_resnet"}
Trained = Callable[..., fastnoisy.Run]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth photographs of three classes, 20 each, so that a resize does to them what it does to real ones."""
    rng, folder = np.random.default_rng(1), tmp_path_factory.mktemp("images") / "photos"
    for number in range(60):
        path = folder / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 130, (6, 6, 3), dtype=np.uint8) + np.uint8(60 * (number % 3))
        Image.fromarray(small).resize((70 + number % 7, 66 + number % 5), Image.Resampling.BICUBIC).save(path)
    return folder


@pytest.fixture(scope="session")
def photo_store(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("stores") / "photos"
    fastnoisy.convert(photos, store, resize="max=64", storage="raw", test_fraction=0.2, workers=1)
    return store


@pytest.fixture(scope="session")
def trained(photo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of a method, trained once: `trained("alasca", "timm", "method.base=co-teaching")`."""
    made: dict[tuple[str, ...], Path] = {}

    def train(method: str, network: str, *words: str) -> fastnoisy.Run:
        key = (method, network, *words)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("runs") / "run"
            overrides = (*WORDS, NETWORKS[network], *words)
            fastnoisy.train(
                f"folder-{method}", *overrides, data=photo_store, out=made[key], progress=lambda event: None
            )
        return fastnoisy.load(made[key])

    return train


@pytest.fixture(scope="session")
def follow() -> ModuleType:
    spec = importlib.util.spec_from_file_location("follow", Path(__file__).with_name("follow.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
