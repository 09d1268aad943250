"""What a conversion is told, and what it decides for itself before the first image: which rows, what size, how
stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from fastnoisy import keyed_random
from fastnoisy.data.conversion.encode import MAX_OWN_SIDE, Plan, Resize
from fastnoisy.data.sources.base import SourceSplit
from fastnoisy.data.store import beton
from fastnoisy.errors import FastnoisyError, unknown_name

SMALL_SIDE = 64  # images up to this size are stored raw and at their own size, unless told otherwise
PHOTO_RESIZE = "max=512"
STORES = ("auto", "raw", "jpg")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How images are stored.

    Attributes:
        resize: `max=N` (longer side), `shorter=N` (shorter side, the longer capped at 2N), `square=N` (both sides; the
            shape is not kept), `none`, which rejects images with more than 2048 pixels on a side; None means `none` for
            images up to 64x64 or of a fixed size, else `max=512`.
        store: `raw` pixels, `jpg`, or `auto`: raw on a canvas up to 64x64, else jpg.
        quality: of the JPEGs that are made, 1 to 100; those stored byte for byte keep theirs, and from 90 on one that
            is made at its own size gets a better one where it would be changed by more than 2 levels on average.
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
    rest = replace(whole.select(whole.name, np.flatnonzero(~test)), rejected=whole.rejected)
    return [rest, whole.select("test", np.flatnonzero(test))]


Sizes = Callable[[int], Iterable[tuple[int, int] | None]]


def make_plan(fixed_size: tuple[int, int] | None, sizes: Sizes, options: ConvertOptions) -> Plan:
    """Decide what the options leave open: size, canvas, raw or JPEG, page size.

    Where sizes are kept and not known, image headers are read: all of them for `none`; by default until the first one
    larger than 64x64, which makes the set photographs.

    Args:
        fixed_size: (height, width) of every image, where it is known.
        sizes: gives (height, width) of the images one after another, None for what is no image. It is told how many
            images at a time are worth reading.
        options: as given.
    """
    resize = Resize.parse(options.resize) if options.resize else None
    canvas = resize.canvas() if resize else fixed_size
    if resize is None and canvas is None:
        canvas = _largest(sizes(4), SMALL_SIDE, stop=True)
        resize = None if canvas else Resize.parse(PHOTO_RESIZE)
    resize = resize or Resize("none")
    canvas = canvas or resize.canvas() or fixed_size
    canvas = canvas or _largest(sizes(64), MAX_OWN_SIDE, stop=False) or (MAX_OWN_SIDE, MAX_OWN_SIDE)
    kind = options.store
    if kind == "auto":
        kind = "raw" if max(canvas) <= SMALL_SIDE else "jpg"
    return Plan(resize, canvas, kind, options.quality, beton.page_size_for(canvas))


def _largest(sizes: Iterable[tuple[int, int] | None], limit: int, stop: bool) -> tuple[int, int] | None:
    """The largest height and width among images up to `limit` on each side; None where there is none.

    With `stop`, None as soon as an image is larger. Larger images are rejected later, unless they are resized.
    """
    largest = (0, 0)
    for size in sizes:
        if size is None:  # encode will say why
            continue
        if max(size) <= limit:
            largest = (max(largest[0], size[0]), max(largest[1], size[1]))
        elif stop:
            return None
    return largest if largest[0] else None
