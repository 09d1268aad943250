"""What commands share: how they print, and a command that lists what there is and has commands of its own."""

from __future__ import annotations

import sys

import click

from fastnoisy.errors import FastnoisyError, message, printable, unknown_name


def say(text: object = "", *, err: bool = False) -> None:
    """Print a line and what is indented below it, with all that a terminal would obey escaped; see `errors.message`."""
    click.echo(message(text), err=err)


def say_lines(text: str) -> None:
    """Print a text of our own, of several lines, escaped all the same."""
    click.echo(printable(text))


def warn(line: object) -> None:
    """Tell a line about what is read, on standard error."""
    say(line, err=True)


def write(text: str) -> None:
    """Print data as they are, for a file or a pipe; escaped where a terminal shows them."""
    click.echo(printable(text) if sys.stdout.isatty() else text, nl=False)


class ListGroup(click.Group):
    """A mistyped command gets the names of those there are, and how to print one of what is listed, which was perhaps
    meant.

    Args:
        prints: what `show` prints, for the message: "method".
    """

    def __init__(self, *args: object, prints: str = "", **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.prints = prints

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            remedy = f"To print a {self.prints}: fastnoisy {self.prints}s show {args[0]}"
            raise FastnoisyError(str(unknown_name(f"command of {self.prints}s", args[0], self.commands)), remedy)
        return super().resolve_command(ctx, args)
