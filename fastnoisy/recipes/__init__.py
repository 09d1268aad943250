"""Recipes: one TOML file per data set; `<data>-<method>` composes it with a suite and what a method needs there.

A file holds the keys of a configuration, and beside them:

* `summary`: one line for listings;
* `[suite.NAME]`: keys that the set-up of one paper fixes for every method (net, schedule, augmentation, ...);
* `[for.METHOD]`, at the top or within a suite: keys for one method alone.

Layers, later winning: the file, its `[for.METHOD]`, `[suite.NAME]`, its `[for.METHOD]`, then the user's overrides.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from fastnoisy import config
from fastnoisy.errors import FastnoisyError, unknown_name

_META = ("summary", "suite", "for")


def data_names() -> list[str]:
    """The data sets that have a recipe file, sorted."""
    folder = resources.files("fastnoisy.recipes")
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def read(data: str) -> dict[str, Any]:
    """The raw tables of a data set's recipe file."""
    return config.read_toml(Path(str(resources.files("fastnoisy.recipes") / f"{data}.toml")))


def split_name(name: str, methods: list[str]) -> tuple[str, str]:
    """`cifar10-nrd` as ("cifar10", "nrd").

    Raises:
        FastnoisyError: the data set or the method is unknown; the message lists near misses and all names.
    """
    data, _, method = name.partition("-")
    if data not in data_names() or method not in methods:
        raise unknown_name("recipe", name, [f"{d}-{m}" for d in data_names() for m in methods])
    return data, method


def compose(data: str, method: str, suite: str) -> dict[str, Any]:
    """The tables of `<data>-<method>` under a suite, before the user's overrides.

    Raises:
        FastnoisyError: the recipe has no such suite.
    """
    raw = read(data)
    suites = raw.get("suite", {})
    if suites and suite not in suites:
        raise unknown_name("suite", suite, suites)
    chosen = suites.get(suite, {})
    layers = [
        {key: value for key, value in raw.items() if key not in _META},
        raw.get("for", {}).get(method, {}),
        {key: value for key, value in chosen.items() if key != "for"},
        chosen.get("for", {}).get(method, {}),
        {"recipe": f"{data}-{method}", "suite": suite},
    ]
    tables = config.merge(*layers)
    return config.merge(tables, {"method": {**tables.get("method", {}), "name": method}})


def is_path(name: str) -> bool:
    """Whether a recipe's name is a file of the user's own."""
    return name.endswith(".toml") or "/" in name


def from_file(path: Path) -> dict[str, Any]:
    """A configuration of the user's own, for example another run's `config.toml`.

    Raises:
        FastnoisyError: missing, not TOML, or built as a data recipe instead of one configuration.
    """
    tables = config.read_toml(path)
    if "suite" in tables and not isinstance(tables["suite"], str):
        raise FastnoisyError(f"{path} holds suites: it is a data recipe, not the configuration of one run")
    return tables
