"""SHA256SUMS: the digests of a folder's files, in the form that `sha256sum --check` reads, so that no byte is
unwatched.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastnoisy.files import sha256_of

NAME = "SHA256SUMS"


def write_sums(folder: Path, names: Iterable[str]) -> None:
    """Write the digests of these files of a folder beside them."""
    (folder / NAME).write_bytes("".join(f"{sha256_of(folder / name)}  {name}\n" for name in sorted(names)).encode())


def check_sums(folder: Path, names: Iterable[str]) -> list[str]:
    """What is wrong with these files of a folder, or with their digests: one text each."""
    try:
        lines = (folder / NAME).read_bytes().decode("ascii", "replace").split("\n")
    except OSError as error:
        return [f"cannot read {folder / NAME}: {error.strerror or error}"]
    noted = {name: digest for digest, _, name in (line.partition("  ") for line in lines[:-1])}
    if lines[-1] or len(noted) != len(lines) - 1 or set(noted) != set(names):
        return [f"{folder / NAME} is damaged: it should list {', '.join(sorted(names))}, each once"]
    problems = []
    for name, digest in noted.items():
        try:
            if sha256_of(folder / name) != digest:
                problems.append(f"{folder / name} has changed since it was written, or its line in {NAME} has")
        except OSError as error:
            problems.append(f"cannot read {folder / name}: {error.strerror or error}")
    return problems
