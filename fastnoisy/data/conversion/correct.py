"""Corrections of a store, written down: a store of the same records, class folders, or a list.

No image is decoded: the records of the new store are the bytes of the old ones, each checked against its checksum as it
is copied. Nothing bears its final name before all that was asked for is written.
"""

from __future__ import annotations

import csv
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy import __version__, signals
from fastnoisy.data.conversion.class_folder import check_names, root_of, write_folder
from fastnoisy.data.conversion.journal import Partial, partial_path, refuse_existing
from fastnoisy.data.conversion.kept import Kept, kept_of
from fastnoisy.data.store import beton, open_store
from fastnoisy.data.store.corrections import read_corrections
from fastnoisy.data.store.meta import Columns, write_meta
from fastnoisy.data.store.verify import Count
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import flush, sha256_of, temporary_name, unfinished
from fastnoisy.label_files.corrections import Corrected
from fastnoisy.label_files.meaning import numbers_mislead
from fastnoisy.workers import Progress

COLUMNS = ("index", "path", "split", "label")
_MODES = {name: mode for mode, name in beton.MODE_NAMES.items()}


@dataclass(frozen=True)
class Correction:
    """What a label file has made of a store.

    Attributes:
        line: what the file changed, counted.
        images: how many are left of each split.
        out, to_folder, to_csv: what was written; None where it was not asked for.
        linked, written: in the folder, the links to original files, and the images of the store's own.
    """

    line: str
    images: dict[str, int]
    out: Path | None = None
    to_folder: Path | None = None
    to_csv: Path | None = None
    linked: int = 0
    written: int = 0


def correct(
    store: str | Path,
    corrections: str | Path,
    *,
    out: str | Path | None = None,
    to_folder: str | Path | None = None,
    to_csv: str | Path | None = None,
    labels_as: str = "",
    labels_columns: str = "",
    progress: Progress | None = None,
    say: Callable[[str], object] | None = None,
) -> Correction:
    """Write a store down as a label file corrects it; at least one of the three outputs.

    Args:
        store: the folder of the store; it stays as it is.
        corrections: rows by path or index, a label or `drop` each.
        out: a new store.
        to_folder: a new folder of class folders.
        to_csv: a new list of rows and labels.
        labels_as, labels_columns: how the label file is read, as in `read_corrections`.
        progress: called after each image.
        say: takes a line of text that the user should read, the counts first.

    Raises:
        FastnoisyError: no store, a label file that is not meant for it or drops all of a split, an output that exists
            or cannot be written, a class that can have no folder, a damaged record. Then nothing is left behind.
    """
    places = {
        option: Path(place)
        for option, place in (("--to-csv", to_csv), ("--to-folder", to_folder), ("--out", out))
        if place is not None
    }
    say = say or (lambda line: None)
    linked = written = 0
    with open_store(store) as opened:
        _check_places(opened.path, next(iter(opened.splits.values())).source, places)
        found, line = read_corrections(str(corrections), opened, labels_as, labels_columns)
        parts = kept_of(opened, found)
        if to_folder is not None:
            check_names(opened.class_names, list(opened.splits) if len(parts) > 1 else [])
        say(line)
        if to_csv is not None and numbers_mislead(opened.class_names):
            say(f"the classes are called by numbers: where {to_csv} is handed in, add --labels-as name")
        note = _note(Path(corrections), labels_as, labels_columns, found)
        passes = ("--to-folder" in places) + ("--out" in places)
        count = Count(passes * sum(len(part.rows) for part in parts), progress)
        with ExitStack() as stack:  # the store, which is entered last, gets its name first
            made = {
                option: stack.enter_context(_new_file(place) if option == "--to-csv" else _new_folder(place))
                for option, place in places.items()
            }
            for option, place in made.items():
                with _disk(places[option]):
                    if option == "--to-csv":
                        _write_list(place, parts, opened.class_names)
                    elif option == "--to-folder":
                        linked, written = write_folder(place, parts, opened.class_names, count)
                    else:
                        _write_store(place, parts, note, count)
    images = {part.split.name: len(part.rows) for part in parts}
    return Correction(
        line, images, places.get("--out"), places.get("--to-folder"), places.get("--to-csv"), linked, written
    )


def _check_places(store: Path, source: str, places: Mapping[str, Path]) -> None:
    """Refuse what cannot be written, or would be part of something else, before anything is read."""
    if not places:
        raise FastnoisyError("nothing is to be written", "name --out, --to-folder or --to-csv")
    found: dict[str, Path] = {}
    root = root_of(source)
    for option, place in places.items():
        refuse_existing(place)
        resolved = place.resolve()
        if resolved.is_relative_to(store.resolve()):
            raise FastnoisyError(f"{option} {place} lies within the store {store}", "name a place outside of it")
        if root is not None and not root[1] and option != "--to-csv" and resolved.is_relative_to(root[0].resolve()):
            raise FastnoisyError(
                f"{option} {place} lies within the source, {root[0]}", "the next conversion would take it for a class"
            )
        for other, there in found.items():
            if resolved.is_relative_to(there) or there.is_relative_to(resolved):
                raise FastnoisyError(f"{option} and {other} lie in each other: {place}", "name places side by side")
        found[option] = resolved
    if "--to-csv" in places and places["--to-csv"].suffix.lower() != ".csv":
        raise FastnoisyError(
            f"--to-csv {places['--to-csv']} does not end in .csv", "lists are read by their ending: name it LIST.csv"
        )


def _note(file: Path, labels_as: str, columns: str, found: Mapping[str, Corrected]) -> dict[str, Any]:
    """What meta.json tells of the corrections."""
    said = {"labels_as": labels_as, "labels_columns": columns}
    try:
        digest = sha256_of(file)
    except OSError as error:
        raise FastnoisyError(f"cannot read {file}: {error.strerror or error}") from None
    return {
        "labels": os.path.abspath(file),
        "sha256": digest,
        **{name: text for name, text in said.items() if text},
        "splits": {
            name: {"changed": len(c.changed), "unchanged": c.unchanged, "dropped": len(c.dropped)}
            for name, c in found.items()
        },
        "fastnoisy": __version__,
    }


def _write_store(folder: Path, parts: Sequence[Kept], note: Mapping[str, Any], count: Count) -> None:
    for part in parts:
        split, rows = part.split, part.rows
        path, meta = folder / f"{split.name}.beton", folder / f"{split.name}.meta"
        with beton.BetonWriter(path, len(rows), max(split.page_size, beton.MIN_PAGE_SIZE)) as writer:
            for row in rows.tolist():
                height, width = split.sizes[row].tolist()
                data = split.read_bytes(row)
                writer.append(data, _MODES[split.mode(row)], height, width, int(part.labels[row]))
                count.advance(False)
        labels = {"given": part.labels[rows].astype(np.int64)}
        if part.clean is not None:
            labels["clean"] = part.clean[rows].astype(np.int64)
        paths = [split.sources[row] for row in rows.tolist()]
        there = set(paths)
        noted = [(noted, text) for noted, text in split.listed("notes") if noted in there]
        columns = Columns(labels, paths, split.sizes[rows], split.checksums[rows], split.listed("rejected"), noted)
        write_meta(meta, path, columns, {**split.info, "corrections": [*split.info.get("corrections", []), note]})
        if not split.verified:  # nobody has decoded these records
            (meta / "verified.json").unlink()


def _write_list(path: Path, parts: Sequence[Kept], class_names: Sequence[str]) -> None:
    """One line per row of the store. Where rows are dropped, a column `drop` says so, and they have no label."""
    drops = any(len(part.rows) < part.split.num_samples for part in parts)
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow((*COLUMNS, "drop") if drops else COLUMNS)
        for part in parts:
            kept = np.zeros(part.split.num_samples, bool)
            kept[part.rows] = True
            for row, (source, label, stays) in enumerate(
                zip(part.split.sources, part.labels.tolist(), kept.tolist(), strict=True)
            ):
                line = [row, source, part.split.name, class_names[label] if stays else ""]
                lines.writerow([*line, "" if stays else "true"] if drops else line)


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder to write in, locked by this process, that becomes `target`, and is gone where the block fails."""
    if (partial_path(target) / "job.json").exists():
        raise FastnoisyError(
            f"{partial_path(target)} holds an unfinished conversion", "finish it, remove it, or choose another name"
        )
    with ExitStack() as stack:
        with _disk(target), signals.whole():
            partial = stack.enter_context(Partial(target, {}))
            stack.enter_context(unfinished(partial.path))
        yield partial.store
        with _disk(target):
            partial.finish()


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """The same for a file."""
    with _disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(temporary_name(target)) as partial:
        yield partial
        with _disk(target):
            flush(partial)
            refuse_existing(target)
            os.rename(partial, target)
            flush(target.parent)


@contextmanager
def _disk(target: Path) -> Iterator[None]:
    """Turn an error of the disk into one line."""
    try:
        yield
    except OSError as error:
        problem, remedy = f"cannot write {target}: {error.strerror or error}", "choose another place"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = next(parent for parent in (target, *target.absolute().parents) if parent.exists())
            problem += f", {shutil.disk_usage(place).free / 1e6:,.1f} MB are free in {place}"
            remedy = "make room and give the same command again; nothing was left behind"
        raise FastnoisyError(problem, remedy) from None
