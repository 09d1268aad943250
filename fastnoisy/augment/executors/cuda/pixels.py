"""The operations on an image's pixels. See the package for how an image is held, `ops` for what they do."""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from fastnoisy.augment.executors import codes
from fastnoisy.augment.executors.cuda import constants


@triton.jit
def at(image, index, ON_CHIP: tl.constexpr):
    """The pixels at these places, all of which exist."""
    if ON_CHIP:
        return tl.gather(image, index, 0)
    else:
        return tl.load(image + index)


@triton.jit
def level(pixel, CHANNEL: tl.constexpr):
    """One channel's level, int32 in [0, 255]."""
    return (pixel >> (8 * CHANNEL)) & 255


@triton.jit
def packed(red, green, blue):
    """A pixel of three int32 levels."""
    return red | (green << 8) | (blue << 16)


@triton.jit
def hidden(product, zero):
    """A float32 or float64 through its bits and `zero`, which is 0 and which no compiler knows: so none can fuse the
    product with the sum it goes into, which would round once where Pillow rounds twice.
    """
    if product.dtype == tl.float32:
        return (product.to(tl.int32, bitcast=True) ^ zero).to(tl.float32, bitcast=True)
    else:
        return (product.to(tl.int64, bitcast=True) ^ zero).to(tl.float64, bitcast=True)


@triton.jit
def nearest_integer(value):
    """Of a float64, ties to the even one, int64."""
    low = tl.floor(value)
    rest, whole = value - low, low.to(tl.int64)
    return whole + ((rest > 0.5) | ((rest == 0.5) & ((whole & 1) == 1))).to(tl.int64)


@triton.jit
def _blend(degenerate, image, factor, zero):
    """Pillow's Image.blend of int32 levels by a float32 factor: see `ops._blend`."""
    product = hidden(factor * (image - degenerate).to(tl.float32), zero)
    return tl.minimum(tl.maximum(product + degenerate.to(tl.float32), 0.0), 255.0).to(tl.int32)


@triton.jit
def _grey(pixel):
    return (level(pixel, 0) * 19595 + level(pixel, 1) * 38470 + level(pixel, 2) * 7471 + 0x8000) >> 16


# -- over a whole image -----------------------------------------------------------------------------------------------


@triton.jit
def tile(image, p, count, ON_CHIP: tl.constexpr):
    """Pixels `p`, side by side and N at a time, of an image of `count`; ON_CHIP one tile is all of it."""
    if ON_CHIP:
        return image
    else:
        return tl.load(image + p, mask=p < count, other=0)


@triton.jit
def grey_mean(image, count, ON_CHIP: tl.constexpr, N: tl.constexpr):
    """The grey image's mean, rounded, int32."""
    total = tl.full((), 0, tl.int64)
    for start in range(0, count, N):
        p = start + tl.arange(0, N)
        total += tl.sum(tl.where(p < count, _grey(tile(image, p, count, ON_CHIP)), 0)).to(tl.int64)
    return ((2 * total + count) // (2 * count)).to(tl.int32)


@triton.jit
def _extremes(image, count, CHANNEL: tl.constexpr, ON_CHIP: tl.constexpr, N: tl.constexpr):
    """The lowest and the highest level of a channel, int32."""
    low, high = tl.full((), 255, tl.int32), tl.full((), 0, tl.int32)
    for start in range(0, count, N):
        p = start + tl.arange(0, N)
        levels = level(tile(image, p, count, ON_CHIP), CHANNEL)
        low = tl.minimum(low, tl.min(tl.where(p < count, levels, 255)))
        high = tl.maximum(high, tl.max(tl.where(p < count, levels, 0)))
    return low, high


@triton.jit
def _autocontrast(image, count, zero, CHANNEL: tl.constexpr, ON_CHIP: tl.constexpr, N: tl.constexpr):
    """A channel's table, int32 (256,): see `ops.autocontrast`."""
    levels = tl.arange(0, 256)
    low, high = _extremes(image, count, CHANNEL, ON_CHIP, N)
    scale = tl.full((), 255.0, tl.float64) / tl.maximum(high - low, 1).to(tl.float64)
    stretched = hidden(levels.to(tl.float64) * scale, zero) - hidden(low.to(tl.float64) * scale, zero)
    stretched = tl.minimum(tl.maximum(stretched, 0.0), 255.0).to(tl.int32)
    return tl.where(high > low, stretched, levels)


@triton.jit
def _histogram(image, count, CHANNEL: tl.constexpr, ON_CHIP: tl.constexpr, N: tl.constexpr):
    """How often each level occurs in a channel, int32 (256,)."""
    found = tl.zeros((256,), tl.int32)
    for start in range(0, count, N):
        p = start + tl.arange(0, N)
        found += tl.histogram(tl.where(p < count, level(tile(image, p, count, ON_CHIP), CHANNEL), 0), 256)
    beyond = (count + N - 1) // N * N - count  # which were counted as 0
    return found - tl.where(tl.arange(0, 256) == 0, beyond, 0)


@triton.jit
def _equalize(image, count, CHANNEL: tl.constexpr, ON_CHIP: tl.constexpr, N: tl.constexpr):
    """A channel's table, int32 (256,): see `ops.equalize`."""
    levels = tl.arange(0, 256)
    histogram = _histogram(image, count, CHANNEL, ON_CHIP, N)
    last = tl.max(tl.where(histogram > 0, levels, 0))
    step = (count - tl.sum(tl.where(levels == last, histogram, 0))) // 255
    below = tl.cumsum(histogram, 0) - histogram
    table = tl.minimum((step // 2 + below) // tl.maximum(step, 1), 255)
    return tl.where(step > 0, table, levels)


@triton.jit
def tables(code, image, count, zero, OPS: tl.constexpr, ON_CHIP: tl.constexpr, N: tl.constexpr):
    """What the levels of each channel become by autocontrast and equalize, three of int32 (256,)."""
    red = tl.arange(0, 256)
    green, blue = red, red
    if (OPS >> codes.AUTOCONTRAST) & 1:
        if code == codes.AUTOCONTRAST:
            red = _autocontrast(image, count, zero, 0, ON_CHIP, N)
            green = _autocontrast(image, count, zero, 1, ON_CHIP, N)
            blue = _autocontrast(image, count, zero, 2, ON_CHIP, N)
    if (OPS >> codes.EQUALIZE) & 1:
        if code == codes.EQUALIZE:
            red = _equalize(image, count, 0, ON_CHIP, N)
            green = _equalize(image, count, 1, ON_CHIP, N)
            blue = _equalize(image, count, 2, ON_CHIP, N)
    return red, green, blue


# -- pixel by pixel ---------------------------------------------------------------------------------------------------


@triton.jit
def _darkened(value, saturation, share):
    return (2 * value * (21675 - saturation * share) + 21675) // 43350


@triton.jit
def hue(pixel, steps):
    """The hue turned by `steps` 256ths of the circle, int32: see `colours`."""
    red, green, blue = level(pixel, 0), level(pixel, 1), level(pixel, 2)
    high = tl.maximum(tl.maximum(red, green), blue)
    chroma = high - tl.minimum(tl.minimum(red, green), blue)
    sixths = tl.where(green == high, 2 * chroma + blue - red, 4 * chroma + red - green)
    sixths = tl.where(red == high, green - blue, sixths)
    sixths = tl.where(sixths < 0, sixths + 6 * chroma, sixths)
    numerator, denominator = 85 * sixths, 2 * tl.maximum(chroma, 1)
    turned = numerator // denominator
    lower = tl.where(turned < 64, tl.full((), constants.BELOW_0, tl.int64), tl.full((), constants.BELOW_1, tl.int64))
    upper = tl.where(turned < 192, tl.full((), constants.BELOW_2, tl.int64), tl.full((), constants.BELOW_3, tl.int64))
    word = tl.where(turned < 128, lower, upper)
    from_below = ((word >> (turned & 63).to(tl.int64)) & 1).to(tl.int32)
    turned -= tl.where(turned * denominator == numerator, from_below, 0)
    turned = (turned + steps) & 255
    saturation = 255 * chroma // tl.maximum(high, 1)
    sector = 6 * turned // 255
    rest = 2 * turned - 85 * sector
    p, q, t = _darkened(high, saturation, 85), _darkened(high, saturation, rest), _darkened(high, saturation, 85 - rest)
    new_red = tl.where(sector == 1, q, tl.where((sector == 2) | (sector == 3), p, tl.where(sector == 4, t, high)))
    new_green = tl.where((sector == 1) | (sector == 2), high, tl.where(sector == 3, q, tl.where(sector >= 4, p, t)))
    new_green = tl.where(sector >= 6, t, new_green)
    new_blue = tl.where(sector <= 1, p, tl.where(sector == 2, t, tl.where(sector <= 4, high, q)))
    new_blue = tl.where(sector >= 6, p, new_blue)
    return packed(new_red, new_green, new_blue)


@triton.jit
def _smoothed(centre, around, factor, zero, CHANNEL: tl.constexpr):
    here = level(centre, CHANNEL)
    smooth = (2 * (around + 5 * here) + 13) // 26
    return _blend(smooth, here, factor, zero)


@triton.jit
def sharpness(image, centre, p, factor, zero, height, width, ON_CHIP: tl.constexpr, N: tl.constexpr):
    """Pixels `p`, which are `centre`, blended with the smoothed image; the outermost ones stay."""
    y, x = p // width, p % width
    inner = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
    red, green, blue = tl.zeros((N,), tl.int32), tl.zeros((N,), tl.int32), tl.zeros((N,), tl.int32)
    for near in tl.static_range(9):
        if near != 4:
            there = at(image, tl.where(inner, p + (near // 3 - 1) * width + near % 3 - 1, 0), ON_CHIP)
            red, green, blue = red + level(there, 0), green + level(there, 1), blue + level(there, 2)
    made = packed(
        _smoothed(centre, red, factor, zero, 0),
        _smoothed(centre, green, factor, zero, 1),
        _smoothed(centre, blue, factor, zero, 2),
    )
    return tl.where(inner, made, centre)


@triton.jit
def _solarized_added(levels, added):
    moved = tl.minimum(tl.maximum(levels + added, 0), 255)
    return tl.where(moved >= 128, 255 - moved, moved)


@triton.jit
def _brightened(levels, factor):
    return tl.minimum(tl.maximum(levels.to(tl.float32) * factor, 0.0), 255.0).to(tl.int32)


@triton.jit
def _clamped(value, most: tl.constexpr):
    """A float64 within [-most, most]."""
    return tl.minimum(tl.maximum(value, -most), most)


@triton.jit
def levels_of(code, value, pixel, mean, red_table, green_table, blue_table, zero, OPS: tl.constexpr):
    """What an operation that looks at one pixel makes of each; `mean` and the tables are `grey_mean` and `tables`."""
    red, green, blue = level(pixel, 0), level(pixel, 1), level(pixel, 2)
    factor = value.to(tl.float32)
    if (OPS >> codes.AUTOCONTRAST) & 3:  # and equalize, its neighbour
        if code <= codes.EQUALIZE:
            red, green, blue = (
                tl.gather(red_table, red, 0),
                tl.gather(green_table, green, 0),
                tl.gather(blue_table, blue, 0),
            )
    if (OPS >> codes.INVERT) & 1:
        if code == codes.INVERT:
            red, green, blue = 255 - red, 255 - green, 255 - blue
    if (OPS >> codes.POSTERIZE) & 1:
        if code == codes.POSTERIZE:
            dropped = 8 - tl.minimum(tl.maximum(value, 0.0), 8.0).to(tl.int32)
            red, green, blue = red >> dropped << dropped, green >> dropped << dropped, blue >> dropped << dropped
    if (OPS >> codes.SOLARIZE) & 1:
        if code == codes.SOLARIZE:
            least = -tl.floor(-tl.minimum(tl.maximum(value, -1.0), 257.0)).to(tl.int32)
            red = tl.where(red >= least, 255 - red, red)
            green = tl.where(green >= least, 255 - green, green)
            blue = tl.where(blue >= least, 255 - blue, blue)
    if (OPS >> codes.SOLARIZE_ADD) & 1:
        if code == codes.SOLARIZE_ADD:
            added = _clamped(value, 256.0).to(tl.int32)
            red, green, blue = (
                _solarized_added(red, added),
                _solarized_added(green, added),
                _solarized_added(blue, added),
            )
    if (OPS >> codes.BRIGHTNESS) & 1:
        if code == codes.BRIGHTNESS:
            red, green, blue = _brightened(red, factor), _brightened(green, factor), _brightened(blue, factor)
    if (OPS >> codes.CONTRAST) & 1:
        if code == codes.CONTRAST:
            red, green, blue = (
                _blend(mean, red, factor, zero),
                _blend(mean, green, factor, zero),
                _blend(mean, blue, factor, zero),
            )
    made = packed(red, green, blue)
    if (OPS >> codes.COLOR) & 1:
        if code == codes.COLOR:
            grey = _grey(pixel)
            made = packed(
                _blend(grey, red, factor, zero), _blend(grey, green, factor, zero), _blend(grey, blue, factor, zero)
            )
    if (OPS >> codes.HUE) & 1:
        if code == codes.HUE:
            made = hue(pixel, ((value * 255).to(tl.int64) & 255).to(tl.int32))
    return made


@triton.jit
def cutout_abs(pixel, p, value, center_y, center_x, width, zero):
    """A square filled with the colour of CutoutAbs, both ends included."""
    half, side = nearest_integer(hidden(value * 32768, zero)), tl.floor(value).to(tl.int64)
    top, left = tl.maximum(center_y - half, 0) >> 16, tl.maximum(center_x - half, 0) >> 16
    y, x = p // width, p % width
    inside = (y >= top) & (y <= top + side) & (x >= left) & (x <= left + side)
    return tl.where(inside, constants.CUTOUT_PIXEL, pixel)
