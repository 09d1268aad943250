"""The error a user sees: one line saying what was wrong and where, what was allowed, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FastnoisyError(Exception):
    """A mistake in the input or the surroundings, not in the program.

    The command line prints it without a traceback and leaves with exit code 2.

    Args:
        message: what was wrong, with the value and the place.
        remedy: what to do about it; empty where the message already says so.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[FastnoisyError], tuple[str, str]]:
        return FastnoisyError, (self.message, self.remedy)

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message


def unknown_name(kind: str, name: object, known: Iterable[str]) -> FastnoisyError:
    """The error for a name that is not known: near misses first, then every known name."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    return FastnoisyError(f"unknown {kind} {name!r}: {guess}known: {', '.join(names) or 'none'}")
