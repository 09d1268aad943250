"""The papers' hyperparameters as data: one row per data set, method and noise, in `tables/SUITE.csv`.

`nrd.csv` is Table 5 of NRD, all 126 cells, as printed. `alasca.csv` is ALASCA's set-up (D.1.2 and the settings of the
methods
it builds on): a line stands for every rate it lists. Columns:

    data, method    which data set and which method; a wrapper takes the row of the method it wraps
    noise, rates    none, sym, asym or inst; nominal rates in percent
    lr, weight_decay
    options         the method's own options, `key=value` separated by blanks
    source          where the numbers come from, if not from the table that the file is named after

WebVision and Clothing1M have one line a method: their noise is their own.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from fastnoisy import config
from fastnoisy.noise import NoiseSpec

TITLES = {"nrd": "NRD Table 5", "alasca": "ALASCA D.1.2"}
_KINDS = {"none": "none", "symmetric": "sym", "asymmetric": "asym", "instance": "inst"}
_WORDS = {"none": "no noise", "sym": "symmetric", "asym": "asymmetric", "inst": "instance-dependent"}
_FALLBACKS = (("sym", 40.0), ("none", 0.0))  # the second where the noise is the data set's own


@dataclass(frozen=True)
class Row:
    """One cell of a paper's table; `rate` is in percent."""

    suite: str
    data: str
    method: str
    noise: str
    rate: float
    lr: float
    weight_decay: float
    options: Mapping[str, Any]
    source: str = ""

    def __str__(self) -> str:
        text = f"{self.source or TITLES[self.suite]}, {self.data} {self.method}"
        if self.source and self.noise == "none":  # of a data set whose noise is its own
            return text
        rate = "" if self.noise == "none" else f" {self.rate:g} %"
        return f"{text}, {_WORDS[self.noise]}{rate}"


@cache
def table(suite: str) -> Mapping[tuple[str, str, str, float], Row]:
    """All rows of a suite by (data, method, noise, rate in percent)."""
    text = (resources.files("fastnoisy.recipes") / "tables" / f"{suite}.csv").read_text(encoding="utf-8")
    found: dict[tuple[str, str, str, float], Row] = {}
    for line in csv.DictReader(text.splitlines()):
        for rate in map(float, line["rates"].split()):
            key = (line["data"], line["method"], line["noise"], rate)
            numbers = (float(line["lr"]), float(line["weight_decay"]))
            found[key] = Row(suite, *key, *numbers, _options(line["options"]), line["source"])
    return found


@dataclass(frozen=True)
class Choice:
    """What a run takes from the tables.

    Attributes:
        tables: layers of the configuration: `optim.lr`, `optim.weight_decay` and the method's options.
        text: where they come from, for people, with what had no row of its own.
    """

    tables: dict[str, Any]
    text: str


def choose(
    suite: str, data: str, method: str, base: str | None, noise: NoiseSpec, recipe: str, rule: str = ""
) -> Choice:
    """The row of a run.

    Args:
        data: whose rows to take, `cifar10` or `cifar100`.
        method, base: the run's method and, for a wrapper, the one it wraps; the wrapped one's row counts.
        recipe: the recipe's own data name; where it is not `data`, the tables know nothing of it.
        noise: the run's. Where no row fits, the one of the same noise whose rate is nearest serves (of two as
            near the higher), then the 40 % symmetric one, then the data set's only one; for another variant of a noise
            in the table, the row of the same rate.
        rule: the suite's asymmetric rule.

    Learning rate and weight decay are the suite's, those of cross-entropy for a method that the suite's paper does not
    have; the options of such a method are taken from the other paper.
    """
    wanted = base or method
    key = _key(noise) if recipe == data else None
    listed = wanted if any(row[:2] == (data, wanted) for row in table(suite)) else "ce"
    row, exact = _lookup(suite, data, listed, key)
    exact = exact and _is_the_papers(noise, rule)
    missing = [] if listed == wanted else [wanted]
    if not exact:
        missing.append(str(noise) if recipe == data else recipe)
    text = str(row) + (f" (there is no row for {', '.join(missing)})" if missing else "")
    own: Row | None = row if listed == wanted else None
    for other in TITLES:
        if own is None and any(entry[:2] == (data, wanted) for entry in table(other)):
            own, _ = _lookup(other, data, wanted, key)
            text += f"; options: {own}" if own.options else ""
    options = dict(own.options) if own is not None else {}
    optim = {"lr": row.lr, "weight_decay": row.weight_decay}
    if base is None:
        return Choice({"optim": optim, "method": {"name": method, **options}}, text)
    return Choice({"optim": optim, "method": {"name": method, "base": {"name": base, **options}}}, text)


def _lookup(suite: str, data: str, method: str, key: tuple[str, float] | None) -> tuple[Row, bool]:
    rows = table(suite)
    near: list[tuple[str, float]] = []
    if key is not None:
        rates = [rate for *which, rate in rows if which == [data, method, key[0]]]
        near = [(key[0], rate) for rate in sorted(rates, key=lambda rate: (abs(rate - key[1]), -rate))]
    taken = next(k for k in (*near, *_FALLBACKS) if (data, method, *k) in rows)
    return rows[data, method, *taken], taken == key


def _key(spec: NoiseSpec) -> tuple[str, float] | None:
    kind = _KINDS.get(spec.kind)
    if spec.kind == "symmetric" and spec.rate == 0:
        kind = "none"
    return None if kind is None else (kind, round(100 * spec.rate, 6))


def _is_the_papers(spec: NoiseSpec, rule: str) -> bool:
    """Whether a noise that has a row is the variant that the paper uses."""
    return spec.option in {"asymmetric": ("", rule), "instance": ("", "cores")}.get(spec.kind, ("",))


def _options(text: str) -> dict[str, Any]:
    pairs = (word.partition("=") for word in text.split())
    return {key: config.parse_value(value) for key, _, value in pairs}
