"""Show what is installed here, what is missing, and the machine."""

from __future__ import annotations

import json

import click

from fastnoisy.cli._group import say_lines

_EPILOG = """\b
Examples:
  fastnoisy doctor
  fastnoisy doctor --json > machine.json
"""


@click.command(epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead of text.")
def command(as_json: bool) -> None:
    """Show versions, extras, GPU and driver, codecs, compiler, processors, memory and disk, and how to get what is
    missing.

    Leaves with exit code 0 whatever it finds. Nothing is sent anywhere.
    """
    from fastnoisy import doctor

    report = doctor.examine()
    say_lines(json.dumps(doctor.to_tables(report), indent=1) if as_json else doctor.render(report))
