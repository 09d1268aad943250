"""A whole program over some images of a batch: one compiled function for every program, which is data to it."""

# mypy: ignore-errors
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastnoisy.augment.executors import codes
from fastnoisy.augment.executors.cpu import choices, enhance, levels, maps, resample
from fastnoisy.augment.executors.cpu.compiled import compiled, entry
from fastnoisy.augment.executors.cpu.keys import fold


class Scratch(NamedTuple):
    """What one thread works in; made by `scratch`.

    Attributes:
        first, second, third, fourth: an image each, uint8, three planes one after another.
        mixed: int32, a mixture.
        table: uint8 (256,).
        histogram: int32 (4, 256).
        taps, right, lower: int32, of a row of an affine map.
        on_side, narrow: uint8, of a resize.
        index_x, weights_x, index_y, weights_y, total: of a resize, int32 and uint32.
        fill: uint8 (3,).
        place: int64 (4,), operations: what is drawn.
    """

    first: np.ndarray
    second: np.ndarray
    third: np.ndarray
    fourth: np.ndarray
    mixed: np.ndarray
    table: np.ndarray
    histogram: np.ndarray
    taps: np.ndarray
    right: np.ndarray
    lower: np.ndarray
    on_side: np.ndarray
    narrow: np.ndarray
    index_x: np.ndarray
    weights_x: np.ndarray
    index_y: np.ndarray
    weights_y: np.ndarray
    total: np.ndarray
    fill: np.ndarray
    place: np.ndarray
    operations: choices.Operations


def scratch(pixels: int, side: int, made: int, operations: int) -> Scratch:
    """Room for images of so many pixels, no side longer than `side`, none of what a step makes longer than `made`; so
    many operations of a sample.

    Memory that a program does not touch is not taken: the kernel gives pages when they are written.
    """
    image = 3 * pixels + side + 64  # a bilinear tap may lie a row and a pixel behind an image
    taps = 8 * side + 64  # 2 * longest + 5 * outputs
    return Scratch(
        *(np.zeros(image, np.uint8) for _ in range(4)),
        np.zeros(3 * pixels, np.int32),
        np.zeros(256, np.uint8),
        np.zeros((4, 256), np.int32),
        *(np.zeros(side, np.int32) for _ in range(3)),
        np.zeros(max(pixels, side * made), np.uint8),
        np.zeros(side * made, np.uint8),
        *(np.zeros(taps, kind) for kind in (np.int32, np.uint32) * 2),
        np.zeros(side, np.uint32),
        np.zeros(3, np.uint8),
        np.zeros(4, np.int64),
        choices.no_operations(max(operations, 1)),
    )


@compiled
def _operate(code, value, cosine, sine, center_y, center_x, bilinear, source, height, width, result, work):
    """One operation, from one buffer to another."""
    count = height * width
    if codes.ROTATE <= code <= codes.TRANSLATE_Y:
        coefficients = maps.matrix(code, value, cosine, sine, height, width)
        maps.move(coefficients, bilinear, source, height, width, result, work.fill, work.taps, work.right, work.lower)
    elif code == codes.COLOR:
        enhance.color(value, source, count, result)
    elif code == codes.SHARPNESS:
        enhance.sharpness(value, source, height, width, result)
    elif code == codes.HUE:
        enhance.hue(value, source, count, result)
    elif code == codes.CUTOUT_ABS:
        enhance.cutout_abs(value, center_y, center_x, source, height, width, result)
    else:
        levels.look_up(code, value, source, count, result, work.table, work.histogram)


@compiled
def _operate_all(start, stop, bilinear, source, height, width, here, there, work):
    """The drawn operations from `start` to `stop`; where the result is: 0 in `source`, 1 `here`, 2 `there`."""
    drawn, place = work.operations, 0
    for number in range(start, stop):
        code = drawn.chosen[number]
        if code <= codes.IDENTITY:
            continue
        image = source if place == 0 else (here if place == 1 else there)
        target = there if place == 1 else here
        _operate(
            code, drawn.values[number], drawn.cosine[number], drawn.sine[number], drawn.center_y[number],
            drawn.center_x[number], bilinear, image, height, width, target, work,
        )  # fmt: skip
        place = 2 if place == 1 else 1
    return place


@compiled
def _mixture(chains, longest, rounding, source, height, width, here, there, result, work):
    """AugMix: the image and its chains, weighed."""
    count, weights, mixed = 3 * height * width, work.operations.weights, work.mixed
    weight = np.int32(weights[0])
    for i in range(count):
        mixed[i] = np.int32(source[i]) * weight + np.int32(rounding)
    for chain in range(chains):
        place = _operate_all(chain * longest, (chain + 1) * longest, True, source, height, width, here, there, work)
        image = source if place == 0 else (here if place == 1 else there)
        weight = np.int32(weights[chain + 1])
        for i in range(count):
            mixed[i] += np.int32(image[i]) * weight
    for i in range(count):
        result[i] = np.uint8(mixed[i] >> 16)


@compiled
def _resize_shorter(source, height, width, size, crop, result, work):
    """See `geometry.resize_shorter`; `crop` 0 for none. The new height and width."""
    shorter = min(height, width)
    tall, wide = size * height // shorter, size * width // shorter
    cut_y, cut_x = (max(tall - 2 * size, 0) + 3) // 4 * 4, (max(wide - 2 * size, 0) + 3) // 4 * 4
    kept_y, kept_x, skip_y, skip_x = tall - cut_y, wide - cut_x, cut_y // 2, cut_x // 2
    if crop > 0:
        skip_y, skip_x = skip_y + resample.middle(kept_y, crop), skip_x + resample.middle(kept_x, crop)
        kept_y, kept_x = crop, crop
    resample.resize(
        source, height, width, 0, 0, height, width, tall, wide, skip_y, kept_y, skip_x, kept_x, result, work.on_side,
        work.narrow, work.index_x, work.weights_x, work.index_y, work.weights_y, work.total,
    )  # fmt: skip
    return kept_y, kept_x


# Rows are taken out as slices before the loops over their pixels. Of a sum of numbers the compiler cannot tell that it
# is no negative index, which numba counts from the end, and it would make one pixel at a time.


@compiled
def _load(pixels, start, row, column, plane, height, width, result):
    """Part of an image out of a batch of any memory order, from `start` on."""
    count = height * width
    if row == column * width:  # rows without gaps are one row
        height, width = 1, count
    for y in range(height):
        here, there = start + y * row, y * width
        red, green = result[there : there + width], result[count + there : count + there + width]
        blue = result[2 * count + there : 2 * count + there + width]
        if column == 1:
            first, second = pixels[here : here + width], pixels[here + plane : here + plane + width]
            third = pixels[here + 2 * plane : here + 2 * plane + width]
            for x in range(width):
                red[x] = first[x]
            for x in range(width):
                green[x] = second[x]
            for x in range(width):
                blue[x] = third[x]
        else:
            line = pixels[here : here + 3 * width]
            for x in range(width):
                red[x], green[x], blue[x] = line[3 * x], line[3 * x + 1], line[3 * x + 2]


@compiled
def _unload(source, height, width, mirrored, canvas_y, canvas_x, result):
    """The image on its canvas, 0 outside; `mirrored` left to right."""
    if mirrored:
        _unload_mirrored(source, height, width, canvas_y, canvas_x, result)
        return
    if height == canvas_y and width == canvas_x:
        line, made = source[: 3 * height * width], result[: 3 * height * width]
        for i in range(len(made)):
            made[i] = line[i]
        return
    for channel in range(3):
        for y in range(canvas_y):
            here, there = (channel * height + y) * width, (channel * canvas_y + y) * canvas_x
            inside = min(width, canvas_x) if y < height else 0
            line, made = source[here : here + inside], result[there : there + canvas_x]
            for x in range(inside):
                made[x] = line[x]
            for x in range(inside, canvas_x):
                made[x] = 0


@compiled
def _unload_mirrored(source, height, width, canvas_y, canvas_x, result):
    last = np.uint64(width - 1)
    for channel in range(3):
        for y in range(canvas_y):
            here, there = (channel * height + y) * width, (channel * canvas_y + y) * canvas_x
            inside = width if y < height else 0
            line, made = source[here : here + inside], result[there : there + canvas_x]
            for x in range(inside):
                made[x] = line[last - np.uint64(x)]
            for x in range(inside, canvas_x):
                made[x] = 0


@entry
def normalize(images, boxes, canvas, lookup, fills, result, strides, first):
    """The images through the table of `normalize`, and the boxes that are filled afterwards.

    Args:
        images: uint8 (n, 3 * h * w).
        boxes: int64 (n, boxes, 4): top, left, bottom, right, the last two exclusive.
        canvas: int64 (2,), h and w.
        lookup, fills: (3, 256) and (boxes,), of the bits of the view's dtype.
        result: those bits, flat; `strides` of image, row, column and channel.
        first: where in it the images go.
    """
    tall, wide = canvas[0], canvas[1]
    count, reds, greens, blues = tall * wide, lookup[0], lookup[1], lookup[2]
    for number in range(len(images)):
        start = (first + number) * strides[0]
        whole = strides[1] == strides[2] * wide  # rows without gaps are one row
        rows, length = (1, count) if whole else (tall, wide)
        for y in range(rows):
            here, there = y * length, start + y * strides[1]
            red, green = images[number, here : here + length], images[number, count + here : count + here + length]
            blue = images[number, 2 * count + here : 2 * count + here + length]
            if strides[2] == 1:
                line = result[there : there + length]
                for x in range(length):
                    line[x] = reds[red[x]]
                line = result[there + strides[3] : there + strides[3] + length]
                for x in range(length):
                    line[x] = greens[green[x]]
                line = result[there + 2 * strides[3] : there + 2 * strides[3] + length]
                for x in range(length):
                    line[x] = blues[blue[x]]
            else:
                line = result[there : there + 3 * length]
                for x in range(length):
                    line[3 * x], line[3 * x + 1], line[3 * x + 2] = reds[red[x]], greens[green[x]], blues[blue[x]]
        for box in range(len(fills)):
            top, left = max(boxes[number, box, 0], 0), max(boxes[number, box, 1], 0)
            bottom, right = min(boxes[number, box, 2], tall), min(boxes[number, box, 3], wide)
            for channel in range(3):
                for y in range(top, bottom):
                    for x in range(left, right):
                        result[start + channel * strides[3] + y * strides[1] + x * strides[2]] = fills[box]


@compiled
def _fills(kind, size, height, width, canvas):
    """Whether what a step makes is its canvas, pixel by pixel, of those steps that write what they make once."""
    if kind == codes.SINGLE:
        return height == canvas[0] and width == canvas[1]
    crop = kind == codes.RANDOM_CROP or kind == codes.CENTER_CROP
    resize = kind == codes.RANDOM_RESIZED_CROP or kind == codes.RESIZE
    return (crop or resize) and size == canvas[0] and size == canvas[1]


@entry
def run(images, strides, sizes, indices, key, name, program, integers, floats, first, canvas, out, boxes, work):
    """Some images of a batch, up to `normalize`, and the boxes that are filled after it.

    Args:
        images: uint8 (B * 3 * H * W,); `strides` of image, row, column and channel.
        sizes: int64 (B, 2), the valid areas.
        indices: int64 (B,).
        key, name: of the view, uint64.
        program: int64 (steps, columns), integers, floats: see `programs`.
        first: of the images that are made.
        canvas: int64 (2,), of the result.
        out: uint8 (n, 3 * h * w), of the n images from `first` on.
        boxes: int64 (n, boxes, 4), see `normalize`.
        work: see `Scratch`.
    """
    for made in range(len(out)):
        number = first + made
        height, width = sizes[number, 0], sizes[number, 1]
        _load(images, number * strides[0], strides[1], strides[2], strides[3], height, width, work.first)
        sample, filled = fold(fold(key, indices[number]), name), 0
        image, other, spare = work.first, work.second, work.third
        mirrored = False  # still to be done: the last thing that most programs do is then done on the way out
        written = False  # by the last step, and not on the way out
        for position in range(len(program)):
            step, place = program[position], work.place
            kind, size, moved = step[codes.KIND], step[codes.SIZE], True
            if mirrored and kind != codes.HFLIP and kind != codes.CUTOUT and kind != codes.RANDOM_ERASING:
                resample.flip(image, height, width, other)
                image, other, mirrored = other, image, False
            work.fill[:] = 0
            drawn = choices.decide(
                fold(sample, step[codes.POSITION]),
                step,
                integers,
                floats,
                height,
                width,
                canvas,
                work.operations,
                place,
            )
            if position == len(program) - 1 and _fills(kind, size, height, width, canvas):
                other, written = out[made], True
            if kind == codes.AUGMIX or kind == codes.GOOGLE_AUGMIX:
                rounding = 0 if kind == codes.AUGMIX else 1 << 15
                _mixture(
                    step[codes.COUNT], step[codes.LONGEST], rounding, image, height, width, spare, work.fourth, other,
                    work,
                )  # fmt: skip
            elif drawn > 0:
                at = _operate_all(0, drawn, False, image, height, width, other, spare, work)
                moved = at == 1
                if at == 2:
                    image, spare = spare, image
            elif kind == codes.SINGLE:
                code, value = step[codes.OPERATION], floats[step[codes.VALUE_PLACE]]
                work.fill[0], work.fill[1], work.fill[2] = step[codes.RED], step[codes.GREEN], step[codes.BLUE]
                moved = code > codes.IDENTITY
                if moved:
                    _operate(
                        code, value, step[codes.COSINE], step[codes.SINE], place[0], place[1],
                        step[codes.BILINEAR] != 0, image, height, width, other, work,
                    )  # fmt: skip
            elif kind == codes.RANDOM_CROP or kind == codes.CENTER_CROP:
                if kind == codes.CENTER_CROP:
                    place[0], place[1] = resample.middle(height, size), resample.middle(width, size)
                resample.crop(image, height, width, place[0], place[1], size, other)
                height, width = size, size
            elif kind == codes.HFLIP:
                moved = False
                mirrored = mirrored != (place[0] != 0)
            elif kind == codes.RANDOM_RESIZED_CROP or kind == codes.RESIZE:
                if kind == codes.RESIZE:
                    place[0], place[1], place[2], place[3] = 0, 0, height, width
                resample.resize(
                    image, height, width, place[0], place[1], place[2], place[3], size, size, 0, size, 0, size, other,
                    work.on_side, work.narrow, work.index_x, work.weights_x, work.index_y, work.weights_y, work.total,
                )  # fmt: skip
                height, width = size, size
            elif kind == codes.RESIZE_SHORTER:
                height, width = _resize_shorter(image, height, width, size, step[codes.CROP], other, work)
            else:  # a box that is filled after `normalize`
                moved = False
                top, left, bottom, right = place[0], place[1], place[0] + place[2], place[1] + place[3]
                if kind == codes.CUTOUT:
                    top, left, bottom, right = top - size, left - size, top + size, left + size
                boxes[made, filled, 0], boxes[made, filled, 1] = top, left
                boxes[made, filled, 2], boxes[made, filled, 3] = bottom, right
                filled += 1
            if moved:
                image, other = other, image
            else:
                written = False
        if not written:
            _unload(image, height, width, mirrored, canvas[0], canvas[1], out[made])
