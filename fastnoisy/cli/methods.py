"""List the methods with what they need; print one in full."""

from __future__ import annotations

import inspect
from typing import Any

import click

from fastnoisy.cli._group import ListGroup, say, say_lines

_EPILOG = """\b
Examples:
  fastnoisy methods
  fastnoisy methods show dividemix
  fastnoisy train cifar10-alasca method.base=dividemix --data stores/cifar10
"""


_BESIDE = ", beside what its base keeps"


@click.group(cls=ListGroup, prints="method", invoke_without_command=True, epilog=_EPILOG)
@click.pass_context
def command(context: click.Context) -> None:
    """List all methods, a line each, with what they need; `show` prints one in full."""
    if context.invoked_subcommand is None:
        _list()


@command.command(short_help="Print a method: formula, source, options, needs.")
@click.argument("name")
def show(name: str) -> None:
    """Print a method: its formula and source, where it differs from the published code, its options, what it needs."""
    from fastnoisy import methods, recipes

    cls = methods.find(name)
    say_lines(f"{name}\n{'=' * len(name)}\n{inspect.getdoc(cls)}\n")
    wraps = methods.wrapped({"name": name}) is not None
    say(f"networks: {'those of its base' if wraps else cls.networks_needed}")
    say(f"kept of each training sample (of C classes): {cls.remembers or 'nothing'}{_BESIDE if wraps else ''}")
    needs = "where its base must" if wraps else "yes" if cls.needs_noise_rate else "no"
    say(f"must know the noise rate: {needs}")
    say(f"set-up by default: suite={cls.suite}")
    say(f"recipes: {', '.join(f'{data}-{name}' for data in recipes.data_names())}")
    for setting, reason in cls.unsupported.items():
        say(f"does not work with {setting}: {reason}")
    if cls.Options.model_fields:
        say()
        say("options:")
    for key, info in cls.Options.model_fields.items():
        default = info.get_default(call_default_factory=True)
        say(f"  method.{key} = {_plain(default)}\n      {info.description}")


def _list() -> None:
    from fastnoisy import methods

    rows = [("method", "nets", "kept of each sample", "noise rate", "")]
    for name in methods.names():
        cls = methods.find(name)
        wraps = methods.wrapped({"name": name}) is not None
        rate = "as base" if wraps else "needed" if cls.needs_noise_rate else ""
        summary = (inspect.getdoc(cls) or "").splitlines()[0]
        rows.append((name, "base's" if wraps else str(cls.networks_needed), cls.remembers, rate, summary))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
        say("  ".join([*cells, row[4]]).rstrip())
    say()
    say("C is the number of classes. A wrapper takes any other: method.base=NAME. More: fastnoisy methods show NAME")


def _plain(value: Any) -> str:
    return "(from the data)" if value is None else str(value)
