"""How many threads a run on a CPU should take, and takes by itself: alone on the machine, and beside another's work.

    python benchmarks/threads.py --out benchmarks/results

Trains digits-nrd for a few epochs in a fresh process with threads=1, with one thread per core, and by default, in turn;
then all of it again with one core taken by a busy process that was there before. The speed is the median of the epochs
after the first two, of which the default's share of the others' is taken within a repetition.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from _report import markdown, quartiles, run, train, write
from compare import digits_store

from fastnoisy.machine import cores
from fastnoisy.training.run import Run

DEFAULT = "by default"


@contextlib.contextmanager
def taken(busy: bool) -> Iterator[None]:
    """One core taken, or none."""
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    time.sleep(1)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def speed(threads: str, data: Path, out: Path, epochs: int) -> tuple[float, int]:
    """Images per second of a run, and the threads that it took."""
    words = [] if threads == DEFAULT else [f"threads={threads}"]
    train(out, "digits-nrd", f"epochs={epochs}", "device=cpu", *words, data=data)
    done = Run(out)
    speeds = [line["time"]["img_per_s"] for line in done.metrics if "time" in line]
    return statistics.median(speeds[2:] or speeds), done.config.threads


@click.command(help=__doc__)
@click.option("--repetitions", type=click.IntRange(min=1), default=7, show_default=True)
@click.option("--epochs", type=click.IntRange(min=3), default=12, show_default=True)
@click.option("--device", type=click.Choice(["cpu"]), default="cpu", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="One repetition of three epochs: to see that it works.")
def main(repetitions: int, epochs: int, device: str, out: Path | None, tiny: bool) -> None:
    """The command; see the module."""
    os.environ.pop("OMP_NUM_THREADS", None)  # the default of the runs that are started here
    repetitions, epochs = (1, 3) if tiny else (repetitions, epochs)
    ways = [DEFAULT, *dict.fromkeys(["1", str(cores())])]
    speeds: dict[str, dict[str, list[float]]] = {}
    chosen: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(digits_store("digits", Path(folder)))
        for name, busy in (("alone", False), ("one core taken", True)):
            speeds[name], chosen[name] = {way: [] for way in ways}, []
            for repetition in range(repetitions):
                with taken(busy):
                    for number in range(len(ways)):
                        way = ways[(number + repetition) % len(ways)]
                        place = Path(folder) / f"{name}-{repetition}-{way}".replace(" ", "-")
                        found, threads = speed(way, data, place, epochs)
                        speeds[name][way].append(found)
                        chosen[name] += [threads] if way == DEFAULT else []
                        print(f"{name}: {way}: {threads} threads", file=sys.stderr, flush=True)
    rows, shares = [], {}
    for name, by in speeds.items():
        shares[name] = {
            way: quartiles([one / other for one, other in zip(by[DEFAULT], by[way], strict=True)]) for way in ways[1:]
        }
        cells = [f"{mid:.2f} ({low:.2f}–{high:.2f})" for low, mid, high in shares[name].values()]
        rows.append([name, ", ".join(map(str, sorted(set(chosen[name])))), *cells])
    table = markdown(["machine", "threads by default", *(f"speed, of threads={way}" for way in ways[1:])], rows)
    note = (
        f"digits-nrd, the default's speed as a share of that with so many threads: median of {repetitions} interleaved "
        f"repetitions (quartiles), {cores()} cores."
    )
    print(f"{table}\n\n{note}")
    if out is not None:
        content: dict[str, Any] = {
            "repetitions": repetitions, "images_per_second": speeds, "chosen": chosen, "shares": shares,
            "table": table, "note": note,
        }  # fmt: skip
        print(f"written: {write(out, 'threads', content)}")


if __name__ == "__main__":
    run(main)
