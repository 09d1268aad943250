"""Whether the orders in which samples are visited are uniform, and how soon the first batch of a rank is there.

    python benchmarks/orders.py --out benchmarks/results

Chi-square of positions (which row stands at which place) and of pairs (which rows stand at the first two places), over
many keys: the sort for populations of 2 to 100 rows, the keyed permutation for populations above `order.SORTED`, in
coarse cells. Under uniformity one p-value in a hundred is below 0.01, and the smallest of k is about 1 / k.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from _report import markdown, run, write
from scipy.stats import chi2

from fastnoisy import order
from fastnoisy.order import Population, batches, share

CELLS, PLACES = 64, 16


def p_value(found: np.ndarray, degrees: int) -> float:
    """Of counts that should all be alike."""
    expected = found.mean()
    return float(chi2.sf(((found - expected) ** 2 / expected).sum(), degrees))


def small(n: int, keys: int) -> tuple[float, float]:
    """p-values of positions and of pairs of an order of n rows."""
    rows = Population("train", np.arange(n))
    orders = np.stack([order.order(rows, "train", seed, 0)[:] for seed in range(keys)])
    places = np.stack([np.bincount(orders[:, place], minlength=n) for place in range(n)])
    pairs = np.bincount(orders[:, 0] * n + orders[:, 1], minlength=n * n).reshape(n, n)
    return p_value(places, (n - 1) ** 2), p_value(pairs[~np.eye(n, dtype=bool)], n * (n - 1) - 1)


def large(n: int, keys: int) -> tuple[float, float]:
    """The same of the first places of a keyed permutation, in cells of n / 64 rows."""
    rows = np.stack([order.permutation(np.arange(PLACES), n, seed) for seed in range(keys)])
    cells = rows * CELLS // n
    places = np.stack([np.bincount(cells[:, place], minlength=CELLS) for place in range(PLACES)])
    pairs = np.bincount(cells[:, 0] * CELLS + cells[:, 1], minlength=CELLS**2)
    return p_value(places, PLACES * (CELLS - 1)), p_value(pairs, CELLS**2 - 1)


def along(n: int, count: int) -> tuple[float, float]:
    """The same along one order: the cells of its first rows, and of each row and the next."""
    cells = order.permutation(np.arange(count), n, 1) * CELLS // n
    pairs = np.bincount(cells[:-1:2] * CELLS + cells[1::2], minlength=CELLS**2)
    return p_value(np.bincount(cells, minlength=CELLS), CELLS - 1), p_value(pairs, CELLS**2 - 1)


def first_batch(population: Population, runs: int) -> list[float]:
    """Milliseconds until a rank of eight has its part of an epoch's first batch of 1,024 rows."""
    found = []
    for epoch in range(runs):
        began = time.perf_counter()
        share(next(batches(order.order(population, "train", 1, epoch), 1024, False)), 3, 8)
        found.append(1000 * (time.perf_counter() - began))
    return found


@click.command(help=__doc__)
@click.option("--keys", type=click.IntRange(min=100), default=20_000, show_default=True)
@click.option("--device", type=click.Choice(["cpu"]), default="cpu", help="Orders are made on the CPU.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="Few keys and rows: to see that it works.")
def main(keys: int, device: str, out: Path | None, tiny: bool) -> None:
    """The command; see the module."""
    keys, most, huge, runs = (200, 5, 5_000_000, 2) if tiny else (keys, 100, 100_000_000, 10)
    sizes = list(range(2, most + 1))
    values = []
    for n in sizes:
        values.append(small(n, keys))
        print(f"{n} rows: p {values[-1][0]:.3f} and {values[-1][1]:.3f}", file=sys.stderr, flush=True)
    tested: list[dict[str, Any]] = []

    def add(what: str, found: list[tuple[float, float]]) -> None:
        for kind, each in zip(("positions", "pairs"), zip(*found, strict=True), strict=True):
            below = sum(p < 0.01 for p in each)
            tested.append({"order": what, "of": kind, "tests": len(each), "smallest_p": min(each), "below_0.01": below})

    add(f"sort, 2 to {most} rows, {keys:,} keys", values)
    for n in (order.SORTED + 1, huge):
        add(f"{order.name(n)}, {n:,} rows, {keys:,} keys", [large(n, keys)])
    add(f"{order.name(huge)}, {huge:,} rows, along one order", [along(huge, min(huge, 1 << 22))])
    timed = {}
    for n in (1000, order.SORTED, order.SORTED + 1, huge):
        found = first_batch(Population("train", np.arange(n)), runs)
        quartiles = statistics.quantiles(found, n=4)
        timed[n] = {"median_ms": statistics.median(found), "quartiles_ms": [quartiles[0], quartiles[2]], "runs": runs}
    uniform = markdown(
        ["order", "of", "tests", "smallest p", "p below 0.01"],
        [[t["order"], t["of"], str(t["tests"]), f"{t['smallest_p']:.3f}", str(t["below_0.01"])] for t in tested],
    )
    speed = markdown(
        ["rows", "order", "first batch of a rank, ms (quartiles)"],
        [
            [f"{n:,}", order.name(n), f"{t['median_ms']:.3g} ({t['quartiles_ms'][0]:.3g}–{t['quartiles_ms'][1]:.3g})"]
            for n, t in timed.items()
        ],
    )
    table = f"{uniform}\n\n{speed}"
    print(table)
    if out is not None:
        content = {"keys": keys, "uniformity": tested, "first_batch": timed}
        print(f"written: {write(out, 'orders', {**content, 'table': table})}")


if __name__ == "__main__":
    run(main)
