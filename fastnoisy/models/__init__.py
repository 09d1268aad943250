"""Networks: backbones by name, and the sub-classifier heads that attach to any of them.

A backbone is registered with `@backbone("name")` on a function `(num_classes, **options) -> Backbone`; every file of
this folder is looked at, so a new file needs no list. Any other name is timm's (`timm_nets.py`).
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.models.base import Backbone, backbones, without_step_counts
from fastnoisy.models.timm_nets import TimmBackbone, check_name, timm_backbone


def names() -> list[str]:
    """All backbones of our own, sorted; timm's come on top."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(backbones)


def option_names(name: str) -> list[str]:
    """The options that a backbone takes besides `num_classes`."""
    return [p for p in inspect.signature(_builder(name)).parameters if p != "num_classes"]


def defaults(name: str) -> dict[str, Any]:
    """The options that a backbone takes and their defaults; those without a value of their own are left out."""
    parameters = inspect.signature(_builder(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.default not in (inspect.Parameter.empty, None)}


def summary(name: str) -> str:
    """One line on what a backbone of our own is."""
    names()
    return (backbones[name].__doc__ or "").partition("\n\n")[0].replace("\n", " ").strip()


def _builder(name: str) -> Callable[..., Backbone]:
    if name in names():
        return backbones[name]
    check_name(name, names())
    return functools.partial(timm_backbone, name)


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


def build(table: dict[str, Any], num_classes: int, restored: bool = False) -> Backbone:
    """Build the backbone of a configuration's `model` table; weights are drawn from torch's global generator.

    Args:
        restored: all weights will be put in from a checkpoint, so pretrained ones are not fetched.

    Raises:
        FastnoisyError: unknown name or option, or a value the backbone refuses.
    """
    if found := problems(table):
        raise FastnoisyError(found[0])
    name = str(table["name"])
    options = {key: value for key, value in table.items() if key != "name"}
    wanted = dict(options)
    if restored and "pretrained" in options:
        options |= {"pretrained": False, "weights": "", "head": "fresh", "freeze": False, "freeze_norms": False}
    try:
        net = _builder(name)(num_classes, **options)
    except (TypeError, ValueError) as error:
        raise FastnoisyError(f"model {name} cannot be built with {options}: {error}") from error
    if options != wanted and isinstance(net, TimmBackbone):
        net.treat(wanted)
    net.name = name
    without_step_counts(net)
    return net
