"""A training step of a network with depthwise convolutions on a CPU: bf16 as autocast has it, bf16 with the gradients
of depthwise convolutions in float32 (what a run does), and float32.

    python benchmarks/depthwise.py --out benchmarks/results

The three are interleaved; CPU-seconds of forward and backward, as ratios to float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch
from _report import clocked, markdown, run, spread, write
from torch.nn import functional

from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import has_bf16
from fastnoisy.training.precision import autocast, training_autocast

CPU = torch.device("cpu")
WAYS: dict[str, Any] = {
    "float32": (autocast, None),
    "bf16, autocast's": (autocast, torch.bfloat16),
    "bf16, gradients of depthwise convolutions in float32": (training_autocast, torch.bfloat16),
}


def table(ratios: dict[str, list[float]]) -> str:
    """A row per way."""
    return markdown(["a step", "CPU time / float32's"], [[way, spread(found)] for way, found in ratios.items()])


@click.command()
@click.option("--model", default="tf_efficientnet_lite0", show_default=True, help="Of timm's.")
@click.option("--size", default=160, show_default=True, help="Of the images, in pixels.")
@click.option("--batch", default=64, show_default=True)
@click.option("--repeats", default=10, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu: it is about CPUs.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path), help="For depthwise.json.")
@click.option("--tiny", is_flag=True, help="Small images, one repetition.")
def main(model: str, size: int, batch: int, repeats: int, device: str, out: Path, tiny: bool) -> None:
    """See the module."""
    import timm

    if device != "cpu":
        raise FastnoisyError(f"--device {device}: a GPU's kernels are not what this is about", "Use --device cpu")
    if tiny:
        size, batch, repeats = 32, 4, 1
    torch.manual_seed(0)
    net = timm.create_model(model, num_classes=23).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 23, (batch,))

    def step(way: str) -> None:
        context, dtype = WAYS[way]
        with context(CPU, dtype):
            loss = functional.cross_entropy(net(images).float(), labels)
        loss.backward()
        net.zero_grad()

    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for repeat in range(1 + repeats):
        for way in WAYS:
            took = clocked(lambda way=way: step(way), CPU)  # type: ignore[misc]
            if repeat:
                seconds[way].append(took)
    ratios = {
        way: [one / base for one, base in zip(found, seconds["float32"], strict=True)] for way, found in seconds.items()
    }
    shown = table(ratios)
    what = f"{model}, {batch} images of {size} pixels; native bf16: {has_bf16(CPU)}; {repeats} interleaved repetitions."
    write(out, "depthwise", {"seconds": seconds, "ratios": ratios, "note": what, "table": shown})
    print(shown)


if __name__ == "__main__":
    run(main)
