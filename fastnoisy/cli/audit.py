"""Find wrong labels in a folder or a store."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastnoisy import signals
from fastnoisy.cli._group import say, warn, write

if TYPE_CHECKING:
    from fastnoisy.label_audit.audit import Audit
    from fastnoisy.workers import Progress

_EPILOG = """\b
Examples:
  fastnoisy audit photos
  fastnoisy audit stores/photos --out audits/photos
  fastnoisy audit runs/photos --folds 5
  fastnoisy audit photos --model convnext_tiny.fb_in22k --download
"""
_SHOWN = 40  # classes
_STOPPED = "stopped; the same command goes on with what is done"


@click.command(epilog=_EPILOG)
@click.argument("data", metavar="STORE|FOLDER|RUN")
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="For what is written; default: DATA-audit.")
@click.option(
    "--model", default="tf_efficientnet_lite0", show_default=True, help="The frozen network whose features are used."
)
@click.option("--weights", metavar="FILE", default="", help="Its weights, .safetensors or .pth.")
@click.option("--download", is_flag=True, help="Fetch its weights where they are not on this machine.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "fp32"]),
    default="auto",
    show_default=True,
    help="auto: bf16 where the processor computes with it natively.",
)
@click.option("--size", type=int, metavar="PIXELS", help="Of the images it is shown. Default: 160, on a GPU 224.")
@click.option(
    "--folds",
    type=int,
    metavar="K",
    help="Parts, each judged by a fit to the others. Default: 5. Of a RUN: its recipe is trained K times.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Which images go into which part.")
@click.option("--device", default="auto", help="auto, cpu or cuda.", show_default=True)
@click.option("--threads", type=int, default=0, help="CPU threads. Default: one per core that is free of other work.")
@click.option("--workers", type=int, metavar="N", help="Processes that convert. Default: one per core.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json instead of a table.")
def command(
    data: str,
    out: Path | None,
    model: str,
    weights: str,
    download: bool,
    precision: str,
    size: int | None,
    folds: int | None,
    seed: int,
    device: str,
    threads: int,
    workers: int | None,
    as_json: bool,
) -> None:
    """Find the labels of STORE, FOLDER or RUN that are probably wrong; without training a network where it is no RUN.

    A folder is converted first. The features of a frozen pretrained network and a cross-validated linear classifier on
    them judge every image of every split by fits that did not see it. Written are audit.html (a page to look through
    the suspects and make corrections), issues.csv (most suspect first), suggestions.csv (a label file of what the
    audit would do itself), probabilities.npz (labels and pred_probs, for cleanlab) and summary.json.
    """
    from fastnoisy import api
    from fastnoisy.cli.convert import show_progress
    from fastnoisy.training.stop import Interrupted, on_signals

    with ExitStack() as open_parts, ExitStack() as shown:
        trains = folds is not None and (Path(data) / "config.toml").is_file()
        stop = open_parts.enter_context(on_signals()) if trains else None
        if stop is None:
            open_parts.enter_context(signals.handled(signals.leaving(_STOPPED)))

        def progress(doing: str) -> Progress:
            shown.close()  # the part before has ended
            return shown.enter_context(show_progress(doing, "rejected"))

        try:
            result = api.audit(
                data, out, model=model, weights=weights, download=download, precision=precision, size=size,
                folds=folds, seed=seed, device=device, threads=threads, workers=workers, say=warn, progress=progress,
                observe=lambda event: warn(event) if event.kind != "step" else None, stop=stop,
            )  # fmt: skip
        except Interrupted as stopped:
            warn(_STOPPED)
            sys.exit(128 + stopped.signal_number)
    if as_json:
        write((result.out / "summary.json").read_text())
    else:
        _print(result)


def _print(audit: Audit) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fastnoisy.errors import one_line
    from fastnoisy.label_audit.output import classes, copies

    rows = sorted(classes(audit), key=lambda row: -row.wrong)
    table = Table(title="labels by class, the most wrong ones first")
    for column in ("class", "images", "wrong, estimated", "flagged", "mostly"):
        table.add_column(column, justify="left" if column in ("class", "mostly") else "right")
    for row in rows[:_SHOWN]:
        cells = (f"{row.images:,}", f"{row.wrong:,.0f}", f"{row.flagged:,}", escape(one_line(row.mostly)))
        table.add_row(escape(one_line(row.name)), *cells)
    Console(soft_wrap=True).print(table)
    if len(rows) > _SHOWN:
        say(f"and {len(rows) - _SHOWN:,} classes more: summary.json")
    few = len(audit.judged) - int(audit.judged.sum())
    if few:
        say(f"{few:,} images are of classes with too few to be judged; none of them is flagged")
    say(
        f"{audit.flags.count:,} of {int(audit.judged.sum()):,} labels are wrong by estimate ({audit.flags.rate:.1%}); "
        f"{int(audit.flags.flagged.sum()):,} are flagged"
    )
    for kind, counts in copies(audit).items():
        where = f"{counts['several_labels']:,} with several labels, {counts['several_splits']:,} in several splits"
        say(f"{kind}: {counts['groups']:,} groups ({where})")
    if audit.oddities:
        kinds = Counter(kind for _, kind in audit.oddities)
        say(f"odd images: {', '.join(f'{count:,} {kind}' for kind, count in kinds.items())}")
    seconds = sum(audit.seconds.values())
    written = f"{audit.out / 'audit.html'}, issues.csv, suggestions.csv, probabilities.npz and summary.json"
    say(f"wrote {written} in {seconds:,.0f} s; open the page in a browser to look through them")
    sure, all_of_them = int((audit.correctable & audit.sure).sum()), int(audit.correctable.sum())
    if all_of_them:
        file = audit.out / "suggestions.csv"
        say(f"without a look: labels={file} relabels {sure:,} training images and drops {all_of_them - sure:,}")
