"""What a training step costs, method by method, against cross-entropy's: time, and peak memory.

    python benchmarks/cost.py --out benchmarks/results
    python benchmarks/cost.py --device cuda --methods ce,nrd,alasca --out benchmarks/results amp=bf16 compile=true

A step is everything that the training loop does with a batch once its views are made: forwards, loss, backward,
optimiser, moving averages, memories. The network is the CIFAR ResNet-34, the batch 128 images of 32x32 pixels,
cross-entropy's and the losses' set-up ALASCA's. Of a method with several passes (a network each) one step of each pass
counts.

Times are taken in turn, a step of every method in each repetition, and a ratio is taken within a repetition. On a CPU
they are CPU-seconds of one thread, on a GPU seconds until it is done. Memory: what the step needs at its height, plus
weights, buffers and the optimiser's state; on a CPU it is summed up from every allocation that torch makes in a step.

The last column is the loss by itself: its forward and backward on logits, as a share of cross-entropy's whole step.
Where noise of the machine hides a difference of a step's time, this shows how large it can be.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch
from _report import clocked, markdown, run, spread, write
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from fastnoisy import config, methods
from fastnoisy.batch import Batch
from fastnoisy.methods.base import Method, NoiseFacts, Progress, SingleNetwork
from fastnoisy.training import optim, setup
from fastnoisy.training.device import choose_device
from fastnoisy.training.meter import Meter
from fastnoisy.training.precision import memory_format
from fastnoisy.training.step import Stepper

EPOCH = 50  # 0-based: past all warm-ups, so that every method does all that it does


def pure_losses() -> list[str]:
    """The methods whose step is one network's logits for one view and a loss of them; CDR then masks the gradient."""
    found = [name for name in methods.names() if issubclass(methods.find(name), SingleNetwork)]
    return [name for name in found if methods.find(name).step is SingleNetwork.step and name != "ce"]


@dataclass
class Case:
    """A method, ready to make steps.

    Attributes:
        name: as it is written on the command line, `alasca(base=elr)`.
        run: makes a step of each pass.
        method: the method.
        held: bytes of weights, buffers and the optimiser's state.
        seconds: one per repetition.
        loss_seconds: of the loss alone; empty where the method is not a loss alone.
        peak: bytes that a step needs at its height, `held` included.
    """

    name: str
    run: Callable[[], None]
    method: Method
    held: int = 0
    peak: int = 0
    seconds: list[float] = field(default_factory=list)
    loss_seconds: list[float] = field(default_factory=list)


def build(name: str, words: list[str], device: torch.device, images: Tensor) -> Case:
    """A method on random images with random labels."""
    table = config.parse_call(name)
    options = [f"method.{key}={str(value).lower()}" for key, value in table.items() if key != "name"]
    size, side = images.shape[0], images.shape[-1]
    words = [f"batch_size={size}", f"suite={methods.find(table['name']).suite}", *words, *options]
    settings = setup.resolve(f"cifar10-{table['name']}", words)
    method = setup.build_method(settings, 10, 50000, NoiseFacts(0.4)).train()
    method.to(device=device, memory_format=memory_format(settings.config, device))
    optimizer = optim.build(method, settings.config.optim, device)
    floats = images.to(getattr(torch, settings.config.dtype), memory_format=memory_format(settings.config, device))
    views: Mapping[str, Any] = {
        stream: {view: lambda canvas, sizes, indices, key: floats for view in spec.views}
        for stream, spec in method.streams.items()
    }
    stepper = Stepper(method, optimizer, views, settings.config, device, Meter(None, device))
    labels = torch.randint(10, (size,), generator=torch.Generator().manual_seed(1)).to(device)
    sizes = torch.full((size, 2), side, dtype=torch.int32, device=device)
    canvas = torch.zeros(size, 3, side, side, dtype=torch.uint8, device=device)
    batch = Batch(canvas, sizes, labels, torch.arange(size, device=device))
    progress = Progress.start(settings.config.epochs, device)
    progress.move(EPOCH, 0, 100)

    def run() -> None:
        for spec in method.plan(EPOCH):
            method.before_pass(spec.name)
            stepper(dict.fromkeys(spec.streams, batch), progress)

    case = Case(name, run, method)
    run()  # makes the optimiser's state; compiles, where that is asked for
    tensors = [*method.parameters(), *method.buffers()]
    tensors += [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    case.held = sum({t.data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())
    return case


def peak(run: Callable[[], None], device: torch.device) -> int:
    """Bytes that a call allocates at its height, above what was there before."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    with tempfile.TemporaryDirectory() as folder:
        seen.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    changes = [(event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]"]
    held = highest = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        highest = max(highest, held)
    return highest


def loss_alone(case: Case, size: int, device: torch.device) -> Callable[[], None] | None:
    """Forward and backward of a method's loss on logits; None where it is not a loss alone."""
    method = case.method
    if not isinstance(method, SingleNetwork) or type(method).step is not SingleNetwork.step:
        return None
    logits = torch.randn(size, 10, device=device, requires_grad=True)
    labels, indices = torch.randint(10, (size,), device=device), torch.arange(size, device=device)
    progress = Progress.start(200, device)

    def run() -> None:
        method.loss(logits, labels, indices, progress).mean().backward()
        logits.grad = None

    return run


def measure(cases: list[Case], repetitions: int, size: int, device: torch.device) -> None:
    """Fill in times and memory."""
    for case in cases:
        case.peak = case.held + peak(case.run, device)
    alone = {case.name: loss_alone(case, size, device) for case in cases}
    for number in range(repetitions):
        if sys.stderr.isatty():
            print(f"\rrepetition {number + 1} of {repetitions}", end="", file=sys.stderr, flush=True)
        first = number % len(cases)
        for case in cases[first:] + cases[:first]:
            case.seconds.append(clocked(case.run, device))
            if (run := alone[case.name]) is not None:
                hundred = clocked(lambda run=run: [run() for _ in range(100)], device)  # type: ignore[misc]
                case.loss_seconds.append(hundred / 100)


def table(cases: list[Case], device: torch.device) -> str:
    """Ratios to the first method; on a GPU also milliseconds."""
    base = cases[0]
    gpu = device.type == "cuda"
    step = statistics.median(base.seconds)
    rows = []
    for case in cases:
        middle = statistics.median(case.seconds)
        ratios = [one / other for one, other in zip(case.seconds, base.seconds, strict=True)]
        share = f"{100 * statistics.median(case.loss_seconds) / step:.3f}" if case.loss_seconds else "-"
        rows.append(
            [
                case.name,
                *([f"{1e3 * middle:.2f}"] if gpu else []),
                "1" if case is base else spread(ratios),
                f"{case.peak / base.peak:.3f}",
                f"{case.peak / 1e6:,.0f}",
                share,
            ]
        )
    times = ["ms", "time"] if gpu else ["CPU time"]
    return markdown(["method", *times, "memory", "MB", f"loss alone, % of {base.name}'s step"], rows)


@click.command(help=__doc__)
@click.option("--methods", "asked", help="Comma-separated; default: ce, all with a loss on one view, NRD and ALASCA.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--repetitions", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--batch", type=click.IntRange(min=2), default=128, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of the CPU.")
@click.option("--name", default="", help="Name of the result file; default: cost, or cost-cuda.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="A few images, a small network, two repetitions: to see that it works.")
@click.argument("overrides", nargs=-1)
def main(
    asked: str | None, device: str, repetitions: int, batch: int, threads: int, name: str, out: Path | None, tiny: bool,
    overrides: tuple[str, ...],
) -> None:  # fmt: skip
    """The command; see the module."""
    torch.set_num_threads(threads)
    where = choose_device(device)
    chosen = re.split(r",(?![^()]*\))", asked) if asked else []  # not within brackets
    names = chosen or ["ce", *pure_losses(), "nrd", "alasca", "alasca(recompute=true)"]
    model = ["model=resnet34_cifar"]
    if tiny:
        repetitions, batch, names = (
            2,
            8,
            chosen or ["ce", "gce", "dividemix", "alasca(recompute=true)"],
        )
        model = ["model=preact_small", "model.width=4"]
    images = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(where)
    words = [f"device={device}", *model, *overrides]
    cases = [build(one, words, where, images) for one in names]
    measure(cases, repetitions, batch, where)
    text = table(cases, where)
    clock = "one GPU" if where.type == "cuda" else f"CPU-seconds, {threads} thread{'s' * (threads > 1)}"
    options = " ".join(overrides) or "as the recipes have it"
    note = (
        f"One step with {batch} images of 32x32, {model[0].removeprefix('model=')}, {options}; "
        f"time relative to {names[0]}: median of {repetitions} interleaved repetitions (quartiles), {clock}; memory: "
        "peak of a "
        "step with weights and optimiser."
    )
    content: dict[str, Any] = {
        "device": device,
        "repetitions": repetitions,
        "batch": batch,
        "overrides": words,
        "methods": {
            case.name: {
                "seconds": case.seconds,
                "loss_seconds": case.loss_seconds,
                "peak_bytes": case.peak,
                "held_bytes": case.held,
            }
            for case in cases
        },
        "note": note,
        "table": text,
    }
    print(f"\n{text}\n\n{note}")
    if out is not None:
        print(f"written: {write(out, name or ('cost' if device == 'cpu' else 'cost-cuda'), content)}")


if __name__ == "__main__":
    run(main)
