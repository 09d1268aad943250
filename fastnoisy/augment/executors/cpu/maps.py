"""Affine maps of one image: three planes of height x width pixels, uint8, one after another. See `geometry`."""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np

from fastnoisy.augment import geometry
from fastnoisy.augment.executors import codes
from fastnoisy.augment.executors.cpu.compiled import compiled
from fastnoisy.augment.executors.cpu.resample import copy_row

_ONE = np.int64(geometry.ONE)
_FARTHEST = 2.0 * geometry.MAX_CANVAS


@compiled
def matrix(code, value, cosine, sine, height, width):
    """The six coefficients of an operation, int64 in units of 2**-48."""
    a, b, c, d, e, f = _ONE, np.int64(0), np.int64(0), np.int64(0), _ONE, np.int64(0)
    units = np.int64(np.rint(min(max(value, -_FARTHEST), _FARTHEST) * np.float64(_ONE)))
    if code == codes.ROTATE:
        a, b, d, e = cosine, -sine, sine, cosine
        c = (width * _ONE - cosine * width + sine * height) >> 1
        f = (height * _ONE - sine * width - cosine * height) >> 1
    elif code == codes.SHEAR_X:
        b = units
    elif code == codes.SHEAR_Y:
        d = units
    elif code == codes.TRANSLATE_X:
        c = units
    else:
        f = units
    return a, b, c, d, e, f


@compiled
def _shift(source, height, width, result, down, right, fill):
    """Every pixel (x, y) from (x + right, y + down): a plane is copied at once, and what came from outside filled."""
    count = height * width
    first, last = min(max(0, -right), width), max(min(width, width - right), 0)
    top, bottom = min(max(0, -down), height), max(min(height, height - down), 0)
    if first >= last or top >= bottom:
        first, last, top, bottom = width, width, height, height
    for channel in range(3):
        pixels, moved = source[channel * count : (channel + 1) * count], result[channel * count : (channel + 1) * count]
        if top < bottom:
            begin, end = top * width + first, (bottom - 1) * width + last
            start = (top + down) * width + first + right
            line, made = pixels[start : start + end - begin], moved[begin:end]
            for i in range(end - begin):
                made[i] = line[i]
        before, behind = moved[: top * width], moved[bottom * width :]
        for i in range(len(before)):
            before[i] = fill[channel]
        for i in range(len(behind)):
            behind[i] = fill[channel]
        for y in range(top, bottom):
            line = moved[y * width : (y + 1) * width]
            for x in range(first):
                line[x] = fill[channel]
            for x in range(last, width):
                line[x] = fill[channel]


@compiled
def _farthest(coefficient):
    """See `geometry.farthest`."""
    return (np.int64(1) << 62) // max(abs(coefficient), np.int64(1))


@compiled
def _inside(x, across, down, farthest, at_x, at_y, bits, height, width):
    """Whether a row's pixel x comes from inside: see `_span`."""
    odd = 2 * x + 1
    column, row = (across * odd + at_x) >> bits, (down * min(odd, farthest) + at_y) >> bits
    return 0 <= column < width and 0 <= row < height


@compiled
def _span(across, down, farthest, at_x, at_y, bits, height, width, first, last):
    """Which pixels [first, last) of a row come from inside: along a straight line they lie side by side.

    Pixel x comes from column (across * odd + at_x) >> bits and row (down * odd + at_y) >> bits, odd being 2x + 1; in
    `down * odd` it ends at `farthest`. `first` and `last` are the row's above, from where it is never far.
    """
    while first < last and not _inside(first, across, down, farthest, at_x, at_y, bits, height, width):
        first += 1
    if first >= last:  # elsewhere, or nowhere
        first, last = 0, width
        while first < last and not _inside(first, across, down, farthest, at_x, at_y, bits, height, width):
            first += 1
        if first >= last:
            return first, first
    while first > 0 and _inside(first - 1, across, down, farthest, at_x, at_y, bits, height, width):
        first -= 1
    while not _inside(last - 1, across, down, farthest, at_x, at_y, bits, height, width):
        last -= 1
    while last < width and _inside(last, across, down, farthest, at_x, at_y, bits, height, width):
        last += 1
    return first, last


@compiled
def _nearest(source, height, width, result, coefficients, fill, index):
    a, b, c, d, e, f = coefficients
    count, round_up = height * width, np.int64(1) << 31
    half = np.int64(0) if b == 0 and d == 0 else np.int64(1) << 32
    across, per_row, down, down_per_row = (
        (a + round_up) >> 32, (b + round_up) >> 32, (d + round_up) >> 32, (e + round_up) >> 32
    )  # fmt: skip
    at_x, at_y = (2 * c + a + b + half) >> 33, (2 * f + d + e + half) >> 33
    first, last, any_ = 0, width, np.int64(1) << 62
    red, green, blue = source[:count], source[count : 2 * count], source[2 * count : 3 * count]
    beside = across == 1 << 16 and down == 0  # in a row, pixels come from others that lie side by side
    for y in range(height):
        row_x, row_y = per_row * y + at_x, down_per_row * y + at_y
        # twice the position, less the half pixel that 2x + 1 has more than 2x
        first, last = _span(
            across, down, any_, 2 * row_x - across, 2 * row_y - down, 17, height, width, first, last
        )  # fmt: skip
        start = (row_y >> 16) * width + (row_x >> 16) + first if first < last else 0
        if not beside:
            _indices(across, row_x, down, row_y, first, last, width, index)
        here = y * width
        reds, greens = result[here : here + width], result[count + here : count + here + width]
        blues = result[2 * count + here : 2 * count + here + width]
        if beside:
            copy_row(red, start, reds, first, last, fill[0])
            copy_row(green, start, greens, first, last, fill[1])
            copy_row(blue, start, blues, first, last, fill[2])
            continue
        for x in range(first):
            reds[x], greens[x], blues[x] = fill[0], fill[1], fill[2]
        for x in range(first, last):
            from_ = np.uint32(index[x])
            reds[x], greens[x], blues[x] = red[from_], green[from_], blue[from_]
        for x in range(last, width):
            reds[x], greens[x], blues[x] = fill[0], fill[1], fill[2]


@compiled
def _indices(across, row_x, down, row_y, first, last, width, index):
    """Where pixels [first, last) of a row come from; in 32 bits where they suffice, which is faster."""
    most = np.int64(1) << 30
    farthest = max(abs(row_x), abs(row_x + across * width), abs(row_y), abs(row_y + down * width))
    if farthest < most and width < 1 << 14:
        wide, step_x, step_y = np.int32(width), np.int32(across), np.int32(down)
        from_x, from_y = np.int32(row_x), np.int32(row_y)
        for x in range(first, last):
            at = np.int32(x)
            column = np.int32(np.int32(step_x * at) + from_x) >> np.int32(16)
            row = np.int32(np.int32(step_y * at) + from_y) >> np.int32(16)
            index[x] = np.int32(np.int32(row * wide) + column)
        return
    for x in range(first, last):
        index[x] = np.int32(((down * x + row_y) >> 16) * width + ((across * x + row_x) >> 16))


@compiled
def _between(pixels, here, width, right, lower):
    """The level between four pixels, of which the first is at `here`; weights int64 in 1/65536."""
    under = here + width
    upper_left, under_left = np.int64(pixels[here]), np.int64(pixels[under])
    upper_right, under_right = np.int64(pixels[here + np.uint64(1)]), np.int64(pixels[under + np.uint64(1)])
    upper = (upper_left << 16) + (upper_right - upper_left) * right
    below = (under_left << 16) + (under_right - under_left) * right
    return np.uint8((upper + (((below - upper) * lower) >> 16)) >> 16)


@compiled
def _beside(pixels, start, moved, right):
    """A row between pixels that lie side by side, from `start` on; `right` int32 is the second's weight in 1/65536."""
    first, second = pixels[start : start + len(moved)], pixels[start + 1 : start + 1 + len(moved)]
    for x in range(len(moved)):
        left = np.int32(first[x])
        moved[x] = np.uint8(np.int32((left << np.int32(16)) + np.int32(second[x] - left) * right) >> np.int32(16))


@compiled
def _bilinear(source, height, width, result, coefficients, fill, index, right, lower):
    """`index`, `right` and `lower` are int32 (width or more,): a row's first taps, and the weights of the others."""
    a, b, c, d, e, f = coefficients
    count, half, wide = height * width, np.int64(1) << 31, np.uint64(width)
    last_x, last_y = np.int64(width - 1) << 32, np.int64(height - 1) << 32
    farthest_b, farthest_d, rounding = _farthest(b), _farthest(d), np.int64(1 << 16)
    red, green, blue = source, source[count:], source[2 * count :]  # a tap past the last pixel has weight 0
    straight = a == _ONE and b == 0 and c % _ONE == 0  # columns stay columns
    first, last = 0, width
    for y in range(height):
        row_x = b * min(2 * y + 1, farthest_b) + 2 * c + rounding
        row_y = e * (2 * y + 1) + 2 * f + rounding
        first, last = _span(a, d, farthest_d, row_x, row_y, 49, height, width, first, last)
        at_y = min(max((row_y >> 17) - half, np.int64(0)), last_y)  # of a whole row, where d is 0
        beside = last - first > 2 and a == _ONE and d == 0 and (at_y >> 16) & 0xFFFF == 0
        if beside:
            for x in (first, first + 1, last - 1):
                at_x = min(max(((a * (2 * x + 1) + row_x) >> 17) - half, np.int64(0)), last_x)
                index[x] = np.int32((at_y >> 32) * width + (at_x >> 32))
                right[x] = np.int32((at_x >> 16) & 0xFFFF)
        else:
            for x in range(first, last):
                odd = 2 * x + 1
                at_x = min(max(((a * odd + row_x) >> 17) - half, np.int64(0)), last_x)
                at_y = min(max(((d * min(odd, farthest_d) + row_y) >> 17) - half, np.int64(0)), last_y)
                index[x] = np.int32((at_y >> 32) * width + (at_x >> 32))
                right[x] = np.int32((at_x >> 16) & 0xFFFF)
                lower[x] = np.int32((at_y >> 16) & 0xFFFF)
        here = y * width
        reds, greens = result[here : here + width], result[count + here : count + here + width]
        blues = result[2 * count + here : 2 * count + here + width]
        for x in range(first):
            reds[x], greens[x], blues[x] = fill[0], fill[1], fill[2]
        for x in range(last, width):
            reds[x], greens[x], blues[x] = fill[0], fill[1], fill[2]
        if beside:  # but for the ends, which repeat the border
            start, weight = np.int64(index[first + 1]), right[first + 1]
            _beside(red, start, reds[first + 1 : last - 1], weight)
            _beside(green, start, greens[first + 1 : last - 1], weight)
            _beside(blue, start, blues[first + 1 : last - 1], weight)
            for x in (first, last - 1):
                place, weight = np.uint64(index[x]), np.int64(right[x])
                reds[x] = _between(red, place, wide, weight, np.int64(0))
                greens[x] = _between(green, place, wide, weight, np.int64(0))
                blues[x] = _between(blue, place, wide, weight, np.int64(0))
        elif straight:
            for x in range(first, last):
                place, weight = np.uint64(index[x]), np.int64(lower[x])
                under = place + wide
                level = np.int64(red[place])
                reds[x] = np.uint8(((level << 16) + (np.int64(red[under]) - level) * weight) >> 16)
                level = np.int64(green[place])
                greens[x] = np.uint8(((level << 16) + (np.int64(green[under]) - level) * weight) >> 16)
                level = np.int64(blue[place])
                blues[x] = np.uint8(((level << 16) + (np.int64(blue[under]) - level) * weight) >> 16)
        else:
            for x in range(first, last):
                place, beyond, below = np.uint64(index[x]), np.int64(right[x]), np.int64(lower[x])
                reds[x] = _between(red, place, wide, beyond, below)
                greens[x] = _between(green, place, wide, beyond, below)
                blues[x] = _between(blue, place, wide, beyond, below)


@compiled
def move(coefficients, bilinear, source, height, width, result, fill, index, right, lower):
    """Map an image; `fill` uint8 (3,), the rest scratch: see `_bilinear`. `source` has `width` + 1 bytes behind it."""
    a, b, c, d, e, f = coefficients
    shifts = a == _ONE and e == _ONE and b == 0 and d == 0
    if shifts and not bilinear:
        _shift(source, height, width, result, (2 * f + _ONE) >> 49, (2 * c + _ONE) >> 49, fill)
    elif shifts and c % _ONE == 0 and f % _ONE == 0:
        _shift(source, height, width, result, f >> 48, c >> 48, fill)
    elif bilinear:
        _bilinear(source, height, width, result, coefficients, fill, index, right, lower)
    else:
        _nearest(source, height, width, result, coefficients, fill, index)
