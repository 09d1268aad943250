"""The store that an audit looks at: one that is there, or one that it makes of a source, beside what it writes.

A store that an earlier audit made is taken again as long as the source has the same files of the same sizes and times.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.sources._walk import walk
from fastnoisy.data.sources.base import resolve
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import replacing
from fastnoisy.workers import Progress

_STORE, _STATE = "store", "store.sources.sha256"
_MAX_REJECTED = 0.5  # a scraped folder may well hold a third that is no image; they are counted


def store_of(
    data: str | Path,
    folder: Path,
    workers: int | None,
    say: Callable[[str], object],
    note: Callable[[str], object],
    progress: Callable[[str], Progress],
) -> Path:
    """The store to look at.

    Args:
        data: a store or a source.
        folder: where the audit writes, in which a store is made.
        say: told what a user should read, a line each; `note`: what is as it should be.

    Raises:
        FastnoisyError: no such data, or they cannot be converted.
    """
    path = Path(data)
    if path.is_dir() and any(path.glob("*.beton")):
        return path
    made, state = folder / _STORE, _state(str(data))
    noted = folder / _STATE
    if made.is_dir() and noted.is_file() and noted.read_text() == state:
        note(f"the store is as an earlier audit made it: {made}")
        return made
    if made.is_dir():
        say(f"the source has changed since an earlier audit: {made} is made anew")
        shutil.rmtree(made)
    folder.mkdir(parents=True, exist_ok=True)
    options = ConvertOptions(max_rejected=_MAX_REJECTED)
    summary = convert(str(data), made, options=options, workers=workers, progress=progress("converting"), say=say)
    for split in summary.splits:
        if split.rejected:
            listed = made / f"{split.name}.meta" / "rejected.csv"
            say(f"{split.name}: {split.rejected:,} of {split.rejected + split.stored:,} are no sound images: {listed}")
    with replacing(noted) as partial:
        partial.write_text(state)
    return made


def _state(source: str) -> str:
    """A digest of the names, sizes and times of a source's files."""
    kind, path = resolve(source)
    digest = hashlib.sha256(kind.encode())
    if path is None:
        return digest.hexdigest()
    root = path.resolve()
    names = walk(root).files if root.is_dir() else [""]
    for name in [os.fspath(root), *names]:
        place = root / name
        try:
            status = os.stat(place)
        except OSError as error:
            raise FastnoisyError(f"cannot read {place}: {error.strerror or error}") from None
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
