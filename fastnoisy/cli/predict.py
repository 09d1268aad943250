"""Predict the classes of image files with a run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fastnoisy.cli._group import say, warn

_FLUSHED = 64  # rows, so that a signal loses few
_EPILOG = """\b
Examples:
  fastnoisy predict runs/a photo.jpg
  fastnoisy predict runs/a folder/ more/ > predictions.csv
"""


@click.command(epilog=_EPILOG)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
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
def command(run: Path, paths: tuple[Path, ...], device: str, workers: int | None, timeout: float) -> None:
    """Predict the class of image files, or of every image in folders, with the newest checkpoint of RUN.

    Writes CSV with path, class and probability to standard output. Files that are no image are reported on standard
    error, the rest is predicted; the exit code is 2 only where nothing could be predicted.
    """
    import contextlib
    import csv
    from io import TextIOWrapper

    from fastnoisy import api
    from fastnoisy.cli.convert import show_progress
    from fastnoisy.errors import FastnoisyError, one_line

    if isinstance(sys.stdout, TextIOWrapper):  # file names need not be valid UTF-8
        sys.stdout.reconfigure(errors="surrogateescape")
    writer = csv.writer(Shown() if sys.stdout.isatty() else sys.stdout)
    predicted = 0
    shown = contextlib.nullcontext(None) if sys.stdout.isatty() else show_progress("predicting", "skipped")
    with shown as progress:
        found = api.load(run, warn).predict(paths, device, workers=workers, timeout=timeout, progress=progress)
        for result in found:
            if result.problem:
                warn(f"skipped {one_line(result.path)}: {result.problem}")
                continue
            if not predicted:
                writer.writerow(["path", "class", "probability"])
            writer.writerow([result.path, result.class_name, f"{result.probability:.6f}"])
            predicted += 1
            if predicted % _FLUSHED == 0:
                sys.stdout.flush()
    if not predicted:
        raise FastnoisyError("nothing could be predicted: none of the files is a readable image")


class Shown:
    """Standard output where it is a terminal."""

    def write(self, text: str) -> None:
        """Write a line with what a terminal would obey escaped."""
        say(text.rstrip("\r\n"))
