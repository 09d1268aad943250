"""Conversion of a source into a store: each image encoded once, written in the source's order, then renamed into place.

`encode` is a pure function of one image and there is one writer, which takes the records in order; so the bytes depend
on the source and the options alone. Nothing bears the final name until all of it is written.
"""

from __future__ import annotations

import csv
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fastnoisy import __version__, keyed_random
from fastnoisy.data import beton, store
from fastnoisy.data.encode import Plan, Record, Rejection, Resize, encode, upright_size
from fastnoisy.data.sources.base import Source, SourceSplit, open_source
from fastnoisy.errors import FastnoisyError, unknown_name

SMALL_SIDE = 64  # images up to this size are stored raw and at their own size, unless told otherwise
PHOTO_RESIZE = "max=512"
MAX_OWN_SIDE = 2048  # of images whose size is kept, so that one huge image cannot set the canvas for all
STORES = ("auto", "raw", "jpg")

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How images are stored.

    Attributes:
        resize: `max=N` (longer side), `shorter=N` (shorter side, the longer capped at 2N), `square=N` (both sides; the
            shape is not kept), `none`; None means `none` for images up to 64x64 or of a fixed size, else `max=512`.
        store: `raw` pixels, `jpg`, or `auto`: raw on a canvas up to 64x64, else jpg.
        quality: of the JPEGs that are made, 1 to 100; those stored byte for byte keep theirs.
        max_rejected: the share of rejected images in a split above which the conversion fails, 0 to 1.
        test_fraction: the share of each class that is moved from the only split into `test`; 0 to below 1.

    Raises:
        FastnoisyError: a value outside its range.
    """

    resize: str | None = None
    store: str = "auto"
    quality: int = 90
    max_rejected: float = 0.05
    test_fraction: float = 0.0

    def __post_init__(self) -> None:
        if self.resize is not None:
            Resize.parse(self.resize)
        if self.store not in STORES:
            raise unknown_name("value of store", self.store, STORES)
        if not 1 <= self.quality <= 100:
            raise FastnoisyError(f"quality must be from 1 to 100, got {self.quality}")
        if not 0 <= self.max_rejected <= 1:
            raise FastnoisyError(f"max-rejected must be a share from 0 to 1, got {self.max_rejected}")
        if not 0 <= self.test_fraction < 1:
            raise FastnoisyError(f"test-fraction must be a share from 0 to below 1, got {self.test_fraction}")


@dataclass(frozen=True)
class SplitSummary:
    """What became of one split.

    Attributes:
        name: of the split.
        stored: images in the store; `raw` of them as pixels, the others as JPEG.
        raw: see `stored`.
        rejected: images left out, with the reasons in `SPLIT.meta/rejected.csv`.
        num_bytes: of the .beton file.
        canvas: (height, width).
    """

    name: str
    stored: int
    raw: int
    rejected: int
    num_bytes: int
    canvas: tuple[int, int]


@dataclass(frozen=True)
class Summary:
    """What a conversion wrote: the store's folder, the source's full name, and each split."""

    path: Path
    source: str
    splits: list[SplitSummary]


def convert(
    source: str, out: str | Path, *, options: ConvertOptions | None = None, progress: Progress | None = None
) -> Summary:
    """Convert a data set into a store.

    Args:
        source: what to convert: a path, `kind:path`, or a kind that needs no path.
        out: the folder to make; it must not exist.
        options: how; the defaults where None.
        progress: called with (images done, images in all) after each image.

    Raises:
        FastnoisyError: the source cannot be opened, `out` exists or cannot be written, or too many images were
            rejected. No part of a store is left behind then.
    """
    options = options or ConvertOptions()
    out = Path(out)
    _refuse_existing(out)
    opened, full_name = open_source(source)
    if opened.root is not None and out.resolve().is_relative_to(opened.root.resolve()):
        problem = f"{out} lies within the source, {opened.root}"
        raise FastnoisyError(problem, "the next conversion would take it for a class")
    splits = hold_out_test(opened.splits, options.test_fraction) if options.test_fraction else opened.splits
    plan = make_plan(opened.fixed_size, splits, options)
    counter = _Counter(progress, sum(len(split) for split in splits))
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        summaries = [_write_split(partial, split, opened, full_name, plan, options, counter) for split in splits]
        _flush(partial)
        _refuse_existing(out)
        os.rename(partial, out)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise FastnoisyError(f"cannot write {out}: {error.strerror or error}", "choose another place") from None
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Summary(out, full_name, summaries)


def hold_out_test(splits: list[SourceSplit], fraction: float) -> list[SourceSplit]:
    """Move a share of each class from the only split into `test`.

    Which images is decided by a hash of their paths, so more files later do not move those already placed by much, and
    at least one image of every class stays.

    Raises:
        FastnoisyError: the source has splits of its own, or is too small for a test image.
    """
    if len(splits) != 1:
        names = ", ".join(split.name for split in splits)
        raise FastnoisyError(f"test-fraction {fraction}: the source has the splits {names} already", "leave it out")
    whole = splits[0]
    stream = keyed_random.name_value("test-fraction")
    keys = np.array([keyed_random.key(stream, keyed_random.name_value(path)) for path in whole.paths], np.int64)
    test = np.zeros(len(whole), bool)
    for label in np.unique(whole.given_labels):
        rows = np.flatnonzero(whole.given_labels == label)
        count = min(int(len(rows) * fraction + 0.5), len(rows) - 1)
        test[rows[np.argsort(keys[rows], kind="stable")][:count]] = True
    if not test.any():
        raise FastnoisyError(f"test-fraction {fraction} of so few images per class is none", "raise it or leave it out")
    return [whole.select(whole.name, np.flatnonzero(~test)), whole.select("test", np.flatnonzero(test))]


def make_plan(fixed_size: tuple[int, int] | None, splits: list[SourceSplit], options: ConvertOptions) -> Plan:
    """Decide what the options leave open: size, canvas, raw or JPEG, page size.

    Where sizes are kept and not known, image headers are read: all of them for `none`; by default until the first one
    larger than 64x64, which makes the set photographs.
    """
    resize = Resize.parse(options.resize) if options.resize else None
    canvas = resize.canvas() if resize else fixed_size
    if resize is None and canvas is None:
        canvas = _largest(splits, SMALL_SIDE, stop=True)
        resize = None if canvas else Resize.parse(PHOTO_RESIZE)
    resize = resize or Resize("none")
    canvas = canvas or resize.canvas() or fixed_size
    canvas = canvas or _largest(splits, MAX_OWN_SIDE, stop=False) or (MAX_OWN_SIDE, MAX_OWN_SIDE)
    kind = options.store
    if kind == "auto":
        kind = "raw" if max(canvas) <= SMALL_SIDE else "jpg"
    return Plan(resize, canvas, kind, options.quality, beton.page_size_for(canvas))


def _largest(splits: list[SourceSplit], limit: int, stop: bool) -> tuple[int, int] | None:
    """The largest height and width among images up to `limit` on each side; None where there is none.

    With `stop`, None as soon as an image is larger. Larger images are rejected later, unless they are resized.
    """
    largest = (0, 0)
    for split in splits:
        for i in range(len(split)):
            try:
                size = upright_size(split.read(i))
            except (OSError, FastnoisyError):
                continue  # encode says why
            if size is None:
                continue
            if max(size) <= limit:
                largest = (max(largest[0], size[0]), max(largest[1], size[1]))
            elif stop:
                return None
    return largest if largest[0] else None


class _Counter:
    """Tells how many images of all are done."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def advance(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _write_split(
    folder: Path,
    split: SourceSplit,
    source: Source,
    full_name: str,
    plan: Plan,
    options: ConvertOptions,
    counter: _Counter,
) -> SplitSummary:
    path, meta = folder / f"{split.name}.beton", folder / f"{split.name}.meta"
    meta.mkdir()
    kept: list[int] = []
    checksums: list[int] = []
    sizes: list[tuple[int, int]] = []
    rejected: list[tuple[str, str]] = []
    num_raw = 0
    with beton.BetonWriter(path, len(split), plan.page_size) as writer:
        for i in range(len(split)):
            result = _encode_item(split, i, plan)
            if isinstance(result, Rejection):
                rejected.append((split.paths[i], result.reason))
                _check_rejected(rejected, split, options.max_rejected)
            else:
                label = int(split.given_labels[i])
                writer.append(result.data, result.mode, result.height, result.width, label)
                kept.append(i)
                checksums.append(zlib.crc32(result.data))
                sizes.append((result.height, result.width))
                num_raw += result.mode == beton.RAW
            counter.advance()
    if not kept:
        raise FastnoisyError(f"{split.name}: not one of {len(split)} images could be stored", _examples(rejected))

    given = split.given_labels[kept].astype(np.int64)
    if split.clean_labels is None:
        np.savez(meta / "labels.npz", given=given)
    else:
        np.savez(meta / "labels.npz", given=given, clean=split.clean_labels[kept].astype(np.int64))
    np.save(meta / "sizes.npy", np.array(sizes, np.int32))
    np.save(meta / "checksums.npy", np.array(checksums, np.uint32))
    lines = "".join(f"{store.escape(split.paths[i])}\n" for i in kept)
    (meta / "sources.txt").write_bytes(lines.encode("utf-8", "surrogateescape"))
    with open(meta / "rejected.csv", "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "reason"), *rejected])

    reader = beton.BetonReader(path)  # what was written, read back: the digest is of the file, not of what was meant
    reader.close()
    stamp = {"num_bytes": reader.num_bytes, "digest": reader.digest}
    info = {
        "format": store.FORMAT,
        "fastnoisy": __version__,
        "source": full_name,
        "options": {**asdict(options), "resize": str(plan.resize), "store": plan.store},
        "canvas": list(plan.canvas),
        "class_names": source.class_names,
        "num_samples": len(kept),
        "num_rejected": len(rejected),
        **stamp,
    }
    store.write_json(meta / "meta.json", info)
    # Every record was made and checked here, so the split counts as verified.
    store.write_json(meta / "verified.json", stamp)
    return SplitSummary(split.name, len(kept), num_raw, len(rejected), reader.num_bytes, plan.canvas)


def _encode_item(split: SourceSplit, i: int, plan: Plan) -> Record | Rejection:
    return encode(lambda: split.read(i), plan)


def _check_rejected(rejected: list[tuple[str, str]], split: SourceSplit, allowed: float) -> None:
    """Stop as soon as it is certain that too many are rejected, not at the end."""
    if len(rejected) > allowed * len(split):
        raise FastnoisyError(
            f"{split.name}: more than {allowed:.1%} of {len(split)} images cannot be stored; {_examples(rejected)}",
            "mend or remove them, or raise --max-rejected",
        )


def _examples(rejected: list[tuple[str, str]]) -> str:
    return "for example " + "; ".join(f"{path}: {reason}" for path, reason in rejected[:3])


def _refuse_existing(out: Path) -> None:
    if os.path.lexists(out):
        raise FastnoisyError(f"{out} exists already", "remove it, or choose another name")


def _flush(folder: Path) -> None:
    """Have the disk hold every file before the folder gets its name, so that a crash cannot leave half of one."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
