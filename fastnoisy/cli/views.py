"""Draw what a recipe's network is given of some images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastnoisy.cli._group import say

if TYPE_CHECKING:
    from fastnoisy.data.store import Split
    from fastnoisy.training.settings import Settings

_EPILOG = """\b
Examples:
  fastnoisy views cifar10-nrd --data stores/cifar10 --out views.png
  fastnoisy views cifar10-nrd 'views.student=randaugment(n=2, m=9) | normalize' --data stores/cifar10 --out strong.png
  fastnoisy views folder-nrd views.size=224 --data stores/photos --out views.png --rows 3,17,99 --epoch 40
"""
_EPOCHS = 3  # shown side by side; two of a method with many views, or the sheet would be too wide to read
_MANY_VIEWS = 2


@click.command(epilog=_EPILOG)
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--data", "store", type=click.Path(), default="", metavar="STORE", help="Folder that 'convert' wrote.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.png", help="The sheet.")
@click.option(
    "--count", type=click.IntRange(min=1), default=8, show_default=True, help="How many images, drawn at random."
)
@click.option("--rows", metavar="I,J,...", help="These rows of the training split instead.")
@click.option(
    "--epoch",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="The first of the epochs that are shown side by side: three, or two of a method with many views.",
)
def command(
    recipe: str, overrides: tuple[str, ...], store: str, out: Path, count: int, rows: str | None, epoch: int
) -> None:
    """Draw a sheet of what RECIPE's network is given: images, and their views in training, with what was done to each.

    RECIPE is DATA-METHOD (see 'fastnoisy recipes') or a TOML file. The views are those of training, pixel by pixel: of
    the same seed, epochs and rows. Nothing is trained.
    """
    from fastnoisy.analysis import drawing, view_sheet
    from fastnoisy.data.store import open_store
    from fastnoisy.errors import FastnoisyError
    from fastnoisy.training import setup
    from fastnoisy.training.device import set_threads

    settings = setup.resolve(recipe, overrides, store)
    drawing.check_png(out)
    wanted = None if rows is None else _parse_rows(rows)
    if not settings.config.data.store:
        raise FastnoisyError("no data set named", "add --data STORE, the folder that 'fastnoisy convert' wrote")
    set_threads(settings.config.threads)
    with open_store(Path(settings.config.data.store)) as opened:
        split = opened.split("train")
        chosen = _choose(settings, split, count) if wanted is None else wanted
        view_sheet.check_rows(split, chosen)
        views = view_sheet.build_views(settings)
        epochs = range(epoch, epoch + (_EPOCHS if len(views) <= _MANY_VIEWS else 2))
        shown = list(view_sheet.collect(settings, split, chosen, epochs))
        words = (
            f"{opened.path.resolve().name} / train, seed {settings.config.seed}. Each view as the network sees it, "
            "normalize "
            "undone; beneath it what each step did, places as y,x."
        )
        texts = list(dict.fromkeys(str(view.program) for view in views.values()))
        programs = [
            f"{', '.join(n for n, view in views.items() if str(view.program) == text)}: {text}" for text in texts
        ]
        image, _ = view_sheet.draw(_title(settings), [words, *programs], list(views), epochs, split.canvas, shown)
    drawing.save(image, out)
    say(
        f"wrote {out}: {len(shown)} image{'s' * (len(shown) != 1)}, {', '.join(views)} in epochs {epochs[0]} to "
        f"{epochs[-1]}, {image.width}x{image.height} pixels"
    )


def _title(settings: Settings) -> str:
    name, suite = settings.config.recipe or settings.method.name, settings.config.suite
    return f"{name} (suite {suite})" if suite else name


def _choose(settings: Settings, split: Split, count: int) -> list[int]:
    from fastnoisy.analysis import view_sheet
    from fastnoisy.errors import FastnoisyError

    rows = view_sheet.training_rows(settings, split)
    if not len(rows):
        raise FastnoisyError(f"no training images are left of {split.beton_path.parent}", "lower data.holdout")
    return view_sheet.choose(split, rows, count, settings.config.seed)


def _parse_rows(text: str) -> list[int]:
    from fastnoisy.errors import FastnoisyError

    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.isdecimal():
            raise FastnoisyError(
                f"--rows {text}: {part!r} is not the number of a row", "write for example --rows 3,17,99"
            )
    return [int(part) for part in parts]
