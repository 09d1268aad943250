"""What commands share: warnings, and a command that lists what there is and has commands of its own."""

from __future__ import annotations

import click

from fastnoisy.errors import FastnoisyError, unknown_name


def warn(line: str) -> None:
    """Tell a line about what is read, on standard error."""
    click.echo(line, err=True)


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
