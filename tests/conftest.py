"""Fixtures of all tests: golden numbers, one thread, and where real data lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastnoisy.compiler import missing_packages

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported: fused kernels run on the CPU
os.environ.setdefault("OMP_NUM_THREADS", "1")  # what runs take by default: else two might differ by what else runs here
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two busy threads on two shared cores are slower than one, and one thread gives the same bits everywhere."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    def read(name: str) -> Any:
        return json.loads((Path(__file__).parent / "golden" / f"{name}.json").read_text())

    return read


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("FASTNOISY_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "unpack.py").is_file():
        pytest.skip(f"the real data sets are not at {folder}; set FASTNOISY_TEST_DATA")
    return folder


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {
        "gpu": None if torch.cuda.is_available() else "no CUDA device",
        "compiler": f"torch.compile needs: apt install {lacking}" if (lacking := missing_packages()) else None,
    }
    for item in items:
        for keyword, reason in missing.items():
            if reason and item.get_closest_marker(keyword):
                item.add_marker(pytest.mark.skip(reason=reason))
