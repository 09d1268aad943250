"""What a store holds, before anything is trained on it: counts, balance, sizes, storage, labels, origin."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from fastnoisy.analysis.text import printable, shorten_to
from fastnoisy.analysis.transitions import Drawn
from fastnoisy.data.store import Split

ALL_CLASSES_UP_TO = 30
_EXTREMES = 8  # classes shown at each end beyond that
_BINS = 10
_BAR = 40  # characters of the longest bar
_REJECTED = 10  # files named; the list has them all


@dataclass(frozen=True)
class Summary:
    """One split of a store.

    Attributes (N images, C classes):
        name: of the split.
        counts: int64 (C,), images per given class, noise included where it is named.
        wrong: int64 (C,), how many of them have another clean class; None where clean classes are not known.
        noise: the noise applied and its seed as text; empty without.
        changed: share of labels that noise has changed where clean ones are not known; None otherwise.
        canvas: (height, width) that no image exceeds.
        sizes: int32 (N, 2), height and width.
        raw, jpg: how many records are stored how.
        num_bytes, meta_bytes: of the .beton and of the folder beside it.
        rejected: images that could not be converted; None where the store does not say.
        rejected_path: where they are listed with reasons.
        verified: whether every record has been read and found right.
        source, options: what was converted, and how; empty where the store does not say.
        corrections: label files that have corrected the store since, and what each has changed.
    """

    name: str
    counts: np.ndarray
    wrong: np.ndarray | None
    noise: str
    changed: float | None
    canvas: tuple[int, int]
    sizes: np.ndarray
    raw: int
    jpg: int
    num_bytes: int
    meta_bytes: int
    rejected: int | None
    rejected_path: Path
    verified: bool
    source: str
    options: dict[str, Any]
    corrections: Sequence[Mapping[str, Any]] = ()

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.sizes)

    @property
    def rate(self) -> float | None:
        """The share of labels known to be wrong; None where clean ones are not known."""
        return None if self.wrong is None else float(self.wrong.sum() / self.num_images)


def summarise(split: Split, noise: Drawn | None = None) -> Summary:
    """Count what a split holds; no image is read.

    Args:
        noise: drawn on this split; its labels are counted instead of the given ones.
    """
    num_classes = len(split.class_names)
    given = split.given_labels if noise is None else noise.given
    clean = split.clean_labels
    if noise is not None and noise.clean_known:
        clean = noise.reference
    wrong = None if clean is None else np.bincount(given[given != clean], minlength=num_classes)
    raw = sum(split.mode(i) == "raw" for i in range(split.num_samples))
    meta = split.beton_path.with_name(f"{split.name}.meta")
    return Summary(
        name=split.name,
        counts=np.bincount(given, minlength=num_classes),
        wrong=wrong,
        noise="" if noise is None else noise.label,
        changed=noise.rate if noise is not None and clean is None else None,
        canvas=split.canvas,
        sizes=split.sizes,
        raw=raw,
        jpg=split.num_samples - raw,
        num_bytes=split.beton_path.stat().st_size,
        meta_bytes=sum(file.stat().st_size for file in meta.iterdir() if file.is_file()),
        rejected=_count(split.info.get("num_rejected")),
        rejected_path=meta / "rejected.csv",
        verified=split.verified,
        source=str(split.info.get("source", "")),
        options=dict(split.info.get("options") or {}),
        corrections=split.info.get("corrections", []),
    )


def describe(summary: Summary, class_names: Sequence[str]) -> list[tuple[str, str]]:
    """The summary as (what, text) lines, class counts left to `counts_table`."""
    filled = int((summary.counts > 0).sum())
    empty = "" if filled == len(class_names) else f", {len(class_names) - filled} of them without an image"
    lines = [
        ("images", f"{summary.num_images:,} in {len(class_names):,} classes{empty}"),
        ("balance", _balance(summary.counts, class_names)),
        ("sizes", _sizes(summary)),
        ("stored", f"{summary.raw:,} raw, {summary.jpg:,} jpg; {_megabytes(summary.num_bytes + summary.meta_bytes)}"),
        ("rejected", _rejected(summary)),
        ("verified", "yes" if summary.verified else "no: records are checked one by one as they are read"),
        ("labels", _labels(summary)),
    ]
    if summary.source:
        lines.append(("source", summary.source))
    if summary.options:
        lines.append(("options", " ".join(f"{key}={value}" for key, value in summary.options.items())))
    for note in summary.corrections:
        done = note["splits"].get(summary.name, {})
        counts = ", ".join(f"{count:,} {word}" for word, count in done.items()) or "nothing changed here"
        lines.append(("corrected", f"{note['labels']}: {counts}"))
    return [(what, printable(text)) for what, text in lines]


def resolutions(sizes: np.ndarray) -> list[tuple[str, int]]:
    """How many images have which size: each size where there are few, else ranges of the longer side of like width.

    Args:
        sizes: int32 (N, 2), height and width.
    """
    distinct, counts = np.unique(sizes, axis=0, return_counts=True)
    if len(distinct) <= _BINS:
        return [(f"{width}x{height}", int(count)) for (height, width), count in zip(distinct, counts, strict=True)]
    longer = sizes.max(axis=1)
    edges = np.unique(np.linspace(longer.min(), longer.max() + 1, _BINS + 1).astype(int))
    numbers = np.histogram(longer, edges)[0]
    names = [f"{low}" if high - low == 1 else f"{low} to {high - 1}" for low, high in itertools.pairwise(edges)]
    return list(zip(names, numbers.tolist(), strict=True))


def histogram(sizes: np.ndarray) -> list[str]:
    """`resolutions` as lines with bars, below a heading; nothing where all images have one size."""
    bins = resolutions(sizes)
    if len(bins) < 2:
        return []
    heading = "images of each size" if "x" in bins[0][0] else "images by longer side, in pixels"
    name_width, count_width = (max(map(len, column)) for column in ([n for n, _ in bins], [f"{c:,}" for _, c in bins]))
    largest = max(count for _, count in bins)
    bars = ["█" * -(-count * _BAR // largest) for _, count in bins]
    rows = [f"{n:>{name_width}}  {c:>{count_width},}  {bar}".rstrip() for (n, c), bar in zip(bins, bars, strict=True)]
    return [heading, *rows]


def rejected_lines(split: Split) -> list[str]:
    """The first files that could not be stored and why, one a line; nothing where there are none."""
    rejected = split.listed("rejected")
    lines = [f"{printable(path)}: {printable(reason)}" for path, reason in rejected[:_REJECTED]]
    if len(rejected) > _REJECTED:
        lines.append(f"... {len(rejected) - _REJECTED:,} more")
    return lines


def counts_table(summaries: Sequence[Summary], class_names: Sequence[str], all_classes: bool = False) -> Table:
    """A row per class, and per split its count, with the wrong ones among them where there are any.

    Above 30 classes only the 8 largest and the 8 smallest of the first split, unless `all_classes`.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("class", no_wrap=True)
    noisy = [summary.wrong is not None and bool(summary.wrong.any()) for summary in summaries]
    for summary, has_wrong in zip(summaries, noisy, strict=True):
        table.add_column(summary.name, justify="right", no_wrap=True)
        if has_wrong:
            table.add_column("wrong", justify="right", no_wrap=True)
            table.add_column("wrong %", justify="right", no_wrap=True)
    chosen = list(range(len(class_names)))
    if len(chosen) > ALL_CLASSES_UP_TO and not all_classes:
        chosen = np.argsort(-summaries[0].counts, kind="stable").tolist()
        chosen = [*chosen[:_EXTREMES], -1, *chosen[-_EXTREMES:]]
    for number in chosen:
        if number < 0:
            table.add_row(f"... {len(class_names) - 2 * _EXTREMES:,} more: --all-classes")
            continue
        cells = [escape(shorten_to(printable(class_names[number]), 40))]
        for summary, has_wrong in zip(summaries, noisy, strict=True):
            count = int(summary.counts[number])
            cells.append(f"{count:,}")
            if has_wrong and summary.wrong is not None:
                wrong = int(summary.wrong[number])
                cells += [f"{wrong:,}", f"{100 * wrong / count:.1f}" if count else "-"]
        table.add_row(*cells)
    return table


def _balance(counts: np.ndarray, class_names: Sequence[str]) -> str:
    smallest, largest = int(counts.argmin()), int(counts.argmax())
    if counts[smallest] == counts[largest]:
        return f"{counts[largest]:,} in every class"
    ratio = f"ratio {counts[largest] / counts[smallest]:.2f}" if counts[smallest] else "no ratio: it is empty"
    names = [printable(class_names[number]) for number in (smallest, largest)]
    return f"smallest {counts[smallest]:,} ({names[0]}), largest {counts[largest]:,} ({names[1]}), {ratio}"


def _sizes(summary: Summary) -> str:
    height, width = summary.canvas
    heights, widths = summary.sizes[:, 0], summary.sizes[:, 1]
    distinct = len(np.unique(summary.sizes, axis=0))
    if distinct == 1:
        own = f"all {widths[0]}x{heights[0]}"
        return own if (heights[0], widths[0]) == summary.canvas else f"{own}, canvas {width}x{height}"
    ranges = ", ".join(
        f"{name} {values.min()} / {np.median(values):.0f} / {values.max()}"
        for name, values in (("width", widths), ("height", heights))
    )
    shares = {"upright": heights > widths, "landscape": heights < widths, "square": heights == widths}
    shapes = ", ".join(f"{name} {100 * values.mean():.1f} %" for name, values in shares.items() if values.any())
    return f"canvas {width}x{height}, {distinct:,} sizes; {ranges} (min / median / max); {shapes}"


def _rejected(summary: Summary) -> str:
    if summary.rejected is None:
        return "the store does not say"
    return f"{summary.rejected:,}: {summary.rejected_path}" if summary.rejected else "0"


def _labels(summary: Summary) -> str:
    noise = f"noise {summary.noise}: " if summary.noise else ""
    if summary.wrong is not None and summary.rate is not None:
        return f"{noise}{summary.wrong.sum():,} wrong ({100 * summary.rate:.2f} %)"
    if summary.changed is not None:
        return f"{noise}{100 * summary.changed:.2f} % differ from the store's labels; which are right is not known"
    return f"{noise}which are right is not known"


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None
