"""CPU-seconds until a command of fastnoisy is at work: what is imported before a run, and short commands as a whole.

    python benchmarks/imports.py --base dcf660a --out benchmarks/results

Each measurement is a process of its own on one thread, its user and system time taken from the kernel (wait4): a second
process on the machine then counts for little. A repetition does all of them once, in an order that alternates, this
tree and, with --base, a worktree of that commit; the first repetition, which writes Python's own caches, is not
counted. A ratio is taken within a repetition. What is measured:

* import torch: the yardstick, which every command but --help pays.
* imports of a run: the modules that `train digits-nrd` imports before it trains.
* a run: one epoch of digits-nrd on 64 images, with its evaluation, from the command line: what is imported on the way
counts.
* a run's first start: the same with nothing kept of what numba compiles for views.
* methods, recipes show: the two short commands, whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from _report import ROOT, markdown, quartiles, run, spread, write

sys.path.insert(0, str(ROOT / "tools"))

from _worktree import commit_of, worktree

YARDSTICK = "import torch"
CODE = "import fastnoisy.training.loop, fastnoisy.methods.nrd, fastnoisy.models.preact, fastnoisy.pipelines.resident"
TRAIN = "-m fastnoisy train digits-nrd epochs=1 data.subset=64 model.width=4 threads=1 --quiet --data STORE --out RUN"
FIRST = "a run's first start"
CASES = {
    "imports of a run": ["-c", CODE],
    "a run": TRAIN.split(),
    FIRST: TRAIN.split(),
    "methods": ["-m", "fastnoisy", "methods"],
    "recipes show": ["-m", "fastnoisy", "recipes", "show", "cifar10-nrd"],
}
THIS, BASE = "this tree", "base"


def cpu_seconds(arguments: list[str], code: Path, kept: Path | None = None) -> float:
    """User and system time of `python ARGUMENTS` with the package of a tree.

    Args:
        kept: the folder of what numba compiled; by default the user's.

    Raises:
        click.ClickException: it failed; its last words are in the message.
    """
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    if kept is not None:
        environment["NUMBA_CACHE_DIR"] = str(kept)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, *arguments], cwd=code, env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if process.returncode:
            words = said.read().decode(errors="replace").strip()[-500:]
            raise click.ClickException(f"python {' '.join(arguments)} in {code} failed: {words}")
    return used.ru_utime + used.ru_stime


def measure(trees: dict[str, Path], place: Path, repetitions: int, warm: int) -> dict[str, list[float]]:
    """CPU-seconds by case and tree (`a run, base`), one per repetition; the first `warm` are not counted."""
    store, out = place / "store", place / "run"
    cpu_seconds(["-m", "fastnoisy", "convert", "digits", str(store)], ROOT)
    work = {YARDSTICK: (["-c", YARDSTICK], ROOT)}
    for case, arguments in CASES.items():
        for tree, code in trees.items():
            work[f"{case}, {tree}"] = ([{"STORE": str(store), "RUN": str(out)}.get(a, a) for a in arguments], code)
    found: dict[str, list[float]] = {name: [] for name in work}
    for number in range(repetitions + warm):
        if sys.stderr.isatty():
            print(f"\rrepetition {number} of {repetitions}", end="", file=sys.stderr, flush=True)
        for name in list(work)[:: 1 if number % 2 else -1]:
            kept = place / "kept" if name.startswith(FIRST) else None
            seconds = cpu_seconds(*work[name], kept)
            for folder in (out, place / "kept"):
                shutil.rmtree(folder, ignore_errors=True)
            if number >= warm:
                found[name].append(seconds)
    return found


def ratios(found: dict[str, list[float]], name: str, other: str) -> list[float]:
    """One case over another, repetition by repetition."""
    return [a / b for a, b in zip(found[name], found[other], strict=True)]


def table(found: dict[str, list[float]]) -> str:
    """A row per case and tree: seconds, and their ratio to the base's and to the yardstick."""
    rows = []
    for name, seconds in found.items():
        other = name.replace(THIS, BASE)
        to_base = spread(ratios(found, name, other)) if other != name and other in found else ""
        to_torch = spread(ratios(found, name, YARDSTICK)) if name != YARDSTICK else "1"
        rows.append([name, spread(seconds), to_base, to_torch])
    return markdown(["", "CPU-seconds", "to the base", "to import torch"], rows)


@click.command(help=__doc__)
@click.option("--base", metavar="COMMIT", help="A commit to measure beside this tree.")
@click.option("--repetitions", type=click.IntRange(min=1), default=15, show_default=True)
@click.option("--device", type=click.Choice(["cpu"]), default="cpu", show_default=True)
@click.option("--name", default="imports", show_default=True, help="Name of the result file.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="Each once: to see that it works.")
def main(base: str | None, repetitions: int, device: str, name: str, out: Path | None, tiny: bool) -> None:
    """The command; see the module."""
    trees = {THIS: ROOT}
    commit = commit_of(ROOT, base) if base else None
    with tempfile.TemporaryDirectory(prefix="imports-") as folder, ExitStack() as stack:
        place = Path(folder)
        if commit:
            trees[BASE] = stack.enter_context(worktree(ROOT, commit, place / "base"))
        found = measure(trees, place, 1 if tiny else repetitions, 0 if tiny else 1)
    text = table(found)
    words = (
        f"Median of {len(found[YARDSTICK])} interleaved repetitions (quartiles), each a fresh process on one thread."
    )
    words += f" The base is {commit[:7]}." if commit else ""
    content: dict[str, Any] = {
        "device": device,
        "base": commit,
        "repetitions": len(found[YARDSTICK]),
        "cases": {
            case: {"cpu_seconds": values, "quartiles": quartiles(values)} for case, values in found.items()
        },
        "note": words,
        "table": text,
    }  # fmt: skip
    print(f"\n{text}\n\n{words}")
    if out is not None:
        print(f"written: {write(out, name, content)}")


if __name__ == "__main__":
    run(main)
