"""Whether a store is whole: every byte of its files is looked at, and every record is read and decoded.

Header and tables are guarded by the digest in meta.json, records by their checksums, what lies between them by being
zero, and the files of SPLIT.meta by SHA256SUMS; so no changed byte goes unseen. A split in which all is well gets a
stamp; the others lose theirs.

A folder of .beton files that ffcv wrote has no SPLIT.meta. Where that is asked for, its records are decoded, and it
becomes
a store where they are: the folders are written that a conversion would have left. Never unasked, for a store that has
lost its folders looks the same, and would become one without class names, clean labels and sources.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy import __version__
from fastnoisy.data import beton, encode, pool, store
from fastnoisy.data.finish import Columns, write_meta
from fastnoisy.data.sources import beton as beton_source
from fastnoisy.data.sources.base import SPLIT_NAMES
from fastnoisy.data.sums import check_sums
from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import num_workers

_CHUNK_BYTES = 1 << 24


def verify(
    path: str | Path,
    *,
    adopt: bool = False,
    workers: int | None = None,
    progress: pool.Progress | None = None,
    say: Callable[[str], object] | None = None,
) -> list[str]:
    """Read every byte of a store and decode every record; stamp each split in which all is well, and unstamp others.

    Args:
        path: the folder.
        adopt: whether .beton files without SPLIT.meta, as ffcv writes them, are made a store; a store is only verified.
        workers: processes; as many as there are cores and memory for where None.
        progress: called after each record.
        say: takes a line about what is no damage.

    Returns:
        The problems, each naming the file, or the record and its source; empty where there are none.

    Raises:
        FastnoisyError: there is no store at the path, or none yet, and `adopt` was not asked for.
        OSError: what makes it a store cannot be written.
    """
    path, say = Path(path), say or (lambda line: None)
    run = functools.partial(pool.ordered, workers=num_workers(workers))
    names = store.split_names(path)
    present = [name for name in names if (path / f"{name}.meta").exists()]
    if not present and not adopt:
        raise FastnoisyError(
            f"{path} has .beton files and no SPLIT.meta folder beside them",
            f"a store has lost these and is damaged: copy it again; files that ffcv wrote: fastnoisy verify {path} "
            "--adopt",
        )
    for left in path.glob(".partial-*-adopted") if adopt else ():
        shutil.rmtree(left, ignore_errors=True)
    if adopt and len(present) < len(names) and all(_is_adopted(path / f"{name}.meta") for name in present):
        return _adopt(path, names, run, progress, say)
    problems: dict[str, list[str]] = {}
    with ExitStack() as stack:
        splits = []
        for name in names:
            problems[name] = check_sums(path / f"{name}.meta", store.META_FILES)
            try:
                splits.append(store.Split(path, name))
            except FastnoisyError as error:
                problems[name].append(error.message)
            else:
                stack.callback(splits[-1].close)
        count = _Count(sum(split.num_samples for split in splits), progress)
        for split in splits:
            found = problems[split.name]
            found += _gap_problems(split.beton_path)
            with closing(run(functools.partial(_record_problem, split), range(split.num_samples))) as records:
                for i, problem in enumerate(records):
                    if isinstance(problem, pool.Lost):
                        problem = f"{split.beton_path}: record {i} ({split.sources[i]}): {problem.reason}"
                    found += [problem] if problem else []
                    count.advance(bool(problem))
            try:
                if not split.stamp(right=not found):
                    anew = "" if found else "; all else is well, so it is written anew"
                    found.append(f"{split.stamp_path} has changed since it was written{anew}")
            except OSError as error:
                say(f"{split.name}: the stamp cannot be written: {error.strerror or error}")
    return [problem for name in names for problem in problems[name]]


class _Count:
    """Tells how many records are done."""

    def __init__(self, total: int, progress: pool.Progress | None) -> None:
        self._progress, self._total = progress, total
        self._done = self._bad = 0

    def advance(self, bad: bool) -> None:
        self._done += 1
        self._bad += bad
        if self._progress is not None:
            self._progress(pool.Status(self._done, self._total, self._bad))


def _record_problem(split: store.Split, i: int) -> str:
    """In a worker: what is wrong with record `i`; empty where nothing is."""
    try:
        split.read_image(i)
    except FastnoisyError as error:
        return error.message
    return ""


def _gap_problems(path: Path) -> list[str]:
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


def _is_adopted(meta: Path) -> bool:
    """Whether `_adopt` wrote this folder, and no conversion."""
    try:
        return json.loads((meta / "meta.json").read_text(encoding="utf-8"))["options"] == {}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _adopt(
    path: Path,
    names: list[str],
    run: Callable[..., Any],
    progress: pool.Progress | None,
    say: Callable[[str], object],
) -> list[str]:
    """Make a store of .beton files without .meta, if all their records are sound.

    The folders are written aside and then named, so that what is stopped before leaves none of them. One that an
    adoption has left which was stopped between two names, or was of fewer files, is written anew.
    """
    strange = [name for name in names if name not in SPLIT_NAMES]
    if strange:
        problem = f"{path / strange[0]}.beton has no {strange[0]}.meta, so it is not of fastnoisy"
        raise FastnoisyError(
            problem, f"name it {', '.join(f'{name}.beton' for name in SPLIT_NAMES)}: it becomes a split"
        )
    opened = beton_source.open(path)
    problems = []
    with ExitStack() as stack:
        readers = {}
        for split in opened.splits:
            readers[split.name] = beton.BetonReader(path / f"{split.name}.beton")
            stack.callback(readers[split.name].close)
        count = _Count(sum(reader.num_samples for reader in readers.values()), progress)
        checksums = {}
        for name, reader in readers.items():
            problems += _gap_problems(reader.path)
            checksums[name] = np.zeros(reader.num_samples, np.uint32)
            for i, result in enumerate(_foreign_records(reader, run)):
                if isinstance(result, str):
                    problems.append(f"{reader.path}: record {i}: {result}")
                else:
                    checksums[name][i] = result
                count.advance(isinstance(result, str))
    if problems:
        return problems
    canvas = np.concatenate([reader.sizes for reader in readers.values()]).max(axis=0).tolist()
    aside = path / f".partial-{os.getpid()}-adopted"
    try:
        aside.mkdir()
        for split in opened.splits:
            info = {
                "format": store.FORMAT,
                "fastnoisy": __version__,
                "source": f"beton:{path.absolute() / split.name}.beton",
                "options": {},
                "canvas": canvas,
                "class_names": opened.class_names,
            }
            reader, labels = readers[split.name], {"given": split.given_labels}
            columns = Columns(labels, list(split.paths), reader.sizes, checksums[split.name], [], [])
            write_meta(aside / f"{split.name}.meta", reader.path, columns, info)
        for old in path.glob("*.meta"):
            os.rename(old, aside / f"old-{old.name}")
        for split in opened.splits:
            os.rename(aside / f"{split.name}.meta", path / f"{split.name}.meta")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for name, reader in readers.items():
        say(f"{name}: {reader.num_samples:,} records of another writer are sound; wrote {name}.meta")
    return []


def _foreign_records(reader: beton.BetonReader, run: Callable[..., Any]) -> Iterator[int | str]:
    """The checksum of each record, or what is wrong with it."""
    with closing(run(functools.partial(_foreign_record, reader), range(reader.num_samples))) as records:
        for result in records:
            yield result.reason if isinstance(result, pool.Lost) else result


def _foreign_record(reader: beton.BetonReader, i: int) -> int | str:
    data = reader.read(i)
    if reader.modes[i] == beton.JPG:
        if not encode.is_portable_jpeg(data):
            return "it is no 8-bit grey or YCbCr JPEG, and decoders differ in what they make of others"
        try:
            height, width = encode.decode_jpeg(data).shape[:2]
        except (OSError, SyntaxError, ValueError) as error:
            return f"it cannot be decoded ({error})"
        if (height, width) != tuple(reader.sizes[i]):
            return f"it has {width}x{height} pixels, where {reader.sizes[i, 1]}x{reader.sizes[i, 0]} are noted"
    return zlib.crc32(data)
