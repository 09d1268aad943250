"""Whether a store is whole: every byte of its files is looked at, and every record is read and decoded.

Header and tables are guarded by the digest in meta.json, records by their checksums, what lies between them by being
zero, and the files of SPLIT.meta by SHA256SUMS; so no changed byte goes unseen. A split in which all is well gets a
stamp; the others lose theirs.

"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from fastnoisy.data.store import beton
from fastnoisy.data.store.digests import check_sums
from fastnoisy.data.store.folder import split_names
from fastnoisy.data.store.meta import META_FILES
from fastnoisy.data.store.split import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import num_workers
from fastnoisy.workers import Progress, Status, ordered

_CHUNK_BYTES = 1 << 24


def verify(
    path: str | Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    say: Callable[[str], object] | None = None,
) -> list[str]:
    """Read every byte of a store and decode every record; stamp each split in which all is well, and unstamp others.

    Args:
        path: the folder.
        workers: processes; as many as there are cores and memory for where None.
        progress: called after each record.
        say: takes a line about what is no damage.

    Returns:
        The problems, each naming the file, or the record and its source; empty where there are none.

    Raises:
        FastnoisyError: there is no store at the path.
    """
    path, say = Path(path), say or (lambda line: None)
    run = functools.partial(ordered, workers=num_workers(workers), lost=lambda lost: FastnoisyError(lost.reason))
    names = split_names(path)
    present = [name for name in names if (path / f"{name}.meta").exists()]
    if not present:
        raise FastnoisyError(
            f"{path} has .beton files and no SPLIT.meta folder beside them",
            f"a store has lost these and is damaged: copy it again; files that ffcv wrote: fastnoisy verify {path} "
            "--adopt",
        )
    problems: dict[str, list[str]] = {}
    with ExitStack() as stack:
        splits = []
        for name in names:
            problems[name] = check_sums(path / f"{name}.meta", META_FILES)
            try:
                splits.append(Split(path, name, check=False))  # just done, and all of it told
            except FastnoisyError as error:
                problems[name].append(error.message)
            else:
                stack.callback(splits[-1].close)
        count = Count(sum(split.num_samples for split in splits), progress)
        for split in splits:
            found = problems[split.name]
            found += gap_problems(split.beton_path)
            with closing(run(functools.partial(_record_problem, split), range(split.num_samples))) as records:
                for i, problem in enumerate(records):
                    if isinstance(problem, FastnoisyError):
                        problem = f"{split.beton_path}: record {i} ({split.sources[i]}): {problem}"
                    found += [problem] if problem else []
                    count.advance(bool(problem))
            try:
                if not split.stamp(right=not found):
                    anew = "" if found else "; all else is well, so it is written anew"
                    found.append(f"{split.stamp_path} has changed since it was written{anew}")
            except OSError as error:
                say(f"{split.name}: the stamp cannot be written: {error.strerror or error}")
    return [problem for name in names for problem in problems[name]]


class Count:
    """Tells how many records are done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._progress, self._total = progress, total
        self._done = self._bad = 0

    def advance(self, bad: bool) -> None:
        """One record more is done."""
        self._done += 1
        self._bad += bad
        if self._progress is not None:
            self._progress(Status(self._done, self._total, self._bad))


def _record_problem(split: Split, i: int) -> str:
    """In a worker: what is wrong with record `i`; empty where nothing is."""
    try:
        split.read_image(i)
    except FastnoisyError as error:
        return error.message
    return ""


def gap_problems(path: Path) -> list[str]:
    """Bytes that belong to nothing, and yet are not zero."""
    reader = beton.BetonReader(path)
    try:
        for start, end in reader.gaps():
            for at in range(start, end, _CHUNK_BYTES):
                found = np.flatnonzero(np.frombuffer(reader.read_at(at, min(_CHUNK_BYTES, end - at)), np.uint8))
                if len(found):
                    return [f"{path} is damaged: byte {at + int(found[0])}, between records, is not zero"]
    except FastnoisyError as error:
        return [error.message]
    finally:
        reader.close()
    return []
