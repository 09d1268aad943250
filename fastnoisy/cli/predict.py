"""Predict the classes of image files with a run."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from fastnoisy.cli._group import say, warn

if TYPE_CHECKING:
    from fastnoisy.training.run import Prediction

_FLUSHED = 64  # images, so that a signal loses few
_EPILOG = """\b
Examples:
  fastnoisy predict runs/a photo.jpg
  fastnoisy predict runs/a folder/ more/ > predictions.csv
  fastnoisy predict runs/a folder/ --top 3
  fastnoisy predict runs/a folder/ --top 5 --json > predictions.jsonl
"""


@click.command(epilog=_EPILOG)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="K",
    help="How many classes to name for each image, the likeliest first.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line and image, in place of CSV.")
@click.option("--device", default="auto", help="auto, cpu or cuda.", show_default=True)
@click.option(
    "--workers", type=int, metavar="N", help="Processes that decode. Default: one per core, as far as memory allows."
)
@click.option(
    "--timeout",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="For reading and decoding one file.",
)
def command(
    run: Path, paths: tuple[Path, ...], top: int, as_json: bool, device: str, workers: int | None, timeout: float
) -> None:
    """Predict the class of image files, or of every image in folders, with the checkpoint that RUN reports.

    Writes CSV with path, class and probability to standard output; with --top also class_2, probability_2 and so on.
    With --json each line is an object: path and top, a list of class and probability, or path and problem. Files that
    are no image are reported on standard error, the rest is predicted; the exit code is 2 only where nothing could be
    predicted.
    """
    import contextlib
    from io import TextIOWrapper

    from fastnoisy import api
    from fastnoisy.cli.convert import show_progress
    from fastnoisy.errors import FastnoisyError, one_line

    if isinstance(sys.stdout, TextIOWrapper):  # file names need not be valid UTF-8
        sys.stdout.reconfigure(errors="surrogateescape")
    out = Shown() if sys.stdout.isatty() else sys.stdout
    lines = Objects(out) if as_json else Table(out)
    predicted = 0
    shown = contextlib.nullcontext(None) if sys.stdout.isatty() else show_progress("predicting", "skipped")
    with shown as progress:
        opened = api.load(run, warn)
        for result in opened.predict(paths, device, top=top, workers=workers, timeout=timeout, progress=progress):
            lines.write(result)
            if result.problem:
                warn(f"skipped {one_line(result.path)}: {result.problem}")
                continue
            predicted += 1
            if predicted % _FLUSHED == 0:
                sys.stdout.flush()
    if not predicted:
        raise FastnoisyError("nothing could be predicted: none of the files is a readable image")


class Writes(Protocol):
    """What lines can be written to."""

    def write(self, text: str, /) -> object:
        """Write a text."""


class Shown:
    """Standard output where it is a terminal."""

    def write(self, text: str) -> None:
        """Write a line with what a terminal would obey escaped."""
        say(text.rstrip("\r\n"))


class Table:
    """Predictions as CSV, under a header that comes with the first."""

    def __init__(self, out: Writes) -> None:
        self._writer, self._begun = csv.writer(out), False

    def write(self, result: Prediction) -> None:
        """A row; none for an image with a problem."""
        if result.problem:
            return
        if not self._begun:
            places = ["", *(f"_{place}" for place in range(2, len(result.top) + 1))]
            self._writer.writerow(["path", *(f"{column}{p}" for p in places for column in ("class", "probability"))])
            self._begun = True
        cells = [cell for name, probability in result.top for cell in (name, f"{probability:.6f}")]
        self._writer.writerow([result.path, *cells])


class Objects:
    """Predictions as JSON Lines: an object per image, those with a problem too."""

    def __init__(self, out: Writes) -> None:
        self._out = out

    def write(self, result: Prediction) -> None:
        """A line. All but ASCII is escaped, so that a name of any bytes comes through."""
        listed = [{"class": name, "probability": round(probability, 6)} for name, probability in result.top]
        told = {"problem": result.problem} if result.problem else {"top": listed}
        self._out.write(json.dumps({"path": str(result.path), **told}) + "\n")
