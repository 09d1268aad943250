"""What finished runs say, and beside one another: mean and standard deviation over seeds, gains paired by seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the benchmarks' reports take two functions from here, and no torch
    from fastnoisy.training.run import Run

_IGNORED = ("seed", "noise_seed", "device", "threads", "pipeline", "data.store", "recipe", "row", "distributed")


def of_run(run: Run) -> dict[str, Any] | None:
    """The numbers of a run that has ended, of the reported predictor; None of one that has not.

    Shares in [0, 1]: `accuracy` and `ece` on the test split (None without one), `holdout` against the noisy labels held
    out, `memorised`, `suspects_found`; `others` has the further predictors' accuracies, `curve` epoch, accuracy and
    memorised of each evaluation; `img_per_s` is the epochs' median, `seconds` their sum.
    """
    lines = run.metrics
    final = lines[-1] if lines and lines[-1].get("event") == "final" else None
    if final is None:
        return None
    predictor, test = final["reported"], run.config.data.test_split
    evaluated = final["eval"].get(test, {})
    held = final["eval"].get("holdout", {})
    return {
        "seed": run.config.seed,
        "accuracy": evaluated[predictor]["accuracy"] if evaluated else None,
        "ece": evaluated[predictor]["ece"] if evaluated else None,
        "holdout": held[predictor]["accuracy"] if held else None,
        "others": {k: v["accuracy"] for k, v in evaluated.items() if k != predictor},
        "memorised": final.get("train", {}).get(predictor, {}).get("memorised"),
        "suspects_found": final.get("suspects_found"),
        "img_per_s": statistics.median(line["time"]["img_per_s"] for line in lines if "time" in line),
        "seconds": sum(line["time"]["seconds"] for line in lines if "time" in line),
        "curve": [
            [line["epoch"], line["eval"][test][predictor]["accuracy"], line["train"].get("memorised")]
            for line in lines
            if test in line.get("eval", {}) and "epoch" in line
        ],
        "run": run.path.name,
    }


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for one value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def against(rows: Sequence[Mapping[str, Any]], yardstick: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Test errors relative to the yardstick's, and the difference in accuracy, paired by seed, with its standard
    error. Empty where the two share no seed or have no test accuracy.
    """
    base = {row["seed"]: row["accuracy"] for row in yardstick}
    pairs = [(row["accuracy"], base.get(row["seed"])) for row in rows]
    both = [(own, other) for own, other in pairs if own is not None and other is not None]
    if not both:
        return {}
    error, other_error = (1 - statistics.fmean(side) for side in zip(*both, strict=True))
    mean, std = mean_std([own - other for own, other in both])
    ratio = error / other_error if other_error else float("nan")
    return {"error_ratio": ratio, "gain": mean, "gain_se": std / len(both) ** 0.5}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown: first column left, others right, padded to be read as it stands."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def percent(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """Mean ± standard deviation of a share over runs, in per cent; - where none has it."""
    values = [100 * row[key] for row in rows if row.get(key) is not None]
    if not values:
        return "-"
    mean, std = mean_std(values)
    return f"{mean:.2f} ± {std:.2f}" if len(values) > 1 else f"{mean:.2f}"


def table(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a comparison; the first group is the yardstick."""
    many = any(len(rows) > 1 for rows in groups.values())
    held = any(row["holdout"] is not None for rows in groups.values() for row in rows)
    columns = ["runs of", "seeds", "test accuracy %", *(["held-out %"] if held else []), "memorised %"]
    columns += ["suspects found %", *(["errors / first's", "gain ± s.e."] if many and len(groups) > 1 else [])]
    yardstick = next(iter(groups.values()))
    found = []
    for name, rows in groups.items():
        line = [name, str(len(rows)), percent(rows, "accuracy"), *([percent(rows, "holdout")] if held else [])]
        line += [percent(rows, "memorised"), percent(rows, "suspects_found")]
        if many and len(groups) > 1:
            paired = against(rows, yardstick)
            gain = f"{100 * paired['gain']:+.2f} ± {100 * paired['gain_se']:.2f}" if paired else "-"
            line += [f"{paired['error_ratio']:.2f}" if paired else "-", gain]
        found.append(line)
        for other in rows[0]["others"]:  # a method's further predictors
            shown = percent([{"accuracy": row["others"].get(other)} for row in rows], "accuracy")
            found.append([f"- {name}, {other} alone", "", shown, *([""] * (len(line) - 3))])
    return columns, found


def grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that differ in their seeds alone, together; each group is named by its recipe and by what else tells it
    from the others.
    """
    from fastnoisy import config

    plain = []
    for run in runs:
        flat = config.flatten(run.config.model_dump())
        kept = {k: v for k, v in flat.items() if not any(k == i or k.startswith(f"{i}.") for i in _IGNORED)}
        plain.append((run.config.recipe or run.config.method["name"], kept))
    found: dict[str, list[Run]] = {}
    for run, (recipe, own) in zip(runs, plain, strict=True):
        alike = [values for name, values in plain if name == recipe]
        keys = [key for key in own if any(values.get(key) != own[key] for values in alike)]
        found.setdefault(" ".join([recipe, *(f"{key}={own[key]}" for key in keys)]), []).append(run)
    return found
