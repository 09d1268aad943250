"""The command line: one file per command, imported only when it is called, so that help is fast and needs no torch.

The first line of a file's docstring is the command's line in the list of commands.
"""

from __future__ import annotations

import re
import sys
from typing import NoReturn

import click

from fastnoisy import __version__, discovery
from fastnoisy.cli._group import warn
from fastnoisy.errors import FastnoisyError, ToldError, unknown_name


class _Commands(click.Group):
    """Finds a command's file by its name and imports it on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return discovery.names("fastnoisy.cli")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in discovery.names("fastnoisy.cli"):
            raise unknown_name("command", cmd_name, discovery.names("fastnoisy.cli"))
        command: click.Command = discovery.load("fastnoisy.cli", "command", cmd_name).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line per command, by the alphabet, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, discovery.summary("fastnoisy.cli", name)) for name in self.list_commands(ctx)])


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
    except ToldError:
        sys.exit(2)
    except FastnoisyError as error:
        warn(f"error: {error}")
        sys.exit(2)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except MemoryError as error:
        _end_without_memory(error)
    except RuntimeError as error:
        if not _NO_MEMORY.search(str(error)):
            raise
        _end_without_memory(error)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            sys.stderr.close()
            sys.exit(141)
        warn(f"error: {error.strerror or error}: {error.filename or ''}")
        sys.exit(2)


_NO_MEMORY = re.compile(
    r"can't allocate memory|could not create a primitive|not enough memory|bad_alloc|cannot allocate memory",
    re.IGNORECASE,
)


def _end_without_memory(error: Exception) -> NoReturn:
    """Of numpy, Python and torch, which call it by different names."""
    said = str(error).partition("\n")[0]
    remedy = "Take a smaller batch_size or model, fewer --workers, or data that are not resident, or free some memory"
    warn(f"error: main memory is used up{f' ({said})' if said else ''}. {remedy}")
    sys.exit(2)
