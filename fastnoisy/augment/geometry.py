"""Where pixels come from: affine maps, crops, flips and antialiased resizing with Pillow's pixels, all in integers.

Pillow (src/libImaging/Geometry.c, Resample.c) is the reference; shapes and valid areas are as in `rows`. An affine map
takes each output pixel (x, y) to the input position (a x + b y + c, d x + e y + f), measured at pixel centres, as
Pillow's `Image.transform(AFFINE)` does. Its six coefficients are int64 (B, 6) in units of `ONE` = 2**48: fine enough
that what is left of a rounding error never shows (a last-bit difference between two cosines moves a position by 2**-39
pixels at most, and positions are rounded to 2**-16 or 2**-32), coarse enough for canvases up to `MAX_CANVAS` pixels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import kornia.geometry.bbox
import kornia.geometry.transform
import torch
from torch import Tensor

from fastnoisy.augment.rows import blank_outside, colour, extents, in_chunks, on_rows, selects_rows, take_pixels
from fastnoisy.errors import FastnoisyError

ONE = 1 << 48
MAX_CANVAS = 4096  # above it the sums of three products of coefficient and position could pass 2**63
_PRECISION_BITS = 22  # of a resize coefficient; Pillow: 32 - 8 bits of result - 2 bits of overflow


def integer_sqrt(values: Tensor) -> Tensor:
    """The square root rounded down, for int64 below 2**62; the float64 estimate is set right in integers."""
    root = torch.sqrt(values.double()).long()
    root = root - (root * root > values).long()
    return root + ((root + 1) * (root + 1) <= values).long()


def _grid(first: Tensor, second: Tensor, offset: Tensor, H: int, W: int, odd: bool) -> Tensor:
    """`first * x + second * y + offset` for all pixels, (B, H, W); with `odd`, 2x+1 and 2y+1 in place of x and y.

    Products end at about 2**62, which with `odd` lies outside every canvas, so that nothing wraps round into it again.
    """
    x, y = torch.arange(W, device=first.device), torch.arange(H, device=first.device)
    if odd:
        x, y = ((2 * pixel + 1).minimum(farthest(part)[:, None]) for pixel, part in ((x, first), (y, second)))
    return (first[:, None] * x)[:, None, :] + (second[:, None] * y + offset[:, None])[:, :, None]


def farthest(coefficient: Tensor) -> Tensor:
    """How often a coefficient may be taken before its multiples could pass 2**62, int64 (B,)."""
    return (1 << 62) // coefficient.abs().clamp(min=1)


def _fill(images: Tensor, inside: Tensor, rgb: tuple[int, int, int]) -> Tensor:
    return torch.where(inside, images, colour(images, rgb)) if any(rgb) else images * inside


def _sample_nearest(
    images: Tensor, matrix: Tensor, height: Tensor, width: Tensor, *, fill: tuple[int, int, int]
) -> Tensor:
    """Pillow's affine_fixed: coefficients rounded to 16.16, positions rounded down to a pixel."""
    H, W = images.shape[2:]
    a, b, c, d, e, f = matrix.unbind(1)
    fixed = (matrix + (1 << 31)) >> 32
    # a map without b and d takes another path through Pillow (ImagingScaleAffine), which does not round
    half = torch.where((b == 0) & (d == 0), 0, 1 << 32)
    column = _grid(fixed[:, 0], fixed[:, 1], (2 * c + a + b + half) >> 33, H, W, odd=False) >> 16
    row = _grid(fixed[:, 3], fixed[:, 4], (2 * f + d + e + half) >> 33, H, W, odd=False) >> 16
    inside = (column >= 0) & (column < width[:, None, None]) & (row >= 0) & (row < height[:, None, None])
    index = row.clamp(0, H - 1) * W + column.clamp(0, W - 1)
    return _fill(take_pixels(images, index), inside[:, None], fill)


def _axis(position: Tensor, extent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One axis of a bilinear sample: first tap, the second tap's weight in 1/65536, and whether the position is valid.

    `position` is in units of 2**-49 pixels. It is rounded to 2**-32 first: 1/15 * 7.5 must be 0.5, as in Pillow's
    doubles, or the pixels on the edge would not be the same ones. Clamping the position to the outer pixels' centres
    weighs the tap beyond the edge with 0, which is Pillow's repeated border.
    """
    position = (position + (1 << 16)) >> 17
    limit = (extent << 32)[:, None, None]
    inside = (position >= 0) & (position < limit)
    position = (position - (1 << 31)).clamp(min=0).minimum(limit - (1 << 32))
    return position >> 32, ((position >> 16) & 0xFFFF).int(), inside


def _sample_bilinear(
    images: Tensor, matrix: Tensor, height: Tensor, width: Tensor, *, fill: tuple[int, int, int]
) -> Tensor:
    """Pillow's bilinear_filter in integers with 16 fractional bits, rounded down as there."""
    H, W = images.shape[2:]
    a, b, c, d, e, f = matrix.unbind(1)
    column, right, inside_x = _axis(_grid(a, b, 2 * c, H, W, odd=True), width)
    row, lower, inside_y = _axis(_grid(d, e, 2 * f, H, W, odd=True), height)
    index = row * W + column
    right, lower = right[:, None], lower[:, None]

    def tap(step: int) -> Tensor:  # a tap past the last pixel has weight 0
        return take_pixels(images, index if step == 0 else (index + step).clamp(max=H * W - 1)).int()

    first, second = tap(0), tap(W)
    first = (first << 16) + (tap(1) - first) * right
    second = (second << 16) + (tap(W + 1) - second) * right
    result = ((first + (((second - first).long() * lower) >> 16)) >> 16).to(torch.uint8)
    return _fill(result, (inside_x & inside_y)[:, None], fill)


def affine(
    images: Tensor,
    sizes: Tensor | None,
    matrix: Tensor,
    *,
    fill: tuple[int, int, int] = (0, 0, 0),
    bilinear: bool = False,
) -> Tensor:
    """Map each image by its own affine map.

    Nearest equals Pillow on every pixel; bilinear is within one level of it (the same pixels are filled; the weights
    have 16 fractional bits where Pillow has doubles).

    Args:
        images: uint8 (B, C, H, W), H and W at most `MAX_CANVAS`.
        sizes: valid (height, width), (B, 2), or None for the whole canvas.
        matrix: int64 (B, 6) in units of 2**-48, see the module.
        fill: the colour of pixels that come from outside the valid area (C = 3 unless it is black). It is never blended
            in: bilinear repeats the outermost pixels, as Pillow's `fillcolor` goes to whole pixels only.
        bilinear: else nearest.
    """
    H, W = images.shape[2:]
    if max(H, W) > MAX_CANVAS:
        raise FastnoisyError(f"a canvas of {H} x {W} pixels", f"Affine maps take up to {MAX_CANVAS} x {MAX_CANVAS}.")
    sample = functools.partial(_sample_bilinear if bilinear else _sample_nearest, fill=fill)
    return blank_outside(in_chunks(sample, H * W, images, matrix, *extents(images, sizes)), sizes)


def linear_map(a: Tensor, b: Tensor, d: Tensor, e: Tensor, c: Tensor, f: Tensor) -> Tensor:
    """Six int64 (B,) coefficients in units of 2**-48 as one matrix (B, 6), in Pillow's order a b c d e f."""
    return torch.stack([a, b, c, d, e, f], 1)


def to_units(values: Tensor) -> Tensor:
    """Float64 numbers in units of 2**-48, int64; clamped to what cannot overflow (and lies outside every canvas)."""
    return torch.round(values.double().clamp(-2.0 * MAX_CANVAS, 2.0 * MAX_CANVAS) * ONE).long()


def rotation_table(degrees: list[float]) -> Tensor:
    """Cosine and sine of angles in degrees, int64 (n, 2) in units of 2**-48, from the host's float64 functions."""
    turns = [math.radians(angle % 360.0) for angle in degrees]
    units = [[round(math.cos(turn) * ONE), round(math.sin(turn) * ONE)] for turn in turns]
    return torch.tensor(units, dtype=torch.int64).view(-1, 2)


def rotation_units(degrees: Tensor) -> Tensor:
    """As `rotation_table`, for a tensor (B,) of angles: on the host where it lies there, else on its device."""
    if degrees.device.type == "cpu" and not torch.compiler.is_compiling():
        return rotation_table(degrees.tolist())
    turns = torch.deg2rad(torch.remainder(degrees.double(), 360.0))
    return torch.stack([torch.round(torch.cos(turns) * ONE), torch.round(torch.sin(turns) * ONE)], 1).long()


def rotation_map(rotation: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """The map of `Image.rotate`: counter-clockwise about the valid area's centre (width / 2, height / 2).

    Args:
        rotation: int64 (B, 2), cosine and sine in units of 2**-48.
        height, width: int64 (B,), of the valid area.

    Returns:
        int64 (B, 6). The shift is (centre - rotated centre), computed in integers and halved last.
    """
    cosine, sine = rotation.unbind(1)
    shift_x = (width * ONE - cosine * width + sine * height) >> 1
    shift_y = (height * ONE - sine * width - cosine * height) >> 1
    return linear_map(cosine, -sine, sine, cosine, shift_x, shift_y)


def crop(images: Tensor, sizes: Tensor | None, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Cut a window of `size` x `size` pixels out of each image; what lies outside the valid area is 0.

    Args:
        images: uint8 (B, C, H, W).
        sizes: valid (height, width), (B, 2), or None for the whole canvas.
        top, left: int64 (B,), the window's corner; may be negative.
        size: side of the window in pixels.

    Returns:
        uint8 (B, C, size, size), valid everywhere.
    """
    H, W = images.shape[2:]
    height, width = extents(images, sizes)
    steps = torch.arange(size, device=images.device)
    row, column = top[:, None] + steps, left[:, None] + steps
    in_row, in_column = (row >= 0) & (row < height[:, None]), (column >= 0) & (column < width[:, None])
    index = (row.clamp(0, H - 1) * W)[:, :, None] + column.clamp(0, W - 1)[:, None, :]
    return take_pixels(images, index) * (in_row[:, :, None] & in_column[:, None, :])[:, None]


def box_mask(canvas: Sequence[int], top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """The pixels of one box per sample on a canvas (H, W), bool (B, 1, H, W); its ends, int64 (B,), belong to it.

    A box that ends before it begins has none. Comparisons of whole numbers in float32, exact on every canvas.
    """
    height, width = canvas
    corners = torch.stack([left, top, right, top, right, bottom, left, bottom], 1).view(-1, 4, 2)
    return kornia.geometry.bbox.bbox_to_mask(corners.float(), width, height).bool()[:, None]


def flip(images: Tensor, sizes: Tensor | None, mask: Tensor) -> Tensor:
    """Mirror the valid area of the images in `mask`, bool (B,), left to right."""
    if sizes is None:
        return on_rows(mask, kornia.geometry.transform.hflip, images)
    column = torch.arange(images.shape[3], device=images.device)
    width = extents(images, sizes)[1][:, None]
    source = torch.where(mask[:, None] & (column < width), width - 1 - column, column)
    return images.gather(3, source[:, None, None, :].expand_as(images))


def _resize_taps(
    start: Tensor, length: Tensor, size: Tensor, skip: Tensor, count: int, taps: int
) -> tuple[Tensor, Tensor]:
    """Pillow's resize coefficients along one axis: for each output pixel the first source pixel and K coefficients.

    Output pixel i of n, from a crop of s pixels: source pixel j of the crop weighs max(0, 1 - distance / scale), which
    times 2 max(s, n) is the integer max(0, 2 max(s, n) - |(2 j + 1) n - (2 i + 1) s|). The coefficient is that over the
    sum, in 22 bits, rounded to the nearest integer. Where the exact quotient is closest to half an integer it still is
    1 / (2 sum) away (sum below 2**23, so no ties), which Pillow's doubles resolve, so the integers are Pillow's.

    Args:
        start, length: int64 (B,), the crop along this axis, in pixels; length is s.
        size: int64 (B,), n, the number of pixels it is resized to.
        skip, count: which of these are computed: `count` of them from `skip`, int64 (B,), on. Where they end earlier,
            the rest is without meaning.
        taps: K, not below 2 max(s / n, 1), since positive weights lie less than that many pixels apart.

    Returns:
        Index of the first tap on the canvas, int64 (B, count), and coefficients int32 (B, count, K).
    """
    span = torch.maximum(length, size)[:, None]
    size = size[:, None]
    centre = (2 * (skip[:, None] + torch.arange(count, device=start.device)) + 1) * length[:, None]  # times 2 n
    first = ((centre - 2 * span + size) // (2 * size)).clamp(min=0)
    source = first[:, :, None] + torch.arange(taps, device=start.device)
    weight = 2 * span[:, :, None] - ((2 * source + 1) * size[:, :, None] - centre[:, :, None]).abs()
    weight = weight.clamp(min=0) * (source < length[:, None, None])
    total = weight.sum(2, keepdim=True).clamp(min=1)
    coefficient = ((weight << (_PRECISION_BITS + 1)) + total) // (2 * total)
    return start[:, None] + first, coefficient.int()


def _resample(images: Tensor, first: Tensor, coefficients: Tensor, dim: int) -> Tensor:
    """One pass of a resize along `dim` (2 or 3): sums of coefficient x pixel in int32, rounded, uint8."""
    B, C, H, W = images.shape
    size, taps = coefficients.shape[1:]
    shape, view = ((B, C, size, W), (B, 1, size, 1)) if dim == 2 else ((B, C, H, size), (B, 1, 1, size))
    total = images.new_full((), 1 << (_PRECISION_BITS - 1), dtype=torch.int32)
    for tap in range(taps):
        index = (first + tap).clamp(max=images.shape[dim] - 1).view(view).expand(shape)
        total = total + images.gather(dim, index) * coefficients[:, :, tap].reshape(view)
    return (total >> _PRECISION_BITS).clamp(0, 255).to(torch.uint8)


def resized_crop(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: int) -> Tensor:
    """Crop each image to its own box and resize that to `size` x `size`, antialiased bilinear, exactly as Pillow.

    Args:
        images: uint8 (B, C, H, W).
        top, left, height, width: int64 (B,), the boxes, inside the canvas and not empty.
        size: output side in pixels.

    Returns:
        uint8 (B, C, size, size), equal to `crop(box).resize((size, size), BILINEAR)`: the horizontal pass first, the
        vertical pass on its uint8 result. Sums stay below 255 * 2**22 + 2**21 < 2**31.
    """
    C, H, W = images.shape[1:]

    taps = [-(-2 * max(extent, size) // size) for extent in (H, W)]

    def resize(part: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
        sides, none = torch.full_like(top, size), torch.zeros_like(top)
        narrow = _resample(part, *_resize_taps(left, width, sides, none, size, taps[1]), dim=3)
        return _resample(narrow, *_resize_taps(top, height, sides, none, size, taps[0]), dim=2)

    return in_chunks(resize, C * H * size, images, top, left, height, width)


def resize_shorter(
    images: Tensor, sizes: Tensor | None, size: int, crop: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Resize each valid area so that its shorter side is `size`, antialiased bilinear, exactly as Pillow.

    The longer side becomes size * longer // shorter (torchvision's `Resize(size)`). The canvas has the fixed side
    2 * size, whatever the input's. Of an area that would be longer only the middle is kept: a multiple of 4 pixels is
    cut, half on either end, so that a `center_crop` afterwards takes the very pixels it would take of the whole.

    Args:
        images: uint8 (B, C, H, W).
        sizes: valid (height, width), (B, 2), or None for the whole canvas.
        size: of the shorter side, in pixels; at least 3, so that what is kept of a long area is no shorter than that.
        crop: at most `size`: the middle crop x crop pixels alone are computed, the very ones that `center_crop` would
            take of the result.

    Returns:
        uint8 (B, C, 2 * size, 2 * size), 0 outside the valid areas, and these, int64 (B, 2); with `crop`
        (B, C, crop, crop), valid everywhere, and None.
    """
    C, H, W = images.shape[1:]
    height, width = extents(images, sizes)
    if selects_rows(images) and len(images):  # empty lines cost as much as others
        H, W = int(height.max()), int(width.max())
        images = images[:, :, :H, :W]
    resized = [size * extent // torch.minimum(height, width) for extent in (height, width)]
    cut = [((extent - 2 * size).clamp(min=0) + 3) // 4 * 4 for extent in resized]
    kept = [extent - pixels for extent, pixels in zip(resized, cut, strict=True)]
    skip = [pixels // 2 for pixels in cut]
    side = 2 * size
    if crop is not None:
        skip = [pixels + middle(extent, crop) for pixels, extent in zip(skip, kept, strict=True)]
        side = crop
    # longer / (size * longer // shorter) is at most shorter / size * (1 + 1 / size)
    taps = -(-2 * max(min(H, W) * (size + 1), size * size) // (size * size))

    def resize(part: Tensor, height: Tensor, width: Tensor, *spans: Tensor) -> Tensor:
        tall, wide, skip_y, skip_x = spans
        corner = torch.zeros_like(height)
        narrow = _resample(part, *_resize_taps(corner, width, wide, skip_x, side, taps), dim=3)
        return _resample(narrow, *_resize_taps(corner, height, tall, skip_y, side, taps), dim=2)

    result = in_chunks(resize, C * H * side, images, height, width, *resized, *skip)
    if crop is not None:
        return result, None
    valid = torch.stack(kept, 1)
    return blank_outside(result, valid), valid


def middle(extent: Tensor, size: int) -> Tensor:
    """Where a window of `size` pixels in the middle of `extent` begins, int64 (B,): torchvision's rounding."""
    free = extent - size
    halved = free >> 1
    to_even = halved + (free & halved & 1)  # torchvision: int(round(free / 2)), and Python rounds 0.5 to even
    return torch.where(free >= 0, to_even, -(-free >> 1))
