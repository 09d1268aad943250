"""Files that ffcv wrote become a store where they lie.

Such a folder has no SPLIT.meta. Its records are decoded, and the folders are written that a conversion would have left.
Never unasked, for a store that has lost its folders looks the same, and would become one without class names, clean
labels and sources.
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

from fastnoisy import __version__, signals
from fastnoisy.data.conversion import jpeg
from fastnoisy.data.sources import beton as beton_source
from fastnoisy.data.sources.base import SPLIT_NAMES
from fastnoisy.data.store import beton
from fastnoisy.data.store.folder import split_names
from fastnoisy.data.store.jpeg import decode_jpeg, read_header
from fastnoisy.data.store.meta import FORMAT, Columns, write_meta
from fastnoisy.data.store.verify import Count, gap_problems, verify
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import unfinished
from fastnoisy.machine import num_workers
from fastnoisy.workers import Progress, ordered


def adopt(
    path: str | Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    say: Callable[[str], object] | None = None,
) -> list[str]:
    """Make .beton files without SPLIT.meta, as ffcv writes them, a store; what is one already is verified.

    Args, returns and errors as of `verify`.

    Raises:
        OSError: what makes it a store cannot be written.
    """
    path = Path(path)
    names = split_names(path)
    for left in path.glob(".partial-*-adopted"):
        shutil.rmtree(left, ignore_errors=True)
    present = [name for name in names if (path / f"{name}.meta").exists()]
    if len(present) == len(names) or not all(_is_adopted(path / f"{name}.meta") for name in present):
        return verify(path, workers=workers, progress=progress, say=say)
    run = functools.partial(ordered, workers=num_workers(workers), lost=lambda lost: lost.reason)
    return _adopt(path, names, run, progress, say or (lambda line: None))


def _is_adopted(meta: Path) -> bool:
    """Whether `_adopt` wrote this folder, and no conversion."""
    try:
        info = json.loads((meta / "meta.json").read_text(encoding="utf-8"))
        return info["options"] == {} and "corrections" not in info
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _adopt(
    path: Path,
    names: list[str],
    run: Callable[..., Any],
    progress: Progress | None,
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
        count = Count(sum(reader.num_samples for reader in readers.values()), progress)
        checksums = {}
        for name, reader in readers.items():
            problems += gap_problems(reader.path)
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
    with unfinished(path / f".partial-{os.getpid()}-adopted") as aside:
        aside.mkdir()
        for split in opened.splits:
            info = {
                "format": FORMAT,
                "fastnoisy": __version__,
                "source": f"beton:{path.absolute() / split.name}.beton",
                "options": {},
                "canvas": canvas,
                "class_names": opened.class_names,
            }
            reader, labels = readers[split.name], {"given": split.given_labels}
            columns = Columns(labels, list(split.paths), reader.sizes, checksums[split.name], [], [])
            write_meta(aside / f"{split.name}.meta", reader.path, columns, info)
        with signals.whole():
            for old in path.glob("*.meta"):
                os.rename(old, aside / f"old-{old.name}")
            for split in opened.splits:
                os.rename(aside / f"{split.name}.meta", path / f"{split.name}.meta")
    for name, reader in readers.items():
        say(f"{name}: {reader.num_samples:,} records of another writer are sound; wrote {name}.meta")
    return []


def _foreign_records(reader: beton.BetonReader, run: Callable[..., Any]) -> Iterator[int | str]:
    """The checksum of each record, or what is wrong with it."""
    with closing(run(functools.partial(_foreign_record, reader), range(reader.num_samples))) as records:
        yield from records


def _foreign_record(reader: beton.BetonReader, i: int) -> int | str:
    data = reader.read(i)
    if reader.modes[i] == beton.JPG:
        header = read_header(data)
        if header is None or not header.portable:
            return "it is no 8-bit grey or YCbCr JPEG, and decoders differ in what they make of others"
        try:
            height, width = decode_jpeg(data).shape[:2]
        except (OSError, SyntaxError, ValueError) as error:
            return f"it cannot be decoded ({error})"
        if not jpeg.is_sound(data):
            return "it is cut off or damaged, though it can be decoded"
        if (height, width) != tuple(reader.sizes[i]):
            return f"it has {width}x{height} pixels, where {reader.sizes[i, 1]}x{reader.sizes[i, 0]} are noted"
    return zlib.crc32(data)
