"""Time both views of NRD on a CPU against a DataLoader with Pillow that does the same, interleaved in one run.

    python benchmarks/view_loaders.py --small stores/cifar10 --photographs stores/photos --out benchmarks/results

Both sides start from decoded images in memory and deliver a batch of the student's and one of the teacher's view,
normalised float32. Ours: the resident pipeline and the views of a run, over all cores. The DataLoader: Pillow and
torchvision's transforms image by image, as the official codes of the methods do it, with 0, 1 and 2 workers, each of
which decides for itself; ours is compared with the best of them, by CPU time (workers included) and by the wall.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from _epochs import Competitor, Epoch, measure, tiny_store
from _report import markdown, quartiles, run, write
from _view_peers import MEAN_STD, PILLOW, Peer, versions
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastnoisy import keyed_random, pipelines
from fastnoisy.augment import executors
from fastnoisy.data.store import Split, open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import cores
from fastnoisy.methods.base import NoiseFacts, Progress
from fastnoisy.order import Population, batches, order
from fastnoisy.training import optim, setup
from fastnoisy.training.meter import Meter
from fastnoisy.training.step import Stepper

WORKERS = (0, 1, 2)
JOBS = (  # name, recipe, its words, which store, images of an epoch and of a batch, how much less CPU it should take
    ("32 pixels, cifar10-nrd", "cifar10-nrd", (), "small", 4096, 128, 25.0),
    ("224 pixels, folder-nrd", "folder-nrd", ("views.size=224",), "photographs", 256, 32, 2.5),
    ("224 pixels, webvision-nrd", "webvision-nrd", (), "photographs", 256, 32, 2.5),
)
NAMES = ("student", "teacher")
CPU = torch.device("cpu")


class Pictures(Dataset[Any]):
    """Decoded images, and both views of each by Pillow."""

    def __init__(self, arrays: list[np.ndarray], views: list[Callable[[Any], Tensor]]) -> None:
        self.arrays, self.views = arrays, views

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        picture = Image.fromarray(self.arrays[row])
        return tuple(view(picture) for view in self.views)


def by_pillow(arrays: list[np.ndarray], programs: Any, batch_size: int, workers: int) -> Epoch:
    """A shuffling DataLoader with persistent workers."""
    peers = [Peer.build(PILLOW, [(s.name, s.keywords) for s in programs[name].steps], MEAN_STD) for name in NAMES]
    found = [peer for peer in peers if peer is not None]
    if len(found) < len(NAMES):
        raise FastnoisyError("Pillow's side of this benchmark needs torchvision", "pip install torchvision")
    loader = DataLoader(
        Pictures(arrays, found), batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )

    def epoch() -> Iterator[int]:
        for student, _ in loader:
            yield len(student)

    return epoch


def by_us(split: Split, count: int, programs: Any, batch_size: int, threads: int, opened: list[Any]) -> Epoch:
    """The resident pipeline and a run's own views, over so many threads."""
    pipeline = pipelines.open_pipeline("resident", split, split.given_labels, CPU, 0)
    opened.append(pipeline)
    views = [programs[name].build(name, **MEAN_STD, executor="cpu") for name in NAMES]
    executors.prepare(views, print)
    rows, number = Population("all", np.arange(count)), 0

    def epoch() -> Iterator[int]:
        nonlocal number
        number += 1
        key = keyed_random.key(1, number)
        torch.set_num_threads(threads)
        for batch in pipeline.iterate(list(batches(order(rows, "train", 1, number), batch_size, False))):
            for view in views:
                view(batch.images, batch.sizes, batch.indices, key)
            yield len(batch.indices)
        torch.set_num_threads(1)  # the DataLoader's workers are the others' threads

    return epoch


def timed(job: tuple[Any, ...], split: Split, repetitions: int, tiny: bool) -> tuple[list[str], dict[str, Any]]:
    """One row of the table, and the same as data."""
    name, recipe, words, _, images, batch_size, aim = job
    count, batch_size = (12, 4) if tiny else (min(images, split.num_samples), batch_size)
    programs, opened = setup.resolve(recipe, words).views, []
    arrays = [np.ascontiguousarray(split.read_image(row)) for row in range(count)]
    ours = [
        Competitor(f"{n} thread{'s' * (n > 1)}", by_us(split, count, programs, batch_size, n, opened))
        for n in sorted({1, cores()})
    ]
    peers = [Competitor(f"{n} workers", by_pillow(arrays, programs, batch_size, n)) for n in WORKERS]
    measure([*ours, *peers], repetitions, CPU)
    for pipeline in opened:
        pipeline.close()
    found: dict[str, Any] = {"name": name, "images": count, "batch_size": batch_size, "aim": aim}
    for what in ("cpu", "wall"):
        one, best = (
            min(side, key=lambda each, what=what: statistics.median(getattr(each, what))) for side in (ours, peers)
        )
        pairs = zip(getattr(best, what), getattr(one, what), strict=True)
        ratios = quartiles([theirs / mine for theirs, mine in pairs])
        found[what] = {"ours": one.name, "over": best.name, "ratio_quartiles": ratios}
    found["runs"] = {
        each.name: {
            "wall_us_per_image": [round(1e6 * seconds, 1) for seconds in each.wall],
            "cpu_us_per_image": [round(1e6 * seconds, 1) for seconds in each.cpu],
        }
        for each in (*ours, *peers)
    }
    cells = []
    for what in ("cpu", "wall"):
        low, middle, high = found[what]["ratio_quartiles"]
        cells += [f"{middle:.1f} ({low:.1f}–{high:.1f})", f"{found[what]['ours']}, {found[what]['over']}"]
    return [name, *cells, f"{aim:g}"], found


def share_of_ready(split: Split, repetitions: int, tiny: bool) -> dict[str, Any]:
    """How fast steps of NRD are, of what they are on ready-made views: with one thread, and one per core."""
    count = 8 if tiny else 128
    settings = setup.resolve("cifar10-nrd", ["model=preact_small", "device=cpu", f"batch_size={count}"])
    method = setup.build_method(settings, len(split.class_names), split.num_samples, NoiseFacts(0.4)).train()
    optimizer = optim.build(method, settings.config.optim, CPU)
    meter = Meter(None, CPU)
    spec = method.streams["train"].views
    views = {name: setup.build_view(settings, program, name, executor="cpu") for name, program in spec.items()}
    executors.prepare(views.values(), print)
    with pipelines.open_pipeline("resident", split, split.given_labels, CPU, 0) as pipeline:
        (batch,) = pipeline.iterate([np.arange(count)])
    ready = {name: view(batch.images, batch.sizes, batch.indices, 7) for name, view in views.items()}
    table = {
        "made": dict(views),
        "ready": {name: lambda *_, made=made: made for name, made in ready.items()},
    }
    steppers = {
        name: Stepper(method, optimizer, {"train": made}, settings.config, CPU, meter)  # type: ignore[dict-item]
        for name, made in table.items()
    }
    progress, found = Progress.start(settings.config.epochs), {}
    for threads in sorted({1, cores()}):
        torch.set_num_threads(threads)
        seconds: dict[str, list[float]] = {name: [] for name in steppers}
        for repetition in range(-1, 2 if tiny else 5 * repetitions):
            for name in sorted(steppers, reverse=repetition % 2 == 0):
                progress.move(1, 0, 100)
                began = time.perf_counter()
                for _ in range(1 if tiny else 3):
                    steppers[name]({"train": batch}, progress)
                if repetition >= 0:
                    seconds[name].append((time.perf_counter() - began) / (1 if tiny else 3))
        shares = [one / other for one, other in zip(seconds["ready"], seconds["made"], strict=True)]
        rate = count / statistics.median(seconds["made"])
        found[str(threads)] = {"share_quartiles": quartiles(shares), "images_per_second": round(rate)}
    torch.set_num_threads(1)
    return found


@click.command(help=__doc__)
@click.option("--small", type=click.Path(path_type=Path), help="A store of images of 32x32 pixels.")
@click.option("--photographs", type=click.Path(path_type=Path), help="A store of photographs.")
@click.option("--repetitions", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--device", type=click.Choice(["cpu"]), default="cpu", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="A few made images, one repetition: to see that it works.")
def main(
    small: Path | None, photographs: Path | None, repetitions: int, device: str, out: Path | None, tiny: bool
) -> None:
    """The command; see the module."""
    torch.set_num_threads(1)
    rows, found = [], []
    with tempfile.TemporaryDirectory() as scratch:
        if tiny:
            small = photographs = tiny_store(Path(scratch))
            repetitions = 1
        stores = {"small": small, "photographs": photographs}
        for job in JOBS:
            if stores[job[3]] is None:
                raise FastnoisyError("two stores are needed", "Name them with --small STORE and --photographs STORE")
            row, one = timed(job, open_store(stores[job[3]]).split("train"), repetitions, tiny)  # type: ignore[arg-type]
            rows.append(row)
            found.append(one)
        job_shares = share_of_ready(open_store(small).split("train"), repetitions, tiny)  # type: ignore[arg-type]
    heads = ["both views", "times less CPU", "with", "times as fast", "with", "aim, CPU"]
    table = markdown(heads, rows)
    note = (
        f"Ours at its best against a DataLoader with Pillow at its best of {', '.join(map(str, WORKERS))} workers; "
        f"median of {repetitions} interleaved repetitions (quartiles); {cores()} cores; decoded images in memory on "
        "both sides. "
        "Steps of NRD with `preact_small`, of their rate on ready-made views: "
        + "; ".join(
            f"{threads} thread{'s' * (threads != '1')}: {one['share_quartiles'][1]:.2f} "
            f"({one['share_quartiles'][0]:.2f}–{one['share_quartiles'][2]:.2f})"
            for threads, one in job_shares.items()
        )
        + "."
    )
    print(f"\n{table}\n\n{note}")
    if out is not None:
        content = {
            "repetitions": repetitions,
            "versions": versions(),
            "jobs": found,
            "of_ready_made_views": job_shares,
            "table": table,
            "note": note,
        }
        print(f"written: {write(out, 'view_loaders', content)}")


if __name__ == "__main__":
    run(main)
