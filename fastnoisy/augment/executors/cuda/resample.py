"""Crops, flips and antialiased resizing of an image: see `geometry`."""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from fastnoisy.augment.executors.cuda import constants
from fastnoisy.augment.executors.cuda.pixels import at, level, packed


@triton.jit
def read(image, batch, y, x, width, row, column, plane, inside, FROM_BATCH: tl.constexpr, ON_CHIP: tl.constexpr):
    """Pixels (y, x), 0 where not `inside`: of the image on its way, or of the batch that the kernel was given.

    Args:
        batch: where this image begins in the batch, uint8; its strides are `row`, `column` and `plane`.
    """
    if FROM_BATCH:
        place = batch + y.to(tl.int64) * row + x.to(tl.int64) * column
        red = tl.load(place, mask=inside, other=0).to(tl.int32)
        green = tl.load(place + plane, mask=inside, other=0).to(tl.int32)
        blue = tl.load(place + 2 * plane, mask=inside, other=0).to(tl.int32)
        return packed(red, green, blue)
    else:
        return tl.where(inside, at(image, tl.where(inside, y * width + x, 0), ON_CHIP), 0)


@triton.jit
def middle(extent, size):
    """Where a window in the middle begins: see `geometry.middle`."""
    free = extent - size
    halved = free >> 1
    return tl.where(free >= 0, halved + (free & halved & 1), -((-free) >> 1))


@triton.jit
def _first(i, skip, length, size):
    """The first source pixel that output pixel `i` of those from `skip` on is made of; in the integers that `i` has."""
    span = tl.maximum(length, size)
    centre = (2 * (skip + i) + 1) * length
    return tl.maximum(tl.maximum(centre - 2 * span + size, 0) // (2 * size), 0)


@triton.jit
def taps(length, size):
    """How many source pixels an output pixel is made of at most."""
    span = tl.maximum(length, size)
    return (2 * span + size - 1) // size


@triton.jit
def _weight(i, tap, skip, length, size):
    """How much a source pixel weighs, int32: Pillow's triangle, times 2 max(length, size)."""
    span = tl.maximum(length, size)
    source = _first(i, skip, length, size) + tap
    distance = (2 * source + 1) * size - (2 * (skip + i) + 1) * length
    distance = tl.maximum(distance, -distance)
    return tl.where(source < length, tl.maximum(2 * span - distance, 0), 0)


@triton.jit
def _total(i, skip, length, size, N: tl.constexpr):
    """The sum of an output pixel's weights, int32 (N,)."""
    total = tl.zeros((N,), tl.int32)
    for tap in range(0, taps(length, size)):
        total += _weight(i, tap, skip, length, size).to(tl.int32)
    return tl.maximum(total, 1)


@triton.jit
def _coefficient(weight, total):
    """The share of a weight in `constants.PRECISION_BITS` bits, rounded, int32."""
    return (((weight.to(tl.int64) << (constants.PRECISION_BITS + 1)) + total) // (2 * total.to(tl.int64))).to(tl.int32)


@triton.jit
def write_coefficients(table, skip, count, length, size, N: tl.constexpr):
    """Of `count` output pixels from `skip` on: int32 (count, 1 + taps), to scratch memory; first comes `_first`."""
    number = taps(length, size)
    for start in range(0, count, N):
        place = start + tl.arange(0, N)
        i, row = place.to(tl.int64), table + place * (1 + number)  # 2 * 4096 * 256 * 4096 is above 2**31
        total = _total(i, skip, length, size, N)
        tl.store(row, _first(i, skip, length, size).to(tl.int32), mask=place < count)
        for tap in range(0, number):
            coefficient = _coefficient(_weight(i, tap, skip, length, size), total)
            tl.store(row + 1 + tap, coefficient, mask=place < count)


@triton.jit
def across(
    image, batch, p, top, left, skip, made, length, size, rows, width, row, column, plane, table,
    FROM_BATCH: tl.constexpr, ON_CHIP: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Pixels `p` of `rows` rows from `top` on, resized from `length` to `size` pixels; `made` of them are made."""
    y, x = p // made, p % made
    inside = y < rows
    number = taps(length, size)
    half: tl.constexpr = 1 << (constants.PRECISION_BITS - 1)
    red, green, blue = tl.full((N,), half, tl.int32), tl.full((N,), half, tl.int32), tl.full((N,), half, tl.int32)
    coefficients = table + x * (1 + number)
    if ON_CHIP:
        first, total = _first(x, skip, length, size), _total(x, skip, length, size, N)
    else:
        first = tl.load(coefficients, mask=inside, other=0)
    for tap in range(0, number):
        if ON_CHIP:
            coefficient = _coefficient(_weight(x, tap, skip, length, size), total)
        else:
            coefficient = tl.load(coefficients + 1 + tap, mask=inside, other=0)
        there = left + tl.minimum(first + tap, length - 1)
        pixel = read(image, batch, top + y, there, width, row, column, plane, inside, FROM_BATCH, ON_CHIP)
        red += level(pixel, 0) * coefficient
        green += level(pixel, 1) * coefficient
        blue += level(pixel, 2) * coefficient
    return packed(red >> constants.PRECISION_BITS, green >> constants.PRECISION_BITS, blue >> constants.PRECISION_BITS)


@triton.jit
def along(image, p, skip, rows, length, size, width, table, ON_CHIP: tl.constexpr, N: tl.constexpr):
    """Pixels `p` of `rows` rows of an image, each column of which is resized from `length` to `size` pixels."""
    y, x = p // width, p % width
    inside = y < rows
    number = taps(length, size)
    half: tl.constexpr = 1 << (constants.PRECISION_BITS - 1)
    red, green, blue = tl.full((N,), half, tl.int32), tl.full((N,), half, tl.int32), tl.full((N,), half, tl.int32)
    coefficients = table + y * (1 + number)
    if ON_CHIP:
        first, total = _first(y, skip, length, size), _total(y, skip, length, size, N)
    else:
        first = tl.load(coefficients, mask=inside, other=0)
    for tap in range(0, number):
        if ON_CHIP:
            coefficient = _coefficient(_weight(y, tap, skip, length, size), total)
        else:
            coefficient = tl.load(coefficients + 1 + tap, mask=inside, other=0)
        place = tl.minimum(first + tap, length - 1) * width + x
        pixel = at(image, tl.where(inside, place, 0), ON_CHIP)
        red += level(pixel, 0) * coefficient
        green += level(pixel, 1) * coefficient
        blue += level(pixel, 2) * coefficient
    return packed(red >> constants.PRECISION_BITS, green >> constants.PRECISION_BITS, blue >> constants.PRECISION_BITS)
