"""Images that are no picture of anything, or of none of the classes: blank, tiny, a page of text, an outlier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from fastnoisy.data.store import Split
from fastnoisy.features.out_of_sample import standardised
from fastnoisy.machine import cores

BLACK, BLANK, TINY, TEXT, NO_CLASS = "black", "of one colour", "tiny", "a page of text", "of no class"
_CHUNK = 256  # images a thread looks at before the others' results are waited for
_FLAT = 3.0  # levels of 255: the standard deviation of what is of one colour
_DARK = 12.0  # levels: the brightest there is in what is black
_TINY_SIDE, _TINY_SHARE = 48, 0.25  # pixels of the shorter side, and its share of the median's
_INK = 60  # levels between paper and ink
_PAPER = 0.55  # of a page that are of the paper's colour, within 16 levels
_GREY = 18.0  # levels: the mean distance of a page's channels
_STROKES = 12  # changes between paper and ink along a row of text
_LINES, _HEIGHT = 6, 3  # of a page: lines of text, and the pixel rows of a usual one
_ALIKE = 0.65  # of the lines that have the height of the others, and of those that paper parts from the next
_FAR = 2.5  # robust standard deviations below the median likeness to the nearest class


def find(
    splits: Sequence[Split], features: np.ndarray, given: np.ndarray, kept: np.ndarray, poll: Callable[[], None]
) -> list[tuple[int, str]]:
    """Images that are odd, by their numbers over all splits, and what each is; in the order of the images.

    Args:
        splits: N images in all.
        features: float32 (N, D).
        given: int64 (N,), their labels.
        kept: bool (N,), whose labels are probably right.
        poll: called now and then; may raise, to stop.
    """
    found: dict[int, str] = {}
    sides = np.concatenate([split.sizes.min(axis=1) for split in splits])
    small = (sides < _TINY_SIDE) & (sides < _TINY_SHARE * np.median(sides))
    for i in np.flatnonzero(small).tolist():
        found[i] = TINY
    first = 0
    with ThreadPoolExecutor(cores()) as pool:
        for split in splits:
            for start in range(0, split.num_samples, _CHUNK):
                poll()
                rows = range(start, min(start + _CHUNK, split.num_samples))
                for row, kind in zip(rows, pool.map(lambda row: _kind(split, row), rows), strict=True):  # noqa: B023
                    if kind:
                        found[first + row] = kind
            first += split.num_samples
    for i in outliers(features, given, kept).tolist():
        found.setdefault(i, NO_CLASS)
    return sorted(found.items())


def _kind(split: Split, row: int) -> str:
    return kind_of(split.read_image(row))


def kind_of(pixels: np.ndarray) -> str:
    """What an image is by its pixels alone, uint8 (h, w, 3): `BLACK`, `BLANK`, `TEXT`, or empty."""
    image = Image.fromarray(pixels)
    small = np.asarray(image.resize((64, 64), Image.Resampling.BOX), np.int16)
    if small.reshape(-1, 3).std(axis=0).max() <= _FLAT:  # or it is of fine patterns
        if pixels.max() <= _DARK:
            return BLACK
        if pixels.reshape(-1, 3).std(axis=0).max() <= _FLAT:
            return BLANK
    grey = (small.max(axis=2) - small.min(axis=2)).mean() <= _GREY
    return TEXT if grey and is_text(np.asarray(image.convert("L"))) else ""


def is_text(grey: np.ndarray) -> bool:
    """Whether an image is a page of text: ink on paper of one colour, in lines of one height with paper between them.

    Args:
        grey: uint8 (h, w).
    """
    levels = grey.astype(np.int16)
    paper = int(np.bincount(grey.ravel() >> 3, minlength=32).argmax()) * 8 + 4
    distance = np.abs(levels - paper)
    if (distance <= 16).mean() < _PAPER:
        return False
    ink = distance > _INK
    changes = (ink[:, 1:] != ink[:, :-1]).sum(axis=1)
    turns = np.flatnonzero(np.diff(np.concatenate([[0], changes >= _STROKES, [0]])))
    begins, ends = turns[::2], turns[1::2]
    heights = ends - begins
    if len(heights) < _LINES or np.median(heights) < _HEIGHT:
        return False
    alike = (heights * 2 >= np.median(heights)) & (heights <= 2 * np.median(heights))
    parted = [(changes[end:begin] <= 2).any() for end, begin in zip(ends[:-1], begins[1:], strict=True)]
    return bool(alike.mean() >= _ALIKE and np.mean(parted) >= _ALIKE)


def outliers(features: np.ndarray, given: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Images that are like no class, int64, ascending: the cosine of their standardised features to the nearest mean of
    a class is far below what is usual, by the median and the deviation from it.

    Args:
        features: float32 (N, D).
        given: int64 (N,), labels.
        kept: bool (N,), whose labels are probably right: the means are of these.
    """
    scaled, _, _ = standardised(features)
    present = np.unique(given[kept])
    means = np.stack([scaled[kept & (given == label)].mean(axis=0) for label in present])
    unit, directions = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (scaled, means))
    likeness = (unit @ directions.T).max(axis=1)
    middle = np.median(likeness)
    deviation = 1.4826 * np.median(np.abs(likeness - middle))
    result: np.ndarray = np.flatnonzero(likeness < middle - _FAR * deviation)
    return result
