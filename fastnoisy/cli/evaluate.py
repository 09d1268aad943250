"""Evaluate a run: accuracy, calibration, classes."""

from __future__ import annotations

from pathlib import Path

import click

from fastnoisy.cli._group import say, warn

_EPILOG = """\b
Examples:
  fastnoisy evaluate runs/a
  fastnoisy evaluate runs/a --data stores/other --split val
  fastnoisy evaluate runs/a --labels fixes.csv
  fastnoisy evaluate runs/a --flags stores/photos-audit/issues.csv
"""


@click.command(epilog=_EPILOG)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", "store", metavar="STORE", default="", help="Evaluate on this store instead of the run's own.")
@click.option(
    "--split", default="", help="Split to evaluate on; default: the run's test split, or the only one of another store."
)
@click.option("--device", default="auto", help="auto, cpu or cuda.", show_default=True)
@click.option("--labels", metavar="FILE", default="", help="Corrections: rows by path or index; see docs/labels.md.")
@click.option(
    "--labels-as",
    type=click.Choice(["index", "name"]),
    help="What numbers in FILE mean, where a number is the name of one class and the index of another.",
)
@click.option(
    "--labels-columns", metavar="ROLE=NAME,...", default="", help="Which column of FILE is what: path=...,label=..."
)
@click.option(
    "--flags",
    metavar="FILE",
    default="",
    help="issues.csv of fastnoisy audit: accuracy without what it flags, too. Default: the one beside AUDIT/store.",
)
def command(
    run: Path, store: str, split: str, device: str, labels: str, labels_as: str | None, labels_columns: str, flags: str
) -> None:
    """Evaluate the newest checkpoint of RUN, or the chosen one (select=): top-1, top-5, ECE, and accuracy per class.

    Labels are the store's clean ones where it knows them, else the given ones; where the run was trained with labels=,
    its corrections of the test labels count, and the images that it drops are left out. Where nothing is known about
    the labels, a line says so; where an audit has flagged some, another has the accuracy without them.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fastnoisy import api
    from fastnoisy.errors import one_line

    report = api.load(run, warn).evaluate(
        store, split, device, labels=labels, labels_as=labels_as or "", labels_columns=labels_columns, flags=flags
    )
    if report.corrected:
        say(report.corrected)
    console = Console(soft_wrap=True)
    table = Table(title=f"{escape(one_line(run))}: {report.images:,} images of {escape(one_line(report.data))}")
    for column in ("predictor", "top-1 %", "top-5 %", "ECE %"):
        table.add_column(column, justify="left" if column == "predictor" else "right")
    for name, numbers in report.predictors.items():
        top5 = f"{100 * numbers['top5']:.2f}" if "top5" in numbers else "-"
        table.add_row(name, f"{100 * numbers['accuracy']:.2f}", top5, f"{100 * numbers['ece']:.2f}")
    console.print(table)
    if report.unchecked:
        how = "unchecked" if report.split == "train" else "as unchecked as the training labels"
        say(f"labels of {report.split} are {how}: the accuracy is against labels of which some may be wrong")
    if report.flags:
        shares = ", ".join(f"{name} {100 * found['accuracy']:.2f} %" for name, found in report.unflagged.items())
        without = f"top-1 without them: {shares}" if shares else "none is left without them"
        say(f"{report.flagged:,} of {report.images:,} labels are flagged in {report.flags}; {without}")
    classes = Table(title=f"per class ({next(iter(report.predictors))})")
    for column in ("class", "images", "accuracy %"):
        classes.add_column(column, justify="left" if column == "class" else "right")
    for row in report.classes:
        share = "-" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f}"
        classes.add_row(escape(one_line(row["class"])), str(row["images"]), share)
    console.print(classes)
