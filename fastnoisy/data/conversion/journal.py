"""The folder in which a conversion grows, so that one that was stopped at any moment can go on.

`.OUT.partial`, beside OUT, holds

    lock            held by the process that writes
    job.json        what is converted and how; another conversion to the same OUT is refused
    SPLIT.journal   what became of each row, in order; each line begins with its own checksum
    SPLIT.rejected.csv  the images rejected so far, where they were too many
    store/          what will be OUT, once it is whole

A line about rows also has the stamps of the files that they were read from, so that a conversion that goes on knows
which have changed since, and makes them anew.

A row may be rejected for what may be over when the command is given again: a file that is not there, a process that was
killed. The journal says which these are, and they are tried again.

A line of the journal is written when the bytes of its rows have been handed to the operating system, so a killed
process loses a fraction of a second. Every few seconds the disk is made to hold both; rows after the last such mark are
read back and compared with their checksums before they are believed, so a crash of the machine loses only them.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from fastnoisy import signals
from fastnoisy.data.conversion.outcome import Outcome, Rejected
from fastnoisy.data.conversion.sync import Sync, forget_cached
from fastnoisy.data.store import beton
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import FileLock, HeldError, flush, replacing

COMMIT_ROWS = 64  # rows in a line of the journal, at most
COMMIT_SECONDS = 0.5
SYNC_SECONDS = 10.0


class Partial:
    """An unfinished conversion, locked by this process. Use it in a `with` statement.

    Args:
        target: the folder to be made.
        identity: what is converted and how; only the same may go on.
        restart: whether what an earlier process has left is thrown away.

    Attributes:
        path: the folder in which it grows.
        store: the folder in it that will be `target`.
        details: what else was noted with `note`, empty at first.

    Raises:
        FastnoisyError: another process holds the lock, or the folder holds another conversion.
        OSError: it cannot be made.
    """

    def __init__(self, target: Path, identity: dict[str, Any], *, restart: bool = False) -> None:
        self.target = target
        self.path = partial_path(target)
        self.store = self.path / "store"
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))
        self._lock = _take_lock(self.path, target)
        try:
            if os.path.lexists(target) and not self.store.exists():  # whoever had the lock has just finished
                self.discard()
            refuse_existing(target)
            if restart:
                self._empty()
            self.details: dict[str, Any] = self._read_job()
            self.store.mkdir(exist_ok=True)
            for meta in self.store.glob("*.meta"):  # may hold what a process was killed at, under a name of its own
                shutil.rmtree(meta)
        except BaseException:
            self.close()
            raise

    def note(self, details: dict[str, Any]) -> None:
        """Keep details beside the identity, for a later process."""
        if details == self.details:
            return
        self.details = details
        with replacing(self.path / "job.json") as partial:
            partial.write_text(json.dumps({"identity": self._identity, "details": details}, indent=1), encoding="utf-8")
            flush(partial)
        flush(self.path)

    def finish(self) -> None:
        """Give the store its name, once the disk holds all of it, and remove the rest.

        Raises:
            FastnoisyError: the name has been taken meanwhile.
            OSError: the disk fails.
        """
        for path in [*self.store.rglob("*"), self.store]:
            if not path.is_symlink():  # what it leads to is another's
                flush(path)
        refuse_existing(self.target)
        with signals.whole():  # nothing stays behind beside a store that is whole
            os.rename(self.store, self.target)
            flush(self.target.parent)
            self.discard()

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Let go of the lock; the folder stays."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def empty(self) -> None:
        """Throw away what an earlier process has left."""
        self._empty()
        self.details = {}
        self.store.mkdir()

    def _empty(self) -> None:
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def _read_job(self) -> dict[str, Any]:
        try:
            job = json.loads((self.path / "job.json").read_text(encoding="utf-8"))
            identity, details = job["identity"], dict(job["details"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # nothing was begun
            self._empty()
            return {}
        changed = differences(identity, self._identity)
        if changed:
            raise FastnoisyError(
                f"{self.path} holds an unfinished conversion with {changed}",
                "finish it with its own command, or discard it by adding --restart to this one",
            )
        return details


class Part:
    """One split of an unfinished conversion: rows come in order, and those of an earlier process are there already.

    Args:
        partial: the folder.
        name: of the split.
        rows: those to be converted, of all that the split has.
        labels: int64 (N,), the given label of every row of the split.
        page_size: of the .beton file.

    Attributes:
        next_row: the first of `rows` that is not there yet.
        kept: the rows that were stored; `checksums`: crc32 of their bytes; `sizes`: height and width, one after
            another.
        rejected, noted: rows and texts.
        again: those rejected rows that are to be tried again.
        num_raw: how many were stored as pixels.
    """

    def __init__(self, partial: Partial, name: str, rows: range, labels: np.ndarray, page_size: int) -> None:
        self.name, self.rows = name, rows
        self.path = partial.store / f"{name}.beton"
        self.journal_path = partial.path / f"{name}.journal"
        self._labels, self._page_size = labels, page_size
        self._journal = Journal(self.journal_path)
        self._restore()
        self._pending: list[Any] = []
        self._pending_again: list[int] = []  # places in it
        self._pending_stamps: list[int] = []
        self._committed = self._sync_begun = time.monotonic()
        self._sync: Sync | None = None

    def append(self, outcome: Outcome) -> None:
        """Write what became of the next row.

        Raises:
            OSError: the disk is full, or fails.
        """
        row = self.next_row
        if isinstance(outcome, Rejected):
            if outcome.retry:
                self.again.append(row)
                self._pending_again.append(len(self._pending))
            self._pending.append(outcome.reason)
            self.rejected.append((row, outcome.reason))
        else:
            o = outcome
            self._writer.append(o.data, o.mode, o.height, o.width, int(self._labels[row]))
            told = [o.mode, o.height, o.width, o.checksum, len(o.data)]
            self._pending.append(told + [o.note] * bool(o.note))
            self._keep(row, o.mode, o.height, o.width, o.checksum, o.note)
        self._pending_stamps.append(outcome.stamp)
        self.next_row += 1
        if len(self._pending) >= COMMIT_ROWS or time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Note the rows so far in the journal; from time to time also make the disk hold them.

        Raises:
            OSError: the disk is full, or fails.
        """
        self._writer.flush()
        if self._pending:
            again = {"again": self._pending_again} if self._pending_again else {}
            stamps = {"stamps": self._pending_stamps} if any(self._pending_stamps) else {}
            self._journal.append({"rows": self._pending, **again, **stamps})
        self._pending, self._pending_again, self._pending_stamps = [], [], []
        self._committed = time.monotonic()
        if self._sync is not None and self._sync.done():
            self._journal.append({"synced": self._sync.row})
            self._sync = None
        if self._sync is None and self._committed - self._sync_begun > SYNC_SECONDS:
            self._sync_begun = self._committed
            self._sync = Sync(self.next_row, [self._writer.descriptor, self._journal.descriptor])

    def forget(self, row: int) -> None:
        """Take a row out of the journal, with all that follow and a few before, to be made anew; before any is
        appended.
        """
        first = self.rows.start
        for offset, outcomes in read_journal(self.journal_path):
            first += len(outcomes)
            if row < first:
                self._writer.abandon()
                self._journal.cut(offset)
                self._restore()
                return

    def settle(self) -> None:
        """Note the last rows in the journal, and wait until the disk holds what it is being made to hold.

        Raises:
            OSError: the disk is full, or fails; of rows long written too, for no later fsync of them tells it again.
        """
        self.commit()
        if self._sync is not None:
            self._sync.wait()
        self._sync = None

    def finish(self) -> None:
        """Write the tables of the .beton file, after the last row.

        Raises:
            OSError: as `settle`.
        """
        self.settle()
        self._writer.close()

    def close(self) -> None:
        """Close the files as they are."""
        if (
            self._sync is not None
        ):  # it works on them; whoever has not settled is stopping, and believes nothing it says
            self._sync.thread.join()
        self._sync = None
        self._writer.abandon()
        self._journal.close()

    def _keep(self, row: int, mode: int, height: int, width: int, checksum: int, note: str) -> None:
        self.kept.append(row)
        self.checksums.append(checksum)
        self.sizes.extend((height, width))
        self.num_raw += mode == beton.RAW
        if note:
            self.noted.append((row, note))

    def _restore(self) -> None:
        """Take up what the journal tells, as far as the file bears it out."""
        self.next_row, self.num_raw = self.rows.start, 0
        self.kept, self.checksums, self.sizes = array("q"), array("I"), array("i")
        self.rejected: list[tuple[int, str]] = []
        self.noted: list[tuple[int, str]] = []
        self.again: list[int] = []
        self._writer = beton.BetonWriter(self.path, len(self._labels), self._page_size, resume=True)
        size = os.fstat(self._writer.descriptor).st_size
        forget_cached(self._writer.descriptor)
        synced = self._journal.mend()
        for offset, entry in row_lines(self.journal_path):
            self.again += [self.next_row + place for place in entry.get("again", ())]
            for outcome in entry["rows"]:
                row = self.next_row
                if isinstance(outcome, str):
                    self.rejected.append((row, outcome))
                else:
                    mode, height, width, checksum, length, *note = outcome
                    start = self._writer.place(length, mode, height, width, int(self._labels[row]))
                    believed = start + length <= size and (row < synced or self._holds(start, length, checksum))
                    if not believed:
                        self._writer.abandon()
                        self._journal.cut(offset)
                        self._restore()
                        return
                    self._keep(row, mode, height, width, checksum, note[0] if note else "")
                self.next_row += 1
        self._writer.go_on()

    def _holds(self, start: int, length: int, checksum: int) -> bool:
        return zlib.crc32(os.pread(self._writer.descriptor, length, start)) == checksum


class Journal:
    """Lines of JSON that are only ever added, each behind its checksum; one that was cut off counts as not written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def mend(self) -> int:
        """Cut off what follows the last whole line; the row up to which the disk is known to hold everything."""
        synced = end = 0
        for offset, text in _lines(self._path):
            if text.startswith(b'{"synced"'):
                synced = max(synced, int(json.loads(text)["synced"]))
            end = offset + len(text) + _FRAME
        self.cut(end)
        return synced

    def append(self, entry: dict[str, Any]) -> None:
        """Add a line.

        Raises:
            OSError: the disk is full, or fails.
        """
        text = json.dumps(entry, separators=(",", ":"), ensure_ascii=True).encode()
        line = b"%08x %b\n" % (zlib.crc32(text), text)
        while line:
            line = line[os.write(self.descriptor, line) :]

    def cut(self, offset: int) -> None:
        """Remove what stands from there on."""
        os.ftruncate(self.descriptor, offset)

    def close(self) -> None:
        """Close the file; more calls do nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


_FRAME = 10  # bytes of a line that are not its text: a checksum, a space, the line's end


def read_journal(path: Path) -> Iterator[tuple[int, list[Any]]]:
    """The place of each line about rows, and what became of them, in order.

    A row is why it was rejected; or mode, height, width, crc32, number of bytes and, where there is one, a note.
    """
    for offset, entry in row_lines(path):
        yield offset, entry["rows"]


def row_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """As `read_journal`, but whole lines: `rows` and, where there are any to be tried again, their places in it,
    `again`.
    """
    for offset, text in _lines(path):
        entry = json.loads(text)
        if "rows" in entry:
            yield offset, entry


def stamps_of(path: Path) -> list[int]:
    """The stamp of each row's file, in order, 0 where it had none; empty where there is no journal."""
    if not path.exists():
        return []
    return [stamp for _, entry in row_lines(path) for stamp in entry.get("stamps", [0] * len(entry["rows"]))]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    offset = 0
    with open(path, "rb") as file:
        for line in file:
            text = line[9:-1]
            if not line.endswith(b"\n") or line[:9] != b"%08x " % zlib.crc32(text):
                return
            yield offset, text
            offset += len(line)


def partial_path(target: Path) -> Path:
    """Where a conversion to `target` grows: beside it, hidden."""
    return target.with_name(f".{target.name}.partial")


def refuse_existing(target: Path) -> None:
    """Raise FastnoisyError where something bears that name."""
    if os.path.lexists(target):
        raise FastnoisyError(f"{target} exists already", "remove it, or choose another name")


def _take_lock(folder: Path, target: Path) -> FileLock:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return FileLock(folder / "lock", patience=1.0)  # a killed process keeps it until its workers are gone
        except FileNotFoundError:  # whoever had it has just finished
            continue
        except HeldError as held:
            remedy = "wait for it"
            if any(os.environ.get(name, "1") != "1" for name in ("WORLD_SIZE", "SLURM_NTASKS")):
                remedy = "of several ranks, each converts its own part with --shard auto"
            by = f": {held.holder}" if held.holder else ""
            raise FastnoisyError(f"another process is converting to {target}{by}", remedy) from None


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """How two identities differ, as text; empty where they do not."""
    new = json.loads(json.dumps(new))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if keys == ["fingerprint"]:
        return "other images: the source's paths or labels have changed since"
    return "; ".join(f"{key} {old.get(key)!r}, now {new.get(key)!r}" for key in keys if key != "fingerprint")
