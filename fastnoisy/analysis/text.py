"""Text as people see it in tables and figures: class names made printable and short, tables never squeezed."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from fastnoisy.errors import one_line


def printable(name: str) -> str:
    """The name on one line, with what a terminal would obey or a font lacks as escapes; never empty."""
    return one_line(name).strip() or "(no name)"


def shorten(name: str, fits: Callable[[str], bool]) -> str:
    """The name, or as much of its beginning and end as fits, with an ellipsis between: ends often tell classes apart.

    Args:
        name: printable.
        fits: whether a text has room; what is shorter is taken to be narrower.
    """
    if fits(name):
        return name
    for kept in range(len(name) - 1, 0, -1):
        text = f"{name[: (kept + 1) // 2]}…{name[len(name) - kept // 2 :]}"
        if fits(text):
            return text
    return "…"


def shorten_to(name: str, length: int) -> str:
    """`shorten` to so many characters."""
    return shorten(name, lambda text: len(text) <= length)


def print_table(table: Table) -> None:
    """Print a table in its own width: in a narrower window its lines wrap, where rich would drop columns or digits."""
    console = Console()
    needed = Measurement.get(console, console.options.update(max_width=100_000), table).maximum
    Console(width=max(console.width, needed), soft_wrap=True).print(table)
