"""A copy of a store on the local disk of a node, made once and used by all its processes and all later runs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastnoisy import progress, signals
from fastnoisy.data.store import Store, open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import FileLock, replacing

_CHUNK = 1 << 24


def stage(store: Path, folder: Path) -> Path:
    """Copy a store into `folder`, unless its equal lies there already.

    The copy's name is the store's with a digest of its tables and checksums, so that another store of that name, or a
    store that was converted anew, gets a copy of its own. One process of a node copies, under a lock, and the others
    wait for it. The copy appears under its name once every record in it has the checksum of the original. A process
    that is told to end (SIGTERM) removes what it has copied so far; what one has left that was killed outright is
    removed by the next.

    Returns:
        The folder of the copy.

    Raises:
        FastnoisyError: no store there, `folder` lies within it, no room, a disk that fails, or a damaged record; names
            what.
    """
    open_store(store).close()  # says what is wrong with it before anything is copied
    if folder.resolve().is_relative_to(store.resolve()):  # the next copy would hold this one, too
        raise FastnoisyError(
            f"data.stage={folder} lies within the store {store}", "Name a folder of a local disk outside of it"
        )
    target = folder / f"{store.resolve().name}-{_identity(store)[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _terminable(), FileLock(folder / f".{target.name}.lock", patience=None):
            _sweep(target)
            if not _is_whole(store, target):
                _copy(store, target)
    except OSError as error:
        place = error.filename or folder
        raise FastnoisyError(
            f"{store} cannot be copied to {folder}: {place}: {error.strerror or error}",
            "Name a folder of a local disk with data.stage, or leave data.stage out",
        ) from None
    return target


def _files(store: Path) -> list[Path]:
    """All files of a store, relative to it: splits, meta folders, and label files that were put beside them."""
    return sorted(
        path.relative_to(store) for path in store.rglob("*") if path.is_file() and ".partial-" not in path.name
    )


def _identity(store: Path) -> str:
    """A digest of what the store holds: names and sizes of its files, its tables' digests and its records'
    checksums.
    """
    digest = hashlib.sha256()
    for name in _files(store):
        digest.update(f"{name}\0{(store / name).stat().st_size}\0".encode("utf-8", "surrogateescape"))
        if name.name in ("meta.json", "checksums.npy", "labels.npz"):
            digest.update((store / name).read_bytes())
    return digest.hexdigest()


def _is_whole(store: Path, target: Path) -> bool:
    """Whether `target` is a copy of the store as it is. Its records were checked when it was made."""
    if not target.is_dir():
        return False
    try:
        open_store(target).close()
    except FastnoisyError:
        return False
    return _identity(target) == _identity(store)


def _copy(store: Path, target: Path) -> None:
    files = _files(store)
    total = sum((store / name).stat().st_size for name in files)
    free = shutil.disk_usage(target.parent).free
    if total > free:
        raise FastnoisyError(
            f"the copy of {store} takes {total:,} bytes, {free:,} are free at {target.parent}",
            "Free some, name another folder with data.stage, or leave data.stage out",
        )
    if target.exists():  # a copy that was damaged since
        shutil.rmtree(target)
    with (
        replacing(target) as partial,
        progress.bar(f"copying {store.name} to {target.parent}", 2 * total) as advance,
    ):
        for name in files:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            with (store / name).open("rb") as source, (partial / name).open("xb") as copy:
                while chunk := source.read(_CHUNK):
                    copy.write(chunk)
                    advance(len(chunk))
                copy.flush()
                os.fsync(copy.fileno())
        with open_store(store) as original:
            try:
                copied = open_store(partial)
            except FastnoisyError:
                raise _other_bytes(store, target.parent, "the tables") from None
            with copied:
                _check(original, copied, target.parent, advance)


def _check(original: Store, copied: Store, folder: Path, advance: progress.Advance) -> None:
    """Read every record of the copy. One whose checksum is another is looked at in the original, which names itself."""
    for name, split in copied.splits.items():
        for row in range(split.num_samples):
            try:
                advance(len(split.read_bytes(row)))
            except FastnoisyError:
                original.split(name).read_bytes(row)
                raise _other_bytes(original.path, folder, f"record {row} of {name}") from None


def _other_bytes(store: Path, folder: Path, what: str) -> FastnoisyError:
    return FastnoisyError(
        f"the copy of {store} in {folder} is not what was read: bytes of {what} differ, while the original is whole",
        "Start again; if it happens again, the disk fails: name another folder with data.stage, or leave data.stage "
        "out",
    )


def _sweep(target: Path) -> None:
    """Remove unfinished copies of that name: under the lock, so nobody is at work on them. Each may be as large as a
    store.
    """
    pattern = re.compile(rf"\.partial-\d+-{re.escape(target.name)}")
    for path in list(target.parent.iterdir()):
        if pattern.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)  # another user's stays


@contextmanager
def _terminable() -> Iterator[None]:
    """Have SIGTERM remove what is half done before it ends the process; left alone where something else handles it."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signals.leaving())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
