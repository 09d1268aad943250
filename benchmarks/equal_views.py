"""Whether the fast executors give the reference's bits over whole data sets: every image, several epochs.

    python benchmarks/equal_views.py stores/cifar10 stores/photos --out benchmarks/results
    python benchmarks/equal_views.py stores/cifar10 stores/photos --device cuda --out benchmarks/results

Compares the views of the recipes for images of that size, just before `normalize` and after it, in float32 and in
bfloat16 with channels-last. On a CPU `cpu` against `reference`; on a GPU `cuda` against `reference` on the same GPU.
Stops with exit code 1 where any image differs. What was looked at stays below --runs, and is not looked at again by the
same commit.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from _epochs import tiny_store
from _report import environment, markdown, run, write
from _view_peers import MEAN_STD
from torch import Tensor

from fastnoisy import keyed_random, pipelines
from fastnoisy.augment import executors
from fastnoisy.data.store import Split, open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.order import Population, batches, order
from fastnoisy.training import setup
from fastnoisy.training.device import choose_device

SMALL = (("cifar10-nrd", ()), ("cifar10-alasca", ()))
LARGE = (("folder-nrd", ("views.size=224",)), ("webvision-nrd", ()), ("webvision-alasca", ()))
MORE = {  # policies and steps that no recipe's view has
    True: "google_augmix(all_ops=True) | autoaugment | torchvision_randaugment(n=2, m=9) | color_jitter(hue=0.2) "
    "| normalize | random_erasing(p=0.5)",
    False: "randaugment(n=2, m=9) | color_jitter(hue=0.2) | resize(160) | hflip | normalize | cutout(20)",
}


def programs(small: bool) -> dict[str, Any]:
    """Different programs of recipes by their text, and one of what they lack."""
    from fastnoisy.augment import parse_view

    found = {MORE[small]: parse_view(MORE[small])}
    for recipe, words in SMALL if small else LARGE:
        views = setup.resolve(recipe, words).views
        found.update({str(views[name]): views[name] for name in ("student", "teacher", "weak", "eval")})
    return found


def differing(split: Split, count: int, program: Any, epochs: int, device: torch.device) -> int:
    """How many of the images differ in any epoch.

    The reference makes each view once, in float32: what reaches `normalize` is looked at on the way, and in another
    dtype and memory order it gives what `Tensor.to` makes of that. On a CPU the fast executor runs in two threads.
    """
    fast = "cuda" if device.type == "cuda" else "cpu"
    rows, different = Population("all", np.arange(count)), 0
    reference = program.build("view", executor="reference", **MEAN_STD).to(device)
    first_float = [call.kind.stage for call in program.steps].index("normalize")
    seen: list[Tensor] = []
    reference.steps[first_float].register_forward_pre_hook(lambda step, given: seen.append(given[0].clone()))
    ours = [
        program.build("view", dtype=dtype, channels_last=channels_last, executor=fast, **MEAN_STD).to(device)
        for dtype, channels_last in ((torch.float32, False), (torch.bfloat16, True))
    ]
    if {view.executor for view in ours} != {fast}:
        raise FastnoisyError(f"{program} is not made by the {fast} executor", ours[0].note)
    executors.prepare(ours, print)
    with pipelines.open_pipeline("resident", split, split.given_labels, device, 0) as pipeline:
        for epoch in range(epochs):
            key = keyed_random.key(1, epoch)
            for batch in pipeline.iterate(list(batches(order(rows, "train", 1, epoch), 128, False))):
                given = batch.images, batch.sizes, batch.indices, key
                torch.set_num_threads(1)  # small operations: two would wait for each other
                whole = reference(*given)
                torch.set_num_threads(2)
                pairs = [(seen.pop(), ours[0].uint8(*given))]
                pairs += [(whole.to(view.dtype, memory_format=view.memory_format), view(*given)) for view in ours]
                equal = torch.ones(len(batch.indices), dtype=torch.bool, device=device)
                for wanted, found in pairs:
                    if (wanted.dtype, wanted.stride()) != (found.dtype, found.stride()):
                        raise FastnoisyError(f"{program}: {wanted.dtype} {wanted.stride()}, got {found.dtype}")
                    equal &= (wanted == found).flatten(1).all(1)
                different += int((~equal).sum())
    return different


def looked_at(kept: Path, row: dict[str, Any], look: Callable[[], int]) -> dict[str, Any]:
    """A row with its `different`, which is read again where an earlier start of the script has found it."""
    for line in kept.read_text().splitlines() if kept.exists() else ():
        found: dict[str, Any] = json.loads(line)
        if row.items() <= found.items():
            return found
    began = time.monotonic()
    row = {**row, "different": look(), "seconds": round(time.monotonic() - began)}
    with kept.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return row


@click.command(help=__doc__)
@click.argument("stores", nargs=-1, type=click.Path(path_type=Path))
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/equal_views"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="A few made images, one epoch: to see that it works.")
def main(stores: tuple[Path, ...], device: str, epochs: int, runs: Path, out: Path | None, tiny: bool) -> None:
    """The command; see the module."""
    where, found = choose_device(device), []
    commit = environment()["commit"]
    with tempfile.TemporaryDirectory() as scratch:
        if tiny:
            stores, epochs, runs = (tiny_store(Path(scratch)),), 1, Path(scratch)
        runs.mkdir(parents=True, exist_ok=True)
        if not stores:
            raise FastnoisyError("no store named", "Convert a data set with 'fastnoisy convert' and name its folder")
        for path, name in itertools.product(stores, ("train", "test")):
            store = open_store(path)
            if name not in store.splits:
                continue
            split = store.split(name)
            count = min(8, split.num_samples) if tiny else split.num_samples
            for text, program in programs(max(split.canvas) <= 32).items():
                row = {
                    "store": path.name, "split": name, "images": count, "program": text, "epochs": epochs,
                    "device": device, "commit": commit,
                }  # fmt: skip
                one = looked_at(runs / "views.jsonl", row, lambda: differing(split, count, program, epochs, where))  # noqa: B023
                found.append(one)
                line = f"{path.name} {name}: {text}: {one['different']} of {epochs} x {count} differ"
                print(f"{line} ({one['seconds']} s)", file=sys.stderr, flush=True)
    rows = [
        [
            one["store"],
            one["split"],
            str(one["images"]),
            f"`{one['program']}`".replace("|", "\\|"),
            str(one["different"]),
        ]
        for one in found
    ]
    table = markdown(["store", "split", "images", "view", "different"], rows)
    print(table)
    if out is not None:
        name = "equal_views" if device == "cpu" else "equal_views-cuda"
        print(f"written: {write(out, name, {'device': device, 'epochs': epochs, 'views': found, 'table': table})}")
    if any(one["different"] for one in found):
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
