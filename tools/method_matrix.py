"""Every method on real digits with wrong labels, from the command line, over seeds: one table.

    python tools/method_matrix.py --out benchmarks/results            # hours on two cores; goes on where it was stopped
    python tools/method_matrix.py --methods ce,elr,dividemix --seeds 1
    python tools/method_matrix.py --tiny                              # two epochs of each, to see that all of them run
    python tools/method_matrix.py --grid --seeds 11,12,13             # how what `digits` changes for a method was
    chosen

Each run is a process of its own, so that its CPU time and its peak memory are its own; seeds are the outer loop, so
that what else the machine does falls on all methods alike. Accuracy is the last epoch's, of the reported predictor, on
clean labels;
memorised: the share of the wrong training labels that it repeats; AUC: how well the label scores of issues.csv tell
right labels from wrong ones. The grid is by test accuracy, of seeds that the table does not have.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # the checkout, however this script was started

from _report import markdown, mean_std, write  # noqa: E402

WRAPPED = ("gce", "sce", "elr", "decoupling", "co-teaching", "dividemix", "elr-plus", "nrd")
TINY = ("epochs=2", "data.subset=120", "batch_size=20", "model.width=4")
GRID = {  # the paper's values first
    "als": ("method.warmup=20", "method.warmup=60", "method.warmup=100"),
    "co-teaching": ("method.warmup=30", "method.warmup=100", "method.warmup=100 method.warmup_mode=plain"),
    "gce": ("method.q=0.7", "method.q=0.5", "method.q=0.3"),
    "jocor": (
        "method.co_lambda=0.9 method.warmup=30",
        "method.co_lambda=0.1 method.warmup=30",
        "method.co_lambda=0.1 method.warmup=100",
    ),
    "alasca(gce)": ("method.base.q=0.7", "method.base.q=0.5", "method.base.q=0.5 method.lca_start=100"),
    "alasca(co-teaching)": (
        "method.base.warmup=30",
        "method.base.warmup=100",
        "method.base.warmup=100 method.lca_start=100",
    ),
}


def forms() -> list[str]:
    """Every method, and ALASCA around what its paper combines it with, and around NRD."""
    from fastnoisy import methods

    names = ["ce", *(name for name in methods.names() if name != "ce")]
    return [*names, *(f"alasca({base})" for base in WRAPPED)]


@click.command(help=__doc__)
@click.option("--methods", "asked", default="", help="Comma-separated; default: all.")
@click.option("--seeds", default="1,2,3", show_default=True)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/methods"), show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Runs at a time, each on one thread.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--tiny", is_flag=True, help="A few steps of each only, to see that all of them run.")
@click.option(
    "--grid", is_flag=True, help="Try the values that the recipe chooses among, for the methods that have them."
)
@click.argument("overrides", nargs=-1)
def main(
    asked: str, seeds: str, runs: Path, jobs: int, out: Path | None, device: str, tiny: bool, grid: bool,
    overrides: tuple[str, ...],
) -> None:  # fmt: skip
    """The command; see the module."""
    from fastnoisy.data.conversion.convert import ConvertOptions, convert

    chosen = asked.split(",") if asked else list(GRID) if grid else forms()
    words = [*overrides, f"device={device}", "threads=1", *(TINY if tiny else ())]
    store = runs / "store"
    if not store.exists():
        convert("digits", store, options=ConvertOptions(), progress=None)
    points = [(form, point) for form in chosen for point in (GRID.get(form, ()) if grid else ("",))]
    work = [(form, point, int(seed)) for seed in seeds.split(",") for form, point in points]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda item: train(item[0], item[2], [*words, *item[1].split()], store, runs), work))
    found: dict[tuple[str, str], list[dict[str, Any]]] = {point: [] for point in points}
    for (form, point, _), result in zip(work, results, strict=True):
        found[form, point].append(result)
    note = f"Digits, 40 % symmetric noise, seeds {seeds}: mean ± standard deviation"
    if grid:
        text, note = grid_table(found), f"{note}."
    else:
        text = table({form: runs for (form, _), runs in found.items()})
        note = f"{note}; gains, time and memory against `{chosen[0]}`, gains seed by seed."
    print(f"\n{text}")
    if out is not None:
        entries = {f"{form} {point}".strip(): runs for (form, point), runs in found.items()}
        content = {"overrides": words, "seeds": seeds, "methods": entries, "note": note, "table": text}
        print(f"written: {write(out, 'methods-grid' if grid else 'methods', content)}")


def train(form: str, seed: int, words: list[str], store: Path, runs: Path) -> dict[str, Any]:
    """One run in a process of its own, or what an earlier call found; goes on with one that failed.

    Raises:
        SystemExit: the run failed; its output is shown.
    """
    method, _, base = form.partition("(")
    words = [*([f"method.base={base.rstrip(')')}"] if base else []), *words, f"seed={seed}"]
    folder = runs / f"{form.replace('(', '-').rstrip(')')}-seed{seed}-{zlib.crc32(repr(sorted(words)).encode()):08x}"
    costs = folder.with_suffix(".json")
    if not costs.exists():  # what was spent on a run that was stopped is not known, so that one begins anew
        shutil.rmtree(folder, ignore_errors=True)
    before = json.loads(costs.read_text()) if costs.exists() else {"cpu_seconds": 0.0, "peak_bytes": 0, "done": False}
    if not before["done"]:
        command = [sys.executable, "-m", "fastnoisy", "train"]
        begun = (folder / "config.toml").exists()
        command += (
            ["--resume", str(folder)]
            if begun
            else [f"digits-{method}", *words, "--data", str(store), "--out", str(folder)]
        )
        log = folder.with_suffix(".log")
        with log.open("a") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, cwd=Path.cwd(), env=_environment())
            _, status, used = os.wait4(process.pid, 0)
        before["cpu_seconds"] += used.ru_utime + used.ru_stime
        before["peak_bytes"] = max(before["peak_bytes"], used.ru_maxrss * 1024)
        before["done"] = status == 0
        costs.write_text(json.dumps(before))
        if status:
            raise SystemExit(f"error: {form}, seed {seed}, failed; see {log}")
        print(f"{form}, seed {seed}: {before['cpu_seconds']:.0f} CPU-seconds", flush=True)
    return {"seed": seed, **before, **read(folder)}


def read(folder: Path) -> dict[str, Any]:
    """The numbers of a finished run."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    from fastnoisy.training.run import Run

    run = Run(folder, print)
    lines, final, labels = run.metrics, run.final, run.labels
    assert final is not None, f"{folder} has not ended"
    assert labels.clean is not None, "digits' labels are known"
    reported = final["reported"]
    wrong = labels.given != labels.clean
    rows = [(issue.index, issue.label_score) for issue in run.issues()]
    scores = np.array([score for _, score in rows])
    return {
        "accuracy": final["eval"]["test"][reported]["accuracy"],
        "memorised": final["train"][reported]["memorised"],
        "auc": float(roc_auc_score(~wrong[[index for index, _ in rows]], scores)),
        "curve": [
            (line["epoch"] + 1, line["eval"]["test"][reported]["accuracy"])
            for line in lines
            if "epoch" in line and "eval" in line
        ],
    }


def cell(runs: list[dict[str, Any]], key: str) -> str:
    """Mean and deviation, in percent."""
    mean, std = mean_std([100 * run[key] for run in runs])
    return f"{mean:.2f} ± {std:.2f}" if len(runs) > 1 else f"{mean:.2f}"


def grid_table(found: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    """The table of the grid in Markdown, the best point of each method in bold."""
    means = {point: mean_std([run["accuracy"] for run in runs])[0] for point, runs in found.items()}
    best = {form: max(mean for (other, _), mean in means.items() if other == form) for form, _ in found}
    rows = []
    for (form, point), runs in found.items():
        mark = "**" if means[form, point] == best[form] else ""
        rows.append([form, f"`{point}`", f"{mark}{cell(runs, 'accuracy')}{mark}", cell(runs, "memorised")])
    return markdown(["method", "options", "test accuracy %", "memorised %"], rows)


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """The table in Markdown; the first method is what the others are held against."""
    yardstick = next(iter(found.values()))
    base, spread = mean_std([run["accuracy"] for run in yardstick])
    rows, short = [], []
    for form, runs in found.items():
        mean, std = mean_std([run["accuracy"] for run in runs])
        both = (spread**2 + std**2) ** 0.5
        gains = [100 * (a["accuracy"] - b["accuracy"]) for a, b in zip(runs, yardstick, strict=True)]
        gain = "{:+.2f} ± {:.2f}".format(*mean_std(gains)) if len(runs) > 1 else f"{gains[0]:+.2f}"
        unpaired = f"{(mean - base) / both:+.1f}" if both else "-"
        if runs is not yardstick and not (both and (mean - base) / both > 2):
            short.append([form, *(f"{100 * value:.0f}" for value in curve(runs))])
        ratios = []
        for key in ("cpu_seconds", "peak_bytes"):
            ratios.append(f"{mean_std([a[key] / b[key] for a, b in zip(runs, yardstick, strict=True)])[0]:.2f}")
        rows.append([form, cell(runs, "accuracy"), gain, unpaired, cell(runs, "memorised"), cell(runs, "auc"), *ratios])
    header = ["method", "test accuracy %", "gain", "in s.d.", "memorised %", "AUC %", "CPU time", "peak memory"]
    text = markdown(header, rows)
    if short:
        epochs = [str(epoch) for epoch, _ in yardstick[0]["curve"]]
        text += "\n\nWhere the gain is below two deviations of both, unpaired: "
        text += "accuracy after each epoch, mean over seeds\n\n"
        text += markdown(["method", *epochs], short)
    return text


def curve(runs: list[dict[str, Any]]) -> list[float]:
    """Accuracy at each evaluation, mean over seeds."""
    return [mean_std(values)[0] for values in zip(*([v for _, v in run["curve"]] for run in runs), strict=True)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    main()
