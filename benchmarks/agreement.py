"""How many pixels equal Pillow's, operation by operation: ours, and kornia's primitive for the same thing.

    python benchmarks/agreement.py --out benchmarks/results

An operation is executed by kornia where kornia's primitive gives Pillow's pixels and the same bits whatever the batch
and compiler; elsewhere the table says why not. Images are photographs, noise, gradients and flat ones, values those
that the policies use and the tests' whole ranges. Where kornia's primitive qualifies but ours is used, both are timed
in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import kornia
import numpy as np
import PIL
import torch
from _kornia_peers import Case, op_cases, pillow, step_cases
from _report import markdown, write
from torch import Tensor

from fastnoisy.compiler import missing_packages

RUNS = 21  # of either side of a timing


def photographs(count: int, H: int, W: int) -> Tensor:
    """Cuts of the two photographs that scikit-learn brings, uint8 (count, 3, H, W)."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    cuts = []
    for index in range(count):
        picture = load_sample_images().images[index % 2] if index < 2 else cuts[index % 2][0]
        y, x = (int(rng.integers(0, extent - side + 1)) for extent, side in zip(picture.shape, (H, W), strict=False))
        cuts.append((picture, picture[y : y + H, x : x + W].transpose(2, 0, 1)))
    return torch.from_numpy(np.stack([cut for _, cut in cuts]))


def agreement(case: Case, result: Tensor) -> dict[str, Any]:
    """Share of equal values in %, and the largest difference in levels, against the case's reference."""
    rows = zip(*(tensor.cpu().unbind(0) for tensor in case.inputs), strict=True)
    expected = torch.from_numpy(np.stack([np.asarray(case.reference(*row)) for row in rows]).astype(np.int16))
    difference = (result.cpu().short() - expected).abs()
    return {"equal": 100 * (difference == 0).double().mean().item(), "max": int(difference.max())}


def same_in_any_batch(run: Callable[..., Tensor], inputs: tuple[Tensor, ...], whole: Tensor) -> bool:
    """Whether batches of 1 and of 5, and a shuffled batch, give the bits of the whole one."""
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(1)).to(whole.device)
    parts = [
        torch.cat([run(*cut) for cut in zip(*(tensor.split(size) for tensor in inputs), strict=True)])
        for size in (1, 5)
    ]
    shuffled = run(*(tensor[order] for tensor in inputs))
    return all(torch.equal(whole, part) for part in parts) and torch.equal(whole[order], shuffled)


def same_compiled(run: Callable[..., Tensor], inputs: tuple[Tensor, ...], whole: Tensor) -> bool:
    """Whether `torch.compile` gives the bits of eager execution."""
    torch.compiler.reset()
    return torch.equal(torch.compile(lambda *given: run(*given))(*inputs), whole)


def time_ratio(
    one: Callable[..., Tensor], other: Callable[..., Tensor], inputs: tuple[Tensor, ...], runs: int
) -> float:
    """Median time of `other` over that of `one`, in turns within one run."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs + 2):
        for taken, run in zip(times, (one, other), strict=True):
            start = time.process_time() if inputs[0].device.type == "cpu" else time.perf_counter()
            run(*inputs)
            if inputs[0].device.type != "cpu":
                torch.cuda.synchronize()
                taken.append(time.perf_counter() - start)
            else:
                taken.append(time.process_time() - start)
    first, second = (statistics.median(taken[2:]) for taken in times)
    return second / first


def measure(case: Case, tiny: bool) -> dict[str, Any]:
    """Everything about one case."""
    ours = case.ours(*case.inputs)
    row: dict[str, Any] = {"op": case.name, "executed_by": case.executed_by, "ours": agreement(case, ours)}
    row["ours"]["any_batch"] = same_in_any_batch(case.ours, case.inputs, ours)
    if not case.primitive:
        return row | {"reason": "nothing of the kind in kornia"}
    tried = {}
    for arguments, run in case.kornia.items():
        result = run(*case.inputs)
        tried[arguments] = agreement(case, result) | {"any_batch": same_in_any_batch(run, case.inputs, result)}
        if not _fits(case, tried[arguments]):
            continue
        tried[arguments]["time_ratio"] = time_ratio(case.ours, run, case.inputs, 3 if tiny else RUNS)
        if not tiny and not missing_packages():
            tried[arguments]["compiled"] = same_compiled(run, case.inputs, result)
        if result.device.type != "cpu":
            on_cpu = run(*(tensor.cpu() for tensor in case.inputs))
            tried[arguments]["on_cpu"] = torch.equal(on_cpu, result.cpu())
    best = min(tried, key=lambda name: _rank(case, tried[name]))
    *other, arguments = best.split(": ")
    found = tried[best] | {"name": f"kornia.{(*other, case.primitive)[0]}", "arguments": arguments}
    return row | {"kornia": found, "tried": tried, "reason": _reason(case, row, found)}


def _rank(case: Case, found: dict[str, Any]) -> tuple[Any, ...]:
    """Best first: what fits and has the same bits everywhere, then the faster; of the rest, what is closer to
    Pillow.
    """
    return not _qualifies(case, found), found["max"] > 1, found.get("time_ratio", 0.0), -found["equal"]


def _qualifies(case: Case, found: dict[str, Any]) -> bool:
    return _fits(case, found) and found.get("compiled", True) and found.get("on_cpu", True)


def _fits(case: Case, found: dict[str, Any]) -> bool:
    """Whether it is as exact as is asked of ours: every pixel, or within a level where pixels are interpolated."""
    within = found["max"] <= 1 if "bilinear" in case.name else found["equal"] == 100
    return bool(within and found["any_batch"])


def _reason(case: Case, row: dict[str, Any], found: dict[str, Any]) -> str:
    if row["executed_by"] != "own":
        return "; ".join(["used", *[case.limits + ", so own code there"] * bool(case.limits)])
    if not _fits(case, found):
        share = 100 - found["equal"]
        parts = [f"{share:.2g} % differ, by up to {found['max']}"] if share else []
        return "; ".join(parts + ["the batch changes bits"] * (not found["any_batch"]))
    parts = ["as exact" if found["max"] else "exact"]
    parts += ["other bits compiled"] * (found.get("compiled") is False)
    parts += ["other bits on a CPU"] * (found.get("on_cpu") is False)
    parts += [case.limits] * bool(case.limits)
    return "; ".join([*parts, f"{found['time_ratio']:.2f} x our time"])


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""

    def cells(found: dict[str, Any] | None) -> tuple[str, str]:
        if found is None:
            return "-", "-"
        share = "100" if found["equal"] == 100 else f"{min(found['equal'], 99.99):.2f}"
        return share, str(found["max"])

    header = ("op", "executed by", "ours equal %", "ours max", "kornia equal %", "kornia max", "kornia's primitive")
    lines = []
    for row in rows:
        peer = row.get("kornia")
        text = f"`{peer['name'].removeprefix('kornia.')}`: {row['reason']}" if peer else row["reason"]
        lines.append((row["op"], row["executed_by"], *cells(row["ours"]), *cells(peer), text))
    return markdown(header, lines)


@click.command(help=__doc__)
@click.option("--device", default="cpu", show_default=True)
@click.option("--tiny", is_flag=True, help="Few small images and no compiler, to see that it works.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
def main(device: str, tiny: bool, out: Path | None) -> None:
    """The command; see the module."""
    torch.set_num_threads(1)
    H, W = (16, 20) if tiny else (48, 60)
    count = 6 if tiny else 64
    references = pillow()
    images = torch.cat([photographs(count, H, W), references.random_images(count, H, W), references.plain_images(H, W)])
    cases = op_cases(images) + step_cases(images, photographs(4 if tiny else 24, 3 * H, 3 * W))
    rows = []
    for case in cases:
        moved = Case(**{**vars(case), "inputs": tuple(tensor.to(device) for tensor in case.inputs)})
        rows.append(measure(moved, tiny))
        click.echo(f"{case.name}: {rows[-1]['reason']}", err=True)
    content = {
        "pillow": PIL.__version__,
        "kornia": kornia.__version__,
        "device": device,
        "images": [list(images.shape), [4 if tiny else 24, 3, 3 * H, 3 * W]],
        "runs_per_timing": 3 if tiny else RUNS,
        "rows": rows,
        "note": (
            f"Share of values equal to Pillow {PIL.__version__}'s and the largest difference in levels; kornia "
            f"{kornia.__version__}'s primitive with the best of the arguments tried, its result compared between "
            "batches and "
            "between eager and compiled; times in turns in one run, one thread."
        ),
        "table": table(rows),
    }
    print(f"\n{content['table']}")
    idle = [
        f"{row['op']} ({row['kornia']['arguments']})"
        for case, row in zip(cases, rows, strict=True)
        if row["executed_by"] == "own" and not case.limits and "kornia" in row and _qualifies(case, row["kornia"])
    ]
    print(f"\nkornia's primitive would do for: {', '.join(idle) or 'nothing else'}")
    if out is not None:
        print(f"\nwritten: {write(out, 'agreement', content)}")


if __name__ == "__main__":
    main()
