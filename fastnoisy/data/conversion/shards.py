"""Conversion on many machines: each makes a shard of the rows, and the shards are joined into one store.

A shard is a folder beside OUT, `OUT.shard-I-of-N`, with what a conversion of these rows has left before its tables are
written, and the labels and paths of its rows, so that joining needs no source:

    job.json, SHA256SUMS
    SPLIT.beton       records only
    SPLIT.journal     what became of each row
    SPLIT.labels.npz  given and, where known, clean (int64), one per row
    SPLIT.sources.txt paths, one a line
    SPLIT.rejected.csv  paths and reasons of the images of the whole split that are no rows, as for want of a label
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy.data.conversion.journal import Part, Partial, differences, row_lines
from fastnoisy.data.conversion.outcome import Outcome, Rejected, Stored
from fastnoisy.data.conversion.tables import SplitSummary, Summary, summarise
from fastnoisy.data.sources.base import SourceSplit
from fastnoisy.data.store import beton
from fastnoisy.data.store.digests import check_sums, write_sums
from fastnoisy.data.store.meta import read_listed, read_paths, write_listed, write_paths
from fastnoisy.errors import FastnoisyError

_KINDS = ("labels.npz", "sources.txt", "rejected.csv", "journal")  # of file, for each split
_LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` of `count`, from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N`, or `auto`: rank and number of ranks that torchrun or SLURM have told this process.

        Raises:
            FastnoisyError: anything else, or no launcher has told them.
        """
        if text == "auto":
            for index, count in _LAUNCHERS:
                if os.environ.get(index, "").isdigit() and os.environ.get(count, "").isdigit():
                    return cls._checked(int(os.environ[index]), int(os.environ[count]), f"{index} and {count}")
            names = " nor ".join(f"{index} and {count}" for index, count in _LAUNCHERS)
            raise FastnoisyError(f"shard auto: neither {names} are set", "start it by torchrun or srun, or write I/N")
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not match:
            raise FastnoisyError(f"shard {text!r} is not known", "write I/N, as in 0/4 to 3/4, or auto")
        return cls._checked(int(match[1]), int(match[2]), f"shard {text!r}")

    @classmethod
    def _checked(cls, index: int, count: int, what: str) -> Shard:
        if not index < count:
            last = f", so the shards of {count} are 0/{count} to {count - 1}/{count}" if count else ""
            raise FastnoisyError(f"{what} tell of part {index} of {count}", f"parts count from 0{last}")
        return cls(index, count)

    def path(self, out: Path) -> Path:
        """Where this part of `out` lies."""
        return out.with_name(f"{out.name}.shard-{self.index}-of-{self.count}")

    def rows(self, num_rows: int) -> range:
        """Its rows of so many."""
        return range(num_rows * self.index // self.count, num_rows * (self.index + 1) // self.count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def finish_shard(partial: Partial, parts: Sequence[Part], splits: Sequence[SourceSplit]) -> Summary:
    """Put beside the records what joining needs, and give the shard its name.

    Raises:
        FastnoisyError: the name is taken.
        OSError: the disk is full, or fails.
    """
    names = ["job.json"]
    for part, split in zip(parts, splits, strict=True):
        part.settle()
        rows = slice(part.rows.start, part.rows.stop)
        labels = {"given": split.given_labels[rows]}
        if split.clean_labels is not None:
            labels["clean"] = split.clean_labels[rows]
        np.savez(partial.store / f"{part.name}.labels.npz", **labels)  # type: ignore[arg-type]
        write_paths(partial.store / f"{part.name}.sources.txt", [split.paths[row] for row in part.rows])
        shutil.copyfile(part.journal_path, partial.store / f"{part.name}.journal")
        write_listed(partial.store / f"{part.name}.rejected.csv", "reason", split.rejected)
        names += [f"{part.name}.{kind}" for kind in _KINDS]
    shutil.copyfile(partial.path / "job.json", partial.store / "job.json")
    write_sums(partial.store, names)
    info = partial.details["info"]
    summaries = [summarise(part, part.path.stat().st_size, info["canvas"]) for part in parts]
    partial.finish()
    return Summary(partial.target, info["source"], summaries)


class ShardFolder:
    """A finished shard.

    Attributes:
        path: of the folder.
        identity, details: of the conversion, see journal.py.

    Raises:
        FastnoisyError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            job = json.loads((path / "job.json").read_text(encoding="utf-8"))
            self.identity: dict[str, Any] = job["identity"]
            self.details: dict[str, Any] = job["details"]
            names = [f"{name}.{kind}" for name in self.identity["images"] for kind in _KINDS]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self.damaged(f"job.json cannot be read ({error})") from None
        problems = check_sums(path, ["job.json", *names])
        if problems:
            raise self.damaged("; ".join(problems))

    def damaged(self, problem: str) -> FastnoisyError:
        """The error about it."""
        return FastnoisyError(f"{self.path} is damaged: {problem}", "remove it and convert this shard again")

    def labels(self, name: str) -> dict[str, np.ndarray]:
        """The labels of its rows of a split."""
        with np.load(self.path / f"{name}.labels.npz", allow_pickle=False) as file:
            return dict(file)

    def paths(self, name: str) -> list[str]:
        """The paths of its rows of a split."""
        return read_paths(self.path / f"{name}.sources.txt")

    def rejected(self, name: str) -> list[tuple[str, str]]:
        """Paths and reasons of the images of the whole split that are no rows."""
        return read_listed(self.path / f"{name}.rejected.csv")

    def outcomes(self, name: str, skip: int, num_rows: int) -> Iterator[Outcome]:
        """What became of its rows of a split, without the first `skip`. `num_rows` has the whole split.

        Raises:
            FastnoisyError: the records are not what was written.
        """
        page_size = self.details["plan"]["page_size"]
        position = beton.pages_start(num_rows, page_size)
        with open(self.path / f"{name}.beton", "rb") as file:
            for _, entry in row_lines(self.path / f"{name}.journal"):
                for place, outcome in enumerate(entry["rows"]):
                    skip -= 1
                    if isinstance(outcome, str):
                        if skip < 0:
                            yield Rejected(outcome, retry=place in entry.get("again", ()))
                        continue
                    mode, height, width, checksum, length, *note = outcome
                    start = beton.record_start(position, length, page_size)
                    position = start + length
                    if skip >= 0:
                        continue
                    file.seek(start)
                    stored = Stored(file.read(length), mode, height, width, note[0] if note else "")
                    if len(stored.data) != length or stored.checksum != checksum:
                        raise self.damaged(f"the bytes of {name}.beton from {start} on have changed")
                    yield stored


def finished(path: Path, identity: dict[str, Any]) -> Summary:
    """What a shard holds that an earlier run has finished, so that a job that is started again need not fail.

    Raises:
        FastnoisyError: it is of another conversion, or damaged.
    """
    shard = ShardFolder(path)
    changed = differences(shard.identity, identity)
    if changed:
        raise FastnoisyError(f"{path} exists already, with {changed}", "remove it, or choose another name")
    info = shard.details["info"]
    summaries = []
    for name in identity["images"]:
        entries = [entry for _, entry in row_lines(path / f"{name}.journal")]
        rows = [row for entry in entries for row in entry["rows"]]
        kept = [row for row in rows if not isinstance(row, str)]
        counts = (
            len(kept),
            sum(row[0] == beton.RAW for row in kept),
            len(rows) - len(kept),
            sum(len(entry.get("again", ())) for entry in entries),
            sum(len(r) > 5 for r in kept),
        )
        num_bytes = (path / f"{name}.beton").stat().st_size
        summaries.append(SplitSummary(name, *counts, num_bytes, tuple(info["canvas"])))
    return Summary(path, info["source"], summaries)


def find(out: Path) -> list[ShardFolder]:
    """The shards of `out`, all of them, in order.

    Raises:
        FastnoisyError: none is there, one is missing or damaged, or they do not belong together.
    """
    pattern = re.compile(re.escape(out.name) + r"\.shard-([0-9]+)-of-([0-9]+)")
    names = sorted(os.listdir(out.parent)) if out.parent.is_dir() else []
    found = [Shard(int(match[1]), int(match[2])) for match in map(pattern.fullmatch, names) if match]
    if not found:
        example = Shard(0, 2).path(out).name
        raise FastnoisyError(
            f"there is no shard of {out} to join", f"a shard is a folder such as {out.parent / example}"
        )
    counts = sorted({shard.count for shard in found})
    if len(counts) > 1:
        several = " and ".join(str(count) for count in counts)
        raise FastnoisyError(f"{out} has shards of {several} parts", "remove those that are of another conversion")
    missing = sorted(set(range(counts[0])) - {shard.index for shard in found})
    if missing:
        shown = ", ".join(str(Shard(index, counts[0])) for index in missing[:10]) + (
            ", ..." if len(missing) > 10 else ""
        )
        raise FastnoisyError(
            f"{len(missing)} of {counts[0]} shards of {out} are missing: {shown}", "convert them first"
        )
    folders = [ShardFolder(Shard(index, counts[0]).path(out)) for index in range(counts[0])]
    for folder in folders[1:]:
        changed = differences(folders[0].identity | {"shard": None}, folder.identity | {"shard": None})
        if changed or folder.details["plan"] != folders[0].details["plan"]:
            problem = f"{folders[0].path} and {folder.path} are of different conversions"
            raise FastnoisyError(f"{problem}: {changed or 'another canvas'}", "convert one of them again")
    return folders


def read_splits(folders: Sequence[ShardFolder]) -> list[SourceSplit]:
    """Labels and paths of all rows, of each split; images cannot be read.

    Raises:
        FastnoisyError: a shard has other rows than it should.
    """
    splits = []
    for name, count in folders[0].identity["images"].items():
        labels = [folder.labels(name) for folder in folders]
        paths = [folder.paths(name) for folder in folders]
        for folder, given, lines in zip(folders, labels, paths, strict=True):
            expected = len(Shard.parse(folder.identity["shard"]).rows(count))
            if not expected == len(given["given"]) == len(lines):
                raise folder.damaged(f"{name} has {len(lines)} rows, where it should have {expected}")
        clean = np.concatenate([given["clean"] for given in labels]) if "clean" in labels[0] else None
        given_labels = np.concatenate([given["given"] for given in labels])
        all_paths = [path for lines in paths for path in lines]
        rejected = folders[0].rejected(name)
        splits.append(SourceSplit(name, all_paths, given_labels, clean, _unreadable, rejected))
    return splits


def joined(folders: Sequence[ShardFolder], split: SourceSplit, first: int) -> Iterator[Outcome]:
    """What became of the rows of a split, from row `first` on.

    Raises:
        FastnoisyError: a shard is damaged, or lacks rows.
    """
    position = 0
    for folder in folders:
        expected = len(Shard.parse(folder.identity["shard"]).rows(len(split)))
        skip = min(max(first - position, 0), expected)
        count = skip
        for outcome in folder.outcomes(split.name, skip, len(split)):
            count += 1
            yield outcome
        if count != expected:
            raise folder.damaged(f"its journal of {split.name} tells of {count} rows, where it should have {expected}")
        position += expected


def _unreadable(row: int) -> bytes:
    raise FastnoisyError(f"row {row} of a shard has no image any more")
