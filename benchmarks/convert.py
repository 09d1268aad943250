"""Time `convert` against ffcv's DatasetWriter, on the same photographs, sizes, JPEG quality and workers, interleaved.

    python benchmarks/convert.py --data caltech101/ --out benchmarks/results

Two cases: photographs that fit the canvas, whose codes convert reads to their end and which it stores byte for byte,
where ffcv decodes and encodes them again; and photographs that both make smaller. What each does:

* convert: reads a CSV list and hashes it, reads each file, reads its header; a file that is kept it
  decodes at an eighth of its size, where a warning counts as an error; any other it decodes, resizes as Pillow does
  (bilinear, antialiased), encodes with Pillow (4:2:0); computes checksums, keeps a journal, has the disk hold all
  of it (fsync), and reads the tables back.
* ffcv: reads each file and decodes it with Pillow, as torchvision's ImageFolder does; resizes and encodes with OpenCV
  (area averages); no checksums, no fsync. The labels are at hand, and its progress bar is sent away.

A repetition runs each writer once, in an order that alternates, each into a folder of its own on the same disk, which
is emptied; the first repetition, in which convert also imports numba and loads what it needs compiled (0.5 s, and 4 s
where it is to be compiled, once per machine), is not counted. A ratio is taken within a repetition. Wall time is from
the call until the file is closed, with processes started and ended; CPU seconds are those of all processes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from _report import markdown, run, spread, write
from PIL import Image

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import num_workers

OURS, FFCV = "convert", "ffcv DatasetWriter"


@dataclass
class Case:
    """One way of storing the photographs.

    Attributes:
        name: for the table.
        side: the longest side that is stored.
        seconds, cpu: writer -> one per repetition.
        num_bytes: writer -> size of the .beton.
    """

    name: str
    side: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    num_bytes: dict[str, int] = field(default_factory=dict)

    def ratios(self, what: dict[str, list[float]]) -> list[float]:
        """ffcv's over ours, repetition by repetition."""
        return [theirs / ours for theirs, ours in zip(what[FFCV], what[OURS], strict=True)]


class Photographs:
    """What ffcv is given: (pixels, label), decoded by Pillow as torchvision's ImageFolder does."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        names = sorted({path.parent.name for path in paths})
        self.labels = [names.index(path.parent.name) for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        with open(self.paths[i], "rb") as file:
            return Image.open(file).convert("RGB"), self.labels[i]


def by_ours(paths: Path, out: Path, side: int, quality: int, workers: int) -> Path:
    """Convert the photographs that a list names; the file."""
    convert(f"csv:{paths}", out, options=ConvertOptions(resize=f"max={side}", quality=quality), workers=workers)
    return out / "train.beton"


def by_ffcv(photographs: Photographs, out: Path, side: int, quality: int, workers: int) -> Path:
    """Write the same with ffcv; the file."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    out.mkdir()
    image = RGBImageField(write_mode="jpg", max_resolution=side, jpeg_quality=quality)
    writer = DatasetWriter(str(out / "train.beton"), {"image": image, "label": IntField()}, num_workers=workers)
    with open(os.devnull, "w") as silent, contextlib.redirect_stderr(silent):  # its progress bar
        writer.from_indexed_dataset(photographs)
    for process in multiprocessing.active_children():  # it does not wait for its own, whose CPU time counts
        process.join()
    return out / "train.beton"


def timed(run: Callable[[], Path]) -> tuple[float, float, Path]:
    """Wall and CPU seconds, of this process and those that it started and that have ended; and what came of it."""

    def cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    start, before = time.perf_counter(), cpu()
    made = run()
    return time.perf_counter() - start, cpu() - before, made


def measure(case: Case, paths: list[Path], place: Path, repetitions: int, quality: int, workers: int) -> None:
    """Fill in the times of a case."""
    listed = place / "photographs.csv"
    photographs = Photographs(paths)
    rows = (f"{path},{label}\n" for path, label in zip(paths, photographs.labels, strict=True))
    listed.write_text("path,label\n" + "".join(rows))
    writers: dict[str, Callable[[Path], Path]] = {OURS: lambda out: by_ours(listed, out, case.side, quality, workers)}
    if has_ffcv():
        writers[FFCV] = lambda out: by_ffcv(photographs, out, case.side, quality, workers)
    for name in writers:
        case.seconds[name], case.cpu[name] = [], []
    for number in range(repetitions + 1):
        if sys.stderr.isatty():
            print(f"\r{case.name}: repetition {number} of {repetitions}", end="", file=sys.stderr, flush=True)
        for name in list(writers)[:: 1 if number % 2 else -1]:
            out = place / "out"
            seconds, cpu, made = timed(lambda name=name, out=out: writers[name](out))  # type: ignore[misc]
            case.num_bytes[name] = made.stat().st_size
            shutil.rmtree(out)
            if number:
                case.seconds[name].append(seconds)
                case.cpu[name].append(cpu)


def has_ffcv() -> bool:
    """Whether ffcv can be imported."""
    try:
        import ffcv.writer  # noqa: F401
    except ImportError:
        return False
    return True


def find(data: Path) -> list[Path]:
    """The JPEGs of a tree of class folders."""
    found = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        raise FastnoisyError(f"{data} has no .jpg file", "give a folder of class folders of photographs with --data")
    return [path.absolute() for path in found]


def invented(folder: Path) -> list[Path]:
    """Pictures for --tiny, which measures nothing."""
    rows, columns = np.mgrid[0:120, 0:160]
    found = []
    for number in range(20):
        pixels = np.stack([rows + number, columns, rows * columns // (number + 9)], axis=2).astype(np.uint8)
        found.append(folder / f"class{number % 2}" / f"{number}.jpg")
        found[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(found[-1])
    return found


def table(cases: list[Case]) -> str:
    """A row per case and writer."""
    rows = []
    for case in cases:
        for name in case.seconds:
            ratios = ["1", "1"]
            if name == FFCV:
                ratios = [spread(case.ratios(what), 2) for what in (case.seconds, case.cpu)]
            times = [spread(case.seconds[name], 2), spread(case.cpu[name], 2)]
            rows.append(
                [case.name, name, times[0], ratios[0], times[1], ratios[1], f"{case.num_bytes[name] / 1e6:.1f}"]
            )
    header = ["photographs", "writer", "wall, s", "ratio", "CPU, s", "ratio", "MB"]
    return markdown(header, rows)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="A folder of class folders of photographs.")
@click.option("--device", type=click.Choice(["cpu"]), default="cpu", show_default=True)
@click.option("--repetitions", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--images", type=click.IntRange(min=1), default=8000, show_default=True, help="Listed, over and over.")
@click.option(
    "--side", type=click.IntRange(min=8), default=224, show_default=True, help="Of those that are made smaller."
)
@click.option("--quality", type=click.IntRange(1, 100), default=90, show_default=True, help="Of the JPEGs.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes of each writer; default: one per core.")
@click.option("--name", default="convert", show_default=True, help="Name of the result file.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="A few invented pictures, two repetitions: to see that it works.")
def main(
    data: Path | None, device: str, repetitions: int, images: int, side: int, quality: int, workers: int | None,
    name: str, out: Path | None, tiny: bool,
) -> None:  # fmt: skip
    """The command; see the module."""
    if not tiny and data is None:
        raise FastnoisyError("the photographs are not named", "add --data DIR, or --tiny to see that it works")
    workers = num_workers(workers)
    with tempfile.TemporaryDirectory(prefix="convert-") as folder:
        place = Path(folder)
        paths = invented(place) if data is None else find(data)
        num_files = len(paths)
        if tiny:
            repetitions, images, side = 2, min(num_files, 20), min(side, 96)
        paths = (paths * (images // num_files + 1))[:images]
        cases = [Case("stored byte for byte", 512), Case(f"made smaller, to {side} pixels", side)]
        for case in cases:
            measure(case, paths, place, repetitions, quality, workers)
    text = table(cases)
    words = (
        f"{len(paths):,} photographs ({num_files:,} files), {workers} workers, JPEG quality {quality}. Median of "
        f"{repetitions} interleaved repetitions (quartiles); ratio: ffcv's time over convert's within a repetition. "
        "Not counted: the first repetition, in which convert imports numba."
    )
    words += "" if has_ffcv() else " ffcv is not installed, so there is nothing to compare with."
    content: dict[str, Any] = {
        "device": device,
        "repetitions": repetitions,
        "workers": workers,
        "quality": quality,
        "images": len(paths),
        "files": num_files,
        "cases": [
            {"name": case.name, "side": case.side, "seconds": case.seconds, "cpu_seconds": case.cpu,
            "bytes": case.num_bytes}
            for case in cases
        ],
        "note": words,
        "table": text,
    }  # fmt: skip
    print(f"\n{text}\n\n{words}")
    if out is not None:
        print(f"written: {write(out, name, content)}")


if __name__ == "__main__":
    run(main)
