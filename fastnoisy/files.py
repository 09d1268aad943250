"""Files that are never half-written and never written by two: a temporary name that is renamed, and a lock."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from fastnoisy import signals


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary name beside `path`, with the same ending, to write a file or a folder under.

    It becomes `path` when the block ends well and is removed when it does not. A file or folder of that name is
    replaced. A folder cannot be replaced in one step: the old one is moved aside first, so a crash between the two
    steps leaves both under temporary names. A signal waits until both are done.

    Args:
        durable: the disk holds all of it before it gets its name.

    Raises:
        OSError: it cannot be written; names `path`.
    """
    partial = temporary_name(path)
    aside = partial.with_name(f"{partial.name}-old")
    _unfinished.add(partial)
    try:
        yield partial
        if durable:
            for item in [*partial.rglob("*"), partial] if partial.is_dir() else [partial]:
                flush(item)
        with signals.whole():
            if partial.is_dir() and path.is_dir():
                os.rename(path, aside)
            os.replace(partial, path)
            _unfinished.add(aside)
        if durable:
            flush(path.parent)
        _remove(aside)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (partial, str(partial)):
            error.filename, error.filename2 = str(path), None
        if aside.exists() and not path.exists():
            os.rename(aside, path)
        _remove(partial)
        raise
    finally:
        _unfinished.difference_update((partial, aside))


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A file or folder that is removed at the end of the block, or when a signal ends the process meanwhile."""
    _unfinished.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _unfinished.discard(path)


_unfinished: set[Path] = set()  # what this process is writing under a temporary name


def remove_unfinished() -> None:
    """Remove what is being written under a temporary name: for a process that is about to end."""
    for path in list(_unfinished):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """The name under which this process writes what will be `path`."""
    return path.with_name(f".partial-{os.getpid()}-{path.name}")


def flush(path: Path) -> None:
    """Have the disk hold a file, or a folder's list of names.

    Raises:
        OSError: the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The digest of a file's bytes, 64 hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_name(path: Path) -> Path:
    """`path`, or where that is taken the first free one of `path-2`, `path-3`, ..."""
    found, number = path, 1
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


class HeldError(Exception):
    """Another process holds the lock; `holder` says which, empty where that is not known."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


_descriptors: set[int] = set()  # of this process's locks


def _let_go() -> None:
    """In a forked process: a decoder that outlives a killed run by seconds would keep its lock for as long."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_let_go)


class FileLock:
    """One process at a time: a lock on a file, which goes with the process, however it ends. Use it in a `with`
    statement.

    The file is opened for writing: NFS makes of `flock` a lock of the server's, which a folder or a descriptor that is
    only read cannot have (EBADF). A process that is forked meanwhile does not keep the lock.

    Args:
        path: the file; it is made, and holds which process on which machine has the lock.
        patience: seconds to wait for another process; None: as long as it takes.
        temporary: remove the file at the end, also when a signal ends the process.

    Attributes:
        problem: why the file system has no locks, so that nothing guards; empty where it has.

    Raises:
        HeldError: another process holds it.
        OSError: the file cannot be made or opened.
    """

    def __init__(self, path: Path, *, patience: float | None = 0.0, temporary: bool = False) -> None:
        self.path, self.temporary, self.problem = path, temporary, ""
        end = time.monotonic() + (patience or 0.0)
        while True:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if patience is not None else 0))
            except OSError as error:
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    holder = os.pread(self._descriptor, 200, 0).decode("utf-8", "replace").strip()
                    os.close(self._descriptor)
                    if time.monotonic() >= end:
                        raise HeldError(holder) from None
                    time.sleep(0.05)
                    continue
                self.problem = error.strerror or str(error)  # better unguarded than not at all
            if os.fstat(self._descriptor).st_nlink:  # not removed between opening and locking
                break
            os.close(self._descriptor)
        _descriptors.add(self._descriptor)
        if temporary:
            _unfinished.add(path)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def close(self) -> None:
        """Let go of it. May be called twice, and by a forked process, for which it does nothing."""
        if self._descriptor not in _descriptors:
            return
        _descriptors.discard(self._descriptor)
        if self.temporary:
            self.path.unlink(missing_ok=True)
            _unfinished.discard(self.path)
        os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
