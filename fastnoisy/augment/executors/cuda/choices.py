"""What each step draws of one sample: the same integers as the steps' own `draw`.

`key` is the sample's own for the step, int64; `step` points to the row of the program that stands for it, `integers`
and `floats` to its tables: see `codes`.
"""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from fastnoisy.augment.executors import codes
from fastnoisy.augment.executors.cuda import constants
from fastnoisy.augment.executors.cuda.keys import draw, fold


@triton.jit
def column(step, COLUMN: tl.constexpr):
    """A number of a step's row, int64."""
    return tl.load(step + COLUMN)


@triton.jit
def turned(step, integers, row):
    """Cosine and sine from the step's table of pairs."""
    place = integers + column(step, codes.ROTATIONS_PLACE) + 2 * row
    return tl.load(place), tl.load(place + 1)


@triton.jit
def center(key, number, extent):
    """A coordinate of a centre of `cutout_abs`, int64."""
    return draw(key, number, (extent.to(tl.int64) - 1) << 16) + 65536


@triton.jit
def _translation(code, bins, index, negative, height, width, value):
    """The value, or of a translation what follows from the valid area: see `autoaugment.translation_pixels`."""
    sign = 1 - 2 * negative
    if code == codes.TRANSLATE_X:
        value = (150 * width.to(tl.int64) * index // (331 * (bins - 1)) * sign).to(tl.float64)
    elif code == codes.TRANSLATE_Y:
        value = (150 * height.to(tl.int64) * index // (331 * (bins - 1)) * sign).to(tl.float64)
    return value


@triton.jit
def randaugment(key, number, step, integers, floats, height, width):
    """See `policies.RandAugment.draw`: operation `number`, its value, cosine and sine, and a centre."""
    chosen, negative = draw(key, 4 * number, column(step, codes.NUM_NAMES)), draw(key, 4 * number + 1, 2)
    code = tl.load(integers + column(step, codes.NAMES_PLACE) + chosen)
    value = tl.load(floats + column(step, codes.VALUES_PLACE) + 2 * chosen + negative)
    cosine, sine = turned(step, integers, negative)
    return code, value, cosine, sine, center(key, 4 * number + 2, height), center(key, 4 * number + 3, width)


@triton.jit
def torchvision_randaugment(key, number, step, integers, floats, height, width):
    """See `autoaugment.TorchvisionRandAugment.draw`: operation `number`, its value, cosine and sine."""
    chosen, negative = draw(key, 2 * number, column(step, codes.NUM_NAMES)), draw(key, 2 * number + 1, 2)
    code = tl.load(integers + column(step, codes.NAMES_PLACE) + chosen)
    value = tl.load(floats + column(step, codes.VALUES_PLACE) + 2 * chosen + negative)
    entry, bins = column(step, codes.ENTRY), column(step, codes.ENTRY_BINS)
    cosine, sine = turned(step, integers, negative)
    return code, _translation(code, bins, entry, negative, height, width, value), cosine, sine


@triton.jit
def autoaugment(key, number, step, integers, floats, height, width):
    """See `autoaugment.AutoAugment.draw`: operation `number`, -1 for none, its value, cosine and sine."""
    row = 2 * draw(key, 0, column(step, codes.NUM_NAMES)) + number
    chance, negative = draw(key, 1 + 2 * number, 65536), draw(key, 2 + 2 * number, 2)
    code = tl.load(integers + column(step, codes.NAMES_PLACE) + row)
    value = tl.load(floats + column(step, codes.VALUES_PLACE) + 2 * row + negative)
    entry = tl.load(integers + column(step, codes.ENTRIES_PLACE) + row)
    value = _translation(code, column(step, codes.BINS), entry, negative, height, width, value)
    cosine, sine = turned(step, integers, 2 * row + negative)
    chosen = chance < tl.load(integers + column(step, codes.THRESHOLDS_PLACE) + row)
    return tl.where(chosen, code, -1), value, cosine, sine


@triton.jit
def color_jitter(key, number, step, integers):
    """See `jitter.ColorJitter.draw`: operation `number`, -1 for none, and its value."""
    order = draw(key, 0, 24)
    code = tl.load(integers + column(step, codes.ORDERS_PLACE) + 4 * order + number)
    which = tl.maximum(code, 0)
    cells = integers + column(step, codes.CELLS_PLACE) + which
    units = tl.load(cells) + (2 * draw(key, 1 + which, 65536) + 1) * tl.load(cells + 4)
    name = tl.load(integers + column(step, codes.NAMES_PLACE) + which)
    return tl.where(code >= 0, name, -1), units.to(tl.float64) * constants.FROM_UNITS


@triton.jit
def cuts(key, width, WIDTH: tl.constexpr):
    """Where a mixture's unit is cut between its chains, in order, int64 (WIDTH,): see `policies._Mixture`.

    0, then `width` - 1 sorted draws, then 65536. WIDTH is a power of two above `width`, the number of chains.
    """
    number = tl.arange(0, WIDTH)
    drawn = draw(key, number, 65536)
    return tl.sort(tl.where(number == 0, 0, tl.where(number < width, drawn, 65536)))


@triton.jit
def weight(cut, share, chain, WIDTH: tl.constexpr):
    """The weight of a chain, from 0 on, int64 in 1/65536; `cut` as from `cuts`."""
    number = tl.arange(0, WIDTH)
    gap = tl.sum(tl.where(number == chain + 1, cut, 0)) - tl.sum(tl.where(number == chain, cut, 0))
    return (gap * share) >> 16


@triton.jit
def chain_key(key, chain):
    """Of a mixture's chain."""
    return fold(fold(key, 1), chain)


@triton.jit
def chain_length(own, depth):
    """How many operations a chain has; `own` is its key."""
    return tl.where(depth > 0, depth, 1 + draw(own, 0, 3))


@triton.jit
def augmix(own, position, step, integers, floats, height, width):
    """See `policies.AugMix.draw`: an operation of the chain with key `own`, its value, cosine and sine."""
    severity = column(step, codes.SEVERITY)
    chosen = draw(own, 1 + 3 * position, column(step, codes.NUM_NAMES))
    level, negative = draw(own, 2 + 3 * position, severity), draw(own, 3 + 3 * position, 2)
    code = tl.load(integers + column(step, codes.NAMES_PLACE) + chosen)
    value = tl.load(floats + column(step, codes.VALUES_PLACE) + 2 * (severity * chosen + level) + negative)
    sign = 1 - 2 * negative
    if code == codes.TRANSLATE_X:
        value = (level * width // 27 * sign).to(tl.float64)
    elif code == codes.TRANSLATE_Y:
        value = (level * height // 27 * sign).to(tl.float64)
    cosine, sine = turned(step, integers, 2 * level + negative)
    return code, value, cosine, sine


@triton.jit
def google_augmix(own, position, step, integers, height, width):
    """See `policies.GoogleAugMix.draw`: an operation of the chain with key `own`, its value, cosine and sine."""
    chosen = draw(own, 1 + 3 * position, column(step, codes.NUM_NAMES))
    cell, sign = draw(own, 2 + 3 * position, 65536), 1 - 2 * draw(own, 3 + 3 * position, 2)
    level = column(step, codes.BEGIN) + (2 * cell + 1) * column(step, codes.HALF)  # in units of 2**-40
    degrees = sign * (3 * level // constants.UNIT)
    code = tl.load(integers + column(step, codes.NAMES_PLACE) + chosen)
    value = tl.full((), 0.0, tl.float64)
    if code == codes.POSTERIZE:
        value = (4 - 4 * level // (10 * constants.UNIT)).to(tl.float64)
    elif code == codes.ROTATE:
        value = degrees.to(tl.float64)
    elif code == codes.SOLARIZE:
        value = (256 - 256 * level // (10 * constants.UNIT)).to(tl.float64)
    elif (code == codes.SHEAR_X) | (code == codes.SHEAR_Y):
        value = (sign * (3 * level // 100)).to(tl.float64) * constants.FROM_UNITS
    elif code == codes.TRANSLATE_X:
        value = (sign * (level * width // (30 * constants.UNIT))).to(tl.float64)
    elif code == codes.TRANSLATE_Y:
        value = (sign * (level * height // (30 * constants.UNIT))).to(tl.float64)
    elif (code >= codes.BRIGHTNESS) & (code <= codes.SHARPNESS):
        value = ((18 * level + 10 * constants.UNIT) // 100).to(tl.float64) * constants.FROM_UNITS
    cosine, sine = turned(step, integers, degrees + 30)
    return code, value, cosine, sine


# -- places ------------------------------------------------------------------------------------------------------------


@triton.jit
def random_crop(key, step, height, width):
    """Top and left."""
    size, padding = column(step, codes.SIZE), column(step, codes.PADDING)
    top = draw(key, 0, tl.maximum(height + 2 * padding - size, 0) + 1) - padding
    left = draw(key, 1, tl.maximum(width + 2 * padding - size, 0) + 1) - padding
    return top.to(tl.int32), left.to(tl.int32)


@triton.jit
def hflip(key, step):
    """Whether to mirror."""
    return draw(key, 0, 2147483648) < column(step, codes.THRESHOLD)


@triton.jit
def _root(value):
    """See `geometry.integer_sqrt`."""
    root = tl.sqrt(value.to(tl.float64)).to(tl.int64)
    root -= (root * root > value).to(tl.int64)
    return root + ((root + 1) * (root + 1) <= value).to(tl.int64)


@triton.jit
def _sides(key, attempt, step, integers, area):
    """Sides of one box: see `draws.box_sides`."""
    low, high = column(step, codes.LOW), column(step, codes.HIGH)
    share = low + draw(key, 2 * attempt, high - low + 1)
    ratio = integers + column(step, codes.RATIOS_PLACE) + 2 * draw(key, 2 * attempt + 1, 65536)
    first = (_root(area * share * tl.load(ratio)) + 131072) >> 18
    second = (_root(area * share * tl.load(ratio + 1)) + 131072) >> 18
    return first, second


@triton.jit
def random_resized_crop(key, step, integers, height, width):
    """Top, left, height and width, int32."""
    narrowest, flattest = column(step, codes.NARROWEST), column(step, codes.FLATTEST)
    widest = column(step, codes.WIDEST)
    tall, wide = height.to(tl.int64), width.to(tl.int64)
    area = tall * wide
    if (wide << 18) < narrowest * tall:
        tall = tl.minimum(tl.maximum((wide * flattest + 131072) >> 18, 1), tall)
    elif (wide << 18) > widest * tall:
        wide = tl.minimum(tl.maximum((tall * widest + 131072) >> 18, 1), wide)
    top, left = (height - tall) // 2, (width - wide) // 2
    found = tl.full((), 0, tl.int32)
    for attempt in range(constants.TRIES):
        if found == 0:
            first, second = _sides(key, attempt, step, integers, area)
            if (first > 0) & (first <= width) & (second > 0) & (second <= height):
                wide, tall = first, second
                top = draw(key, 2 * constants.TRIES, height - tall + 1)
                left = draw(key, 2 * constants.TRIES + 1, width - wide + 1)
                found = tl.full((), 1, tl.int32)
    return top.to(tl.int32), left.to(tl.int32), tall.to(tl.int32), wide.to(tl.int32)


@triton.jit
def random_erasing(key, step, integers, height, width):
    """Top, left, height and width, int32, the last two 0 where nothing is erased."""
    tall, wide = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
    found = (draw(key, 2 * constants.TRIES + 2, 2147483648) >= column(step, codes.THRESHOLD)).to(tl.int32)
    for attempt in range(constants.TRIES):
        if found == 0:
            first, second = _sides(key, attempt, step, integers, height.to(tl.int64) * width)
            if (first < height) & (second < width):
                tall, wide = first, second
                found = tl.full((), 1, tl.int32)
    top, left = draw(key, 2 * constants.TRIES, height - tall + 1), draw(key, 2 * constants.TRIES + 1, width - wide + 1)
    return top.to(tl.int32), left.to(tl.int32), tall.to(tl.int32), wide.to(tl.int32)
