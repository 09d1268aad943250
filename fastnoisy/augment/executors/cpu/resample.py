"""Crops, flips and antialiased resizing of one image: three planes, uint8, one after another. See `geometry`."""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np

from fastnoisy.augment import geometry
from fastnoisy.augment.executors.cpu.compiled import compiled
from fastnoisy.resample_passes import turn, weigh

_BITS = geometry._PRECISION_BITS
CHUNK = 4  # taps that are weighed at once: see resample_passes.weigh


@compiled
def copy_row(pixels, start, moved, first, last, level):
    """A row whose pixels [first, last) are those from `start` on, and whose others are `level`."""
    line, made = pixels[start : start + last - first], moved[first:last]
    for x in range(first):
        moved[x] = level
    for x in range(last - first):
        made[x] = line[x]
    for x in range(last, len(moved)):
        moved[x] = level


@compiled
def crop(source, height, width, top, left, size, result):
    """A window of size x size pixels, 0 where it lies outside."""
    first, last = min(max(0, -left), size), max(min(size, width - left), 0)
    for channel in range(3):
        for y in range(size):
            moved = result[(channel * size + y) * size : (channel * size + y + 1) * size]
            if 0 <= y + top < height and first < last:
                copy_row(source, (channel * height + y + top) * width + left + first, moved, first, last, np.uint8(0))
            else:
                copy_row(source, 0, moved, 0, 0, np.uint8(0))


@compiled
def flip(source, height, width, result):
    """Mirrored left to right."""
    last = np.uint64(width - 1)
    for row in range(3 * height):
        pixels, moved = source[row * width : (row + 1) * width], result[row * width : (row + 1) * width]
        for x in range(width):
            moved[x] = pixels[last - np.uint64(x)]


@compiled
def middle(extent, size):
    """Where a window in the middle begins: see `geometry.middle`."""
    free = extent - size
    halved = free >> 1
    return halved + (free & halved & 1) if free >= 0 else -((-free) >> 1)


@compiled
def _taps(length, size, skip, count, index, weights):
    """Pillow's resize coefficients, see `geometry._resize_taps`: of `count` outputs from `skip` on.

    `index` int32 and `weights` uint32 (count * K or more,); K, a multiple of 4, is returned. Taps that fill up have
    weight 0 and an index that exists.
    """
    span = max(length, size)
    taps = -(-2 * span // size)
    taps = (taps + CHUNK - 1) // CHUNK * CHUNK
    for i in range(count):
        centre = (2 * (skip + i) + 1) * length
        first = max((centre - 2 * span + size) // (2 * size), 0)
        total = 0
        for tap in range(taps):
            source = first + tap
            weight = max(2 * span - abs((2 * source + 1) * size - centre), 0) if source < length else 0
            index[i * taps + tap] = min(source, length - 1)
            weights[i * taps + tap] = weight
            total += weight
        total = max(total, 1)
        for tap in range(taps):
            weight = np.int64(weights[i * taps + tap])
            weights[i * taps + tap] = ((weight << (_BITS + 1)) + total) // (2 * total)
    return taps


@compiled
def resize(
    source, height, width, top, left, box_height, box_width, new_height, new_width, skip_y, count_y, skip_x, count_x,
    result, on_side, narrow, index_x, weights_x, index_y, weights_y, total,
):  # fmt: skip
    """A box resized to new_height x new_width, of which count_y x count_x pixels from (skip_y, skip_x) on are made.

    Both passes run along columns, the first over the image turned on its side: each weight meets a row of bytes.
    """
    across = _taps(box_width, new_width, skip_x, count_x, index_x, weights_x)
    along = _taps(box_height, new_height, skip_y, count_y, index_y, weights_y)
    columns, column_weights = index_x[: count_x * across], weights_x[: count_x * across]
    rows, row_weights = index_y[: count_y * along], weights_y[: count_y * along]
    first_row, last_row = box_height, 0  # that are weighed at all
    for i in range(count_y * along):
        if row_weights[i] > 0:
            first_row, last_row = min(first_row, np.int64(rows[i])), max(last_row, np.int64(rows[i]))
    tall = last_row + 1 - first_row
    for i in range(count_y * along):
        rows[i] = min(max(rows[i] - first_row, 0), tall - 1)
    first_column, last_column = box_width, 0
    for i in range(count_x * across):
        if column_weights[i] > 0:
            first_column = min(first_column, np.int64(columns[i]))
            last_column = max(last_column, np.int64(columns[i]))
    wide = last_column + 1 - first_column
    for i in range(count_x * across):
        columns[i] = min(max(columns[i] - first_column, 0), wide - 1)
    top, left = top + first_row, left + first_column
    turned = on_side[: wide * tall].reshape((wide, tall))
    slim = narrow[: count_x * tall].reshape((count_x, tall))
    upright = on_side[: tall * count_x].reshape((tall, count_x))  # `turned` is done with by then
    for channel in range(3):
        start = channel * height * width
        whole = source[start : start + height * width].reshape((height, width))
        turn(whole[top : top + tall, left : left + wide], turned)
        for x in range(count_x):
            here = slice(x * across, (x + 1) * across)
            weigh(turned, columns[here], column_weights[here], total, slim[x])
        turn(slim, upright)
        start = channel * count_y * count_x
        for y in range(count_y):
            here = slice(y * along, (y + 1) * along)
            moved = result[start + y * count_x : start + (y + 1) * count_x]
            weigh(upright, rows[here], row_weights[here], total, moved)
