"""Whether another commit's runs end in the same bits: the proof that a change of structure changed nothing else.

    python tools/equal_runs.py fe6b4ce
    python tools/equal_runs.py main --only nrd,photographs --keep runs/equal     # look at what differs

A worktree of the commit BASE and the working tree do the same conversions and the same short runs, side by side,
through the command line, each process on one thread. Compared are the stores' bytes, the weights (model.safetensors),
the method's and the optimiser's tensors (state.pt, wherever they stand in it), metrics.jsonl but for its times,
labels.npz, and issues.csv. What is meant to change is listed in INTENDED, each with its reason; every other difference
is one. The data are made here.
Exit code 0: all equal; 1: something differs or failed; 2: bad usage.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))  # where this script is loaded by its path

from _comparison import INTENDED, Comparison, Difference, compare_runs, compare_stores, sort_out  # noqa: E402
from _worktree import commit_of, worktree  # noqa: E402

# Keys of the configuration that BASE calls otherwise: {its name: the working tree's}. The words below are BASE's.
RENAMED: dict[str, str] = {}
WORDS = ["device=cpu", "threads=1", "seed=3", "eval_every=2", "checkpoint.every=2"]
DIGITS = ["model.width=4", "epochs=5", "optim.milestones=[3]", "optim.lr=0.05"]
PHOTOGRAPHS = ["model=preact_small(width=4)", "views.size=32", "batch_size=8", "epochs=2"]


@dataclass(frozen=True)
class Store:
    """A conversion: `fastnoisy convert SOURCE`; MADE in it is the folder of made-up data."""

    source: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A training: `fastnoisy train RECIPE WORDS --data STORE`; `stop_after`: interrupted within the epoch after so
    many.
    """

    store: str
    recipe: str
    words: Sequence[str] = ()
    stop_after: int | None = None


STORES = {
    "digits": Store("digits"),
    "photographs": Store("folder:MADE/photographs", ("--resize", "shorter=40", "--store", "jpg")),
    "photographs-as-they-are": Store("MADE/photographs", ("--resize", "none")),
    "webvision": Store("webvision-mini:MADE/webvision", ("--resize", "shorter=48")),
}
MIX = ("method.base=dividemix", "method.base.warmup=2", "method.lca_start=1")  # the last three of five epochs mix
RUNS = {
    "nrd": Run("digits", "digits-nrd", DIGITS),
    "alasca": Run("digits", "digits-alasca", [*DIGITS, "method.lca_start=2", "accumulate=2"]),
    "alasca-dividemix": Run("digits", "digits-alasca", [*DIGITS, *MIX, "method.shared_ema=true"]),
    "elr-plus": Run("digits", "digits-elr-plus", [*DIGITS, "data.draw=300"]),
    "co-teaching": Run("digits", "digits-co-teaching", [*DIGITS, "method.warmup=2", "noise=pairflip:0.4"]),
    "mixup": Run("digits", "digits-mixup", [*DIGITS, "data.holdout=0.2", "select=holdout", "drop_last=false"]),
    "jocor": Run("digits", "digits-jocor", [*DIGITS, "method.warmup=2", "noise=instance:0.4"]),
    "gjs": Run("digits", "digits-gjs", [*DIGITS, "data.order=blocked"]),
    "cdr": Run("digits", "digits-cdr", [*DIGITS, "data.subset=300"]),
    "webvision-nrd": Run("webvision", "webvision-nrd", [*PHOTOGRAPHS, "amp=off"]),
    "webvision-alasca": Run(
        "webvision", "webvision-alasca", [*PHOTOGRAPHS, "suite=nrd", "method.base=nrd", "amp=bf16"]
    ),
    "resident": Run("photographs", "folder-nrd", [*PHOTOGRAPHS, "pipeline=resident"]),
    "torch-loader": Run("photographs", "folder-nrd", [*PHOTOGRAPHS, "pipeline=torch-loader", "data.workers=1"]),
    "resumed": Run("digits", "digits-alasca", [*DIGITS, *MIX, "batch_size=8", "epochs=6"], stop_after=4),
}


# -- made-up data -----------------------------------------------------------------------------------------------------


def make_data(folder: Path) -> None:
    """`photographs/`: 4 classes of JPEG and PNG in differing sizes and modes; `webvision/`: its layout, of 4
    classes.
    """
    for label in range(4):
        for number in range(12):
            kind = ("grey.jpg", "upright.jpg", "alpha.png", "cmyk.jpg", "grey.png")[number] if number < 5 else "jpg"
            _put(folder / f"photographs/class{label}/{number:02d}.{kind}", photograph(label, number, kind))
    for part, count in (("train", 8), ("val", 2)):
        lines = []
        for label in (0, 7, 23, 49):
            for number in range(count):
                query = f"google/q{2 * label + 1 + number % 2:04d}" if part == "train" else "."
                name = f"{query}/{label:03d}x{number}.jpg".removeprefix("./")
                _put(
                    folder / "webvision" / ("" if part == "train" else "val_images_256") / name,
                    photograph(label, 20 + number),
                )
                lines.append(f"{name} {label}\n")
        listed = "train_filelist_google.txt" if part == "train" else "val_filelist.txt"
        _put(folder / "webvision/info" / listed, "".join(lines).encode())


def photograph(label: int, number: int, kind: str = "jpg") -> bytes:
    """Blurred noise about the class's colour, with the edges, sizes and compression of a photograph."""
    import numpy as np
    from PIL import Image, ImageFilter

    random = np.random.default_rng([label, number])
    width, height = (int(side) for side in random.integers(36, 110, 2))
    base = np.random.default_rng(label).integers(40, 215, 3)
    noise = random.integers(-60, 60, (height, width, 1)) + random.integers(-25, 25, (height, width, 3))
    image = Image.fromarray((base + noise).clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))
    mode = {"grey": "L", "alpha": "RGBA", "cmyk": "CMYK"}.get(kind.partition(".")[0])
    target, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6 if kind == "upright.jpg" else 1  # turned by a quarter
    options: dict[str, Any] = {} if kind.endswith("png") else {"quality": 85, "exif": exif}
    (image.convert(mode) if mode else image).save(target, "PNG" if kind.endswith("png") else "JPEG", **options)
    return target.getvalue()


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


# -- running ----------------------------------------------------------------------------------------------------------


class Failed(click.ClickException):
    """A command of one of the trees failed; the message has its last line. Exit code 1."""


@dataclass
class Spent:
    """Seconds by the clock and of CPU."""

    wall: float = 0.0
    cpu: float = 0.0


class Tree:
    """One of the two trees, and what it has converted and trained."""

    def __init__(self, name: str, code: Path, work: Path) -> None:
        self.name, self.code, self.work = name, code, work
        self.environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.environment.pop("PYTHONSAFEPATH", None)
        self.made = work / "made"
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.closed = threading.Event()

    def folder(self, kind: str, name: str) -> Path:
        """Where a result of this tree lies; `kind` is stores or runs."""
        return self.work / kind / f"{name}-{self.name}"

    def check(self) -> None:
        """Raise Failed where its processes would run another's code: the package may be installed, even editable."""
        line = "import fastnoisy, fastnoisy.pipelines as p; print(fastnoisy.__file__, p.__file__, sep='\\n')"
        command = [sys.executable, "-c", line]
        done = subprocess.run(command, env=self.environment, cwd=self.code, capture_output=True, text=True)
        for path in done.stdout.splitlines() or [done.stderr]:
            if not Path(path).resolve().is_relative_to(self.code.resolve()):
                raise Failed(f"{self.name}: {path.strip()} is not in {self.code}")

    def convert(self, name: str) -> Spent:
        """Make a store."""
        store = STORES[name]
        out = self.folder("stores", name)
        source = store.source.replace("MADE", str(self.made))
        return self._done(out, ["convert", source, str(out), "--workers", "1", *store.options])

    def train(self, name: str) -> Spent:
        """Make a run."""
        run, out = RUNS[name], self.folder("runs", name)
        words = [self.spelt(word) for word in [*WORDS, *run.words]]
        command = ["train", run.recipe, *words, "--data", str(self.folder("stores", run.store)), "--out", str(out)]
        if run.stop_after is None:
            return self._done(out, command)
        first = self._interrupted(out, command, run.stop_after)
        second = self._done(out, ["train", "--resume", str(out)])
        return Spent(first.wall + second.wall, first.cpu + second.cpu)

    def spelt(self, word: str) -> str:
        """A word of the configuration as this tree has it."""
        key, _, value = word.partition("=")
        return f"{RENAMED.get(key, key)}={value}" if self.name == "new" else word

    def _interrupted(self, out: Path, command: list[str], epochs: int) -> Spent:
        """Stop a run by SIGTERM in the middle of the epoch after so many: half as long after them as the last of them
        took.
        """
        metrics = out / "metrics.jsonl"

        def stop(process: subprocess.Popen[bytes]) -> None:
            done, at, took = 0, time.perf_counter(), 0.0
            while _alive(process) and not self.closed.is_set():
                found = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
                now = time.perf_counter()
                if found > done:
                    done, at, took = found, now, now - at
                if done >= epochs and now - at >= took / 2:
                    os.kill(process.pid, signal.SIGTERM)
                    return
                time.sleep(0.01)

        spent = self._done(out, command, stop, expected=128 + signal.SIGTERM)
        newest = max(path.name for path in out.glob("checkpoints/epoch-*"))
        if newest.endswith("step-000000"):
            raise Failed(f"{self.name}: the run was stopped between epochs ({newest}), not within one")
        return spent

    def _done(
        self,
        out: Path,
        command: list[str],
        meanwhile: Callable[[subprocess.Popen[bytes]], None] | None = None,
        expected: int = 0,
    ) -> Spent:
        """Run `fastnoisy COMMAND` to its end. Raises Failed where its exit code is another than expected."""
        started, log = time.perf_counter(), out.with_name(f"{out.name}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            words = [sys.executable, "-m", "fastnoisy", *command]
            process = subprocess.Popen(words, stdout=file, stderr=file, cwd=self.code, env=self.environment)
            self.processes.add(process)
            if self.closed.is_set():
                os.kill(process.pid, signal.SIGTERM)
            if meanwhile is not None:
                meanwhile(process)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.processes.discard(process)
        if process.returncode != expected:
            last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
            raise Failed(f"{self.name}: fastnoisy {command[0]} ended with {process.returncode}, not {expected}: {last}")
        return Spent(time.perf_counter() - started, used.ru_utime + used.ru_stime)

    def close(self) -> None:
        """End what still runs."""
        self.closed.set()
        for process in list(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)


def _alive(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process still runs; one that has ended is left to `wait4`, which tells what it has used."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def chosen(only: str) -> list[str]:
    """Names of stores and runs. Raises click.UsageError where one is unknown."""
    known = [*STORES, *RUNS]
    names = [name for name in only.split(",") if name] or known
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"--only {unknown[0]!r} is unknown; known: {', '.join(known)}")
    return [name for name in known if name in names]


def needed(names: Sequence[str]) -> list[str]:
    """The stores and runs to make: those asked for, and the stores that the runs train on."""
    stores = {RUNS[name].store for name in names if name in RUNS}
    return [name for name in [*STORES, *RUNS] if name in names or name in stores]


@click.command(help=__doc__)
@click.argument("base")
@click.option("--only", default="", metavar="NAME,...", help="Only these stores and runs.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep what both trees made in this folder, which is new.")
def main(base: str, only: str, keep: Path | None) -> None:
    """The command; see the module."""
    commit, names = commit_of(ROOT, base), chosen(only)
    if keep is not None and keep.exists():
        raise click.UsageError(f"--keep {keep} exists; name a new folder")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the worktree is removed
    with tempfile.TemporaryDirectory(prefix="equal-runs-") as temporary:
        work = (keep or Path(temporary) / "work").resolve()
        with worktree(ROOT, commit, Path(temporary) / "base") as other:
            trees = [Tree("base", other, work), Tree("new", ROOT, work)]
            try:
                equal = side_by_side(trees, names)
            finally:
                for tree in trees:
                    tree.close()
    sys.exit(0 if equal else 1)


def side_by_side(trees: list[Tree], names: list[str]) -> bool:
    """Convert and train in both trees at once, a line for each as soon as both are done; returns whether all is
    equal.
    """
    started = time.perf_counter()
    for tree in trees:
        tree.check()
    make_data(trees[0].made)
    left: list[Difference] = []
    met = {entry.what: 0 for entry in INTENDED}
    failures, cpu = 0, 0.0
    click.echo(f"{'':24}  {'seconds of base':>15}  {'of new':>6}  result")
    with ThreadPoolExecutor(len(trees)) as pool:
        work = {
            name: [pool.submit(t.convert if name in STORES else t.train, name) for t in trees] for name in needed(names)
        }
        try:
            for name, futures in work.items():
                try:
                    spent = [future.result() for future in futures]
                except Failed as error:
                    failures += 1
                    click.echo(f"{name:24}  {'':15}  {'':6}  failed: {error}")
                    continue
                folders = [tree.folder("stores" if name in STORES else "runs", name) for tree in trees]
                result = (compare_stores if name in STORES else compare_runs)(*folders)
                rest, times = sort_out(result.differences, INTENDED, name)
                left += rest
                met = {what: count + times[what] for what, count in met.items()}
                cpu += sum(one.cpu for one in spent)
                click.echo(f"{name:24}  {spent[0].wall:15.1f}  {spent[1].wall:6.1f}  {verdict(result, rest)}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for tree in trees:
                tree.close()
            raise
    for entry in INTENDED:
        often = f"met {met[entry.what]:,} times" if met[entry.what] else "met nowhere"
        click.echo(f"intended, {often}: {entry.what} ({entry.reason})")
    wall = time.perf_counter() - started
    outcome = "all equal" if not left and not failures else f"{len(left):,} differences, {failures} failed"
    click.echo(f"{outcome}, in {wall:.0f} s, {cpu:.0f} CPU-seconds of conversions and runs")
    return not left and not failures


def verdict(result: Comparison, rest: Sequence[Difference]) -> str:
    """A line's end: what was compared, and the first difference that nobody meant."""
    compared = ", ".join(f"{number:,} {kind}" for kind, number in result.counts.items())
    if not rest:
        return f"equal ({compared})"
    return f"DIFFERS in {len(rest):,} ({compared}), first {rest[0]}"


if __name__ == "__main__":
    main()
