"""Affine maps of an image: see `geometry`."""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from fastnoisy.augment.executors import codes
from fastnoisy.augment.executors.cuda import constants
from fastnoisy.augment.executors.cuda.pixels import at, hidden, level, nearest_integer, packed


@triton.jit
def matrix(code, value, cosine, sine, height, width, zero):
    """The six coefficients of an operation, int64 in units of 2**-48."""
    a, e = tl.full((), constants.ONE, tl.int64), tl.full((), constants.ONE, tl.int64)
    b, c = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
    d, f = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
    if code == codes.ROTATE:
        a, b, d, e = cosine, -sine, sine, cosine
        c = (width * tl.full((), constants.ONE, tl.int64) - cosine * width + sine * height) >> 1
        f = (height * tl.full((), constants.ONE, tl.int64) - sine * width - cosine * height) >> 1
    else:
        value = tl.minimum(tl.maximum(value, -constants.FARTHEST), constants.FARTHEST)
        units = nearest_integer(hidden(value * constants.IN_ONES, zero))
        if code == codes.SHEAR_X:
            b = units
        elif code == codes.SHEAR_Y:
            d = units
        elif code == codes.TRANSLATE_X:
            c = units
        else:
            f = units
    return a, b, c, d, e, f


@triton.jit
def nearest(image, p, a, b, c, d, e, f, fill, height, width, ON_CHIP: tl.constexpr):
    """See `geometry._sample_nearest`; `fill` is a pixel."""
    half = tl.where((b == 0) & (d == 0), 0, tl.full((), 1, tl.int64) << 32)
    up = tl.full((), 1, tl.int64) << 31
    y, x = (p // width).to(tl.int64), (p % width).to(tl.int64)
    column = (((a + up) >> 32) * x + ((b + up) >> 32) * y + ((2 * c + a + b + half) >> 33)) >> 16
    row = (((d + up) >> 32) * x + ((e + up) >> 32) * y + ((2 * f + d + e + half) >> 33)) >> 16
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return tl.where(inside, at(image, tl.where(inside, row * width + column, 0).to(tl.int32), ON_CHIP), fill)


@triton.jit
def _farthest(coefficient):
    """See `geometry.farthest`."""
    return (tl.full((), 1, tl.int64) << 62) // tl.maximum(tl.maximum(coefficient, -coefficient), 1)


@triton.jit
def _axis(position, extent):
    """See `geometry._axis`: the first tap, int32, the second one's weight, int64, and whether it is valid."""
    position = (position + 65536) >> 17
    limit = extent.to(tl.int64) << 32
    inside = (position >= 0) & (position < limit)
    position = tl.minimum(tl.maximum(position - 2147483648, 0), limit - 4294967296)
    return (position >> 32).to(tl.int32), (position >> 16) & 0xFFFF, inside


@triton.jit
def _between(upper_left, upper_right, under_left, under_right, right, lower, CHANNEL: tl.constexpr):
    """One channel's level between four pixels, int32."""
    first, second = level(upper_left, CHANNEL), level(under_left, CHANNEL)
    upper = (first << 16) + (level(upper_right, CHANNEL) - first) * right
    under = (second << 16) + (level(under_right, CHANNEL) - second) * right
    return ((upper + (((under - upper) * lower) >> 16)) >> 16).to(tl.int32)


@triton.jit
def bilinear(image, p, a, b, c, d, e, f, fill, height, width, ON_CHIP: tl.constexpr):
    """See `geometry._sample_bilinear`; `fill` is a pixel."""
    odd_y, odd_x = 2 * (p // width).to(tl.int64) + 1, 2 * (p % width).to(tl.int64) + 1
    position_x = a * tl.minimum(odd_x, _farthest(a)) + (b * tl.minimum(odd_y, _farthest(b)) + 2 * c)
    position_y = d * tl.minimum(odd_x, _farthest(d)) + (e * tl.minimum(odd_y, _farthest(e)) + 2 * f)
    column, right, inside_x = _axis(position_x, width)
    row, lower, inside_y = _axis(position_y, height)
    next_column, next_row = tl.minimum(column + 1, width - 1), tl.minimum(row + 1, height - 1)  # else weight 0
    upper_left, upper_right = at(image, row * width + column, ON_CHIP), at(image, row * width + next_column, ON_CHIP)
    under_left = at(image, next_row * width + column, ON_CHIP)
    under_right = at(image, next_row * width + next_column, ON_CHIP)
    made = packed(
        _between(upper_left, upper_right, under_left, under_right, right, lower, 0),
        _between(upper_left, upper_right, under_left, under_right, right, lower, 1),
        _between(upper_left, upper_right, under_left, under_right, right, lower, 2),
    )
    return tl.where(inside_x & inside_y, made, fill)
