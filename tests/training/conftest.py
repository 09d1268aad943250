"""A converted digits store, and how a run is started in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastnoisy.data.conversion.convert import ConvertOptions, convert


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stores") / "digits"
    convert("digits", out, options=ConvertOptions(), progress=None)
    return out
