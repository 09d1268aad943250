"""The test accuracies that the papers print, each with the command that trains the same:
`recipes/tables/published.csv`.

NRD Tables 2 to 4, ALASCA Tables 2 to 9. Where a paper gives best and last, or top-1 and top-5 on two test sets, `which`
says so. The semi-supervised methods in NRD's Table 3 are trained as in their own codes, which is ALASCA's suite.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fastnoisy import methods
from fastnoisy.training import setup
from fastnoisy.training.settings import Settings

_COMPARED = (
    "suite", "noise", "method", "model", "optim", "epochs", "batch_size", "drop_last", "data.subset", "data.holdout",
    "data.draw", "data.mean", "data.std", "select", "views.student", "views.teacher", "views.eval",
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """One cell of a paper's table: test accuracy in percent and, where given, its standard deviation over runs."""

    paper: str
    table: str
    recipe: str
    overrides: str
    which: str
    accuracy: float
    std: float | None

    @property
    def base(self) -> str | None:
        """The wrapped method that the overrides name, if they do."""
        return dict(word.split("=", 1) for word in self.overrides.split()).get("method.base")

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {self.std:g}"
        return f"{self.accuracy:g}{spread} % ({self.paper}, {self.table}{f', {self.which}' if self.which else ''})"


@cache
def cells() -> tuple[Published, ...]:
    """Every cell, in the papers' order."""
    path = resources.files("fastnoisy.recipes") / "tables" / "published.csv"
    return tuple(
        Published(
            line["paper"], line["table"], line["recipe"], line["overrides"], line["which"],
            float(line["accuracy"]), float(line["std"]) if line["std"] else None,
        )
        for line in csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    )  # fmt: skip


def find(settings: Settings) -> list[Published]:
    """What the papers print for this very set-up: same suite, noise, method, net, optimiser, schedule, split and view.

    Methods that do not exist here yet are passed over.
    """
    found = []
    for cell in cells():
        if cell.recipe == settings.config.recipe and cell.base in (None, *methods.names()):
            other = setup.resolve(cell.recipe, cell.overrides.split())
            if all(_get(settings, key) == _get(other, key) for key in _COMPARED):
                found.append(cell)
    return found


def _get(settings: Settings, key: str) -> object:
    if key.startswith("views."):  # the program, by whatever name
        return settings.views[key.removeprefix("views.")]
    value: object = settings.config
    for part in key.split("."):
        value = getattr(value, part)
    return value
