"""What labels written as texts mean: the order of class names."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


def in_order(names: Iterable[str]) -> list[str]:
    """Class names in the one order that every source gives them: by number where all are whole numbers, else sorted.

    Texts that differ are classes that differ, so `01` and `1` stand side by side, in the order of their texts.
    """
    unique = sorted(set(names))
    if all(_WHOLE.fullmatch(name) for name in unique):
        unique.sort(key=int)
    return unique
