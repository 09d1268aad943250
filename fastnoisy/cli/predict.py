"""Predict the classes of image files with a run."""

from __future__ import annotations

from pathlib import Path

import click

from fastnoisy.cli._group import warn

_EPILOG = """\b
Examples:
  fastnoisy predict runs/a photo.jpg
  fastnoisy predict runs/a folder/ more/ > predictions.csv
"""


@click.command(epilog=_EPILOG)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--device", default="auto", help="auto, cpu or cuda.", show_default=True)
def command(run: Path, paths: tuple[Path, ...], device: str) -> None:
    """Predict the class of image files, or of every file in folders, with the newest checkpoint of RUN.

    Writes CSV with path, class and probability to standard output. Files that are no image are reported on standard
    error, the rest is predicted; the exit code is 2 only where nothing could be predicted.
    """
    import csv
    import sys
    from io import TextIOWrapper

    from fastnoisy import api
    from fastnoisy.errors import FastnoisyError

    if isinstance(sys.stdout, TextIOWrapper):  # file names need not be valid UTF-8
        sys.stdout.reconfigure(errors="surrogateescape")
    writer = csv.writer(sys.stdout)
    predicted = 0
    for result in api.load(run, warn).predict(paths, device):
        if result.problem:
            warn(f"skipped {result.path}: {result.problem}")
            continue
        if not predicted:
            writer.writerow(["path", "class", "probability"])
        writer.writerow([result.path, result.class_name, f"{result.probability:.6f}"])
        predicted += 1
    if not predicted:
        raise FastnoisyError("nothing could be predicted: none of the files is a readable image")
