"""What 8 to 512 GPUs and 100 million images would need: communication beside compute, memory, store and conversion.

    python benchmarks/scale.py --out benchmarks/results

Nothing here was run on many GPUs. Bytes are counted from the networks and methods themselves, conversion and the start
of an epoch are read from this project's own measurements (`results/convert.json`, `results/orders.json`), and the rest
are assumptions, which the table names: see `ASSUMED`.
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import click
from _report import ROOT, markdown, run, write

ASSUMED = {
    "images a second of one GPU, cifar10-nrd": 40_000,  # the aim, not measured
    "images a second of one GPU, webvision-nrd": 4_300,  # the aim, not measured
    "GB/s of a GPU within a machine of 8": 300,
    "GB/s of a GPU between machines": 50,  # 400 Gbit/s
    "microseconds of a message, per doubling of the ranks": 10,
    "kB of a stored photograph": 60,
    "cores of a machine that converts": 64,
    "images": 100_000_000,
}
RECIPES = {"cifar10-nrd": (10, 50_000), "webvision-nrd": (50, 65_944), "webvision-alasca": (50, 65_944)}
GPUS = (1, 8, 64, 512)
PER_GPU = 128  # images of a step on each GPU


def sizes(recipe: str, classes: int, rows: int) -> tuple[int, int]:
    """Bytes in float32 of all trained weights of a recipe's method, and of the memory rows of one sample."""
    from fastnoisy.methods.base import NoiseFacts
    from fastnoisy.sample_memory import SampleMemory
    from fastnoisy.training import setup

    method = setup.build_method(setup.resolve(recipe, []), classes, rows, NoiseFacts(0.2), restored=True)
    memories = [module for module in method.modules() if isinstance(module, SampleMemory)]
    trained = sum(4 * p.numel() for p in method.parameters() if p.requires_grad)
    return trained, sum(4 * memory.rows.shape[1] + 8 for memory in memories)  # and the sample's number


def all_reduce(size: int, gpus: int) -> float:
    """Milliseconds of a ring over so many GPUs: twice the bytes by the slowest link, and a message per doubling."""
    if gpus == 1:
        return 0.0
    link = ASSUMED["GB/s of a GPU within a machine of 8"] if gpus <= 8 else ASSUMED["GB/s of a GPU between machines"]
    latency = ASSUMED["microseconds of a message, per doubling of the ranks"] * math.log2(gpus) / 1000
    return 2 * (gpus - 1) / gpus * size / (link * 1e6) + latency


def communication() -> list[dict[str, Any]]:
    """Per recipe and number of GPUs: what a step computes and what it sends."""
    found = []
    for recipe, (classes, rows) in RECIPES.items():
        size, remembered = sizes(recipe, classes, rows)
        kind = "cifar10-nrd" if recipe.startswith("cifar") else "webvision-nrd"
        compute = 1000 * PER_GPU / ASSUMED[f"images a second of one GPU, {kind}"]
        for gpus in GPUS:
            whole, half = all_reduce(size, gpus), all_reduce(size // 2, gpus)
            found.append(
                {"recipe": recipe, "gpus": gpus, "gradient_mb": size / 1e6, "compute_ms": compute, "fp32_ms": whole,
                 "bf16_ms": half, "memory_rows_kb": remembered * PER_GPU * gpus / 1e3}
            )  # fmt: skip
    return found


def hundred_million() -> list[tuple[str, str]]:
    """What a set of that size takes."""
    images = ASSUMED["images"]
    measured = json.loads((ROOT / "benchmarks/results/convert.json").read_text())
    orders = json.loads((ROOT / "benchmarks/results/orders.json").read_text())
    rates = _rates(measured)
    first = orders["first_batch"]["100000000"]["median_ms"]
    cores = ASSUMED["cores of a machine that converts"]
    lines = [
        ("store", f"{images * ASSUMED['kB of a stored photograph'] / 1e9:,.1f} TB"),
        ("rows and labels in the memory of each process", f"{images * 16 / 1e9:,.1f} GB"),
        ("first batch of an epoch", f"{first:.1f} ms, measured"),
    ]
    for what, rate in rates.items():
        hours = images / rate / cores / 3600
        lines.append((f"conversion, {what}", f"{hours:,.1f} hours on one machine of {cores} cores ({rate:,.0f} images "
                      "a CPU-second, measured)"))  # fmt: skip
    for classes in (50, 1000):
        for kind, size in (("float32", 4), ("bfloat16", 2)):
            total = images * classes * size / 1e9
            lines.append((f"a memory of {classes} numbers per sample, {kind}", f"{total:,.0f} GB on each GPU; in parts "
                          f"over 64 GPUs {total / 64:,.1f} GB"))  # fmt: skip
    return lines


def _rates(measured: dict[str, Any]) -> dict[str, float]:
    """Images a CPU-second of `fastnoisy convert`, by what is asked of it."""
    return {
        case["name"]: measured["images"] / statistics.median(case["cpu_seconds"]["convert"])
        for case in measured["cases"]
    }


@click.command(help=__doc__)
@click.option("--device", type=click.Choice(["cpu"]), default="cpu", help="Nothing is trained.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="The same: it takes seconds.")
def main(device: str, out: Path | None, tiny: bool) -> None:
    """The command; see the module."""
    sent, large = communication(), hundred_million()
    first = markdown(
        ["recipe", "GPUs", "gradients, MB", "step, ms", "all-reduce, ms", "in bf16, ms", "memory rows, kB"],
        [
            [r["recipe"], str(r["gpus"]), f"{r['gradient_mb']:.1f}", f"{r['compute_ms']:.1f}", f"{r['fp32_ms']:.2f}",
             f"{r['bf16_ms']:.2f}", f"{r['memory_rows_kb']:.0f}"]
            for r in sent
        ],
    )  # fmt: skip
    second = markdown([f"{ASSUMED['images']:,} images", "needs"], [list(line) for line in large])
    third = markdown(["assumed, not measured", "value"], [[k, f"{v:,}"] for k, v in ASSUMED.items()])
    table = f"{first}\n\n{second}\n\n{third}"
    print(table)
    if out is not None:
        content = {"assumed": ASSUMED, "communication": sent, "large": large, "table": table}
        print(f"written: {write(out, 'scale', content)}")


if __name__ == "__main__":
    run(main)
