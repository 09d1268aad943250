"""The command line: one file per command, imported only when it is called, so that help is fast and needs no torch."""

from __future__ import annotations

import sys

import click

from fastnoisy import __version__, discovery
from fastnoisy.errors import FastnoisyError, unknown_name

_SUMMARIES = {
    "convert": "Convert a data set into a store, one fast file per split.",
    "inspect": "Show what a store holds, with a contact sheet of its classes.",
    "verify": "Find damage anywhere in a store, and stamp it where there is none.",
    "noise": "Show what a noise does to a store's labels, and write them.",
    "views": "Draw what a recipe's network is given of some images.",
    "methods": "List the methods with what they need; print one in full.",
    "recipes": "List what can be trained; print a recipe in full; check one of your own.",
    "train": "Train a recipe on a store, or go on with a run.",
    "evaluate": "Evaluate a run: accuracy, calibration, classes.",
    "predict": "Predict the classes of image files with a run.",
    "doctor": "Show what is installed here, what is missing, and the machine.",
}


class _Commands(click.Group):
    """Finds a command's file by its name and imports it on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = discovery.names("fastnoisy.cli")
        return sorted(found, key=lambda name: (list(_SUMMARIES).index(name) if name in _SUMMARIES else 99, name))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in discovery.names("fastnoisy.cli"):
            raise unknown_name("command", cmd_name, discovery.names("fastnoisy.cli"))
        command: click.Command = discovery.load("fastnoisy.cli", "command", cmd_name).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line per command, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SUMMARIES.get(name, "")) for name in self.list_commands(ctx)])


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Examples:
  fastnoisy convert digits stores/digits
  fastnoisy train digits-nrd noise=symmetric:0.4 --data stores/digits --out runs/digits-nrd
  fastnoisy evaluate runs/digits-nrd
  fastnoisy predict runs/digits-nrd photos/
""",
)
@click.version_option(__version__, prog_name="fastnoisy")
def cli() -> None:
    """Train image classifiers on wrongly labelled data at the speed of the hardware."""


def main() -> None:
    """The console script: a mistake of the user's is one line and exit code 2, never a traceback."""
    try:
        cli.main(standalone_mode=False)
    except FastnoisyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            sys.stderr.close()
            sys.exit(141)
        print(f"error: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        sys.exit(2)
