"""Compare runs: mean and standard deviation over seeds, gains paired by seed."""

from __future__ import annotations

from pathlib import Path

import click

from fastnoisy.cli._group import say_lines, warn

_EPILOG = """\b
Examples:
  fastnoisy compare runs/table/*
  fastnoisy compare runs/ce-seed1 runs/ce-seed2 runs/nrd-seed1 runs/nrd-seed2 --json
"""


@click.command(epilog=_EPILOG)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the numbers of every run as JSON.")
def command(runs: tuple[Path, ...], as_json: bool) -> None:
    """Print one table of runs: those that differ in their seed alone are one row, and the first row is the yardstick.

    Accuracy is the last epoch's on the run's test split, or that of the epoch which the run chose (select=).
    """
    from fastnoisy import api

    found = api.compare(*runs, say=warn)
    say_lines(found.json() if as_json else found.text())
