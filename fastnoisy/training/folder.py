"""A run's folder: made, held by one process at a time, and its config.toml, whose presence says that it holds a run."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastnoisy import config
from fastnoisy.config import Config
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import replacing

_held: set[int] = set()  # locks of this process


def _let_go() -> None:
    """In a forked process: a decoder that outlives a killed run by seconds would keep its lock for as long."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


def refuse_existing(out: Path) -> None:
    """Raise FastnoisyError where a folder already holds a run, or is no folder."""
    if (out / "config.toml").exists():
        raise FastnoisyError(
            f"{out} already holds a run", f"Go on with it by 'fastnoisy train --resume {out}', or name another folder"
        )
    if out.exists() and not out.is_dir():
        raise FastnoisyError(f"{out} is a file, not a folder", "Name a folder with --out")


def make(out: Path) -> None:
    """Make the folder. Raises FastnoisyError where it cannot be written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _not_writable(out, error) from error


def write_config(out: Path, settings: Config) -> None:
    """Write config.toml, whole or not at all."""
    with replacing(out / "config.toml") as partial:
        partial.write_text(config.to_toml(settings.model_dump()))


@contextmanager
def lock(out: Path, say: Callable[[str], None]) -> Iterator[None]:
    """One process at a time works in a run folder; the lock goes with the process, however it ends.

    It lies on a file opened for writing: NFS makes of `flock` a lock of the server's, which a folder or a descriptor that
    is only read cannot have (EBADF). The file is removed at the end.

    Args:
        say: told where the file system has no locks; the run goes on, for better unguarded than not at all.

    Raises:
        FastnoisyError: another process holds the lock, or the folder cannot be written to.
    """
    path = out / ".lock"
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise _not_writable(out, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(descriptor)
                raise FastnoisyError(f"another process is at work in {out}", "Wait for it or stop it") from None
            say(f"note: {out} cannot be locked ({error.strerror}); see that no other process works in it")
        if os.fstat(descriptor).st_nlink:  # not removed between opening and locking
            break
        os.close(descriptor)
    _held.add(descriptor)
    try:
        yield
    finally:
        _held.discard(descriptor)
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _not_writable(out: Path, error: OSError) -> FastnoisyError:
    return FastnoisyError(f"{out} cannot be written to: {error.strerror}", "Name a folder that can with --out")
