"""The last step of a conversion: tables, labels, names and digests beside the images, then the name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastnoisy.data.conversion.journal import Part, Partial
from fastnoisy.data.sources.base import SourceSplit
from fastnoisy.data.store.meta import Columns, write_listed, write_meta
from fastnoisy.errors import FastnoisyError


@dataclass(frozen=True)
class SplitSummary:
    """What became of one split.

    Attributes:
        name: of the split.
        stored: images in the store; `raw` of them as pixels, the others as JPEG.
        raw: see `stored`.
        rejected: images left out, with the reasons in `SPLIT.meta/rejected.csv`.
        lost: those of them that could not be read, took too long or ended their process: another conversion may have
            them.
        noted: images about which something should be known, in `SPLIT.meta/notes.csv`: the first frame of several.
        num_bytes: of the .beton file.
        canvas: (height, width).
    """

    name: str
    stored: int
    raw: int
    rejected: int
    lost: int
    noted: int
    num_bytes: int
    canvas: tuple[int, int]


@dataclass(frozen=True)
class Summary:
    """What a conversion wrote: the folder, the source's full name, and each split."""

    path: Path
    source: str
    splits: list[SplitSummary]


def check_rejected(part: Part, split: SourceSplit, allowed: float, *, merging: bool = False) -> None:
    """Stop as soon as it is certain that too many are rejected, not at the end, and list those so far in the unfinished
    folder.

    Args:
        part, split: what there is, and what there is to be.
        allowed: the share of rejected images.
        merging: whether it is joined from shards, so that the same command tries none again.

    Raises:
        FastnoisyError: too many are, of all images of the split; names the list.
        OSError: the list cannot be written.
    """
    total = len(split) + len(split.rejected)
    if len(part.rejected) + len(split.rejected) > allowed * total:
        part.commit()  # so that the next run knows at once
        remedy = "raise --max-rejected to go on, or mend or remove them and add --restart"
        if merging:
            remedy = "raise --max-rejected to go on, or remove the shards, mend the images and convert them again"
        elif part.again:
            remedy += "; those that could not be read, took too long or were killed are tried again without it"
        listed = part.journal_path.with_name(f"{part.name}.rejected.csv")  # goes with its folder when all is done
        rows = _rejected(part, split)
        write_listed(listed, "reason", rows)
        raise FastnoisyError(
            f"{split.name}: more than {allowed:.1%} of {total} images cannot be stored; {_examples(part, split)}; all"
            f" {len(rows):,} so far: {listed}",
            remedy,
        )


def finish_store(partial: Partial, parts: Sequence[Part], splits: Sequence[SourceSplit]) -> Summary:
    """Make a store of the parts, whose rows are all there, and give it its name.

    Raises:
        FastnoisyError: not one image of a split could be stored, or the name is taken.
        OSError: the disk is full, or fails.
    """
    for part, split in zip(parts, splits, strict=True):
        if not part.kept:
            partial.discard()
            problem = f"{part.name}: not one of {len(split)} images could be stored"
            raise FastnoisyError(problem, _examples(part, split))
    info = partial.details["info"]
    summaries = []
    for part, split in zip(parts, splits, strict=True):
        part.finish()
        num_bytes = write_meta(partial.store / f"{part.name}.meta", part.path, _columns(part, split), info)
        summaries.append(summarise(part, num_bytes, info["canvas"], len(split.rejected)))
    partial.finish()
    return Summary(partial.target, info["source"], summaries)


def summarise(part: Part, num_bytes: int, canvas: Sequence[int], left_out: int = 0) -> SplitSummary:
    """The counts of a part, with so many rejected that were no rows."""
    counts = (len(part.kept), part.num_raw, len(part.rejected) + left_out, len(part.again), len(part.noted))
    return SplitSummary(part.name, *counts, num_bytes, (canvas[0], canvas[1]))


def _columns(part: Part, split: SourceSplit) -> Columns:
    kept = np.array(part.kept, np.int64)
    labels = {"given": split.given_labels[kept].astype(np.int64)}
    if split.clean_labels is not None:
        labels["clean"] = split.clean_labels[kept].astype(np.int64)
    return Columns(
        labels,
        [split.paths[row] for row in part.kept],
        np.array(part.sizes, np.int32).reshape(-1, 2),
        np.array(part.checksums, np.uint32),
        _rejected(part, split),
        [(split.paths[row], note) for row, note in part.noted],
    )


def _rejected(part: Part, split: SourceSplit) -> list[tuple[str, str]]:
    """Path and reason of each rejected image: the rows, then those that never were rows."""
    rows = [(split.paths[row], reason) for row, reason in part.rejected]
    return rows + list(split.rejected)


def _examples(part: Part, split: SourceSplit) -> str:
    return "for example " + "; ".join(f"{path}: {reason}" for path, reason in _rejected(part, split)[:3])
