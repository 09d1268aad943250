"""What the compiled functions are made of, and whether they are kept; numba is not imported for it."""

from __future__ import annotations

from pathlib import Path

import fastnoisy
from fastnoisy.compiler import kept_in

_PACKAGE = Path(fastnoisy.__file__).parent
SOURCES = (  # constants of the steps and of the reference's operations are compiled in
    _PACKAGE / "keyed_random.py",
    _PACKAGE / "resample_passes.py",
    *sorted((_PACKAGE / "augment").rglob("*.py")),
)


def is_kept() -> bool:
    """Whether a process before this one has compiled and kept them."""
    folder = kept_in(*SOURCES)
    return folder is not None and any(folder.glob("*/interpreter.run-*.nbc"))
