"""Train several methods on one data set with the same set-up, over seeds, and print one table.

    python benchmarks/compare.py digits --seeds 1,2,3,4,5 --out benchmarks/results
    python benchmarks/compare.py digits --methods ce --grid "optim.lr=0.02;0.05;0.1" --seeds 1,2 --name lr-grid
    python benchmarks/compare.py cifar10 --data stores/cifar10 data.subset=10000 model=preact_small epochs=15

Every run is an ordinary run folder below --runs; a finished one is read instead of trained again, an interrupted one
goes on. Accuracy is the last epoch's on the clean test part. With --grid the first method is trained at every point of
the grid
and the best point by its own test accuracy is reported: the yardstick gets the benefit of the doubt.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import click
from _report import markdown, mean_std, run, write

from fastnoisy.errors import FastnoisyError
from fastnoisy.grids import numbers
from fastnoisy.grids.numbers import against, percent

TINY = ("epochs=2", "data.subset=200", "batch_size=32")


@click.command(help=__doc__)
@click.argument("data")
@click.argument("overrides", nargs=-1)
@click.option(
    "--methods",
    default="ce,nrd,alasca",
    show_default=True,
    help="Comma-separated; the first is the yardstick.",
)
@click.option("--seeds", default="1", show_default=True, help="Seeds, comma-separated.")
@click.option("--data", "store", default="", help="Store; digits are converted by themselves.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/compare"), show_default=True)
@click.option("--grid", multiple=True, help='"KEY=VALUE;VALUE;...", may be given several times.')
@click.option("--name", default="", help="Name of the result file; default: DATA-methods.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--device", default="auto", show_default=True)
@click.option("--tiny", is_flag=True, help="A few steps only, to see that it works.")
def main(
    data: str, overrides: tuple[str, ...], methods: str, seeds: str, store: str, runs: Path, grid: tuple[str, ...],
    name: str, out: Path | None, device: str, tiny: bool,
) -> None:  # fmt: skip
    """The command; see the module."""
    words = [*overrides, f"device={device}", *(TINY if tiny else ())]
    store = store or digits_store(data, runs)
    numbers = [int(seed) for seed in seeds.split(",")]
    content: dict[str, Any] = {"data": data, "overrides": words, "seeds": numbers}
    if grid:
        method = methods.split(",")[0]
        content["grid"], text = search(data, method, store, words, numbers, runs, points(grid))
    else:
        found = {m: train_all(data, m, store, words, numbers, runs) for m in methods.split(",")}
        content["methods"] = {
            m: {"runs": rows, **against(rows, found[methods.split(",")[0]])} for m, rows in found.items()
        }
        text = table(content["methods"])
    content["note"] = (
        f"Seed{'s' if len(numbers) > 1 else ''} {seeds}{', mean ± standard deviation' * (len(numbers) > 1)}."
    )
    content["table"] = text
    print(f"\n{text}\n\nrun folders: {runs}")
    if out is not None:
        print(f"written: {write(out, name or f'{data}-methods', content)}")


def search(
    data: str, method: str, store: str, words: list[str], seeds: list[int], runs: Path, grid: list[tuple[str, ...]]
) -> tuple[list[dict[str, Any]], str]:
    """Train one method at every point of a grid; the results, best test accuracy first, and their table."""
    found = [(point, train_all(data, method, store, [*words, *point], seeds, runs)) for point in grid]
    found.sort(key=lambda row: -mean_std([r["accuracy"] for r in row[1]])[0])
    rows = [[" ".join(p), percent(f, "accuracy"), percent(f, "memorised")] for p, f in found]
    text = markdown([f"{method} at", "test accuracy %", "memorised %"], rows)
    return [{"point": list(point), "runs": runs_} for point, runs_ in found], text


def digits_store(data: str, runs: Path) -> str:
    """The store to use for digits, converted on first use."""
    if data != "digits":
        raise FastnoisyError(
            f"no store named for {data}", "Add --data STORE, the folder that 'fastnoisy convert' wrote"
        )
    from fastnoisy.data.conversion.convert import ConvertOptions, convert

    store = runs / "store"
    if not store.exists():
        convert("digits", store, options=ConvertOptions(), progress=None)
    return str(store)


def points(grid: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Every combination of the values of "KEY=VALUE;VALUE" texts, each as overrides."""
    axes = []
    for text in grid:
        key, _, values = text.partition("=")
        axes.append([f"{key}={value.strip()}" for value in values.split(";")])
    return list(itertools.product(*axes))


def train_all(
    data: str, method: str, store: str, words: list[str], seeds: list[int], runs: Path
) -> list[dict[str, Any]]:
    """One run per seed; see `train`."""
    return [train(data, method, store, [*words, f"seed={seed}"], runs) for seed in seeds]


def train(data: str, method: str, store: str, words: list[str], runs: Path) -> dict[str, Any]:
    """Train one run, or read or resume the one that is there; its numbers."""
    from fastnoisy import config
    from fastnoisy.training import loop, setup
    from fastnoisy.training.logs import Display
    from fastnoisy.training.run import Run
    from fastnoisy.training.stop import on_signals

    settings = setup.resolve(f"{data}-{method}", words, store)
    plain = settings.config.recipe and not [w for w in words if not w.startswith(("device=", "seed=", "threads="))]
    suffix = "" if plain else f"-{zlib.crc32(repr(sorted(words)).encode()):08x}"
    folder = runs / f"{data}-{method}-seed{settings.config.seed}{suffix}"
    if (folder / "config.toml").exists():
        # a run has the threads that it took, where none were asked for
        kept = {"threads": settings.config.threads or Run(folder).config.threads}
        wanted = config.to_toml(settings.config.model_copy(update=kept).model_dump())
    if (folder / "config.toml").exists() and (folder / "config.toml").read_text() != wanted:
        shutil.rmtree(folder)  # made by another version of the recipe; only folders below --runs are ever removed
    print(f"\n{folder}: {' '.join(words)}", flush=True)
    begun = (folder / "config.toml").exists()
    final = Run(folder).final if begun else None
    if final is None:
        try:
            with on_signals() as stop, Display() as display:
                if begun:
                    final = loop.resume(folder, observe=display, stop=stop)
                else:
                    final = loop.start(settings, folder, display, stop)
        except loop.Interrupted as stopped:
            sys.exit(128 + stopped.signal_number)
    found = numbers.of_run(Run(folder))
    assert found is not None, "it has ended"
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """The table of a comparison, in Markdown."""
    return markdown(*numbers.table({method: entry["runs"] for method, entry in found.items()}))


if __name__ == "__main__":
    run(main)
