"""Methods: one file each, found by its name. `base.py` says what a method is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


def wrapped(table: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of the method that a method's `table` wraps (its option `base`, or that one's default); None if none.

    Raises:
        FastnoisyError: unknown method, or a `base` that names nothing.
    """
    field = find(str(table["name"])).Options.model_fields.get("base")
    return None if field is None else config.call_table(table.get("base", field.default))


def complete(table: Mapping[str, Any]) -> dict[str, Any]:
    """A valid table with every option of the method, and of the one it wraps, written down."""
    name = str(table["name"])
    method = find(name)
    options = method.Options(**{key: value for key, value in table.items() if key != "name"}).model_dump()
    options = method.spelled_out(options)
    inner = wrapped(table)
    if inner is not None:
        options["base"] = complete(inner)
    return {"name": name, **{key: value for key, value in options.items() if value is not None}}


def problems(table: dict[str, Any]) -> list[str]:
    """What is wrong with a configuration's `method` table, one line each."""
    try:
        method = find(str(table["name"]))
    except FastnoisyError as error:
        return [str(error)]
    options = {key: value for key, value in table.items() if key != "name"}
    parsed, found = config.validate(method.Options, options, "method.")
    return found or method.option_problems(parsed)


@dataclass(frozen=True)
class Choice:
    """A method with its validated options (of the class's `Options`), and the one that it wraps, if it is a wrapper."""

    name: str
    options: config.Table
    base: Choice | None

    def __str__(self) -> str:
        return self.name if self.base is None else f"{self.name}({self.base.name})"


def parse(table: Mapping[str, Any]) -> Choice:
    """The method that a configuration's `method` table describes.

    Raises:
        FastnoisyError: all problems of the table in one message.
    """
    if found := problems(dict(table)):
        raise config.problems_error(found, "the method's options")
    options = find(str(table["name"])).Options(**{key: value for key, value in table.items() if key != "name"})
    inner = wrapped(table)
    return Choice(str(table["name"]), options, None if inner is None else parse(inner))


def build(choice: Choice | Mapping[str, Any], context: Context) -> Method:
    """Build a method from what `parse` gave, or from a table for it.

    Raises:
        FastnoisyError: all problems of the table in one message.
    """
    choice = choice if isinstance(choice, Choice) else parse(choice)
    return find(choice.name)(context, choice.options)
