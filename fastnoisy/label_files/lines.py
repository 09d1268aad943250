"""Lines of list files: read one after another in little memory, and the error that names one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fastnoisy.errors import FastnoisyError

MAX_LINE_BYTES = 1 << 16


def read_lines(kind: str, path: Path) -> Iterator[tuple[int, bytes]]:
    """Number (from 1) and text of each line that is not blank, without spaces around it; CRLF and UTF-8's mark are
    fine.

    Raises:
        FastnoisyError: a line of more than 64 KiB, or no line at all.
        OSError: the file cannot be read.
    """
    some = False
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise line_error(
                    kind, path, number, f"has more than {MAX_LINE_BYTES} bytes", "this is no list of paths"
                )
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            line = line.strip()
            if line:
                some = True
                yield number, line
    if not some:
        raise FastnoisyError(f"{kind}: {path} is empty", "it should hold one line per image; copy or download it again")


def line_error(kind: str, path: Path, number: int, problem: str, remedy: str) -> FastnoisyError:
    """The error about one line of a list."""
    return FastnoisyError(f"{kind}: {path}, line {number}, {problem}", remedy)


def shown(text: str, length: int = 60) -> str:
    """A text from a file within quotes, cut, its control characters escaped, for an error or a note."""
    return repr(text if len(text) <= length else text[: length - 3] + "...")
