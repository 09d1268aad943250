"""Networks: backbones by name, and the sub-classifier heads that attach to any of them.

A backbone is registered with `@backbone("name")` on a function `(num_classes, **options) -> Backbone`; every file of this
folder is looked at, so a new file needs no list.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.models.base import Backbone, backbones


def names() -> list[str]:
    """All backbones, sorted."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(backbones)


def option_names(name: str) -> list[str]:
    """The options that a backbone takes besides `num_classes`."""
    return [p for p in inspect.signature(_builder(name)).parameters if p != "num_classes"]


def defaults(name: str) -> dict[str, Any]:
    """The options that a backbone takes and their defaults."""
    parameters = inspect.signature(_builder(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _builder(name: str) -> Callable[..., Backbone]:
    if name not in names():
        raise unknown_name("model", name, names())
    return backbones[name]


def problems(table: dict[str, Any]) -> list[str]:
    """What is wrong with a configuration's `model` table, one line each."""
    try:
        known = option_names(str(table["name"]))
    except FastnoisyError as error:
        return [str(error)]
    return [
        str(unknown_name(f"option of model {table['name']}", key, known))
        for key in table
        if key != "name" and key not in known
    ]


def build(table: dict[str, Any], num_classes: int) -> Backbone:
    """Build the backbone of a configuration's `model` table; weights are drawn from torch's global generator.

    Raises:
        FastnoisyError: unknown name or option, or a value the backbone refuses.
    """
    if found := problems(table):
        raise FastnoisyError(found[0])
    options = {key: value for key, value in table.items() if key != "name"}
    try:
        return _builder(str(table["name"]))(num_classes, **options)
    except (TypeError, ValueError) as error:
        raise FastnoisyError(f"model {table['name']} cannot be built with {options}: {error}") from error
