"""Train a grid of runs, here or on a Ray cluster, and print one table."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fastnoisy.cli._group import say_lines, warn
from fastnoisy.errors import FastnoisyError

_EPILOG = """\b
Examples:
  fastnoisy sweep digits-ce,digits-nrd,digits-alasca seed=1,2,3,4,5 --data stores/digits --out runs/table
  fastnoisy sweep cifar10-nrd seed=1,2,3 noise=symmetric:0.2,symmetric:0.8 --data stores/cifar10 --out runs/nrd
  fastnoisy sweep cifar10-ce optim.lr=0.01,0.05 data.holdout=0.1 --select holdout --data stores/cifar10 --out runs/lr
  fastnoisy sweep cifar10-nrd seed=1,2,3 --data /shared/cifar10 --out /shared/runs --ray auto
"""


@click.command(epilog=_EPILOG)
@click.argument("recipes", metavar="RECIPE[,RECIPE...]")
@click.argument("words", nargs=-1, metavar="[KEY=VALUE[,VALUE...]]...")
@click.option("--data", "store", metavar="STORE", default="", help="Folder that 'fastnoisy convert' wrote.")
@click.option("--out", metavar="GRID", type=click.Path(path_type=Path), required=True, help="Folder for the runs.")
@click.option(
    "--per-device",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Runs at a time on one GPU; without a GPU, on this machine.",
)
@click.option("--ray", metavar="ADDRESS|local", default="", help="Run the cells as tasks of a Ray cluster.")
@click.option(
    "--select",
    type=click.Choice(["holdout"]),
    help="Name the point that is best on the noisy labels held out (data.holdout=), never on test data.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers of every run as JSON.")
@click.option("--quiet", is_flag=True, help="Print the table alone.")
def command(
    recipes: str,
    words: tuple[str, ...],
    store: str,
    out: Path,
    per_device: int,
    ray: str,
    select: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train every combination of the recipes and values, each as a run folder in GRID.

    A run that is finished is read, one that was interrupted goes on, and one that another process has at work is waited
    for: a sweep that was stopped goes on when the same command is given again. The table has mean and standard
    deviation over seeds, and gains over the first row paired by seed; the accuracy is the last epoch's on the test
    split.
    """
    from fastnoisy import api
    from fastnoisy.training.stop import on_signals

    with on_signals() as stop, stop.looked_at():
        found = api.sweep(
            recipes, *words, data=store, out=out, per_device=per_device, ray=ray, select=select or "",
            say=(lambda line: None) if quiet else warn, stop=stop,
        )  # fmt: skip
    say_lines(found.json() if as_json else found.text())
    if stop.signal_number:
        sys.exit(128 + stop.signal_number)
    if found.problems:
        listed = "".join(f"\n  {problem}" for problem in found.problems)
        raise FastnoisyError(f"{len(found.problems)} of {found.cells} runs failed:{listed}")
