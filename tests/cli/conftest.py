"""Commands called in this process, converted digits, and a small folder of images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy import cli


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; gives exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fastnoisy", *map(str, words)])
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as leave:
            code = int(leave.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fastnoisy.data.conversion.convert import ConvertOptions, convert

    out = tmp_path_factory.mktemp("cli") / "digits"
    convert("digits", out, options=ConvertOptions(), progress=None)
    return out


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with the folder `photos`, train 8 and test 3 of each of three classes, converted as `store`."""
    from fastnoisy import convert

    folder, rng = tmp_path_factory.mktemp("animals"), np.random.default_rng(3)
    for split, count in (("train", 8), ("test", 3)):
        for name in ("cat", "dog", "owl"):
            (folder / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "photos" / split / name / f"{i}.png")
    convert(folder / "photos", folder / "store", workers=1)
    return folder
