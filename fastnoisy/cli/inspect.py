"""Show what a store holds, with a contact sheet of its classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastnoisy.cli._group import say

if TYPE_CHECKING:
    from fastnoisy.analysis.transitions import Drawn
    from fastnoisy.data.store import Split, Store

_EPILOG = """\b
Examples:
  fastnoisy inspect stores/cifar10
  fastnoisy inspect stores/photos --split train --sheet photos.png --per-class 6
  fastnoisy inspect stores/cifar10 --noise symmetric:0.4 --seed 1 --sheet noisy.png
"""


@click.command(epilog=_EPILOG)
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--split", "split_name", metavar="NAME", help="This split alone; default: all, and the sheet of train.")
@click.option("--noise", metavar="SPEC", help="Show the training split as it is with this noise.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True, help="Of noise and choice.")
@click.option("--sheet", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw some images of every class.")
@click.option(
    "--per-class",
    type=click.IntRange(min=1),
    metavar="N",
    help="Pictures per class on the sheet. Default: 10, or fewer where the sheet would become very large.",
)
@click.option("--all-classes", is_flag=True, help="Count every class, where otherwise only the extremes are listed.")
def command(
    store: Path,
    split_name: str | None,
    noise: str | None,
    seed: int,
    sheet: Path | None,
    per_class: int | None,
    all_classes: bool,
) -> None:
    """Show what STORE holds: counts, balance, sizes, storage, rejected files, wrong labels where known, origin.

    The sheet has a row per given class. A red frame marks a picture whose label is known to be wrong; its clean class
    stands beneath it.
    """
    from fastnoisy.analysis import inspection
    from fastnoisy.analysis.text import print_table
    from fastnoisy.data.store import open_store

    if sheet is not None:
        from fastnoisy.analysis import drawing

        drawing.check_png(sheet)
    with open_store(store) as opened:
        splits = list(opened.splits.values()) if split_name is None else [opened.split(split_name)]
        drawn = None if noise is None else _draw(opened, noise, seed, split_name)
        summaries = [inspection.summarise(split, drawn if split.name == "train" else None) for split in splits]
        total = sum(summary.num_bytes + summary.meta_bytes for summary in summaries)
        names = ", ".join(split.name for split in splits)
        say(f"{store}: {names}; {opened.num_classes:,} classes, {total / 1e6:,.1f} MB")
        for split, summary in zip(splits, summaries, strict=True):
            say()
            say(summary.name)
            for what, text in inspection.describe(summary, opened.class_names):
                say(f"  {what:<9} {text}")
                for line in inspection.rejected_lines(split) if what == "rejected" else ():
                    say(f"    {line}")
            for line in inspection.histogram(summary.sizes):
                say(f"    {line}")
        say()
        say("images per given class")
        print_table(inspection.counts_table(summaries, opened.class_names, all_classes))
        if sheet is not None:
            shown = splits[0] if split_name is not None or "train" not in opened.splits else opened.split("train")
            _draw_sheet(sheet, opened, shown, drawn if shown.name == "train" else None, per_class, seed)


def _draw(store: Store, noise: str, seed: int, split_name: str | None) -> Drawn:
    from fastnoisy.analysis import transitions
    from fastnoisy.errors import FastnoisyError
    from fastnoisy.noise import NoiseSpec

    spec = NoiseSpec.parse(noise)
    if split_name not in (None, "train"):
        raise FastnoisyError(f"--noise goes with the training split, not with {split_name}", "leave out one of the two")
    return transitions.draw(store, store.split("train"), spec, seed)


def _draw_sheet(path: Path, store: Store, split: Split, drawn: Drawn | None, per_class: int | None, seed: int) -> None:
    from fastnoisy.analysis import contact_sheet, drawing

    given, clean = split.given_labels, split.clean_labels
    words = f"{split.num_samples:,} images, {store.num_classes:,} classes"
    if drawn is not None:
        given, clean = drawn.given, drawn.reference if drawn.clean_known else None
        words += f", noise {drawn.label}"
    if clean is not None:
        wrong = int((given != clean).sum())
        words += f", {wrong:,} labels wrong ({100 * wrong / len(given):.2f} %)"
        words += ". Red frame: wrong, the clean class beneath it." if wrong else ""
    image, layout = contact_sheet.draw(
        f"{store.path.resolve().name} / {split.name}", words, store.class_names, given, clean, split.read_image,
        split.canvas, per_class, seed,
    )  # fmt: skip
    drawing.save(image, path)
    say(f"wrote {path}: up to {layout.per_class} pictures of each class, {image.width}x{image.height} pixels")
