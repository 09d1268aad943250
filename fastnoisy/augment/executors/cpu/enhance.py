"""Blends with another image, hue and boxes, of one image: three planes of `count` pixels, uint8, one after another."""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np

from fastnoisy.augment import colours, ops
from fastnoisy.augment.executors.cpu.compiled import compiled

_TWENTY_SIXTH = np.int32(40330)  # of 2**20: n * this >> 20 is n // 26 for all sums below 2 * 13 * 256
_FROM_BELOW = np.array([[word >> bit & 1 for bit in range(64)] for word in colours._REACHED_FROM_BELOW], np.uint8)
_FROM_BELOW = _FROM_BELOW.ravel()
_RED, _GREEN, _BLUE = (np.uint8(level) for level in ops.CUTOUT_COLOUR)


@compiled
def blended(degenerate, level, factor):
    """Pillow's Image.blend of int32 levels by a float32 factor, uint8.

    `ops._blend` rounds exact float64 numbers to float32; products and sums of float32 are those, as both operands have
    so few bits. Nothing here lets the compiler contract them.
    """
    mixed = factor * np.float32(np.int32(level - degenerate)) + np.float32(degenerate)
    return np.uint8(min(max(mixed, np.float32(0)), np.float32(255)))


@compiled
def _grey(red, green, blue):
    return np.int32(
        np.int32(np.int32(red) * np.int32(19595) + np.int32(green) * np.int32(38470) + np.int32(blue) * np.int32(7471))
        + np.int32(0x8000)
    ) >> np.int32(16)


@compiled
def grey_sum(source, count):
    """The sum of the grey image's levels."""
    red, green, blue = source[:count], source[count : 2 * count], source[2 * count : 3 * count]
    total = 0
    for i in range(count):
        total += _grey(red[i], green[i], blue[i])
    return total


@compiled
def color(value, source, count, result):
    """Blend with the grey image."""
    factor = np.float32(value)
    reds, greens, blues = source[:count], source[count : 2 * count], source[2 * count : 3 * count]
    new_reds, new_greens, new_blues = result[:count], result[count : 2 * count], result[2 * count : 3 * count]
    for i in range(count):
        red, green, blue = reds[i], greens[i], blues[i]
        grey = np.int32(_grey(red, green, blue))
        new_reds[i] = blended(grey, np.int32(red), factor)
        new_greens[i] = blended(grey, np.int32(green), factor)
        new_blues[i] = blended(grey, np.int32(blue), factor)


@compiled
def sharpness(value, source, height, width, result):
    """Blend with the smoothed image."""
    factor, count = np.float32(value), height * width
    for channel in range(3):
        pixels, moved = source[channel * count : (channel + 1) * count], result[channel * count : (channel + 1) * count]
        for y in range(height):
            here, there = pixels[y * width : (y + 1) * width], moved[y * width : (y + 1) * width]
            if y == 0 or y == height - 1 or width < 3:
                for x in range(width):
                    there[x] = here[x]
                continue
            above, under = pixels[(y - 1) * width : y * width], pixels[(y + 1) * width : (y + 2) * width]
            there[0], there[width - 1] = here[0], here[width - 1]
            for x in range(1, width - 1):
                left = np.int32(above[x - 1]) + np.int32(here[x - 1]) + np.int32(under[x - 1])
                right = np.int32(above[x + 1]) + np.int32(here[x + 1]) + np.int32(under[x + 1])
                middle = np.int32(above[x]) + np.int32(under[x]) + 5 * np.int32(here[x])
                total = np.int32(2 * np.int32(left + middle + right) + 13)
                smooth = np.int32(np.int32(total * _TWENTY_SIXTH) >> np.int32(20))
                there[x] = blended(smooth, np.int32(here[x]), factor)


@compiled
def hue(value, source, count, result):
    """Turn the hue: see `colours`."""
    steps = np.int64(value * 255)
    reds, greens, blues = source[:count], source[count : 2 * count], source[2 * count : 3 * count]
    new_reds, new_greens, new_blues = result[:count], result[count : 2 * count], result[2 * count : 3 * count]
    for i in range(count):
        red, green, blue = np.int32(reds[i]), np.int32(greens[i]), np.int32(blues[i])
        level = max(red, green, blue)
        chroma = level - min(red, green, blue)
        if red == level:
            sixths = green - blue
        elif green == level:
            sixths = 2 * chroma + blue - red
        else:
            sixths = 4 * chroma + red - green
        if sixths < 0:
            sixths += 6 * chroma
        numerator, denominator = np.uint32(85 * sixths), np.uint32(2 * max(chroma, 1))
        turned = np.uint32(numerator // denominator)
        if turned * denominator == numerator:
            turned -= _FROM_BELOW[turned]
        turned = np.uint32((np.int64(turned) + steps) & 255)
        saturation = np.uint32(255 * chroma) // np.uint32(max(level, 1))
        sector = np.int64(np.uint32(6 * turned) // np.uint32(255))
        rest = 2 * np.int64(turned) - 85 * sector
        high = np.int64(level)
        p = _darkened(high, np.int64(saturation), 85)
        q = _darkened(high, np.int64(saturation), rest)
        t = _darkened(high, np.int64(saturation), 85 - rest)
        if sector == 1:
            new_red, new_green, new_blue = q, high, p
        elif sector == 2:
            new_red, new_green, new_blue = p, high, t
        elif sector == 3:
            new_red, new_green, new_blue = p, q, high
        elif sector == 4:
            new_red, new_green, new_blue = t, p, high
        elif sector == 5:
            new_red, new_green, new_blue = high, p, q
        else:
            new_red, new_green, new_blue = high, t, p
        new_reds[i], new_greens[i], new_blues[i] = new_red, new_green, new_blue


@compiled
def _darkened(value, saturation, share):
    return np.int64(np.uint32(2 * value * (21675 - saturation * share) + 21675) // np.uint32(43350))


@compiled
def cutout_abs(value, center_y, center_x, source, height, width, result):
    """Fill a square with the colour of CutoutAbs, both ends included."""
    count = height * width
    half, side = np.int64(np.rint(value * 32768)), np.int64(np.floor(value))
    top, left = max(center_y - half, 0) >> 16, max(center_x - half, 0) >> 16
    for i in range(3 * count):
        result[i] = source[i]
    for y in range(top, min(top + side + 1, height)):
        for x in range(left, min(left + side + 1, width)):
            result[y * width + x] = _RED
            result[count + y * width + x] = _GREEN
            result[2 * count + y * width + x] = _BLUE
