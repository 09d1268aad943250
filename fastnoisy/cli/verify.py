"""Find damage anywhere in a store, and stamp it where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fastnoisy.cli._group import say, warn

_EPILOG = """\b
Examples:
  fastnoisy verify stores/photos
  fastnoisy verify from-ffcv/ --adopt    (train.beton and val.beton, as ffcv wrote them)
"""


@click.command(epilog=_EPILOG)
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--adopt", is_flag=True, help="Make a store of .beton files that ffcv wrote, where they lie.")
@click.option("--workers", type=int, metavar="N", help="Processes. Default: one per core, as far as memory allows.")
def command(store: Path, adopt: bool, workers: int | None) -> None:
    """Read every byte of STORE and decode every record, and name what is damaged.

    A split in which all is well gets a stamp, which the ffcv and dali pipelines ask for. With --adopt,
    files that ffcv wrote, named train.beton, val.beton or test.beton, become a store where they lie. Exit code 0:
    whole;
    1: damaged; 2: no store.
    """
    from fastnoisy.cli.convert import show_progress
    from fastnoisy.data.conversion.adopt import adopt as make_store
    from fastnoisy.data.store.verify import verify

    with show_progress("verifying", "damaged") as progress:
        problems = (make_store if adopt else verify)(store, workers=workers, progress=progress, say=say)
    for problem in problems:
        say(problem)
    if problems:
        warn(f"{store}: {len(problems):,} problem{'s' * (len(problems) > 1)}")
        sys.exit(1)
    say(f"{store}: whole")
