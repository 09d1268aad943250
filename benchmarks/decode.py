"""Time DALI's decoding of 500-pixel photographs for each share of the hardware decoder, and resident's gather, in one
run.

    python benchmarks/decode.py stores/photos --device cuda --out benchmarks/results
    taskset -c 0-15 python benchmarks/decode.py stores/photos --device cuda --out benchmarks/results    # for 16 cores

STORE is any converted folder of photographs. They are made 500 pixels long on their longer side, enlarged where they
are smaller, and stored as JPEGs of quality 90. A repetition takes an epoch through `dali` with each share, and the
gather of `resident` alone, of these images on their canvas of 500x500 and of the same as squares of 256; the order
rotates. DALI delivers whole images on canvases on the device, with labels and indices. On the CPU there is no hardware
decoder, and one row.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import torch
from _epochs import Competitor, Epoch, measure, ours, tiny_store
from _pipeline_peers import importable
from _report import markdown, quartiles, run, write
from PIL import Image

from fastnoisy import pipelines
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import Split, open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import cores
from fastnoisy.pipelines.base import Pipeline
from fastnoisy.pipelines.resident import ResidentPipeline
from fastnoisy.training.device import choose_device

SHARES = (0.0, 0.12, 0.25, 0.4, 0.65, 0.9, 1.0)
SIDE = 500  # pixels of the longer side: ImageNet's and the web's photographs
SQUARE = 256
ROUNDS = 16  # of all images per repetition of a gather, which takes a GPU some milliseconds


def photographs(split: Split, count: int, folder: Path) -> tuple[Split, Split, int]:
    """Stores of up to `count` images of a split: longer side 500, and squares of 256; and how many had to be
    enlarged.
    """
    rows = np.linspace(0, split.num_samples - 1, min(count, split.num_samples)).round().astype(int)
    enlarged = 0
    for place, row in enumerate(rows.tolist()):
        image = Image.fromarray(split.read_image(row))
        scale = SIDE / max(image.size)
        enlarged += scale > 1
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        path = folder / "source" / "ab"[place % 2] / f"{place}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
    made = []
    for name, resize in (("photographs", f"max={SIDE}"), ("squares", f"square={SQUARE}")):
        options = ConvertOptions(resize=resize, store="jpg")
        convert(f"folder:{folder / 'source'}", folder / name, options=options, progress=None)
        made.append(open_store(folder / name).split("train"))
    return made[0], made[1], enlarged


def gather(pipeline: ResidentPipeline, batch_size: int) -> Epoch:
    """All images, `ROUNDS` times, in random order from the resident pixels into one batch's canvases, and nothing
    else.
    """
    count = pipeline.split.num_samples
    random = torch.Generator().manual_seed(1)
    parts = [p for _ in range(ROUNDS) for p in torch.randperm(count, generator=random).split(min(batch_size, count))]
    rows = [part.to(pipeline.device) for part in parts]
    out = torch.empty(len(rows[0]), *pipeline.canvas, 3, dtype=torch.uint8, device=pipeline.device)

    def epoch() -> Iterator[int]:
        for part in rows:
            pipeline.gather(part, out[: len(part)])
            yield len(part)

    return epoch


def competitors(
    photos: Split, squares: Split, device: torch.device, batch_size: int, sweep: tuple[float, ...]
) -> tuple[dict[str, Competitor], dict[str, float | None], list[Pipeline]]:
    """Everyone, by name; the share of each that decodes, None where there is no such thing; and what is to be
    closed.
    """
    found: dict[str, Competitor] = {}
    shares: dict[str, float | None] = {}
    opened: list[Pipeline] = []
    if not importable("nvidia.dali"):
        print("not timed: dali, which is not installed")
    else:
        for share in sweep or (None,):
            name = "dali" if share is None else f"dali, share {share:g}"
            call = "dali" if share is None else f"dali(hw_decoder_load={share})"
            opened.append(pipelines.open_pipeline(call, photos, photos.given_labels, device, 0))
            found[name] = Competitor(name, ours(opened[-1], batch_size))
            shares[name] = share
    for split, of in ((photos, "photographs"), (squares, f"squares of {SQUARE}")):
        opened.append(pipelines.open_pipeline("resident", split, split.given_labels, device, 0))
        name = f"resident's gather, {of}"
        found[name] = Competitor(name, gather(cast(ResidentPipeline, opened[-1]), batch_size))
    return found, shares, opened


def summarise(one: Competitor, canvas: tuple[int, int]) -> dict[str, Any]:
    """Quartiles of images a second, and of GB of canvases written a second."""
    rates = quartiles([1 / seconds for seconds in one.wall])
    size = 3 * canvas[0] * canvas[1] / 1e9
    return {
        "images_per_second": [round(rate, 1) for rate in rates],
        "gb_per_second": [round(rate * size, 3) for rate in rates],
        "cpu_us_per_image": round(1e6 * statistics.median(one.cpu), 2),
        "wall_us_per_image": [round(1e6 * seconds, 3) for seconds in one.wall],
    }


@click.command(help=__doc__)
@click.argument("store", required=False, type=click.Path(path_type=Path))
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--repetitions", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--images", type=click.IntRange(min=2), default=8192, show_default=True, help="Photographs, at most.")
@click.option("--batch-size", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--shares", help="Of the hardware decoder, as in 0.1,0.2; default: a sweep from 0 to 1, on the CPU none.")
@click.option("--name", default="", help="Name of the result file; default: decode on a GPU, or decode-cpu.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="A few made images, two repetitions: to see that it works.")
def main(
    store: Path | None,
    device: str,
    repetitions: int,
    images: int,
    batch_size: int,
    shares: str | None,
    name: str,
    out: Path | None,
    tiny: bool,
) -> None:
    """The command; see the module."""
    torch.set_num_threads(1)
    where = choose_device(device)
    sweep = SHARES if device == "cuda" else ()
    if shares is not None:
        sweep = tuple(map(float, shares.split(",")))
    with tempfile.TemporaryDirectory() as scratch:
        if tiny:
            store, repetitions, batch_size = tiny_store(Path(scratch)), 2, 8
        if store is None:
            raise FastnoisyError("no store named", "Convert photographs with 'fastnoisy convert' and name the folder")
        photos, squares, enlarged = photographs(open_store(store).split("train"), images, Path(scratch) / "made")
        found, share_of, opened = competitors(photos, squares, where, batch_size, sweep)
        measure(list(found.values()), repetitions, where)
        for pipeline in opened:
            pipeline.close()
    measured = {
        key: summarise(one, squares.canvas if key.endswith(f"of {SQUARE}") else photos.canvas)
        for key, one in found.items()
    }
    swept = [key for key, share in share_of.items() if share is not None]
    best = max(swept, key=lambda key: measured[key]["images_per_second"][1], default=None)
    rows = []
    for key, numbers in measured.items():
        (low, middle, high), gigabytes = numbers["images_per_second"], numbers["gb_per_second"][1]
        rate = f"{middle:,.0f} ({low:,.0f}–{high:,.0f})"
        rows.append(
            [key + ", the best" * (key == best), rate, f"{gigabytes:.2f}", f"{numbers['cpu_us_per_image']:.1f}"]
        )
    table = markdown(["", "images/s", "GB/s of canvases", "CPU, µs/image"], rows)
    content: dict[str, Any] = {
        "device": device,
        "decoding_threads": cores(),
        "repetitions": repetitions,
        "batch_size": batch_size,
        "images": {
            "count": photos.num_samples,
            "enlarged": enlarged,
            "bytes_each": round(photos.num_bytes / photos.num_samples),
            "canvas": photos.canvas,
        },
        "best_share": None if best is None else share_of[best],
        "decode": {key: {"share": share, **measured[key]} for key, share in share_of.items()},
        "gather": {key: numbers for key, numbers in measured.items() if key not in share_of},
        "note": f"{photos.num_samples:,} photographs with a longer side of {SIDE} pixels, {enlarged:,} of them "
        "enlarged to it,"
        f" batches of {batch_size}, {cores()} cores; median of {repetitions} interleaved repetitions (quartiles).",
        "table": table,
    }
    print(f"\n{table}\n\n{content['note']}")
    if out is not None:
        print(f"written: {write(out, name or ('decode' if device == 'cuda' else 'decode-cpu'), content)}")


if __name__ == "__main__":
    run(main)
