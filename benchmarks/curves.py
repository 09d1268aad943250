"""Whether bfloat16 costs accuracy on a CPU: the same runs in either precision, paired by seed.

    python benchmarks/curves.py --runs runs/curves --out benchmarks/results

Cross-entropy, NRD and ALASCA on the digits with 40 % symmetric noise, ten seeds, in float32 and in bfloat16, both
channels-last. `amp=auto` on a CPU goes by what this shows: the loss is to be half a point of test accuracy at most.
Needs a processor that computes with bfloat16 natively. Runs that are finished are read again.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import torch
from _report import markdown, mean_std, run, train, write
from compare import TINY, digits_store

from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import cores, has_bf16
from fastnoisy.training.run import Run

METHODS = ("ce", "nrd", "alasca")
LAST = 3  # evaluated epochs that are averaged beside the end


def accuracies(folder: Path, method: str, seed: int, amp: str, words: list[str], data: Path) -> list[float]:
    """A run's test accuracy in per cent: of every epoch that was evaluated, and then of the end."""
    out = folder / f"{method}-{amp}-{seed}"
    train(
        out, f"digits-{method}", f"amp={amp}", f"seed={seed}", "channels_last=on", "threads=1", "device=cpu", *words,
        data=data,
    )  # fmt: skip
    lines = Run(out).metrics
    found = [
        100 * line["eval"]["test"][lines[-1]["reported"]]["accuracy"]
        for line in lines
        if "test" in line.get("eval", {})
    ]
    print(f"{out.name}: {found[-1]:.2f}", file=sys.stderr, flush=True)
    return found


@click.command(help=__doc__)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/curves"), show_default=True)
@click.option("--seeds", type=click.IntRange(min=1), default=10, show_default=True, help="How many, from 1 on.")
@click.option("--device", type=click.Choice(["cpu"]), default="cpu", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="Two seeds, a few steps only, to see that it works.")
def main(runs: Path, seeds: int, device: str, out: Path | None, tiny: bool) -> None:
    """The command; see the module."""
    if not has_bf16(torch.device("cpu")) and not tiny:
        raise FastnoisyError("this processor has no native bfloat16", "Run it where /proc/cpuinfo says bf16")
    if tiny:  # elsewhere: a real start would read its runs again
        with tempfile.TemporaryDirectory() as scratch:
            return _measure(Path(scratch), 2, [*TINY], out)
    return _measure(runs, seeds, [], out)


def _measure(runs: Path, seeds: int, words: list[str], out: Path | None) -> None:
    """Train what is not there yet, and print the table."""
    data = Path(digits_store("digits", runs))
    jobs = [(method, seed, amp) for seed in range(1, seeds + 1) for method in METHODS for amp in ("off", "bf16")]
    with ThreadPoolExecutor(cores()) as pool:  # each run is a process of its own
        made = pool.map(lambda job: accuracies(runs, *job, words, data), jobs)
        found = dict(zip(jobs, made, strict=True))
    rows, content = [], {}
    every: list[float] = []
    for method in METHODS:
        ends = {amp: [found[method, seed, amp][-1] for seed in range(1, seeds + 1)] for amp in ("off", "bf16")}
        tails = {
            amp: [statistics.fmean(found[method, seed, amp][-LAST - 1 : -1] or [0.0]) for seed in range(1, seeds + 1)]
            for amp in ("off", "bf16")
        }
        change = [half - full for half, full in zip(ends["bf16"], ends["off"], strict=True)]
        tail = [half - full for half, full in zip(tails["bf16"], tails["off"], strict=True)]
        every += change
        content[method] = {"accuracy": ends, "last_epochs": tails}
        rows.append([method, *(_told(ends[amp]) for amp in ("off", "bf16")), _error(change), _error(tail)])
    mean, std = mean_std(every)
    rows.append(["all", "", "", _error(every), ""])
    heads = ["method", "float32", "bfloat16", "change", f"change of the last {LAST} evaluated epochs"]
    table = markdown(heads, rows)
    note = (
        f"Test accuracy in per cent, digits with 40 % symmetric noise, {seeds} seeds: mean ± standard deviation; "
        "changes paired by seed, ± standard error; one thread, channels-last."
    )
    print(f"{table}\n\n{note}")
    if out is not None:
        told: dict[str, Any] = {"methods": content, "change": mean, "change_se": std / len(every) ** 0.5}
        print(f"written: {write(out, 'curves', {**told, 'table': table, 'note': note})}")


def _told(values: list[float]) -> str:
    mean, std = mean_std(values)
    return f"{mean:.2f} ± {std:.2f}"


def _error(values: list[float]) -> str:
    mean, std = mean_std(values)
    return f"{mean:+.2f} ± {std / len(values) ** 0.5:.2f}"


if __name__ == "__main__":
    run(main)
