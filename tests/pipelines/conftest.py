"""A split that every pipeline opens: scikit-learn's digits, verified as every conversion is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastnoisy.data.conversion.convert import convert
from fastnoisy.data.store import Split, open_store


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Split]:
    out = tmp_path_factory.mktemp("pipelines") / "digits"
    convert("digits", out, progress=None)
    with open_store(out) as opened:
        yield opened.split("train")
