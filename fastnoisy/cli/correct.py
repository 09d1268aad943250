"""Apply corrections of labels to a store: a new store, class folders, or a list."""

from __future__ import annotations

import time
from pathlib import Path

import click

from fastnoisy import signals
from fastnoisy.cli._group import say, warn

_EPILOG = """\b
Examples:
  fastnoisy correct stores/photos fixes.csv --out stores/corrected
  fastnoisy correct photos-audit/store fixes.csv --to-folder corrected/
  fastnoisy correct stores/photos fixes.csv --to-csv corrected.csv
"""
_STOPPED = "stopped; nothing was written"


@click.command(epilog=_EPILOG)
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("corrections", metavar="CORRECTIONS", type=click.Path(path_type=Path))
@click.option(
    "--out", metavar="NEW", type=click.Path(path_type=Path), help="A new store with the same records, byte for byte."
)
@click.option(
    "--to-folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A new folder of links to the original files (copies where these are gone): DIR/CLASS/NAME, or, of several "
    "splits, DIR/SPLIT/CLASS/NAME.",
)
@click.option(
    "--to-csv", metavar="FILE", type=click.Path(path_type=Path), help="A new list: index, path, split and label."
)
@click.option(
    "--labels-as",
    type=click.Choice(["index", "name"]),
    help="What numbers in CORRECTIONS mean, where a number is the name of one class and the index of another.",
)
@click.option("--labels-columns", metavar="ROLE=NAME,...", default="", help="Which column of CORRECTIONS is what.")
def command(
    store: Path,
    corrections: Path,
    out: Path | None,
    to_folder: Path | None,
    to_csv: Path | None,
    labels_as: str | None,
    labels_columns: str,
) -> None:
    """Write STORE down with its labels as CORRECTIONS has them. STORE itself stays as it is.

    CORRECTIONS names rows by path or index, any of them, and gives each a label or 'drop'. Nothing is decoded, and
    nothing is overwritten. At least one of --out, --to-folder and --to-csv is needed.
    """
    from fastnoisy import api
    from fastnoisy.cli.convert import show_progress

    if out is None and to_folder is None and to_csv is None:
        raise click.UsageError("name what is to be written: --out, --to-folder or --to-csv")
    started = time.perf_counter()
    with signals.handled(signals.leaving(_STOPPED)), show_progress("writing", "damaged") as progress:
        done = api.correct(
            store, corrections, out=out, to_folder=to_folder, to_csv=to_csv, labels_as=labels_as or "",
            labels_columns=labels_columns, progress=progress, say=warn,
        )  # fmt: skip
    counts = ", ".join(f"{name}: {number:,} images" for name, number in done.images.items())
    took = f"in {time.perf_counter() - started:,.1f} s"
    if done.out is not None:
        say(f"wrote {done.out}: {counts}, {took}")
    if done.to_folder is not None:
        say(f"wrote {done.to_folder}: {counts}, {took}")
        if done.linked:
            say(f"  {done.linked:,} are links to the original files")
        if done.written:
            say(f"  {done.written:,} have no original file any more, or never had one: they are as the store has them")
    if done.to_csv is not None:
        say(f"wrote {done.to_csv}: {counts}")
