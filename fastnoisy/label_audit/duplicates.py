"""Images that are one image: the same bytes, or copies that were mirrored, cropped, shrunk or compressed again.

Candidates are near in the features of the frozen network. They are confirmed by their pixels: of two grey thumbnails
one is laid over the other, mirrored or not, cropped on each side by as much as fits best, and the correlation decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageOps

from fastnoisy.data.store import Split
from fastnoisy.machine import cores

SAME, COPY, SIMILAR = "same bytes", "near copy", "similar shots"
MIN_COSINE = 0.85  # of candidates, which are among each other's nearest
SIMILAR_COSINE = 0.92  # of each other's nearest that are not confirmed
MIN_CORRELATION = 0.965  # of copies
MAX_IMAGES = 200_000  # above, every image would be compared with too many
_NEAREST = 3
_CHUNK = 1024  # images compared with all others at a time
_SIDE = 32  # of the thumbnails that are searched, in pixels
_SHARES = (0.95, 0.9, 0.85, 0.8)  # of a side that a crop may have kept
_CUT = [round(_SIDE * share) for share in _SHARES]
_WINDOWS = ((_SIDE, _SIDE), *(window for side in _CUT for window in ((side, side), (_SIDE, side), (side, _SIDE))))
_FINE, _LARGE = 48, 128  # sides of what is correlated at last, and of what it is cut from
_HOPELESS = 0.75  # a correlation that no better cut makes a copy's


@dataclass(frozen=True)
class Group:
    """Images that are one, or look it.

    Attributes:
        kind: `SAME`, `COPY` (some of them may be the same bytes) or `SIMILAR`.
        members: their numbers, ascending.
    """

    kind: str
    members: tuple[int, ...]


def find(
    splits: Sequence[Split], features: np.ndarray, *, say: Callable[[str], object], poll: Callable[[], None]
) -> list[Group]:
    """Groups of images that are one, of all splits together; no image is in two groups of `SAME` and `COPY`.

    Args:
        splits: N images in all.
        features: float32 (N, D).
        say: told where the set is too large to be searched for copies.
        poll: called now and then; may raise, to stop.

    Returns:
        Same bytes and copies first, the larger groups before the smaller, then similar shots.
    """
    images = _Images(splits)
    same = _same_bytes(splits, images)
    parent = np.arange(len(features))
    for group in same:
        parent[list(group)] = group[0]
    alone = np.flatnonzero(parent == np.arange(len(features)))  # one of each group of same bytes is compared
    if len(alone) > MAX_IMAGES:
        many = f"{len(alone):,} images are more than {MAX_IMAGES:,}"
        say(f"copies that are not the same bytes were not looked for: {many}")
        return [Group(SAME, group) for group in same]
    pairs = _candidates(features[alone], poll)
    confirmed = _confirmed(images, [(int(alone[a]), int(alone[b])) for a, b, _, _ in pairs], poll)
    similar = []
    for (a, b, cosine, nearest), copies in zip(pairs, confirmed, strict=True):
        first, second = int(alone[a]), int(alone[b])
        if copies:
            _join(parent, first, second)
        elif nearest and cosine >= SIMILAR_COSINE:
            similar.append((first, second))
    roots = np.array([_root(parent, i) for i in range(len(parent))])
    order = np.argsort(roots, kind="stable")
    members = [part for part in np.split(order, np.flatnonzero(np.diff(roots[order])) + 1) if len(part) > 1]
    exact = {tuple(group) for group in same}
    groups = [tuple(int(i) for i in np.sort(part)) for part in members]
    found = [Group(SAME if group in exact else COPY, group) for group in groups]
    found.sort(key=lambda group: (-len(group.members), group.members))
    return found + [Group(SIMILAR, (min(a, b), max(a, b))) for a, b in similar if _root(parent, a) != _root(parent, b)]


def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        i = int(parent[i])
    return i


def _join(parent: np.ndarray, a: int, b: int) -> None:
    a, b = sorted((_root(parent, a), _root(parent, b)))
    parent[b] = a


def _same_bytes(splits: Sequence[Split], images: _Images) -> list[tuple[int, ...]]:
    """Images whose records are byte for byte the same, by checksum and size first."""
    keys: dict[tuple[int, int, int], list[int]] = {}
    number = 0
    for split in splits:
        for checksum, (height, width) in zip(split.checksums.tolist(), split.sizes.tolist(), strict=True):
            keys.setdefault((checksum, height, width), []).append(number)
            number += 1
    groups = []
    for alike in keys.values():
        by_bytes: dict[bytes, list[int]] = {}
        for i in alike if len(alike) > 1 else ():
            by_bytes.setdefault(images.read_bytes(i), []).append(i)
        groups += [tuple(group) for group in by_bytes.values() if len(group) > 1]
    return sorted(groups)


def _candidates(features: np.ndarray, poll: Callable[[], None]) -> list[tuple[int, int, float, bool]]:
    """Pairs a < b of images among each other's nearest, their cosine, and whether each is the other's very nearest."""
    count = len(features)
    if count < 2:
        return []
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(length, 1e-12)
    width = min(_NEAREST, count - 1)
    nearest, cosines = np.empty((count, width), np.int64), np.empty((count, width), np.float32)
    for first in range(0, count, _CHUNK):
        poll()
        block = unit[first : first + _CHUNK] @ unit.T
        rows = np.arange(len(block))
        block[rows, first + rows] = -2.0
        best = np.argpartition(-block, width - 1, axis=1)[:, :width]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(block, best, 1), axis=1, kind="stable"), 1)
        nearest[first : first + len(block)] = best
        cosines[first : first + len(block)] = np.take_along_axis(block, best, 1)
    pairs = []
    for a in np.flatnonzero(cosines[:, 0] >= MIN_COSINE).tolist():
        for b, cosine in zip(nearest[a].tolist(), cosines[a].tolist(), strict=True):
            if a < b and cosine >= MIN_COSINE and a in nearest[b]:
                pairs.append((a, b, cosine, bool(nearest[a, 0] == b and nearest[b, 0] == a)))
    return pairs


class _Images:
    """The images of splits by one number."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self._splits = splits
        self._ends = np.cumsum([split.num_samples for split in splits])

    def _place(self, i: int) -> tuple[Split, int]:
        number = int(np.searchsorted(self._ends, i, side="right"))
        return self._splits[number], i - int(self._ends[number]) + self._splits[number].num_samples

    def read_bytes(self, i: int) -> bytes:
        split, row = self._place(i)
        return split.read_bytes(row)

    def thumbnails(self, i: int) -> _Thumbnails:
        split, row = self._place(i)
        return _Thumbnails(Image.fromarray(split.read_image(row)))


class _Thumbnails:
    """Grey thumbnails of an image, squares whatever its shape: a copy has the same shape, or was cropped."""

    def __init__(self, image: Image.Image) -> None:
        self.large = image.convert("L").resize((_LARGE, _LARGE), Image.Resampling.BOX)
        self.whole = np.asarray(self.large.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)
        turned = (self.large, ImageOps.mirror(self.large))
        self.fine = [_normed(_shrunk(image, _FINE, _FINE)) for image in turned]
        # what another image's window is compared with, as is and mirrored
        self.windows = [{window: _normed(_shrunk(image, *window)) for window in _WINDOWS} for image in turned]


def _shrunk(image: Image.Image, height: int, width: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), np.float32)


def _normed(pixels: np.ndarray) -> np.ndarray:
    """Of mean 0 and length 1 over the last two axes, so that a product is a correlation; 0 where all are equal."""
    centred = pixels - pixels.mean((-2, -1), keepdims=True)
    length = np.sqrt((centred * centred).sum((-2, -1), keepdims=True))
    normed: np.ndarray = centred / np.maximum(length, 1e-3)
    return normed


def _confirmed(images: _Images, pairs: Sequence[tuple[int, int]], poll: Callable[[], None]) -> list[bool]:
    """Whether the pixels of each pair say that they are one image."""
    found = []
    kept: dict[int, _Thumbnails] = {}

    def correlated(pair: tuple[int, int]) -> float:
        return correlation(kept[pair[0]], kept[pair[1]])

    with ThreadPoolExecutor(cores()) as pool:
        for first in range(0, len(pairs), _CHUNK):
            part = pairs[first : first + _CHUNK]
            needed = sorted({i for pair in part for i in pair})
            for gone in set(kept) - set(needed):
                del kept[gone]
            missing = [i for i in needed if i not in kept]
            kept.update(zip(missing, pool.map(images.thumbnails, missing), strict=True))
            for result in pool.map(correlated, part):
                poll()
                found.append(result >= MIN_CORRELATION)
    return found


def correlation(a: _Thumbnails, b: _Thumbnails) -> float:
    """The correlation of two images where one is laid over the other as fits best; at most 1."""
    best = (-1.0, a, b, 0, (0, 0), (_SIDE, _SIDE))
    for outer, inner in ((a, b), (b, a)):
        for turned in (0, 1):
            for window in _WINDOWS:
                shown = sliding_window_view(outer.whole, window)
                products = (_normed(shown) * inner.windows[turned][window]).sum((-2, -1))
                place = np.unravel_index(int(products.argmax()), products.shape)
                if products[place] > best[0]:
                    corner = int(place[0]), int(place[1])
                    best = float(products[place]), outer, inner, turned, corner, window
    return _refined(*best) if best[0] > _HOPELESS else best[0]


def _refined(
    coarse: float, outer: _Thumbnails, inner: _Thumbnails, turned: int, corner: tuple[int, int], window: tuple[int, int]
) -> float:
    """The correlation at the cut that fits best, uphill from a coarse one, each side by itself."""
    scale = _LARGE / _SIDE
    top, left = corner[0] * scale, corner[1] * scale
    cut = np.array([left, top, left + window[1] * scale, top + window[0] * scale])
    moves = [
        *np.eye(4),
        *-np.eye(4),
        *(sign * np.array(move) for sign in (1, -1) for move in ((1, 0, 1, 0), (0, 1, 0, 1))),
    ]

    def value(cut: np.ndarray) -> float:
        if cut.min() < 0 or cut.max() > _LARGE:
            return -1.0
        box = (float(cut[0]), float(cut[1]), float(cut[2]), float(cut[3]))
        pixels = outer.large.resize((_FINE, _FINE), Image.Resampling.BILINEAR, box=box)
        return float((_normed(np.asarray(pixels, np.float32)) * inner.fine[turned]).sum())

    best = value(cut)
    for step in (2.0, 1.0, 0.5):
        moved = True
        while moved:
            moved = False
            for move in moves:
                other = value(cut + step * move)
                if other > best + 1e-4:
                    best, cut, moved = other, cut + step * move, True
    return best
