"""The error a user sees: one line saying what was wrong and where, what was allowed, and how to mend it."""

from __future__ import annotations

import difflib
import re
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
        return type(self), (self.message, self.remedy)

    def __str__(self) -> str:
        return message(f"{self.message}. {self.remedy}" if self.remedy else self.message)


class ToldError(FastnoisyError):
    """What went wrong has been said by another process of the same job: the command line says nothing more."""


def printable(text: object) -> str:
    """A text that a terminal shows and does not obey: what is no letter, mark, sign or space becomes an escape.

    So do control characters, ESC among them, bytes of a file name that are no UTF-8 (surrogates) and characters that
    turn the direction of writing. Line feeds and tabs stay, and so do the joiners of Persian and of emoji (U+200C,
    U+200D). Everything that people named and that reaches a terminal goes through here.
    """
    return "".join(c if c.isprintable() or c in _STAY else _escaped(c) for c in str(text))


_STAY = "\n\t\u200c\u200d"


def _escaped(c: str) -> str:
    if 0xDC80 <= ord(c) <= 0xDCFF:  # a byte, as Python holds what it cannot decode
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode("ascii")


def one_line(text: object) -> str:
    """The same on one line: of a name, say, that holds line feeds."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def message(text: object) -> str:
    """The same of an error or a note: one line, and indented ones below it where it lists something.

    Any other line feed is of a name, which could make a line of its own look like ours.
    """
    return re.sub(r"\n(?!  )", r"\\n", printable(text)).replace("\t", "\\t")


def unknown_name(kind: str, name: object, known: Iterable[str]) -> FastnoisyError:
    """The error for a name that is not known: near misses first, then every known name."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    return FastnoisyError(f"unknown {kind} {name!r}: {guess}known: {', '.join(names) or 'none'}")
