"""What a sweep or a comparison gives: its runs' numbers in groups, as a table, as JSON, and which point was chosen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastnoisy.errors import FastnoisyError
from fastnoisy.grids import numbers
from fastnoisy.grids.cells import Outcome
from fastnoisy.grids.grid import Cell
from fastnoisy.training.run import Run

Say = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """See the module.

    Attributes:
        groups: name -> the numbers of its runs, one per seed; see `numbers.of_run`. The first is the yardstick.
        cells: how many runs there should be.
        problems: of runs that failed, a line each.
        chosen: the group that is best on the held-out part, where that was asked for.
    """

    groups: dict[str, list[dict[str, Any]]]
    cells: int = 0
    problems: list[str] = field(default_factory=list)
    chosen: str = ""

    def text(self) -> str:
        """The table in Markdown, and the point that was chosen."""
        if not self.groups:
            return "no run has ended"
        table = numbers.markdown(*numbers.table(self.groups))
        if not self.chosen:
            return table
        held, test = (numbers.percent(self.groups[self.chosen], key) for key in ("holdout", "accuracy"))
        return f"{table}\n\nbest on the labels held out: {self.chosen} ({held} % there, {test} % on the test split)"

    def json(self) -> str:
        """All of it, for a program."""
        first = next(iter(self.groups.values()), [])
        groups = {name: {"runs": rows, **numbers.against(rows, first)} for name, rows in self.groups.items()}
        return json.dumps({"groups": groups, "chosen": self.chosen, "problems": self.problems}, indent=1)


def of_runs(paths: Sequence[Path], say: Say) -> Comparison:
    """Compare runs by their folders.

    Raises:
        FastnoisyError: a folder holds no run, or none of them has ended.
    """
    opened = [Run(path, say) for path in paths]
    ended = []
    for run in opened:
        if run.final is None:
            say(f"{run.path} has not ended and is left out")
        else:
            ended.append(run)
    if not ended:
        raise FastnoisyError("none of these runs has ended", "Go on with them by 'fastnoisy train --resume RUN'")
    groups = {}
    for name, runs in numbers.grouped(ended).items():
        groups[name] = sorted((n for run in runs if (n := numbers.of_run(run))), key=lambda row: row["seed"])
    return Comparison(groups, len(opened))


def of_cells(grid: Sequence[Cell], outcomes: Sequence[Outcome], out: Path, say: Say) -> Comparison:
    """Compare the cells of a grid that have ended: those that differ in their seed alone are one group."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell, outcome in zip(grid, outcomes, strict=True):
        if outcome.state in ("found", "trained") and (found := numbers.of_run(Run(out / cell.name, say))):
            name = " ".join(part for part in cell.point if not part.startswith("seed=")) or cell.recipe
            groups.setdefault(name, []).append(found)
    failed = [f"{outcome.name}: {outcome.problem}" for outcome in outcomes if outcome.state == "failed"]
    return Comparison(groups, len(grid), failed)


def best_held_out(groups: dict[str, list[dict[str, Any]]]) -> str:
    """The group with the highest mean accuracy on the noisy labels held out; the first of equals.

    Raises:
        FastnoisyError: a run has none held out.
    """
    for rows in groups.values():
        for row in rows:
            if row["holdout"] is None:
                raise FastnoisyError(
                    f"run {row['run']} holds no labels out to choose by", "Add for example data.holdout=0.1"
                )
    return max(groups, key=lambda name: sum(row["holdout"] for row in groups[name]) / len(groups[name]), default="")
