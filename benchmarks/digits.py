"""The table of docs/tour.md: cross-entropy, NRD and ALASCA on the digits with 40 % symmetric noise, seeds 1 to 5.

    python benchmarks/digits.py --out benchmarks/results

First learning rate, weight decay and augmentation are chosen for cross-entropy on a grid, by its own clean test
accuracy (seeds 11 and 12), so that the yardstick is no straw man; then all three methods train with what was chosen, as
one `fastnoisy sweep`.
The recipe `digits` holds the outcome; it is kept while it lies within one standard error of the best point, else the
best point is used and the script says so. Runs that are finished are read again, so an interrupted script goes on.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import click
from _report import mean_std, write
from compare import TINY, against, digits_store, search, table

from fastnoisy import api
from fastnoisy.errors import FastnoisyError

RECIPES = "digits-ce,digits-nrd,digits-alasca"
CROP = "random_crop(16, padding=2) | normalize"
STRONG = "randaugment(n=1, m=3) | random_crop(16, padding=2) | normalize | cutout(4)"
POINTS = [
    *itertools.product((STRONG,), (5e-4, 2e-3), (0.01, 0.02, 0.05, 0.1)),
    *itertools.product((CROP,), (5e-4,), (0.01, 0.02)),
]
GRID = [(f"optim.lr={lr}", f"optim.weight_decay={decay}", f"views.student={view}") for view, decay, lr in POINTS]


@click.command(help=__doc__)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/digits"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--seeds", default="1,2,3,4,5", show_default=True)
@click.option(
    "--at-once", type=click.IntRange(min=1), default=1, show_default=True, help="Runs of the table at a time."
)
@click.option("--skip-grid", is_flag=True, help="Only the table, with the recipe as it stands.")
@click.option("--tiny", is_flag=True, help="A few steps only, to see that it works.")
def main(runs: Path, out: Path | None, device: str, seeds: str, at_once: int, skip_grid: bool, tiny: bool) -> None:
    """The command; see the module."""
    store = digits_store("digits", runs)
    words = [f"device={device}", "threads=1", *(TINY if tiny else ())]  # the same bits on like machines
    content: dict[str, Any] = {}
    if not skip_grid:
        content["grid"], text = search("digits", "ce", store, words, [11, 12], runs, GRID[:2] if tiny else GRID)
        print(f"\n{text}\n")
    chosen = _choose(content["grid"], store, words) if content else []
    table_runs = runs / ("table-tiny" if tiny else "table")
    swept = [RECIPES, f"seed={seeds}", *words, *chosen]
    said = f"fastnoisy sweep {' '.join(swept)} --data {store} --out {table_runs}"
    print(said, flush=True)
    found = api.sweep(*swept, data=store, out=table_runs, per_device=at_once, say=print)
    if found.problems:
        raise FastnoisyError("; ".join(found.problems))
    groups = {name.removeprefix("digits-"): rows for name, rows in found.groups.items()}
    content["methods"] = {m: {"runs": rows, **against(rows, groups["ce"])} for m, rows in groups.items()}
    content["command"] = " ".join(["fastnoisy sweep", *swept])
    content["note"] = (
        f"Seeds {seeds}: mean ± standard deviation; one thread; learning rate, weight decay and student view were "
        "chosen "
        "for cross-entropy, gains are paired by seed."
    )
    content["table"] = table(content["methods"])
    print(f"\n{content['table']}\n\nrun folders: {runs}")
    if out is not None:
        print(f"written: {write(out, 'digits', content)}")


def _choose(grid: list[dict[str, Any]], store: str, words: list[str]) -> list[str]:
    """The overrides to use: none where the recipe's own point is as good as the best, up to one standard error."""
    from fastnoisy.training import setup

    own = setup.resolve("digits-ce", words, store)
    accuracy = [mean_std([run["accuracy"] for run in entry["runs"]]) for entry in grid]
    bound = accuracy[0][0] - accuracy[0][1] / len(grid[0]["runs"]) ** 0.5
    for entry, (mean, _) in zip(grid, accuracy, strict=True):
        if mean >= bound and setup.resolve("digits-ce", [*words, *entry["point"]], store) == own:
            return []
    print(f"note: the recipe digits is not the best point any more; using {' '.join(grid[0]['point'])}")
    return list(grid[0]["point"])


if __name__ == "__main__":
    main()
