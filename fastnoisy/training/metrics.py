"""metrics.jsonl: one JSON object per epoch and a final one, each with its own checksum, so that damage is seen line by
line.

Timing sits under `time`, so that the rest of two runs can be compared exactly. `crc32` is of the line without it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastnoisy.errors import FastnoisyError
from fastnoisy.files import free_name, replacing


class MetricsFile:
    """The metrics of a run; see the module. `path` need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, epochs: int = 0) -> tuple[list[dict[str, Any]], str]:
        """The lines of all epochs in their order and the final one, and what is wrong with the file in words, if
        anything: lines that cannot be read, are not what was written, or stand where they do not belong; lines that are
        not there.

        Args:
            epochs: how many are known to have ended.

        Raises:
            FastnoisyError: the file cannot be read.
        """
        lines, bad = _parse(self._bytes())
        found = {line["epoch"] for line in lines if "epoch" in line}
        missing = [epoch + 1 for epoch in range(max([epochs, *(epoch + 1 for epoch in found)])) if epoch not in found]
        problems = [f"line {_listed(bad)} cannot be used"] if bad else []
        problems += [f"the line of epoch {_listed(missing)} is missing"] if missing else []
        return lines, "; ".join(problems)

    def mark(self) -> dict[str, Any]:
        """What a checkpoint keeps of the file as it is: its bytes and their SHA-256."""
        content = self._bytes()
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def rewind(self, mark: dict[str, Any] | None, epoch: int, say: Callable[[str], None]) -> None:
        """Drop what a run that goes on writes again. A damaged file is set aside and its good lines are kept.

        Args:
            mark: of the checkpoint gone on from; None: the run starts from its beginning.
            epoch: the first epoch that is written again.
            say: told of damage, and where the damaged file lies.
        """
        content = self._bytes()
        known = content[: mark["bytes"]] if mark else b""
        if mark is None or (len(known), hashlib.sha256(known).hexdigest()) == (mark["bytes"], mark["sha256"]):
            if known != content:
                with replacing(self.path, durable=True) as partial:
                    partial.write_bytes(known)
            return
        lines, bad = _parse(content)
        kept = [line for line in lines if line.get("epoch", epoch) < epoch]
        aside = free_name(self.path.with_name("metrics.jsonl.damaged"))
        lost = f"line {_listed(bad)} cannot be used" if bad else "lines are missing"
        say(f"warning: {self.path} is damaged ({lost}); it is kept as {aside.name}, the good lines go on")
        if self.path.exists():
            self.path.rename(aside)
        with replacing(self.path, durable=True) as partial:
            partial.write_text("".join(map(_text, kept)))

    def append(self, line: dict[str, Any]) -> None:
        """Write one object and flush it."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_text(line))

    def _bytes(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise FastnoisyError(f"{self.path} cannot be read: {error.strerror or error}") from None


def _text(line: dict[str, Any]) -> str:
    plain = json.dumps(line)
    return json.dumps({**line, "crc32": zlib.crc32(plain.encode())}) + "\n"


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"{shown} and {len(numbers) - 5} more" if len(numbers) > 5 else shown


def _parse(content: bytes) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines, and the numbers (from 1) of those that cannot be used; see `MetricsFile.read`."""
    lines: list[dict[str, Any]] = []
    bad, last = [], -1
    for number, text in enumerate(content.split(b"\n"), 1):
        if not text:
            continue
        try:
            line = json.loads(text)
            checksum = line.pop("crc32")
            right = checksum == zlib.crc32(json.dumps(line).encode())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            right = False
        # each is whole by its checksum; a line that was doubled or has changed its place is, too
        ended = bool(lines) and lines[-1].get("event") == "final"
        epoch = line.get("epoch") if right else None
        if not right or ended or (epoch is not None and epoch <= last):
            bad.append(number)
            continue
        last = last if epoch is None else epoch
        lines.append(line)
    return lines, bad
