"""Show what a noise does to a store's labels, and write them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastnoisy.cli._group import say

if TYPE_CHECKING:
    from fastnoisy.analysis.transitions import Drawn

_EPILOG = """\b
Examples:
  fastnoisy noise symmetric:0.4 --data stores/cifar10
  fastnoisy noise asymmetric:0.4 --data stores/cifar10 --seed 2 --out noises/asymmetric
  fastnoisy train cifar10-nrd noise=file:noises/asymmetric/labels.npy --data stores/cifar10 --out runs/a
"""


@click.command(epilog=_EPILOG)
@click.argument("spec")
@click.option(
    "--data", "store", type=click.Path(path_type=Path), metavar="STORE", required=True, help="A converted data set."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True, help="What noise_seed= is in training."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="A new folder for labels.npy, labels.csv, transitions.csv and transitions.png.",
)
@click.option(
    "--labels-as",
    type=click.Choice(["index", "name"]),
    help="Of file:PATH: what numbers mean, where a number is the name of one class and the index of another.",
)
@click.option(
    "--labels-columns",
    metavar="ROLE=NAME,...",
    default="",
    help="Of file:PATH: which column is what.",
)
def command(spec: str, store: Path, seed: int, out: Path | None, labels_as: str | None, labels_columns: str) -> None:
    """Apply the noise SPEC to the training split of STORE: how many labels change, and from which class to which.

    These are the labels that `fastnoisy train ... noise=SPEC noise_seed=N` trains on where the run uses the whole
    split. A run with data.holdout or data.subset draws over its own rows; noise=file:FOLDER/labels.npy gives it these
    very labels.
    """
    from fastnoisy.analysis import transitions
    from fastnoisy.analysis.text import print_table, shorten_to
    from fastnoisy.data.store import open_store
    from fastnoisy.label_files.meaning import numbers_mislead
    from fastnoisy.noise import FileReading, NoiseSpec

    parsed = NoiseSpec.parse(spec)
    if out is not None:
        transitions.check_new(out)
    with open_store(store) as opened:
        reading = FileReading(labels_as=labels_as or "", columns=labels_columns, say=say)
        drawn = transitions.draw(opened, opened.split("train"), parsed, seed, reading)
        names, title = opened.class_names, f"{opened.path.resolve().name} / train"
    _say_rates(f"{store}/train", drawn, names)
    if len(names) <= transitions.MATRIX_UP_TO:
        say()
        say(f"transitions, % of each {drawn.row_name} class")
        print_table(transitions.matrix_table(drawn.counts, names, drawn.row_name))
    else:
        say()
        say("per class")
        print_table(transitions.summary_table(drawn.counts, names, drawn.row_name))
        say("largest flows")
        print_table(transitions.flows_table(drawn.counts, names, drawn.row_name))
    if out is not None:
        title += f": {shorten_to(drawn.label, 60)}\neffective rate {100 * drawn.rate:.2f} %"
        transitions.write_folder(out, drawn, names, transitions.heat_map(drawn.counts, names, title, drawn.row_name))
        say(f"wrote {out}: labels.npy, labels.csv, transitions.csv, transitions.png")
    read_as = (f" labels_as={labels_as}" if labels_as else "") + (
        f" {shlex.quote(f'labels_columns={labels_columns}')}" if labels_columns else ""
    )
    _say_how_to_train(drawn, store, out, read_as, " labels_as=index" if numbers_mislead(names) else "")


def _say_how_to_train(drawn: Drawn, store: Path, out: Path | None, read_as: str, index: str) -> None:
    data = shlex.quote(str(store))
    words = shlex.quote(f"noise={drawn.spec}") + (f" noise_seed={drawn.seed}" if drawn.draws else "") + read_as
    say("to train with this noise:")
    say(f"  fastnoisy train RECIPE {words} --data {data} --out RUN")
    if drawn.draws:
        say("  (a run with data.holdout or data.subset draws it over its own rows)")
    if out is not None:
        say("to train with exactly these labels:")
        say(f"  fastnoisy train RECIPE {shlex.quote(f'noise=file:{out}/labels.npy')}{index} --data {data} --out RUN")


def _say_rates(place: str, drawn: Drawn, class_names: list[str]) -> None:
    import numpy as np

    from fastnoisy.analysis import transitions
    from fastnoisy.analysis.text import printable

    say(f"{place}: {len(drawn.given):,} images, {len(class_names):,} classes")
    say(f"noise           {drawn.label}: {drawn.rule}")
    what = "wrong" if drawn.clean_known else "differ from the store's labels; which are right is not known"
    say(f"effective rate  {100 * drawn.rate:.2f} % ({int(drawn.wrong.sum()):,} labels {what})")
    rates = transitions.rates(drawn.counts)
    ends = int(np.nanargmin(rates)), int(np.nanargmax(rates))
    least, most = (f"{100 * rates[end]:.2f} % ({printable(class_names[end])})" for end in ends)
    say(f"per class       lowest {least}, highest {most}")
