"""The store that an audit looks at: one that is there, or one that it makes of a source, beside what it writes.

A store that an earlier audit made is taken again as long as the source has the same images, labels and file times.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.sources.base import SourceSplit, open_source
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import replacing
from fastnoisy.workers import Progress

STORE = "store"
_ANEW = "store-anew"  # where it grows while an earlier one is there
LEFT = (_ANEW, f".{_ANEW}.partial")  # what is there when an audit is stopped meanwhile
_STATE = "source.sha256"  # in a store: what the source was, and that an audit made it
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
    made, state = folder / STORE, _state(str(data))
    if made.exists() and not is_own(made):
        raise FastnoisyError(f"{made} is there, and no audit made it", "name another folder with --out")
    if made.exists() and (made / _STATE).read_text() == state:
        note(f"the store is as an earlier audit made it: {made}")
        return made
    if made.exists():
        say(f"the source has changed since an earlier audit: {made} is made anew")
    folder.mkdir(parents=True, exist_ok=True)
    grown = folder / _ANEW
    if is_own(grown):  # of a source as it was when an audit was stopped
        shutil.rmtree(grown)
    options = ConvertOptions(max_rejected=_MAX_REJECTED)
    summary = convert(str(data), grown, options=options, workers=workers, progress=progress("converting"), say=say)
    (grown / _STATE).write_text(state)
    with replacing(made) as partial:
        os.rename(grown, partial)
    for split in summary.splits:
        if split.rejected:
            listed = made / f"{split.name}.meta" / "rejected.csv"
            say(f"{split.name}: {split.rejected:,} of {split.rejected + split.stored:,} are no sound images: {listed}")
    return made


def is_own(store: Path) -> bool:
    """Whether an audit made a store."""
    return (store / _STATE).is_file()


def _state(source: str) -> str:
    """A digest of a source's images, their labels and the sizes and times of their files."""
    opened, name = open_source(source)
    digest = hashlib.sha256("\0".join([name, opened.stamp, *opened.class_names]).encode("utf-8", "surrogateescape"))
    for split in opened.splits:
        digest.update(split.name.encode())
        digest.update(split.given_labels.tobytes())
        for row, path in enumerate(split.paths):
            digest.update(f"{path}\0{_stamp(split, row)}\0".encode("utf-8", "surrogateescape"))
        for path, why in split.rejected:
            digest.update(f"{path}\0{why}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _stamp(split: SourceSplit, row: int) -> int:
    try:
        return split.stamp(row)
    except OSError:  # it is rejected
        return -1
