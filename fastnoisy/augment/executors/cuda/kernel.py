"""A whole program over one image, from the batch of bytes to the batch that a network trains on."""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from fastnoisy.augment.executors import codes
from fastnoisy.augment.executors.cuda import choices, constants, maps, pixels, resample
from fastnoisy.augment.executors.cuda.keys import draw, fold


@triton.jit
def _operated(
    image, p, code, value, cosine, sine, center_y, center_x, fill, mean, red_table, green_table, blue_table,
    a, b, c, d, e, f, height, width, zero,
    BILINEAR: tl.constexpr, OPS: tl.constexpr, ON_CHIP: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """What one operation makes of pixels `p`."""
    p = tl.minimum(p, height * width - 1)
    here = pixels.tile(image, p, height * width, ON_CHIP)
    made = tl.zeros((N,), tl.int32)
    if (code >= codes.ROTATE) & (code <= codes.TRANSLATE_Y):
        if BILINEAR:
            whole = ((code == codes.TRANSLATE_X) | (code == codes.TRANSLATE_Y)) & (((c | f) & ((1 << 48) - 1)) == 0)
            if whole:
                made = maps.nearest(image, p, a, b, c, d, e, f, fill, height, width, ON_CHIP)
            else:
                made = maps.bilinear(image, p, a, b, c, d, e, f, fill, height, width, ON_CHIP)
        else:
            made = maps.nearest(image, p, a, b, c, d, e, f, fill, height, width, ON_CHIP)
    elif code == codes.SHARPNESS:
        if (OPS >> codes.SHARPNESS) & 1:
            made = pixels.sharpness(image, here, p, value.to(tl.float32), zero, height, width, ON_CHIP, N)
    elif code == codes.CUTOUT_ABS:
        if (OPS >> codes.CUTOUT_ABS) & 1:
            made = pixels.cutout_abs(here, p, value, center_y, center_x, width, zero)
    else:
        made = pixels.levels_of(code, value, here, mean, red_table, green_table, blue_table, zero, OPS)
    return made


@triton.jit
def _operate(
    image, target, code, value, cosine, sine, center_y, center_x, fill, height, width, zero,
    BILINEAR: tl.constexpr, OPS: tl.constexpr, ON_CHIP: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """One operation of a whole image, which is returned; `target` is the scratch it is written to."""
    count = height * width
    if code > codes.IDENTITY:
        mean = tl.full((), 0, tl.int32)
        if (OPS >> codes.CONTRAST) & 1:
            if code == codes.CONTRAST:
                mean = pixels.grey_mean(image, count, ON_CHIP, N)
        red_table, green_table, blue_table = pixels.tables(code, image, count, zero, OPS, ON_CHIP, N)
        a, b, c, d, e, f = maps.matrix(code, value, cosine, sine, height.to(tl.int64), width.to(tl.int64), zero)
        if ON_CHIP:
            image = _operated(
                image, tl.arange(0, N), code, value, cosine, sine, center_y, center_x, fill, mean, red_table,
                green_table, blue_table, a, b, c, d, e, f, height, width, zero, BILINEAR, OPS, ON_CHIP, N,
            )  # fmt: skip
        else:
            for start in range(0, count, N):
                p = start + tl.arange(0, N)
                made = _operated(
                    image, p, code, value, cosine, sine, center_y, center_x, fill, mean, red_table, green_table,
                    blue_table, a, b, c, d, e, f, height, width, zero, BILINEAR, OPS, ON_CHIP, N,
                )  # fmt: skip
                tl.store(target + p, made, mask=p < count)
            tl.debug_barrier()
            image = target
    return image


@triton.jit
def _mixture(
    image, first, second, sums, ROOM, key, step, integers, floats, height, width, zero,
    GOOGLE: tl.constexpr, WIDTH: tl.constexpr, OPS: tl.constexpr, ON_CHIP: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """AugMix: the image and its chains, weighed. In scratch the result is `first`, and `sums` are three planes."""
    count, chains = height * width, choices.column(step, codes.COUNT).to(tl.int32)
    depth, longest = choices.column(step, codes.DEPTH), choices.column(step, codes.LONGEST).to(tl.int32)
    tall, wide = height.to(tl.int64), width.to(tl.int64)
    own_key = fold(key, 0)
    cut, share = choices.cuts(own_key, chains, WIDTH), draw(own_key, 0, 65536)
    rest = tl.full((), 65536, tl.int64)
    rounding: tl.constexpr = 32768 if GOOGLE else 0
    red = tl.full((N,), rounding, tl.int32)
    green, blue = red, red
    if not ON_CHIP:
        for start in range(0, count, N):
            p = start + tl.arange(0, N)
            for plane in tl.static_range(3):
                tl.store(sums + plane * ROOM + p, red, mask=p < count)
        tl.debug_barrier()
    for chain in range(chains):
        own, made, target, spare = choices.chain_key(key, chain), image, first, second
        length = choices.chain_length(own, depth).to(tl.int32)
        for position in range(longest):
            if position < length:
                if GOOGLE:
                    code, value, cosine, sine = choices.google_augmix(own, position, step, integers, tall, wide)
                else:
                    code, value, cosine, sine = choices.augmix(own, position, step, integers, floats, tall, wide)
                made = _operate(
                    made, target, code, value, cosine, sine, tl.full((), 0, tl.int64), tl.full((), 0, tl.int64),
                    0, height, width, zero, True, OPS, ON_CHIP, N,
                )  # fmt: skip
                if not ON_CHIP:
                    if code > codes.IDENTITY:
                        target, spare = spare, target
        weight = choices.weight(cut, share, chain, WIDTH)
        rest -= weight
        weight = weight.to(tl.int32)
        if ON_CHIP:
            red += pixels.level(made, 0) * weight
            green += pixels.level(made, 1) * weight
            blue += pixels.level(made, 2) * weight
        else:
            for start in range(0, count, N):
                p = start + tl.arange(0, N)
                pixel = tl.load(made + p, mask=p < count, other=0)
                red = tl.load(sums + p, mask=p < count, other=0) + pixels.level(pixel, 0) * weight
                green = tl.load(sums + ROOM + p, mask=p < count, other=0) + pixels.level(pixel, 1) * weight
                blue = tl.load(sums + 2 * ROOM + p, mask=p < count, other=0) + pixels.level(pixel, 2) * weight
                tl.store(sums + p, red, mask=p < count)
                tl.store(sums + ROOM + p, green, mask=p < count)
                tl.store(sums + 2 * ROOM + p, blue, mask=p < count)
            tl.debug_barrier()
    weight = rest.to(tl.int32)
    if ON_CHIP:
        red = (red + pixels.level(image, 0) * weight) >> 16
        green = (green + pixels.level(image, 1) * weight) >> 16
        blue = (blue + pixels.level(image, 2) * weight) >> 16
        return pixels.packed(red, green, blue)
    else:
        for start in range(0, count, N):
            p = start + tl.arange(0, N)
            pixel = tl.load(image + p, mask=p < count, other=0)
            red = (tl.load(sums + p, mask=p < count, other=0) + pixels.level(pixel, 0) * weight) >> 16
            green = (tl.load(sums + ROOM + p, mask=p < count, other=0) + pixels.level(pixel, 1) * weight) >> 16
            blue = (tl.load(sums + 2 * ROOM + p, mask=p < count, other=0) + pixels.level(pixel, 2) * weight) >> 16
            tl.store(first + p, pixels.packed(red, green, blue), mask=p < count)
        tl.debug_barrier()
        return first


@triton.jit
def _window(
    image, batch, p, top, left, rows, columns, mirrored, height, width, row, column, plane,
    FROM_BATCH: tl.constexpr, ON_CHIP: tl.constexpr,
):  # fmt: skip
    """Pixels `p` of a window of the image, 0 where it lies outside; mirrored left to right where `mirrored`."""
    y, x = p // columns, p % columns
    y, x = y + top, tl.where(mirrored, columns - 1 - x, x) + left
    inside = (p < rows * columns) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return resample.read(image, batch, y, x, width, row, column, plane, inside, FROM_BATCH, ON_CHIP)


@triton.jit
def _moved(
    image, target, batch, top, left, rows, columns, mirrored, height, width, row, column, plane,
    FROM_BATCH: tl.constexpr, ON_CHIP: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """A window of the image: see `_window`."""
    if ON_CHIP:
        return _window(
            image, batch, tl.arange(0, N), top, left, rows, columns, mirrored, height, width, row, column, plane,
            FROM_BATCH, ON_CHIP,
        )  # fmt: skip
    else:
        for start in range(0, rows * columns, N):
            p = start + tl.arange(0, N)
            made = _window(
                image, batch, p, top, left, rows, columns, mirrored, height, width, row, column, plane, FROM_BATCH,
                ON_CHIP,
            )  # fmt: skip
            tl.store(target + p, made, mask=p < rows * columns)
        tl.debug_barrier()
        return target


@triton.jit
def _resized(
    image, target, narrow, tables, batch, top, left, box_height, box_width, new_height, new_width,
    skip_y, rows, skip_x, columns, width, row, column, plane,
    FROM_BATCH: tl.constexpr, ON_CHIP: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """A box resized to new_height x new_width, of which rows x columns pixels from (skip_y, skip_x) on are made.

    In scratch the rows of `narrow` are as long as the result's; coefficients go to `tables`.
    """
    if ON_CHIP:
        p = tl.arange(0, N)
        image = resample.across(
            image, batch, p, top, left, skip_x, columns, box_width, new_width, box_height, width, row, column, plane,
            tables, FROM_BATCH, ON_CHIP, N,
        )  # fmt: skip
        return resample.along(image, p, skip_y, rows, box_height, new_height, columns, tables, ON_CHIP, N)
    else:
        lower = tables + columns * (1 + resample.taps(box_width, new_width))
        resample.write_coefficients(tables, skip_x, columns, box_width, new_width, N)
        resample.write_coefficients(lower, skip_y, rows, box_height, new_height, N)
        tl.debug_barrier()
        for start in range(0, box_height * columns, N):
            p = start + tl.arange(0, N)
            made = resample.across(
                image, batch, p, top, left, skip_x, columns, box_width, new_width, box_height, width, row, column,
                plane, tables, FROM_BATCH, ON_CHIP, N,
            )  # fmt: skip
            tl.store(narrow + p, made, mask=p < box_height * columns)
        tl.debug_barrier()
        for start in range(0, rows * columns, N):
            p = start + tl.arange(0, N)
            made = resample.along(narrow, p, skip_y, rows, box_height, new_height, columns, lower, ON_CHIP, N)
            tl.store(target + p, made, mask=p < rows * columns)
        tl.debug_barrier()
        return target


@triton.jit
def _filled(y, x, top, left, bottom, right):
    """Which pixels lie in a box; bottom and right do not belong to it."""
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)


@triton.jit
def _step(
    image, first, second, third, sums, tables, ROOM, batch, own, step, integers, floats, height, width, row, column,
    plane, OUT_H, OUT_W, zero,
    KIND: tl.constexpr, OPS: tl.constexpr, WIDTH: tl.constexpr, FROM_BATCH: tl.constexpr, ON_CHIP: tl.constexpr,
    N: tl.constexpr,
):  # fmt: skip
    """One step of the program: the image, its buffer and the other one, its height and width, and a box to be filled.

    Args:
        first, second, third: buffers in scratch memory, the first of which holds the image.
        own: the sample's key for this step; `step` points to its row.
        FROM_BATCH: whether it reads the batch itself, where no image has been made yet.
        The others are as for `view`.
    """
    no = tl.full((), 0, tl.int32)
    none = tl.full((), 0, tl.int64)
    box_top, box_left, box_bottom, box_right = no, no, no, no
    if KIND == codes.SINGLE:
        fill = pixels.packed(
            choices.column(step, codes.RED), choices.column(step, codes.GREEN), choices.column(step, codes.BLUE)
        ).to(tl.int32)
        code, value = (
            choices.column(step, codes.OPERATION),
            tl.load(floats + choices.column(step, codes.VALUE_PLACE)),
        )
        cosine, sine = choices.column(step, codes.COSINE), choices.column(step, codes.SINE)
        center_y, center_x = choices.center(own, 0, height), choices.center(own, 1, width)
        if choices.column(step, codes.BILINEAR) != 0:
            image = _operate(
                image, second, code, value, cosine, sine, center_y, center_x, fill, height, width, zero, True, OPS,
                ON_CHIP, N,
            )  # fmt: skip
        else:
            image = _operate(
                image, second, code, value, cosine, sine, center_y, center_x, fill, height, width, zero, False, OPS,
                ON_CHIP, N,
            )  # fmt: skip
        if code > codes.IDENTITY:
            first, second = second, first
    elif KIND == codes.AUGMIX or KIND == codes.GOOGLE_AUGMIX:
        image = _mixture(
            image, second, third, sums, ROOM, own, step, integers, floats, height, width, zero,
            KIND == codes.GOOGLE_AUGMIX, WIDTH, OPS, ON_CHIP, N,
        )  # fmt: skip
        first, second = second, first
    elif KIND <= codes.COLOR_JITTER:
        count = choices.column(step, codes.COUNT).to(tl.int32)
        for operation in range(count):
            cosine, sine, center_y, center_x = none, none, none, none
            if KIND == codes.RANDAUGMENT:
                code, value, cosine, sine, center_y, center_x = choices.randaugment(
                    own, operation, step, integers, floats, height, width
                )
            elif KIND == codes.TORCHVISION_RANDAUGMENT:
                code, value, cosine, sine = choices.torchvision_randaugment(
                    own, operation, step, integers, floats, height, width
                )
            elif KIND == codes.AUTOAUGMENT:
                code, value, cosine, sine = choices.autoaugment(own, operation, step, integers, floats, height, width)
            else:
                code, value = choices.color_jitter(own, operation, step, integers)
            image = _operate(
                image, second, code, value, cosine, sine, center_y, center_x, 0, height, width, zero, False, OPS,
                ON_CHIP, N,
            )  # fmt: skip
            if not ON_CHIP:
                if code > codes.IDENTITY:
                    first, second = second, first
    elif KIND == codes.RANDOM_CROP or KIND == codes.CENTER_CROP:
        size = choices.column(step, codes.SIZE).to(tl.int32)
        if KIND == codes.RANDOM_CROP:
            top, left = choices.random_crop(own, step, height, width)
        else:
            top, left = resample.middle(height, size), resample.middle(width, size)
        image = _moved(
            image, second, batch, top, left, size, size, no != 0, height, width, row, column, plane, FROM_BATCH,
            ON_CHIP, N,
        )  # fmt: skip
        first, second, height, width = second, first, size, size
    elif KIND == codes.HFLIP:
        if choices.hflip(own, step):
            image = _moved(
                image, second, batch, no, no, height, width, no == 0, height, width, row, column, plane, False,
                ON_CHIP, N,
            )  # fmt: skip
            first, second = second, first
    elif KIND == codes.RANDOM_RESIZED_CROP or KIND == codes.RESIZE:
        size = choices.column(step, codes.SIZE).to(tl.int32)
        top, left, tall, wide = no, no, height, width
        if KIND == codes.RANDOM_RESIZED_CROP:
            top, left, tall, wide = choices.random_resized_crop(own, step, integers, height, width)
        image = _resized(
            image, second, third, tables, batch, top, left, tall, wide, size, size, no, size, no, size, width, row,
            column, plane, FROM_BATCH, ON_CHIP, N,
        )  # fmt: skip
        first, second, height, width = second, first, size, size
    elif KIND == codes.RESIZE_SHORTER:
        size, crop = choices.column(step, codes.SIZE).to(tl.int32), choices.column(step, codes.CROP).to(tl.int32)
        shorter = tl.minimum(height, width)
        tall, wide = size * height // shorter, size * width // shorter
        cut_y = (tl.maximum(tall - 2 * size, 0) + 3) // 4 * 4
        cut_x = (tl.maximum(wide - 2 * size, 0) + 3) // 4 * 4
        kept_y, kept_x, skip_y, skip_x = tall - cut_y, wide - cut_x, cut_y // 2, cut_x // 2
        if crop > 0:
            skip_y, skip_x = skip_y + resample.middle(kept_y, crop), skip_x + resample.middle(kept_x, crop)
            kept_y, kept_x = crop, crop
        image = _resized(
            image, second, third, tables, batch, no, no, height, width, tall, wide, skip_y, kept_y, skip_x, kept_x,
            width, row, column, plane, FROM_BATCH, ON_CHIP, N,
        )  # fmt: skip
        first, second, height, width = second, first, kept_y, kept_x
    else:  # a box that is filled after `normalize`
        if KIND == codes.CUTOUT:
            reach = choices.column(step, codes.SIZE).to(tl.int32)
            y, x = draw(own, 0, OUT_H).to(tl.int32), draw(own, 1, OUT_W).to(tl.int32)
            top, left, bottom, right = y - reach, x - reach, y + reach, x + reach
        else:
            top, left, bottom, right = choices.random_erasing(own, step, integers, height, width)
            bottom, right = top + bottom, left + right
        box_top, box_left, box_bottom, box_right = top, left, bottom, right
    return image, first, second, height, width, box_top, box_left, box_bottom, box_right


@triton.jit
def view(
    batch, sizes, indices, key, rows, integers, floats, lookup, fills, out, scratch, ROOM, NARROW, TABLES, FIRST,
    H, W, row, column, plane, image_stride, OUT_H, OUT_W, out_row, out_column, out_plane, zero, NAME,
    STEPS: tl.constexpr, UINT8_STEPS: tl.constexpr, KINDS: tl.constexpr, OPS: tl.constexpr, WIDTH: tl.constexpr,
    HAS_SIZES: tl.constexpr, NORMALIZED: tl.constexpr, FROM_BATCH: tl.constexpr,
    ON_CHIP: tl.constexpr, N: tl.constexpr, VERSION: tl.constexpr,
):  # fmt: skip
    """One image of a view.

    Args:
        batch: uint8, images of H x W pixels with strides `image_stride`, `row`, `column` and `plane`.
        sizes: int32 (B, 2), the valid areas, if HAS_SIZES.
        indices, key: int64 (B,) and ().
        rows, integers, floats: the program, see `programs`. The view's name is the last of the integers, NAME of which
            come before it.
        FIRST: of the images that this launch makes; `scratch` is theirs.
        lookup, fills: (3, 256) and (BOXES,) of the result's dtype: see `normalize`, and what boxes are filled with.
        out: the result, OUT_H x OUT_W pixels, its images without gaps; uint8 before `normalize` unless NORMALIZED.
        scratch: int32, of each image two buffers of ROOM pixels and one of NARROW, where a resize keeps its rows; three
            planes of ROOM sums where there is a mixture; and TABLES coefficients.
        zero: 0, see `pixels.hidden`.
        STEPS, UINT8_STEPS: how many steps there are, and before `normalize`.
        KINDS: their kinds, `KIND_BITS` bits each; OPS: a bit for each operation that may be drawn.
        WIDTH: see `choices.cuts`.
        FROM_BATCH: whether the first step reads the batch itself.
        ON_CHIP, N: see the package; pixels that are worked on at once, all of them where ON_CHIP.
        VERSION: of the numbers in `codes` and `constants`; it is not used, but told apart by what Triton keeps on disk.
    """
    place = tl.program_id(0).to(tl.int64)
    number = place + FIRST
    batch += number * image_stride
    mixes: tl.constexpr = WIDTH > 1
    if not ON_CHIP:
        scratch += place * (2 * ROOM + NARROW + (3 * ROOM if mixes else 0) + TABLES)
    first, second = scratch, scratch + ROOM
    third = second + ROOM
    sums = third + NARROW
    tables = sums + (3 * ROOM if mixes else 0)
    height, width = tl.full((), 0, tl.int32) + H, tl.full((), 0, tl.int32) + W
    if HAS_SIZES:
        height = tl.minimum(tl.maximum(tl.load(sizes + 2 * number).to(tl.int32), 1), height)
        width = tl.minimum(tl.maximum(tl.load(sizes + 2 * number + 1).to(tl.int32), 1), width)
    sample = fold(fold(tl.load(key), tl.load(indices + number)), tl.load(integers + NAME))
    no = tl.full((), 0, tl.int32)
    top_0, left_0, bottom_0, right_0 = no, no, no, no
    top_1, left_1, bottom_1, right_1 = no, no, no, no
    image = first
    if not FROM_BATCH:
        image = _moved(
            first, first, batch, no, no, height, width, no != 0, height, width, row, column, plane, True, ON_CHIP, N
        )
    for position in tl.static_range(STEPS):
        step = rows + position * codes.COLUMNS
        image, first, second, height, width, top, left, bottom, right = _step(
            image, first, second, third, sums, tables, ROOM, batch, fold(sample, choices.column(step, codes.POSITION)),
            step, integers, floats, height, width, row, column, plane, OUT_H, OUT_W, zero,
            (KINDS >> (constants.KIND_BITS * position)) & constants.KIND_MASK, OPS, WIDTH,
            FROM_BATCH and position == 0, ON_CHIP, N,
        )  # fmt: skip
        if position == UINT8_STEPS:
            top_0, left_0, bottom_0, right_0 = top, left, bottom, right
        elif position > UINT8_STEPS:
            top_1, left_1, bottom_1, right_1 = top, left, bottom, right
    canvas = OUT_H * OUT_W
    out += number * 3 * canvas
    for start in range(0, canvas, N):
        p = start + tl.arange(0, N)
        y, x = p // OUT_W, p % OUT_W
        inside = (y < height) & (x < width)
        pixel = tl.where(inside, pixels.at(image, tl.where(inside, y * width + x, 0), ON_CHIP), 0)
        here = out + y * out_row + x * out_column
        for channel in tl.static_range(3):
            levels = (pixel >> (8 * channel)) & 255
            if NORMALIZED:
                made = tl.load(lookup + 256 * channel + levels)
                if STEPS > UINT8_STEPS:
                    made = tl.where(_filled(y, x, top_0, left_0, bottom_0, right_0), tl.load(fills), made)
                if STEPS > UINT8_STEPS + 1:
                    made = tl.where(_filled(y, x, top_1, left_1, bottom_1, right_1), tl.load(fills + 1), made)
                tl.store(here + channel * out_plane, made, mask=p < canvas)
            else:
                tl.store(here + channel * out_plane, levels.to(tl.uint8), mask=p < canvas)
