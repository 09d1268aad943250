"""CIFAR-10N on a CPU: cross-entropy, NRD and ALASCA on 10,000 images with the labels that people gave, `human:worse`.

    python benchmarks/cifar10n.py --data stores/cifar10 --out benchmarks/results

`CIFAR-10_human.pt` lies in the store's folder. A small net, 25 epochs, flips alone as the student's view, so that a few
minutes memorise. Every method gets its own learning rate, the best of one grid by clean test accuracy on a seed that
the table does not use (a grid whose best point is its edge is widened first); then three seeds. Finished runs are read
again, so an interrupted script goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from _report import write
from compare import TINY, against, search, table, train_all

METHODS = ("ce", "nrd", "alasca")
RATES = (0.05, 0.1, 0.2, 0.4)
GRID_SEED = 11
WORDS = [
    "noise=human:worse", "data.subset=10000", "suite=nrd", "model=preact_small(width=32, stem_stride=2)",
    "views.student=hflip | normalize", "batch_size=64", "epochs=25", "optim.milestones=[12,19]",
    "optim.weight_decay=5e-4",
    "threads=1", "checkpoint.every=100", "eval_every=5",
]  # fmt: skip


@click.command(help=__doc__)
@click.option("--data", "store", required=True, help="Converted CIFAR-10 with CIFAR-10_human.pt in its folder.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/cifar10n"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--seeds", default="1,2,3", show_default=True)
@click.option("--tiny", is_flag=True, help="A few steps only, to see that it works.")
def main(store: str, runs: Path, out: Path | None, device: str, seeds: str, tiny: bool) -> None:
    """The command; see the module."""
    words = [*WORDS, f"device={device}", *(TINY if tiny else ())]
    numbers = [int(seed) for seed in seeds.split(",")]
    content: dict[str, Any] = {"overrides": words, "seeds": numbers, "grid": {}}
    found, chosen = {}, {}
    for method in METHODS:
        content["grid"][method], text = choose(method, store, words, runs, RATES[:2] if tiny else RATES, widen=not tiny)
        chosen[method] = content["grid"][method][0]["point"][0]
        print(f"\n{text}\n", flush=True)
    for method in METHODS:
        found[method] = train_all("cifar10", method, store, [*words, chosen[method]], numbers, runs)
    content["methods"] = {method: {"runs": rows, **against(rows, found["ce"])} for method, rows in found.items()}
    rates = ", ".join(f"{method} {word.partition('=')[2]}" for method, word in chosen.items())
    content["note"] = f"Seeds {seeds}, mean ± standard deviation; learning rates chosen on seed {GRID_SEED}: {rates}."
    content["table"] = table(content["methods"])
    print(f"\n{content['table']}\n\n{content['note']}\nrun folders: {runs}")
    if out is not None:
        print(f"written: {write(out, 'cifar10n-10k', content)}")


def choose(
    method: str, store: str, words: list[str], runs: Path, rates: tuple[float, ...], widen: bool
) -> tuple[list[dict[str, Any]], str]:
    """The grid's results, best first; doubled or halved beyond an edge for as long as the edge is the best point."""
    grid = sorted(rates)
    while True:
        points = [(f"optim.lr={rate:g}",) for rate in grid]
        results, text = search("cifar10", method, store, words, [GRID_SEED], runs, points)
        best = float(results[0]["point"][0].partition("=")[2])
        if not widen or best not in (grid[0], grid[-1]):
            return results, text
        grid = [grid[0] / 2, *grid] if best == grid[0] else [*grid, 2 * grid[-1]]


if __name__ == "__main__":
    main()
