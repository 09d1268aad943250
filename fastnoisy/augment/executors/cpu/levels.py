"""The operations that are a table of new levels, of one image: three planes of `count` pixels, one after another.

The tables are those of `ops`, equal for every value.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np

from fastnoisy.augment.executors import codes
from fastnoisy.augment.executors.cpu.compiled import compiled
from fastnoisy.augment.executors.cpu.enhance import blended, grey_sum


@compiled
def _autocontrast(pixels, table):
    """One plane's table, uint8 (256,)."""
    low, high = np.uint8(255), np.uint8(0)
    for i in range(len(pixels)):
        low = min(low, pixels[i])
        high = max(high, pixels[i])
    first, last = np.int64(low), np.int64(high)
    scale = 255.0 / np.float64(max(last - first, 1))
    offset = np.float64(first) * scale
    for level in range(256):
        stretched = np.float64(level) * scale - offset
        table[level] = np.uint8(min(max(stretched, 0.0), 255.0)) if last > first else level


@compiled
def _equalize(pixels, table, histogram):
    """One plane's table, uint8 (256,); `histogram` int32 (4, 256) is scratch."""
    histogram[:] = 0
    whole = len(pixels) // 4 * 4
    for i in range(0, whole, 4):  # four histograms: a level that follows itself would wait for its own count
        histogram[0, pixels[i]] += 1
        histogram[1, pixels[i + 1]] += 1
        histogram[2, pixels[i + 2]] += 1
        histogram[3, pixels[i + 3]] += 1
    for i in range(whole, len(pixels)):
        histogram[0, pixels[i]] += 1
    last = 0
    for level in range(256):
        histogram[0, level] += histogram[1, level] + histogram[2, level] + histogram[3, level]
        if histogram[0, level] > 0:
            last = level
    step = (len(pixels) - np.int64(histogram[0, last])) // 255
    below = 0
    for level in range(256):
        table[level] = min((step // 2 + below) // step, 255) if step > 0 else level
        below += np.int64(histogram[0, level])


@compiled
def _level(code, value, level, mean):
    """What one level becomes; `mean` is the grey image's, for contrast."""
    if code == codes.INVERT:
        return 255 - level
    if code == codes.POSTERIZE:
        dropped = 8 - np.int64(min(max(value, 0.0), 8.0))
        return level >> dropped << dropped
    if code == codes.SOLARIZE:
        return 255 - level if level >= np.ceil(min(max(value, -1.0), 257.0)) else level
    if code == codes.SOLARIZE_ADD:
        added = min(max(level + np.int64(min(max(value, -256.0), 256.0)), 0), 255)
        return 255 - added if added >= 128 else added
    if code == codes.BRIGHTNESS:
        return np.int64(min(max(np.float32(level) * np.float32(value), np.float32(0)), np.float32(255)))
    return np.int64(blended(np.int32(mean), np.int32(level), np.float32(value)))


@compiled
def look_up(code, value, source, count, result, table, histogram):
    """`result` uint8 (3 * count or more,) of `source`; `table` uint8 (256,)."""
    if code != codes.AUTOCONTRAST and code != codes.EQUALIZE:
        total = grey_sum(source, count) if code == codes.CONTRAST else 0
        mean = (2 * total + count) // (2 * count)
        for level in range(256):
            table[level] = _level(code, value, level, mean)
    for channel in range(3):
        pixels, moved = source[channel * count : (channel + 1) * count], result[channel * count : (channel + 1) * count]
        if code == codes.AUTOCONTRAST:
            _autocontrast(pixels, table)
        elif code == codes.EQUALIZE:
            _equalize(pixels, table, histogram)
        for i in range(count):
            moved[i] = table[pixels[i]]
