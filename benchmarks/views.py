"""Time views, step by step and whole, against Pillow, torchvision v2 and kornia's own classes, interleaved in one run.

    python benchmarks/views.py --out benchmarks/results
    python benchmarks/views.py --device cuda --out benchmarks/results --name views-cuda

Ours is the executor that a run takes: `cpu` (numba) or `cuda` (Triton); `reference` (torch and kornia) is timed beside
it. Every competitor gets the same images as it likes them best: ours uint8 batches in a pipeline's memory order, Pillow
images one after another (as the official codes of the methods do), torchvision v2 uint8 tensors, kornia floats in
[0, 1], as it is and by torch.compile. A repetition times every case once, its competitors one after another in an order
that rotates; a ratio is taken within a repetition. On a CPU one thread is used, CPU time is measured and only ratios
are claimed; absolute times are given for a GPU alone, where Pillow still runs on one CPU core.
"""

from __future__ import annotations

import functools
import itertools
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from _report import clocked, markdown, quartiles, run, write
from _view_peers import (
    KORNIA,
    KORNIA_COMPILED,
    MEAN_STD,
    PILLOW,
    TORCHVISION,
    Peer,
    compiled,
    kornia_op,
    pillow_op,
    torchvision_op,
    versions,
)
from PIL import Image
from torch import Tensor

from fastnoisy import keyed_random
from fastnoisy.augment import executors, ops, step_names
from fastnoisy.augment.program import StepCall, ViewProgram, parse_view
from fastnoisy.training import setup
from fastnoisy.training.device import choose_device

OURS, REFERENCE = "ours", "reference"
# of one operation, the same for every image, as RandAugment has them at magnitude 9 of 30; others get 1
VALUES = {
    "rotate": 9.0, "posterize": 4.0, "solarize": 77.0, "solarize_add": 33.0, "color": 0.64, "contrast": 0.64,
    "brightness": 0.64, "sharpness": 0.64, "shear_x": 0.09, "shear_y": 0.09, "translate_x": 5.0, "translate_y": 5.0,
    "cutout_abs": 12.0, "hue": 0.1,
}  # fmt: skip
SMALL_STEPS = (
    "randaugment(n=1, m=3)", "randaugment(n=2, m=9)", "torchvision_randaugment(n=2, m=9)", "autoaugment", "augmix",
    "color_jitter(0.4, 0.4, 0.4, 0.2)", "random_crop(32, padding=4)", "hflip",
)  # fmt: skip
LARGE_STEPS = ("augmix", "random_resized_crop(224)", "resize(224)", "hflip")


@dataclass(frozen=True)
class Images:
    """The same images in every competitor's form; all have one size, since batched peers take no other.

    Attributes:
        canvas: uint8 (B, 3, H, W), channels-last in memory, the images at the top left.
        sizes: int32 (B, 2), valid (height, width); None where the images fill the canvas, as from a pipeline.
        tensors: uint8 (B, 3, height, width).
        floats: the same in [0, 1].
        pillow: the same as Pillow images, and
        arrays: as uint8 (height, width, 3) arrays.
    """

    canvas: Tensor
    sizes: Tensor | None
    tensors: Tensor
    floats: Tensor
    pillow: list[Image.Image]
    arrays: list[np.ndarray]

    @classmethod
    def make(cls, count: int, size: tuple[int, int], canvas: tuple[int, int], device: torch.device) -> Images:
        """Smooth shapes with some noise: neither flat nor pure noise, either of which some operations would be fast
        on.
        """
        generator = torch.Generator().manual_seed(1)
        coarse = torch.rand(count, 3, 5, 5, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
        noise = torch.rand(count, 3, *size, generator=generator)
        tensors = (255 * (0.85 * smooth + 0.15 * noise)).to(torch.uint8)
        padded = torch.zeros(count, *canvas, 3, dtype=torch.uint8)
        padded[:, : size[0], : size[1]] = tensors.permute(0, 2, 3, 1)
        arrays = [image.permute(1, 2, 0).contiguous().numpy() for image in tensors]
        return cls(
            padded.to(device).permute(0, 3, 1, 2),
            None if size == canvas else torch.tensor([size] * count, dtype=torch.int32, device=device),
            tensors.to(device),
            tensors.to(device).float() / 255,
            [Image.fromarray(array) for array in arrays],
            arrays,
        )

    @property
    def words(self) -> str:
        """How many of what size."""
        return f"{len(self.arrays)} of {self.tensors.shape[3]}x{self.tensors.shape[2]}"


Run = Callable[[int], object]
"""Does the work once; the argument is the number of the repetition, from which random draws come."""


@dataclass
class Case:
    """What is timed, and by whom.

    Attributes:
        name: for the table.
        images: what it works on, in words.
        runs: competitor -> its work.
        per_batch: competitors that draw once per batch, which is another algorithm.
        program: the view, where it is a whole one.
        times: competitor -> seconds, one per repetition.
    """

    name: str
    images: str
    runs: dict[str, Run]
    per_batch: set[str] = field(default_factory=set)
    program: str = ""
    times: dict[str, list[float]] = field(default_factory=dict)


def op_case(name: str, images: Images, compile_too: bool) -> Case:
    """A single operation with the same value for every image; `compile_too`: kornia's also by torch.compile."""
    value, B, device = VALUES.get(name, 1.0), len(images.arrays), images.tensors.device
    values = torch.full((B,), value, dtype=torch.float64, device=images.tensors.device)
    centers = torch.full((B, 2), min(images.tensors.shape[2:]) << 15, device=images.tensors.device)
    text = f"{name}({value}) | normalize" if ops.get_op(name).unit else f"{name} | normalize"
    view = parse_view(text).build("student", **MEAN_STD, executor=executors.automatic(device))
    view, indices = view.to(device), torch.arange(B, device=device)
    runs: dict[str, Run] = {
        OURS: lambda number: view.uint8(images.canvas, images.sizes, indices, number),
        REFERENCE: lambda _: ops.apply_op(name, images.tensors, values, centers=centers),
    }
    if single := pillow_op(name, value):
        runs[PILLOW] = lambda _: [single(image) for image in images.pillow]
    if batched := torchvision_op(name, value):
        runs[TORCHVISION] = lambda _: batched(images.tensors)
    if floats := kornia_op(name, value, B, images.tensors.device):
        runs[KORNIA] = lambda _: floats(images.floats)
        if compile_too and (quick := compiled(floats, images.floats)):
            runs[KORNIA_COMPILED] = lambda _: quick(images.floats)
    return Case(name, images.words, runs)


def step_case(text: str, images: Images, compile_too: bool) -> Case:
    """A single step, up to the uint8 images it gives (kornia: floats)."""
    program = parse_view(f"{text} | normalize")
    return Case(text, images.words, *_program_runs(program, program.steps[:-1], images, compile_too))


def program_case(name: str, program: ViewProgram, images: Images, compile_too: bool) -> Case:
    """A whole program, from decoded uint8 images to one batch of normalized floats on the device."""
    return Case(name, images.words, *_program_runs(program, program.steps, images, compile_too), str(program))


def _program_runs(
    program: ViewProgram, steps: Sequence[StepCall], images: Images, compile_too: bool
) -> tuple[dict[str, Run], set[str]]:
    device = images.tensors.device
    whole = len(steps) == len(program.steps)
    runs: dict[str, Run] = {}
    for name, executor in ((OURS, executors.automatic(device)), (REFERENCE, "reference")):
        view = program.build("student", **MEAN_STD, executor=executor).to(device)
        runs[name] = functools.partial(_view_batch, view if whole else view.uint8, images)
    per_batch: set[str] = set()
    for name in (PILLOW, TORCHVISION, KORNIA):
        peer = Peer.build(name, [(step.name, step.keywords) for step in steps], MEAN_STD)
        if peer is None:
            continue
        if peer.per_batch:
            per_batch.add(name)
        if name == PILLOW and whole:
            runs[name] = functools.partial(_pillow_batch, peer, images.arrays, device)
        elif name == PILLOW:
            runs[name] = functools.partial(_pillow_images, peer, images.pillow)
        else:
            given = images.tensors if name == TORCHVISION else images.floats
            runs[name] = functools.partial(_batched, peer, given)
            if compile_too and name == KORNIA and (quick := compiled(peer, images.floats)):
                runs[KORNIA_COMPILED] = functools.partial(_batched, quick, given)
                per_batch |= {KORNIA_COMPILED} if peer.per_batch else set()
    return runs, per_batch


def _view_batch(call: Callable[..., Tensor], images: Images, number: int) -> object:
    indices = torch.arange(len(images.arrays), device=images.canvas.device)
    return call(images.canvas, images.sizes, indices, keyed_random.key(1, number))


def _pillow_batch(peer: Peer, arrays: list[np.ndarray], device: torch.device, number: int) -> object:
    return torch.stack([peer(Image.fromarray(array)) for array in arrays]).to(device)


def _pillow_images(peer: Peer, pictures: list[Image.Image], number: int) -> object:
    return [peer(picture) for picture in pictures]


def _batched(peer: Callable[[Tensor], object], images: Tensor, number: int) -> object:
    return peer(images)


def cases(device: torch.device, tiny: bool) -> list[Case]:
    """Everything that is timed."""
    small = Images.make(4 if tiny else 128, (32, 32), (32, 32), device)
    side = 64 if tiny else 512
    large = Images.make(2 if tiny else 32, (side * 3 // 4, side), (side, side), device)
    found = [op_case(name, small, not tiny or name == "invert") for name in ops.op_names() if name != "identity"]
    found += [step_case(text, small, not tiny) for text in SMALL_STEPS if text.partition("(")[0] in step_names()]
    for data, method, images, words in (("cifar10", "nrd", small, ()), ("folder", "nrd", large, ("views.size=224",))):
        if images is large:
            found += [
                step_case(text, large, not tiny) for text in LARGE_STEPS if text.partition("(")[0] in step_names()
            ]
        views = setup.resolve(f"{data}-{method}", words).views
        for name in ("student", "teacher"):
            found.append(program_case(f"whole {name} view, {data}-{method}", views[name], images, not tiny))
    return found


def measure(found: list[Case], repetitions: int, device: torch.device, least: float) -> None:
    """Fill in the times. A run is repeated until it lasts `least` seconds, so that the clock and call do not count."""
    loops = {}
    for case, name in _each(found):
        _time(case.runs[name], 0, 1, device)  # warms up
        loops[case.name, case.images, name] = max(1, int(least / max(_time(case.runs[name], 0, 1, device), 1e-6)))
        case.times[name] = []
    for number in range(1, repetitions + 1):
        if sys.stderr.isatty():
            print(f"\rrepetition {number} of {repetitions}", end="", file=sys.stderr, flush=True)
        for case in found:
            names = list(case.runs)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                count = loops[case.name, case.images, name]
                random.seed(number)
                np.random.seed(number)
                torch.manual_seed(number)
                case.times[name].append(_time(case.runs[name], number, count, device) / count)


def _each(found: list[Case]) -> list[tuple[Case, str]]:
    return list(itertools.chain.from_iterable(((case, name) for name in case.runs) for case in found))


def _time(once: Run, number: int, loops: int, device: torch.device) -> float:
    """Seconds of `loops` runs, each with draws of its own: of CPU time, or until the GPU has done them."""

    def draws() -> None:
        for loop in range(loops):
            once(1000 * number + loop)

    return clocked(draws, device)


def ratios(case: Case, name: str) -> list[float]:
    """A competitor's time over ours, repetition by repetition; ours over its own median."""
    if name == OURS:
        middle = statistics.median(case.times[OURS])
        return [seconds / middle for seconds in case.times[OURS]]
    return [theirs / ours for theirs, ours in zip(case.times[name], case.times[OURS], strict=True)]


def table(found: list[Case], device: torch.device) -> str:
    """Ratios to ours, and on a GPU our time per image."""
    names = [
        name
        for name in (REFERENCE, PILLOW, TORCHVISION, KORNIA, KORNIA_COMPILED)
        if any(name in case.runs for case in found)
    ]
    gpu = device.type == "cuda"
    rows = []
    for case in found:
        row = [case.name if case.program else f"`{case.name}`", case.images]
        if gpu:
            count = int(case.images.partition(" ")[0])
            low, middle, high = (1e6 * seconds / count for seconds in quartiles(case.times[OURS]))
            row.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
        for name in (OURS, *names):
            if name not in case.runs:
                row.append("-")
                continue
            low, middle, high = (f"{value:.3g}" for value in quartiles(ratios(case, name)))
            row.append(f"{middle} ({low}–{high}){'*' * (name in case.per_batch)}")
        rows.append(row)
    return markdown(["step or program", "images", *(["ours, µs per image"] if gpu else []), OURS, *names], rows)


def note(repetitions: int, device: torch.device) -> str:
    """What the table's numbers are."""
    unit = "one GPU (Pillow: one CPU core)" if device.type == "cuda" else "one CPU thread, CPU time"
    return (
        f"Time relative to ours: above 1 is slower than ours. Median of {repetitions} interleaved repetitions "
        f"(quartiles); {unit}. Pillow: one image after another; torchvision v2 and kornia: the batch at once; -: has "
        "no such thing, or torch.compile refuses it. Operations: one value for all images. *: another algorithm, which "
        "draws once per batch, not per image. kornia's resized crop does not antialias. Programs: `fastnoisy recipes "
        "show NAME`, the photographs' with views.size=224."
    )


@click.command(help=__doc__)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--repetitions", type=click.IntRange(min=1), default=15, show_default=True)
@click.option("--name", default="", help="Name of the result file; default: views, or views-cuda.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="A few images, two repetitions: to see that it works.")
def main(device: str, repetitions: int, name: str, out: Path | None, tiny: bool) -> None:
    """The command; see the module."""
    torch.set_num_threads(1)
    where = choose_device(device)
    repetitions = 2 if tiny else repetitions
    found = cases(where, tiny)
    measure(found, repetitions, where, 0.0 if tiny else 0.003)
    text = table(found, where)
    content: dict[str, Any] = {
        "device": device,
        "repetitions": repetitions,
        "versions": versions(),
        "cases": [
            {
                "name": case.name,
                "images": case.images,
                "program": case.program,
                "once_per_batch": sorted(case.per_batch),
                "ratio_quartiles": {
                    rival: [round(v, 4) for v in quartiles(ratios(case, rival))] for rival in case.runs
                },
                "runs_ms": {rival: [float(f"{1e3 * s:.4g}") for s in times] for rival, times in case.times.items()},
            }
            for case in found
        ],
        "note": note(repetitions, where),
        "table": text,
    }
    print(f"\n{text}\n\n{content['note']}")
    if out is not None:
        print(f"written: {write(out, name or ('views' if device == 'cpu' else 'views-cuda'), content)}")


if __name__ == "__main__":
    run(main)
