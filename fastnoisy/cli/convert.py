"""Convert a data set into a store, one fast file per split."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastnoisy import discovery, signals
from fastnoisy.cli._group import say, warn

if TYPE_CHECKING:
    from fastnoisy.workers import Status

_SOURCES = "fastnoisy.data.sources"
_STOPPED = "stopped; the same command goes on from there"


class _Command(click.Command):
    """Lists the kinds of source in its help, found by their files."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Kinds of source"):
            formatter.write_dl([(kind, summary) for kind, (_, summary) in discovery.declared(_SOURCES).items()])
        super().format_epilog(ctx, formatter)


@click.command(
    cls=_Command,
    epilog="""\b
Examples:
  fastnoisy convert digits stores/digits
  fastnoisy convert cifar10:downloads/cifar-10-python.tar.gz stores/cifar10
  fastnoisy convert photos/ stores/photos --resize shorter=256 --test-fraction 0.1
  torchrun --nproc-per-node 4 -m fastnoisy convert photos/ stores/photos --shard auto
  fastnoisy convert --merge stores/photos
  fastnoisy convert folder:scraped/ stores/scraped --max-rejected 0.2
  fastnoisy convert export.csv stores/list --columns path=asset,label=verdict
  fastnoisy convert photos/ stores/corrected --labels runs/a/issues-corrected.csv
""",
)
@click.argument("source", required=False)
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option(
    "--resize",
    metavar="HOW",
    help="max=N (longer side), shorter=N (shorter side; the longer is capped at 2N), square=N (shape not kept) or none"
    " (up to 2048 pixels a side; larger ones are rejected). Default: none for images up to 64x64 or of one fixed size,"
    " else max=512. Only square enlarges.",
)
@click.option(
    "--store",
    default="auto",
    show_default=True,
    metavar="raw|jpg|auto",
    help="raw pixels, or JPEG; auto: raw up to 64x64. A sound JPEG of the right size is kept byte for byte.",
)
@click.option("--quality", type=int, default=90, show_default=True, help="Of the JPEGs that are made, 1 to 100.")
@click.option(
    "--max-rejected",
    type=float,
    show_default="0.05",
    metavar="SHARE",
    help="Share of broken images per split above which the conversion stops.",
)
@click.option(
    "--test-fraction",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Share of each class to move into a test split, where the source has one split only.",
)
@click.option(
    "--columns",
    metavar="ROLE=NAME,...",
    default="",
    help="Of a list: which column is what: path=...,label=... and clean, split, drop, where their names are not known.",
)
@click.option(
    "--labels", metavar="FILE", default="", help="Corrections: rows by path or index, a label or 'drop' each."
)
@click.option(
    "--labels-as",
    type=click.Choice(["index", "name"]),
    help="What numbers in that FILE mean, where a number is the name of one class and the index of another.",
)
@click.option("--labels-columns", metavar="ROLE=NAME,...", default="", help="Which column of that FILE is what.")
@click.option("--workers", type=int, metavar="N", help="Processes. Default: one per core, as far as memory allows.")
@click.option(
    "--timeout",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="An image that takes longer to read and decode is tried again, at last with no other at work, then rejected.",
)
@click.option(
    "--shard",
    metavar="I/N|auto",
    help="Convert only part I of N (0/N to N-1/N), for --merge; auto: as torchrun or SLURM has numbered this process.",
)
@click.option(
    "--merge", type=click.Path(path_type=Path), metavar="OUT", help="Join the shards of OUT; takes no SOURCE."
)
@click.option(
    "--ray", metavar="ADDRESS|local", default="", help="Convert as tasks of a Ray cluster that sees the same files."
)
@click.option("--restart", is_flag=True, help="Throw away what an unfinished conversion to OUT has left.")
def command(
    source: str | None,
    out: Path | None,
    resize: str | None,
    store: str,
    quality: int,
    max_rejected: float | None,
    test_fraction: float,
    columns: str,
    labels: str,
    labels_as: str | None,
    labels_columns: str,
    workers: int | None,
    timeout: float,
    shard: str | None,
    merge: Path | None,
    ray: str,
    restart: bool,
) -> None:
    """Convert SOURCE into the store OUT: a new folder with one fast file per split.

    SOURCE is a path, whose layout is recognised, or KIND:PATH. Broken images are left out and listed in
    OUT/SPLIT.meta/rejected.csv. The files are FFCV's .beton and can be read by any FFCV loader. A conversion that was
    stopped, by whatever, goes on when the same command is given again.
    """
    from fastnoisy import api
    from fastnoisy.data.conversion import convert as data  # with numpy and Pillow: too slow for --help
    from fastnoisy.data.conversion.shards import Shard

    if merge is not None and (source is not None or shard is not None):
        raise click.UsageError("--merge OUT goes without SOURCE and --shard")
    if ray and (merge is not None or shard is not None or workers is not None):
        raise click.UsageError("--ray makes the shards and joins them itself: leave --shard, --merge and --workers out")
    if merge is None and (source is None or out is None):
        raise click.UsageError("SOURCE and OUT are needed, or --merge OUT")
    part = None if shard is None else Shard.parse(shard)
    started = time.perf_counter()
    with signals.handled(signals.leaving(_STOPPED)), show_progress("converting", "rejected") as progress:
        if merge is not None:
            summary = data.merge(merge, max_rejected=max_rejected, restart=restart, progress=progress, say=warn)
        else:
            assert source is not None
            assert out is not None
            summary = api.convert(
                source, out, resize=resize, storage=store, quality=quality, test_fraction=test_fraction,
                max_rejected=0.05 if max_rejected is None else max_rejected, workers=workers, timeout=timeout,
                shard=part,
                restart=restart, columns=columns, labels=labels, labels_as=labels_as or "",
                labels_columns=labels_columns, ray=ray, progress=None if ray else progress, say=warn,
            )  # fmt: skip
    for split in summary.splits:
        height, width = split.canvas
        stored = f"{split.stored:,} stored ({split.raw:,} raw, {split.stored - split.raw:,} jpg)"
        size = f"canvas {width}x{height}, {split.num_bytes / 1e6:,.1f} MB"
        say(f"{split.name}: {stored}, {split.rejected:,} rejected, {size}")
        if part is None and split.rejected:
            say(f"  the rejected ones and why: {summary.path / f'{split.name}.meta' / 'rejected.csv'}")
        if part is None and split.noted:
            notes = summary.path / f"{split.name}.meta" / "notes.csv"
            say(f"  what should be known of {split.noted:,} of them (first frames, encoded anew): {notes}")
    say(f"wrote {summary.path} from {summary.source} in {time.perf_counter() - started:,.1f} s")
    lost = sum(split.lost for split in summary.splits)
    if lost:
        again = f"remove {summary.path} and give the same command again"
        if merge is not None:
            again = f"remove {merge} and {merge}.shard-*, and convert the shards again"
        say(f"{lost:,} of the rejected could not be read, took too long or ended their process.")
        say(f"To try them again, {again}.")
    if part is not None:
        say(f"when all {part.count} shards are there: fastnoisy convert --merge {out}")
    if merge is not None:
        say(f"its shards, {merge}.shard-*, are no longer needed")


@contextmanager
def show_progress(doing: str, bad: str) -> Iterator[Callable[[Status], None]]:
    """A function that shows images done: a bar on a terminal, a line now and then elsewhere, both on stderr.

    Args:
        doing: what is done to them, as in "converting".
        bad: what becomes of some, as in "rejected".
    """
    if not sys.stderr.isatty():
        yield plain_progress(warn, time.monotonic, bad)
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[bad]}"),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None, rate="", bad="")
        first: tuple[float, int] | None = None  # what an earlier run has done says nothing about speed
        shown = 0.0

        def show(status: Status) -> None:
            nonlocal shown, first
            now = time.monotonic()
            first = first or (now, status.done)
            if now - shown >= 0.1 or status.done == status.total:  # drawing costs more than encoding a small image
                shown = now
                rate = f"{(status.done - first[1]) / max(now - first[0], 1e-9):,.0f} img/s"
                told = f"{status.bad:,} {bad}" if status.bad else ""
                bar.update(task, completed=status.done, total=status.total, rate=rate, bad=told)

        yield show


def plain_progress(
    write: Callable[[str], object], clock: Callable[[], float], bad: str, every: float = 10.0
) -> Callable[[Status], None]:
    """A progress function that writes a line at most every so many seconds.

    Args:
        write: takes a line, without a line end.
        clock: seconds.
        bad: what becomes of some images, as in "rejected".
        every: seconds between lines.
    """
    first: tuple[float, int] | None = None  # what an earlier run has done says nothing about speed
    shown = 0.0

    def show(status: Status) -> None:
        nonlocal shown, first
        now = clock()
        if first is None:
            first, shown = (now, status.done), now
        if now - shown < every:
            return
        shown = now
        rate = max(status.done - first[1], 1e-9) / (now - first[0])
        left = f"{(status.total - status.done) / rate:,.0f} s left"
        told = f", {status.bad:,} {bad}" if status.bad else ""
        write(f"{status.done:,} of {status.total:,} images, {rate:,.0f} img/s, {left}{told}")

    return show
