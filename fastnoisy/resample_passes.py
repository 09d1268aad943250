"""Antialiased resizing in compiled passes, as Pillow does it, for `shrink` and for views: rows weighed and summed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastnoisy.compiler import kept

_BITS = np.uint32(22)  # of a weight
_HALF = np.uint32(1 << 21)


_compile = kept(Path(__file__), nogil=True)


@_compile
def weigh(rows, index, weights, total, result):  # type: ignore[no-untyped-def]
    """One pass: rows uint8 (N, L) weighed into a row uint8 (L,); `total` uint32 (L,) is scratch.

    Each step is cast, for numba would go on in 64 bits, which takes twice as long. Sums stay below 255 * 2**22 + 2**21.
    """
    last = len(index) - 4
    for tap in range(0, len(index), 4):
        a, b, c, d = rows[index[tap]], rows[index[tap + 1]], rows[index[tap + 2]], rows[index[tap + 3]]
        u, v, w, x = weights[tap], weights[tap + 1], weights[tap + 2], weights[tap + 3]
        if last == 0:  # the usual: no more than halved
            for i in range(len(result)):
                four = np.uint32(a[i] * u) + np.uint32(b[i] * v) + np.uint32(c[i] * w) + np.uint32(d[i] * x)
                result[i] = np.uint8(np.uint32(np.uint32(four) + _HALF) >> _BITS)
        elif tap < last:
            start = _HALF if tap == 0 else np.uint32(0)
            for i in range(len(result)):
                four = np.uint32(a[i] * u) + np.uint32(b[i] * v) + np.uint32(c[i] * w) + np.uint32(d[i] * x)
                total[i] = np.uint32(np.uint32(four) + (start if tap == 0 else total[i]))
        else:
            for i in range(len(result)):
                four = np.uint32(a[i] * u) + np.uint32(b[i] * v) + np.uint32(c[i] * w) + np.uint32(d[i] * x)
                result[i] = np.uint8(np.uint32(np.uint32(four) + total[i]) >> _BITS)


@_compile
def turn(source, result):  # type: ignore[no-untyped-def]
    """The transpose; eight rows at a time take a quarter of the time of blocks of 16 x 16."""
    height, width = source.shape
    whole = height // 8 * 8
    for top in range(0, whole, 8):
        for x in range(width):
            for y in range(8):
                result[x, top + y] = source[top + y, x]
    for y in range(whole, height):
        for x in range(width):
            result[x, y] = source[y, x]


@_compile
def both(source, columns, column_weights, rows, row_weights, scratch, result):  # type: ignore[no-untyped-def]
    """source uint32 (H, W) to result uint32 (h, w); see `scratch_size`."""
    height, width = source.shape
    new_height, new_width = result.shape
    on_side = scratch[: width * height].reshape((width, height))
    narrow = scratch[width * height : (width + new_width) * height].reshape((new_width, height))
    upright = scratch[: height * new_width].reshape((height, new_width))  # `on_side` is done with by then
    total = scratch[(width + new_width) * height :]
    turn(source, on_side)
    pixels, target = on_side.view(np.uint8), narrow.view(np.uint8)
    for x in range(new_width):
        weigh(pixels, columns[x], column_weights[x], total, target[x])
    turn(narrow, upright)
    pixels, target = upright.view(np.uint8), result.view(np.uint8)
    for y in range(new_height):
        weigh(pixels, rows[y], row_weights[y], total, target[y])


def scratch_size(height: int, width: int, new_width: int) -> int:
    """How many uint32 `both` needs to work with."""
    return (width + new_width) * height + 4 * max(height, new_width)
