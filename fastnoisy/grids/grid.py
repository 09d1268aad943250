"""A grid of runs: recipes and `key=VALUE,VALUE` words, every combination of which is a cell."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastnoisy.errors import FastnoisyError

_LONGEST = 120  # of a folder's name


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        recipe: as `fastnoisy train` takes it.
        words: all of its overrides.
        point: the values by which it differs from the others, `key=VALUE` each, the recipe's name first where there are
            several.
        name: of its folder.
    """

    recipe: str
    words: tuple[str, ...]
    point: tuple[str, ...]
    name: str


def cells(recipes: str, words: Sequence[str]) -> list[Cell]:
    """The cells of a grid, the last axis changing fastest.

    Args:
        recipes: one or more, separated by commas.
        words: `key=VALUE` for all cells, `key=VALUE,VALUE,...` for an axis. Commas within brackets and quotes part
            nothing.

    Raises:
        FastnoisyError: a word without `=`, an empty value, a value twice.
    """
    names = _values(recipes, "RECIPE")
    fixed, axes = [], []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise FastnoisyError(f"{word[:200]!r} is not of the form key=value", "Write for example seed=1,2,3")
        values = _values(text, key)
        if len(values) > 1:
            axes.append([f"{key}={value}" for value in values])
        else:
            fixed.append(word)
    found = []
    for recipe, *point in itertools.product(names, *axes):
        own = (*((recipe,) if len(names) > 1 else ()), *point)
        found.append(Cell(recipe, (*fixed, *point), own, _folder((recipe, *point))))
    return found


def _values(text: str, key: str) -> list[str]:
    """The values of a list with commas, as written."""
    found, depth, quote, start = [], 0, "", 0
    for place, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            found.append(text[start:place].strip())
            start = place + 1
    found.append(text[start:].strip())
    if len(found) > 1 and not all(found):
        raise FastnoisyError(f"{key}={text[:200]}: a value is empty", "Leave out the comma that is too many")
    if len(set(found)) < len(found):
        raise FastnoisyError(f"{key}={text[:200]}: a value is there twice", "Name each value once")
    return found


def _folder(parts: Iterable[str]) -> str:
    """A folder's name of what a cell is."""
    plain = ",".join(part.rpartition("/")[2] if "=" not in part else part for part in parts)
    name = re.sub(r"[^\w.,=:+-]", "_", plain)
    if name == plain and len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{zlib.crc32(plain.encode()):08x}"
