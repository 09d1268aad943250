"""Time a training step on a CPU in either memory order and precision, network by network, interleaved in one run.

    python benchmarks/precision.py --out benchmarks/results

A step is everything that the training loop does with a batch of cross-entropy once its views are made. It is what
`channels_last=auto` and `amp=auto` go by on a CPU. Ratios are of the wall clock, taken within a repetition; above 1 is
faster than float32 with contiguous images, compiled where the others are. bfloat16 is timed only where the processor
computes with it natively.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import torch
from _report import markdown, quartiles, run, write
from cost import Case, build

from fastnoisy.machine import cores, has_bf16

CPU = torch.device("cpu")
NETWORKS = (  # name, words, images of a batch, their side
    ("preact_small", ("model=preact_small",), 128, 32),
    ("preact_small, compiled", ("model=preact_small", "compile=true"), 128, 32),
    ("gjs_preact34", ("model=gjs_preact34",), 64, 32),
    ("resnet34_cifar", ("model=resnet34_cifar",), 64, 32),
    ("resnet50", ("model=resnet50",), 8, 224),
)
WAYS = {
    "fp32": ("amp=off", "channels_last=off"),
    "fp32, channels-last": ("amp=off", "channels_last=on"),
    "bf16": ("amp=bf16", "channels_last=off"),
    "bf16, channels-last": ("amp=bf16", "channels_last=on"),
}
BASE = "fp32"


def ways() -> list[str]:
    """Those that make sense here."""
    return [name for name in WAYS if "bf16" not in name or has_bf16(CPU)]


def measure(cases: dict[str, Case], repetitions: int) -> dict[str, tuple[float, float, float]]:
    """How many times as fast as the first each is: quartiles."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for number in range(repetitions):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            cases[name].run()
            seconds[name].append(time.perf_counter() - began)
    base = seconds[BASE]
    return {
        name: quartiles([one / other for one, other in zip(base, times, strict=True)])
        for name, times in seconds.items()
    }


@click.command(help=__doc__)
@click.option("--repetitions", type=click.IntRange(min=1), default=15, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Default: one per core.")
@click.option("--device", type=click.Choice(["cpu"]), default="cpu", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="A small network, two images, two repetitions: to see that it works.")
def main(repetitions: int, threads: int | None, device: str, out: Path | None, tiny: bool) -> None:
    """The command; see the module."""
    torch.set_num_threads(threads or cores())
    repetitions = 2 if tiny else repetitions
    found: dict[str, Any] = {}
    for name, words, batch, side in NETWORKS[: 1 if tiny else None]:
        images = torch.randn(2 if tiny else batch, 3, side, side, generator=torch.Generator().manual_seed(1))
        small = ("model.width=4",) if tiny else ()
        cases = {way: build("ce", [*words, *small, *WAYS[way]], CPU, images) for way in ways()}
        found[name] = {"batch": len(images), "side": side, "ratio_quartiles": measure(cases, repetitions)}
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    rows = [
        [
            name, f"{one['batch']} of {one['side']}x{one['side']}",
            *(f"{mid:.2f} ({low:.2f}–{high:.2f})" for low, mid, high in one["ratio_quartiles"].values()),
        ]
        for name, one in found.items()
    ]  # fmt: skip
    table = markdown(["network", "images", *ways()], rows)
    note = (
        f"Times as fast as {BASE} with contiguous images: median of {repetitions} interleaved repetitions (quartiles), "
        f"{torch.get_num_threads()} threads, eager unless compiled."
    )
    print(f"{table}\n\n{note}")
    if out is not None:
        content = {"repetitions": repetitions, "networks": found, "table": table, "note": note}
        print(f"written: {write(out, 'precision', content)}")


if __name__ == "__main__":
    run(main)
