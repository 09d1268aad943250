"""`fastnoisy convert`: a data set into a store, one fast file per split."""

from __future__ import annotations

import ast
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from fastnoisy import discovery

_SOURCES = "fastnoisy.data.sources"


def _summary(kind: str) -> str:
    """The first line of a source's docstring, read from its file: importing it would slow down the help."""
    spec = importlib.util.find_spec(f"{_SOURCES}.{kind.replace('-', '_')}")
    text = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


class _Command(click.Command):
    """Lists the kinds of source in its help, found by their files."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Kinds of source"):
            formatter.write_dl([(kind, _summary(kind)) for kind in discovery.names(_SOURCES)])
        super().format_epilog(ctx, formatter)


@click.command(
    cls=_Command,
    epilog="""\b
Examples:
  fastnoisy convert digits stores/digits
  fastnoisy convert cifar10:downloads/cifar-10-python.tar.gz stores/cifar10
  fastnoisy convert photos/ stores/photos --resize shorter=256 --test-fraction 0.1
  fastnoisy convert folder:scraped/ stores/scraped --max-rejected 0.2
""",
)
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--resize",
    metavar="HOW",
    help="max=N (longer side), shorter=N (shorter side; the longer is capped at 2N), square=N (shape not kept) or none."
    " Default: none for images up to 64x64 or of one fixed size, else max=512. Only square enlarges.",
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
    default=0.05,
    show_default=True,
    metavar="SHARE",
    help="Share of broken images per split above which nothing is written.",
)
@click.option(
    "--test-fraction",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Share of each class to move into a test split, where the source has one split only.",
)
def command(
    source: str, out: Path, resize: str | None, store: str, quality: int, max_rejected: float, test_fraction: float
) -> None:
    """Convert SOURCE into the store OUT: a new folder with one fast file per split.

    SOURCE is a path, whose layout is recognised, or KIND:PATH. Broken images are left out and listed in
    OUT/SPLIT.meta/rejected.csv. The files are FFCV's .beton and can be read by any FFCV loader.
    """
    from fastnoisy.data.convert import ConvertOptions, convert  # with numpy and Pillow: too slow for --help

    options = ConvertOptions(
        resize=resize, store=store, quality=quality, max_rejected=max_rejected, test_fraction=test_fraction
    )
    started = time.perf_counter()
    with _progress() as progress:
        summary = convert(source, out, options=options, progress=progress)
    for split in summary.splits:
        height, width = split.canvas
        stored = f"{split.stored:,} stored ({split.raw:,} raw, {split.stored - split.raw:,} jpg)"
        size = f"canvas {width}x{height}, {split.num_bytes / 1e6:,.1f} MB"
        click.echo(f"{split.name}: {stored}, {split.rejected:,} rejected, {size}")
        if split.rejected:
            click.echo(f"  the rejected ones and why: {out / f'{split.name}.meta' / 'rejected.csv'}")
    click.echo(f"wrote {summary.path} from {summary.source} in {time.perf_counter() - started:,.1f} s")


@contextmanager
def _progress() -> Iterator[Callable[[int, int | None], None]]:
    """A function that shows images done: a bar on a terminal, a line now and then elsewhere, both on stderr."""
    if not sys.stderr.isatty():
        yield plain_progress(lambda line: click.echo(line, err=True), time.monotonic)
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("converting", total=None, rate="")
        started = shown = time.monotonic()

        def show(done: int, total: int | None) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown >= 0.1 or done == total:  # drawing costs more than encoding a small image
                shown = now
                bar.update(task, completed=done, total=total, rate=f"{done / max(now - started, 1e-9):,.0f} img/s")

        yield show


def plain_progress(
    write: Callable[[str], object], clock: Callable[[], float], every: float = 10.0
) -> Callable[[int, int | None], None]:
    """A progress function that writes a line at most every so many seconds.

    Args:
        write: takes a line, without a line end.
        clock: seconds.
        every: seconds between lines.
    """
    started = shown = clock()

    def show(done: int, total: int | None) -> None:
        nonlocal shown
        now = clock()
        if now - shown < every:
            return
        shown = now
        rate = done / (now - started)
        speed = f"{rate:,.0f} img/s"
        rest = f" of {total:,} images, {speed}, {(total - done) / rate:,.0f} s left" if total else f" images, {speed}"
        write(f"{done:,}{rest}")

    return show
