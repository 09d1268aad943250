"""What steps draw: the very integers of their `draw`, for one image, from its key.

Policies write into `Operations`: number i is the i-th operation of the sample; of a mixture, chain after chain.
A step's parameters are the row of the program that stands for it, `step`, and tables in `integers` and `floats`: see
`codes`.
"""

# mypy: ignore-errors
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastnoisy.augment.draws import TRIES, UNIT
from fastnoisy.augment.executors import codes
from fastnoisy.augment.executors.cpu.compiled import compiled, entry
from fastnoisy.augment.executors.cpu.keys import draw, fold

_UNIT = np.int64(UNIT)
_IN_FLOATS = 1.0 / UNIT


class Operations(NamedTuple):
    """Operations of one sample, see `policies.Operations`; numpy arrays with room for all, and a mixture's weights."""

    chosen: np.ndarray
    values: np.ndarray
    cosine: np.ndarray
    sine: np.ndarray
    center_y: np.ndarray
    center_x: np.ndarray
    weights: np.ndarray


def no_operations(room: int) -> Operations:
    """Room for so many."""
    integers = [np.zeros(room, np.int64) for _ in range(6)]
    return Operations(integers[0], np.zeros(room), *integers[1:5], np.zeros(room + 1, np.int64))


@compiled
def _turned(operations, number, integers, step, row):
    """Cosine and sine from the step's table of pairs."""
    place = step[codes.ROTATIONS_PLACE] + 2 * row
    operations.cosine[number], operations.sine[number] = integers[place], integers[place + 1]


@compiled
def center(key, number, extent):
    """A coordinate of a centre of `cutout_abs`."""
    return draw(key, number, (extent - 1) << 16) + (1 << 16)


@compiled
def randaugment(key, step, integers, floats, height, width, operations):
    """See `policies.RandAugment.draw`; how many operations."""
    n, names, values = step[codes.COUNT], step[codes.NAMES_PLACE], step[codes.VALUES_PLACE]
    for number in range(n):
        chosen, negative = draw(key, 4 * number, step[codes.NUM_NAMES]), draw(key, 4 * number + 1, 2)
        operations.chosen[number] = integers[names + chosen]
        operations.values[number] = floats[values + 2 * chosen + negative]
        _turned(operations, number, integers, step, negative)
        operations.center_y[number] = center(key, 4 * number + 2, height)
        operations.center_x[number] = center(key, 4 * number + 3, width)
    return n


@compiled
def _translation(code, bins, index, negative, height, width, value):
    """The value, or of a translation what follows from the valid area: see `autoaugment.translation_pixels`."""
    if code == codes.TRANSLATE_X:
        return np.float64(150 * width * index // (331 * (bins - 1)) * (1 - 2 * negative))
    if code == codes.TRANSLATE_Y:
        return np.float64(150 * height * index // (331 * (bins - 1)) * (1 - 2 * negative))
    return value


@compiled
def torchvision_randaugment(key, step, integers, floats, height, width, operations):
    """See `autoaugment.TorchvisionRandAugment.draw`; how many operations."""
    n, names, values = step[codes.COUNT], step[codes.NAMES_PLACE], step[codes.VALUES_PLACE]
    entry, bins = step[codes.ENTRY], step[codes.ENTRY_BINS]
    for number in range(n):
        chosen, negative = draw(key, 2 * number, step[codes.NUM_NAMES]), draw(key, 2 * number + 1, 2)
        code, value = integers[names + chosen], floats[values + 2 * chosen + negative]
        operations.chosen[number] = code
        operations.values[number] = _translation(code, bins, entry, negative, height, width, value)
        _turned(operations, number, integers, step, negative)
    return n


@compiled
def autoaugment(key, step, integers, floats, height, width, operations):
    """See `autoaugment.AutoAugment.draw`; how many operations."""
    names, values, bins = step[codes.NAMES_PLACE], step[codes.VALUES_PLACE], step[codes.BINS]
    thresholds, entries = step[codes.THRESHOLDS_PLACE], step[codes.ENTRIES_PLACE]
    pair = draw(key, 0, step[codes.NUM_NAMES])
    for number in range(2):
        row = 2 * pair + number
        chance, negative = draw(key, 1 + 2 * number, 1 << 16), draw(key, 2 + 2 * number, 2)
        code, entry = integers[names + row], integers[entries + row]
        value = floats[values + 2 * row + negative]
        operations.chosen[number] = code if chance < integers[thresholds + row] else -1
        operations.values[number] = _translation(code, bins, entry, negative, height, width, value)
        _turned(operations, number, integers, step, 2 * row + negative)
    return 2


@compiled
def color_jitter(key, step, integers, floats, operations):
    """See `jitter.ColorJitter.draw`; how many operations."""
    orders, names, cells = step[codes.ORDERS_PLACE], step[codes.NAMES_PLACE], step[codes.CELLS_PLACE]
    order = draw(key, 0, 24)
    for number in range(4):
        code = integers[orders + 4 * order + number]
        which = max(code, 0)
        units = integers[cells + which] + (2 * draw(key, 1 + which, 1 << 16) + 1) * integers[cells + 4 + which]
        operations.chosen[number] = integers[names + code] if code >= 0 else -1
        operations.values[number] = np.float64(units) * _IN_FLOATS
    return 4


@compiled
def _shares(key, width, weights):
    """A mixture's weights of the image and its chains: see `policies._Mixture`."""
    share = draw(key, 0, 1 << 16)
    for chain in range(1, width):  # sorted by insertion
        number, place = draw(key, chain, 1 << 16), chain
        while place > 1 and weights[place - 1] > number:
            weights[place] = weights[place - 1]
            place -= 1
        weights[place] = number
    weights[width] = 1 << 16
    rest, before = np.int64(1 << 16), np.int64(0)
    for chain in range(1, width + 1):
        gap = weights[chain] - before
        before = weights[chain]
        weights[chain] = (gap * share) >> 16
        rest -= weights[chain]
    weights[0] = rest


@compiled
def _augmix_value(code, level, negative, value, height, width):
    """The value, or of a translation what follows from the valid area: see `policies.AugMix`."""
    if code == codes.TRANSLATE_X:
        return np.float64(level * width // 27 * (1 - 2 * negative))
    if code == codes.TRANSLATE_Y:
        return np.float64(level * height // 27 * (1 - 2 * negative))
    return value


@compiled
def _google_value(code, level, sign, height, width):
    """The value of an operation at a level in units of 2**-40: see `policies.GoogleAugMix`."""
    if code == codes.POSTERIZE:
        return np.float64(4 - 4 * level // (10 * _UNIT))
    if code == codes.ROTATE:
        return np.float64(sign * (3 * level // _UNIT))
    if code == codes.SOLARIZE:
        return np.float64(256 - 256 * level // (10 * _UNIT))
    if code == codes.SHEAR_X or code == codes.SHEAR_Y:
        return np.float64(sign * (3 * level // 100)) * _IN_FLOATS
    if code == codes.TRANSLATE_X:
        return np.float64(sign * (level * width // (30 * _UNIT)))
    if code == codes.TRANSLATE_Y:
        return np.float64(sign * (level * height // (30 * _UNIT)))
    if code == codes.BRIGHTNESS or code == codes.COLOR or code == codes.CONTRAST or code == codes.SHARPNESS:
        return np.float64((18 * level + 10 * _UNIT) // 100) * _IN_FLOATS
    return 0.0


@compiled
def mixture(key, step, integers, floats, height, width, operations):
    """See `policies.AugMix.draw` and `policies.GoogleAugMix.draw`; how many operations."""
    chains, depth, longest = step[codes.COUNT], step[codes.DEPTH], step[codes.LONGEST]
    names, google = step[codes.NAMES_PLACE], step[codes.KIND] == codes.GOOGLE_AUGMIX
    limit = np.int64(1 << 16) if google else step[codes.SEVERITY]
    _shares(fold(key, 0), chains, operations.weights)
    for chain in range(chains):
        own = fold(fold(key, 1), chain)
        length = depth if depth > 0 else 1 + draw(own, 0, 3)
        for position in range(longest):
            number = chain * longest + position
            chosen = draw(own, 1 + 3 * position, step[codes.NUM_NAMES])
            level, negative = draw(own, 2 + 3 * position, limit), draw(own, 3 + 3 * position, 2)
            code = integers[names + chosen]
            if google:
                sign, level = 1 - 2 * negative, step[codes.BEGIN] + (2 * level + 1) * step[codes.HALF]
                value, row = _google_value(code, level, sign, height, width), sign * (3 * level // _UNIT) + 30
            else:
                listed = floats[step[codes.VALUES_PLACE] + 2 * (limit * chosen + level) + negative]
                value, row = _augmix_value(code, level, negative, listed, height, width), 2 * level + negative
            operations.chosen[number] = code if position < length else -1
            operations.values[number] = value
            _turned(operations, number, integers, step, row)
    return chains * longest


# -- places ------------------------------------------------------------------------------------------------------------


@compiled
def random_crop(key, step, height, width):
    """Top and left."""
    size, padding = step[codes.SIZE], step[codes.PADDING]
    top = draw(key, 0, max(height + 2 * padding - size, 0) + 1) - padding
    left = draw(key, 1, max(width + 2 * padding - size, 0) + 1) - padding
    return top, left


@compiled
def hflip(key, step):
    """Whether to mirror."""
    return draw(key, 0, 1 << 31) < step[codes.THRESHOLD]


@compiled
def _root(value):
    """See `geometry.integer_sqrt`."""
    root = np.int64(np.sqrt(np.float64(value)))
    if root * root > value:
        root -= 1
    if (root + 1) * (root + 1) <= value:
        root += 1
    return root


@compiled
def _sides(key, attempt, step, integers, area):
    """Sides of one box: see `draws.box_sides`."""
    low, high, ratios = step[codes.LOW], step[codes.HIGH], step[codes.RATIOS_PLACE]
    share = low + draw(key, 2 * attempt, high - low + 1)
    row = ratios + 2 * draw(key, 2 * attempt + 1, 65536)
    first = (_root(area * share * integers[row]) + (1 << 17)) >> 18
    second = (_root(area * share * integers[row + 1]) + (1 << 17)) >> 18
    return first, second


@compiled
def random_resized_crop(key, step, integers, height, width):
    """Top, left, height and width."""
    narrowest, flattest, widest = step[codes.NARROWEST], step[codes.FLATTEST], step[codes.WIDEST]
    half = np.int64(1 << 17)
    for attempt in range(TRIES):
        wide, tall = _sides(key, attempt, step, integers, height * width)
        if 0 < wide <= width and 0 < tall <= height:
            return (
                draw(key, 2 * TRIES, height - tall + 1), draw(key, 2 * TRIES + 1, width - wide + 1), tall, wide,
            )  # fmt: skip
    tall, wide = height, width
    if (width << 18) < narrowest * height:
        tall = min(max((width * flattest + half) >> 18, 1), height)
    if (width << 18) > widest * height:
        wide = min(max((height * widest + half) >> 18, 1), width)
    return (height - tall) // 2, (width - wide) // 2, tall, wide


@compiled
def random_erasing(key, step, integers, height, width):
    """Top, left, height and width, these 0 where nothing is erased."""
    erased_tall, erased_wide = np.int64(0), np.int64(0)
    if draw(key, 2 * TRIES + 2, 1 << 31) < step[codes.THRESHOLD]:
        for attempt in range(TRIES):
            tall, wide = _sides(key, attempt, step, integers, height * width)
            if tall < height and wide < width:
                erased_tall, erased_wide = tall, wide
                break
    top = draw(key, 2 * TRIES, height - erased_tall + 1)
    left = draw(key, 2 * TRIES + 1, width - erased_wide + 1)
    return top, left, erased_tall, erased_wide


# -- all of them -------------------------------------------------------------------------------------------------------


@compiled
def decide(key, step, integers, floats, height, width, canvas, operations, place):
    """What a step draws of one sample.

    Args:
        key: the sample's own for this step, uint64.
        step: a row of the program.
        height, width: of the valid area.
        canvas: int64 (2,), of the program's result, where `cutout` draws.
        operations: written to by policies.
        place: int64 (4,), written to by other steps, in the order of their draws.

    Returns:
        How many operations were drawn.
    """
    kind = step[codes.KIND]
    if kind == codes.SINGLE:
        place[0], place[1] = center(key, 0, height), center(key, 1, width)
    elif kind == codes.RANDAUGMENT:
        return randaugment(key, step, integers, floats, height, width, operations)
    elif kind == codes.TORCHVISION_RANDAUGMENT:
        return torchvision_randaugment(key, step, integers, floats, height, width, operations)
    elif kind == codes.AUTOAUGMENT:
        return autoaugment(key, step, integers, floats, height, width, operations)
    elif kind == codes.COLOR_JITTER:
        return color_jitter(key, step, integers, floats, operations)
    elif kind == codes.AUGMIX or kind == codes.GOOGLE_AUGMIX:
        return mixture(key, step, integers, floats, height, width, operations)
    elif kind == codes.RANDOM_CROP:
        place[0], place[1] = random_crop(key, step, height, width)
    elif kind == codes.HFLIP:
        place[0] = hflip(key, step)
    elif kind == codes.RANDOM_RESIZED_CROP:
        place[0], place[1], place[2], place[3] = random_resized_crop(key, step, integers, height, width)
    elif kind == codes.CUTOUT:
        place[0], place[1] = draw(key, 0, canvas[0]), draw(key, 1, canvas[1])
    elif kind == codes.RANDOM_ERASING:
        place[0], place[1], place[2], place[3] = random_erasing(key, step, integers, height, width)
    return 0


@entry
def decided(keys, step, integers, floats, sizes, canvas, one, operations, places):
    """What a step draws of each of n samples, for tests: rows of `operations` and of `places`, int64 (n, 4).

    Args:
        keys: uint64 (n,); sizes: int64 (n, 2); the others as for `decide`, `one` its `operations`.
    """
    for number in range(len(keys)):
        count = decide(
            keys[number], step, integers, floats, sizes[number, 0], sizes[number, 1], canvas, one, places[number]
        )
        for i in range(count):
            operations.chosen[number, i], operations.values[number, i] = one.chosen[i], one.values[i]
            operations.cosine[number, i], operations.sine[number, i] = one.cosine[i], one.sine[i]
            operations.center_y[number, i], operations.center_x[number, i] = one.center_y[i], one.center_x[i]
        for i in range(operations.weights.shape[1]):
            operations.weights[number, i] = one.weights[i]
