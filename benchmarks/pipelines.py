"""Time every pipeline, and FFCV, DALI and a plain DataLoader with Pillow doing the same by hand, interleaved in one
run.

    python benchmarks/pipelines.py stores/photos --out benchmarks/results
    python benchmarks/pipelines.py stores/photos --device cuda --out benchmarks/results --name pipelines-cuda

STORE is a converted folder of photographs, stored as JPEGs. A repetition takes one epoch with every competitor, in an
order that rotates; ratios are taken within a repetition, of wall-clock time and of CPU-seconds (workers included).
Everyone delivers whole images, decoded, on the store's canvas. The files lie in memory: what is timed is decoding and
delivery.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from _epochs import Competitor, measure, ours, tiny_store
from _pipeline_peers import PillowImages, bare_dali, bare_ffcv, data_loader, importable
from _report import markdown, quartiles, run, write

from fastnoisy import pipelines
from fastnoisy.data.store import Split, beton, open_store
from fastnoisy.data.store.meta import FORMAT, Columns, write_meta
from fastnoisy.errors import FastnoisyError
from fastnoisy.order import Population, batches, order
from fastnoisy.pipelines.base import Pipeline
from fastnoisy.training.device import choose_device

LIBRARIES = {"ffcv": "ffcv", "dali": "nvidia.dali"}
WORKERS = (0, 1, 2)


@dataclass(frozen=True)
class Claim:
    """A competitor's speed over the best of others, and how much it should be at least."""

    name: str
    rivals: tuple[str, ...]
    aim: float


CLAIMS = (
    Claim("ffcv", ("bare FFCV, same decoding",), 0.9),
    Claim("ffcv", ("bare FFCV, its own decoding",), 0.9),
    Claim("dali", ("bare DALI",), 0.9),
    Claim("ffcv", ("ffcv, every image twice",), 1.8),
    Claim("torch-loader", ("torch-loader, every image twice",), 1.8),
    Claim("resident", tuple(f"DataLoader, {n} workers" for n in WORKERS), 3.0),
    Claim("ffcv", tuple(f"DataLoader, {n} workers" for n in WORKERS), 1.5),
    Claim("dali", tuple(f"DataLoader, {n} workers" for n in WORKERS), 1.0),
)


def competitors(split: Split, device: torch.device, batch_size: int) -> tuple[list[Competitor], dict[str, float], list]:
    """Everyone who can run here, the seconds that opening each pipeline took, and the pipelines to be closed."""
    threads = len(os.sched_getaffinity(0))
    found: list[Competitor] = []
    opening: dict[str, float] = {}
    opened: list[Pipeline] = []
    for name in pipelines.names():
        if name in LIBRARIES and not importable(LIBRARIES[name]):
            print(f"not timed: {name}, for {LIBRARIES[name]} is not installed")
            continue
        started = time.perf_counter()
        pipeline = pipelines.open_pipeline(name, split, split.given_labels, device, 0)
        opening[name] = time.perf_counter() - started
        opened.append(pipeline)
        found.append(Competitor(name, ours(pipeline, batch_size)))
        if name in ("ffcv", "torch-loader"):
            found.append(Competitor(f"{name}, every image twice", ours(pipeline, batch_size, times=2)))
    images = PillowImages(split)
    found += [Competitor(f"DataLoader, {n} workers", data_loader(images, batch_size, n, device)) for n in WORKERS]
    if importable("ffcv") and device.type == "cpu":
        found.append(Competitor("bare FFCV, same decoding", bare_ffcv(split, batch_size, threads, own=False)))
        found.append(Competitor("bare FFCV, its own decoding", bare_ffcv(split, batch_size, threads, own=True)))
    if importable("nvidia.dali"):
        found.append(Competitor("bare DALI", bare_dali(split, batch_size, threads, device)))
    return found, opening, opened


def judge(found: list[Competitor]) -> tuple[str, list[dict[str, Any]]]:
    """The claims as a table and as data. The best rival is the one with the least median by the wall."""
    by_name = {one.name: one for one in found}
    rows, results = [], []
    for claim in CLAIMS:
        rivals = [by_name[name] for name in claim.rivals if name in by_name]
        if claim.name not in by_name or not rivals:
            continue
        one, best = by_name[claim.name], min(rivals, key=lambda rival: statistics.median(rival.wall))
        wall = quartiles([theirs / mine for theirs, mine in zip(best.wall, one.wall, strict=True)])
        cpu = quartiles([theirs / max(mine, 1e-9) for theirs, mine in zip(best.cpu, one.cpu, strict=True)])
        rows.append(
            [
                one.name,
                best.name,
                f"{wall[1]:.2f} ({wall[0]:.2f}–{wall[2]:.2f})",
                f"{cpu[1]:.2f} ({cpu[0]:.2f}–{cpu[2]:.2f})",
                f"{claim.aim:g}",
            ]
        )
        results.append({"name": one.name, "over": best.name, "speed": wall, "cpu_seconds": cpu, "aim": claim.aim})
    return markdown(["pipeline", "against", "times as fast", "times less CPU", "aim"], rows), results


def first_batches(count: int, device: torch.device, folder: Path) -> dict[str, dict[str, float]]:
    """Seconds from opening a split of so many tiny images to its first batch, the order of the epoch included.

    `resident` reads all images first. Each pipeline is timed

        "warm"      the second time in this process: what it imports and compiles is there
        "cold"      the first time in a process of its own, in which numba has kept nothing yet
        "cold again"  the same in the next process, as every run but the first is

    torch and fastnoisy are imported before the clock starts; what the pipeline itself needs (ffcv, DALI) is not.
    """
    _many(count, folder)
    names = [name for name in pipelines.names() if name not in LIBRARIES or importable(LIBRARIES[name])]
    seconds: dict[str, dict[str, float]] = {}
    for name in names:
        first_batch(name, folder, count, device)
        seconds[name] = {"warm": first_batch(name, folder, count, device)}
    kept = os.environ.get("NUMBA_CACHE_DIR")
    os.environ["NUMBA_CACHE_DIR"] = str(folder / "kept")  # read by the processes that are started here
    try:
        for name in names:
            for which in ("cold", "cold again"):
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                    seconds[name][which] = process.submit(first_batch, name, folder, count, device).result()
    finally:
        if kept is None:
            del os.environ["NUMBA_CACHE_DIR"]
        else:
            os.environ["NUMBA_CACHE_DIR"] = kept
    return seconds


def first_batch(name: str, folder: Path, count: int, device: torch.device) -> float:
    """Seconds until a pipeline's first batch of the split that `_many` has made."""
    torch.set_num_threads(1)
    torch.empty(1, device=device)  # CUDA takes seconds to come up, for any program
    split = open_store(folder).split("train")
    started = time.perf_counter()
    with pipelines.open_pipeline(name, split, split.given_labels, device, 0) as pipeline:
        rows = order(Population("all", np.arange(count)), "train", 1, 0)
        next(iter(pipeline.iterate(batches(rows, 128, False))))
        seconds = time.perf_counter() - started
    split.close()
    return seconds


def _many(count: int, folder: Path) -> None:
    """Make a store with a verified split of `count` raw images of 4x4 pixels."""
    pixels = [np.random.default_rng(i).integers(0, 255, 48, dtype=np.uint8).tobytes() for i in range(100)]
    folder.mkdir(parents=True)
    with beton.BetonWriter(folder / "train.beton", count, beton.MIN_PAGE_SIZE) as writer:
        for row in range(count):
            writer.append(pixels[row % 100], beton.RAW, 4, 4, row % 10)
    reader = beton.BetonReader(folder / "train.beton")
    checksums = np.array([zlib.crc32(p) for p in pixels], np.uint32)[np.arange(count) % 100]
    rows = [str(row) for row in range(count)]
    columns = Columns({"given": reader.labels}, rows, reader.sizes, checksums, [], [])
    reader.close()
    info = {
        "format": FORMAT, "source": "made", "canvas": [4, 4], "class_names": list("0123456789"),
        "options": {"resize": "none"},
    }  # fmt: skip
    write_meta(folder / "train.meta", folder / "train.beton", columns, info)


@click.command(help=__doc__)
@click.argument("store", required=False, type=click.Path(path_type=Path))
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--repetitions", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--name", default="", help="Name of the result file; default: pipelines, or pipelines-cuda.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="A few made images, two repetitions: to see that it works.")
def main(
    store: Path | None, device: str, repetitions: int, batch_size: int, name: str, out: Path | None, tiny: bool
) -> None:
    """The command; see the module."""
    torch.set_num_threads(1)
    where = choose_device(device)
    with tempfile.TemporaryDirectory() as scratch:
        if tiny:
            store, repetitions, batch_size = tiny_store(Path(scratch)), 2, 8
        if store is None:
            raise FastnoisyError("no store named", "Convert photographs with 'fastnoisy convert' and name the folder")
        split = open_store(store).split("train")
        found, opening, opened = competitors(split, where, batch_size)
        measure(found, repetitions, where)
        for pipeline in opened:
            pipeline.close()
        first = first_batches(10_000 if tiny else 1_000_000, where, Path(scratch) / "many")
    table, results = judge(found)
    content: dict[str, Any] = {
        "device": device,
        "repetitions": repetitions,
        "batch_size": batch_size,
        "images": {"count": split.num_samples, "canvas": split.canvas, "bytes": split.num_bytes},
        "claims": results,
        "opening_seconds": {key: round(value, 3) for key, value in opening.items()},
        "first_batch_of_a_million_seconds": {key: round(value["warm"], 3) for key, value in first.items()},
        "first_batch_of_a_million_in_a_fresh_process_seconds": {
            key: {which: round(value[which], 3) for which in ("cold", "cold again")} for key, value in first.items()
        },
        "runs": {
            one.name: {
                "wall_us_per_image": [round(1e6 * s, 1) for s in one.wall],
                "cpu_us_per_image": [round(1e6 * s, 1) for s in one.cpu],
            }
            for one in found
        },
        "table": table,
    }
    print(f"\n{table}\n\nMedian of {repetitions} interleaved repetitions (quartiles); above 1 is better.")
    print(
        "Seconds to the first batch of 1,000,000 images, in a fresh process: the first ever, and any later one; warm:"
    )
    rows = [
        [name, *(f"{value[which]:.2f}" for which in ("cold", "cold again", "warm"))] for name, value in first.items()
    ]
    print(markdown(["pipeline", "first ever", "later", "warm"], rows))
    if out is not None:
        print(f"written: {write(out, name or ('pipelines' if device == 'cpu' else 'pipelines-cuda'), content)}")


if __name__ == "__main__":
    run(main)
