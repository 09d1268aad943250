"""Train a recipe on a store, or go on with a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from fastnoisy.errors import FastnoisyError

_EPILOG = """\b
Examples:
  fastnoisy train digits-nrd noise=symmetric:0.4 --data stores/digits --out runs/a
  fastnoisy train cifar10-alasca noise=symmetric:0.4 seed=2 optim.lr=0.05 --data stores/cifar10
  fastnoisy train cifar10-ce data.subset=10000 model=preact_small epochs=20 --data stores/cifar10
  fastnoisy train cifar100-gjs noise=asymmetric:0.4 --data stores/cifar100 --dry-run
  fastnoisy train webvision-nrd eval.imagenet=stores/imagenet --data stores/webvision
  fastnoisy train folder-nrd --data stores/mine --out runs/mine
  fastnoisy train folder-nrd labels=fixes.csv --data stores/mine --out runs/corrected
  fastnoisy train --resume runs/a
  fastnoisy train cifar10-nrd --gpus all --data stores/cifar10
  torchrun --nproc-per-node 8 -m fastnoisy train cifar10-nrd --data stores/cifar10

RECIPE is <data>-<method>, or a .toml file of your own such as another run's config.toml.
Keys are those of config.toml in a run folder; a wrong key lists the known ones.
"""


@click.command(epilog=_EPILOG)
@click.argument("recipe", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--data", "store", metavar="STORE", default="", help="Folder that 'fastnoisy convert' wrote.")
@click.option("--out", metavar="RUN", help="Run folder; default: runs/RECIPE-NOISE-seedN.")
@click.option("--resume", metavar="RUN", type=click.Path(path_type=Path), help="Go on with this run.")
@click.option(
    "--gpus", metavar="N|all", help="Train on so many GPUs of this machine, one process each; batch_size is shared."
)
@click.option(
    "--processes", metavar="N", type=click.IntRange(min=1), help="Train in so many processes of this machine's CPU."
)
@click.option("--compile", "compiled", is_flag=True, help="Compile the step (compile=true).")
@click.option(
    "--dry-run",
    "only_try",
    is_flag=True,
    help="Resolve everything, run three steps, print memory, img/s and ETA; write nothing.",
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors; metrics.jsonl is written all the same.")
def command(
    recipe: str | None,
    overrides: tuple[str, ...],
    store: str,
    out: str | None,
    resume: Path | None,
    gpus: str | None,
    processes: int | None,
    compiled: bool,
    only_try: bool,
    quiet: bool,
) -> None:
    """Train RECIPE on a store, or go on with a run.

    One line is printed per epoch; metrics.jsonl, checkpoints, the labels trained on and, at the end, issues.csv (the
    training labels, most suspect first) are in the run folder. Ctrl-C stops after the current step; --resume goes on.
    """
    if resume is not None and recipe is not None and "=" in recipe:
        overrides, recipe = (recipe, *overrides), None
    if (resume is None) == (recipe is None):
        raise FastnoisyError("name either a RECIPE or --resume RUN", "See 'fastnoisy train --help'")
    if only_try and (resume is not None or quiet):
        raise FastnoisyError(
            f"--dry-run does not go with {'--resume' if resume else '--quiet'}", "Leave one of them out"
        )
    if gpus is not None or processes is not None:
        _launch(gpus, processes, only_try)
    from fastnoisy import api  # torch is imported here, not for --help
    from fastnoisy.training.logs import Display
    from fastnoisy.training.stop import Interrupted, on_signals

    words = [*overrides, "compile=true"] if compiled else list(overrides)
    try:
        with on_signals() as stop, Display(quiet) as display:
            if resume is not None:
                api.load(resume).resume(*words, data=store, progress=display, stop=stop)
            elif only_try:
                api.dry_run(str(recipe), *words, data=store, out=out, progress=display)
            else:
                api.train(str(recipe), *words, data=store, out=out, progress=display, stop=stop)
    except Interrupted as stopped:
        sys.exit(128 + stopped.signal_number)


def _launch(gpus: str | None, processes: int | None, only_try: bool) -> NoReturn:
    """Start this command again in several processes, and leave with their exit code."""
    if gpus is not None and processes is not None:
        raise FastnoisyError("--gpus and --processes each say how many processes there are", "Leave one of them out")
    if only_try:
        raise FastnoisyError("--dry-run measures one process", "Leave --gpus and --processes out")
    from fastnoisy.training.launch import launch, number_of_gpus

    words, dropped = [], False
    for word in sys.argv[1:]:
        if dropped:
            dropped = False
        elif word in ("--gpus", "--processes"):
            dropped = True
        elif not word.startswith(("--gpus=", "--processes=")):
            words.append(word)
    sys.exit(launch(number_of_gpus(gpus) if gpus is not None else processes or 1, words))
