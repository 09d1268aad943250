"""Methods: one file each, found by its name. `base.py` says what a method is."""

from __future__ import annotations

from typing import Any

from fastnoisy import config, discovery
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Context, Method


def names() -> list[str]:
    """All methods, sorted."""
    return discovery.names(__name__)


def find(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        FastnoisyError: unknown name; near misses and all names are listed.
    """
    found: type[Method] = discovery.load(__name__, "method", name).METHOD
    return found


def problems(table: dict[str, Any]) -> list[str]:
    """What is wrong with a configuration's `method` table, one line each."""
    try:
        method = find(str(table["name"]))
    except FastnoisyError as error:
        return [str(error)]
    options = {key: value for key, value in table.items() if key != "name"}
    parsed, found = config.validate(method.Options, options, "method.")
    return found or method.option_problems(parsed)


def build(table: dict[str, Any], context: Context) -> Method:
    """Build the method of a configuration's `method` table.

    Raises:
        FastnoisyError: all problems of the table in one message.
    """
    if found := problems(table):
        raise config.problems_error(found, "the method's options")
    method = find(str(table["name"]))
    return method(context, method.Options(**{key: value for key, value in table.items() if key != "name"}))
