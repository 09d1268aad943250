"""The augmentation operations: one function each, with Pillow's pixels, a whole batch at a time.

Images are uint8 (B, 3, H, W); each sample has its own value and, through `apply_ops`, its own operation. There are five
families, so that a batch in which every sample has another operation costs one pass per family, not one per operation:

- *table*: the function makes a table of new levels, (B, 3 or 1, 256) uint8, from image and value; one lookup applies
all.
- *affine*: the function makes an affine map, int64 (B, 6), from value and valid area; one gather applies all.
- *blend*: the function makes a degenerate image; the result is Pillow's blend of it and the image, the value being the
  image's share.
- *pixel*: the function makes the new image, each pixel from that pixel alone; *box*: it fills a rectangle.

A new operation is one function under `@op(family)`; it is found by its name and tested by tests/contract/test_ops.py.
Exactness: all families but bilinear affine maps equal Pillow on every pixel (ImageOps, ImageEnhance, Image.rotate,
Image.transform), and the result of a sample depends neither on the rest of the batch nor on device or compiler.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import kornia.enhance
import torch
from torch import Tensor

from fastnoisy.augment.colours import shift_hue
from fastnoisy.augment.geometry import ONE, affine, box_mask, linear_map, rotation_map, rotation_units, to_units
from fastnoisy.augment.rows import blank_outside, colour, extents, in_chunks, on_rows, valid_mask
from fastnoisy.errors import FastnoisyError, unknown_name

CUTOUT_COLOUR = (125, 123, 114)  # CutoutAbs of ildoonet/pytorch-randaugment
_OPS: dict[str, Op] = {}


@dataclass(frozen=True)
class Op:
    """A registered operation; `unit` says what its value means and is empty where the value is ignored."""

    name: str
    family: str
    function: Callable[..., Tensor]
    unit: str

    @property
    def doc(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def text(self, value: float, center: Sequence[int] | None = None) -> str:
        """It with its value, and a box with the pixel at its centre: "rotate -3.33", "cutout_abs 4 at 12,30"."""
        words = [self.name]
        if self.unit:
            words.append(f"{value + 0.0:.{'3g' if abs(value) < 1000 else '0f'}}")  # + 0.0: no minus before 0
        if self.family == "box" and center is not None:
            words.append(f"at {center[0] >> 16},{center[1] >> 16}")
        return " ".join(words)


def op(family: str, unit: str = "") -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register a function as the operation of its name. The families' signatures are those of the functions below."""

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        _OPS[function.__name__] = Op(function.__name__, family, function, unit)
        return function

    return register


def op_names() -> list[str]:
    """The names of all operations, sorted."""
    return sorted(_OPS)


def get_op(name: str) -> Op:
    """The operation of that name; FastnoisyError with near misses if there is none."""
    if name not in _OPS:
        raise unknown_name("operation", name, _OPS)
    return _OPS[name]


# ---------------------------------------------------------------------------------------------------------------------
# Tables: (images, values, sizes) -> uint8 (B, 3 or 1, 256)


def _levels(images: Tensor) -> Tensor:
    return torch.arange(256, device=images.device)[None, None]


def _level_images(images: Tensor, values: Tensor) -> Tensor:
    """The 256 levels as one little float32 image (B, 1, 16, 16) per sample, for kornia's primitives."""
    return _levels(images).float().view(1, 1, 16, 16).expand(len(values), 1, 16, 16)


def _as_table(level_images: Tensor) -> Tensor:
    """What a primitive made of `_level_images`, whole numbers, as tables."""
    return level_images.to(torch.uint8).view(-1, 1, 256)


def _grey(images: Tensor) -> Tensor:
    """Pillow's RGB to L (ITU-R 601-2 luma in 16 bits, rounded), int32 (B, 1, H, W)."""
    red, green, blue = images.int().split(1, 1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _blend(degenerate: Tensor, image: Tensor, factor: Tensor) -> Tensor:
    """Pillow's Image.blend (src/libImaging/Blend.c): degenerate + factor * (image - degenerate) in float32, truncated.

    Product and sum are each exact in float64 and rounded to float32 explicitly. That does not keep a compiler from one
    fused multiply-add, which would round once where Pillow rounds twice: LLVM sees that it may take float32 throughout,
    and for a GPU it does (seen in Triton's). Compiled, the product is therefore rounded by its bits.
    """
    alpha = factor.float().double().view(-1, 1, *[1] * (image.dim() - 2))
    product = alpha * (image.double() - degenerate)
    product = _rounded_to_single(product) if torch.compiler.is_compiling() else product.float().double()
    return (product + degenerate).float().clamp(0, 255).to(torch.uint8)


def _rounded_to_single(values: Tensor) -> Tensor:
    """Float64 rounded to the 24 bits of float32's mantissas, ties to even, in integers; their range stays float64's."""
    bits = values.view(torch.int64)
    return ((bits + 0x0FFFFFFF + ((bits >> 29) & 1)) & ~0x1FFFFFFF).view(torch.float64)


def _stretched(levels: Tensor, span: Tensor) -> Tensor:
    """levels * (255.0 / span) in float64, rounded as Python rounds it, also where a compiler sees what is done with it.

    A product that is subtracted from would become one fused multiply-add, which rounds once where Python rounds twice.
    A maximum of the product's bits and 0, which changes nothing as no product is negative, keeps the two apart.
    """
    # 255.0 / tensor would be its reciprocal times 255 in torch, rounded twice
    products = levels.double() * (torch.full_like(span, 255.0, dtype=torch.float64) / span)
    return products.view(torch.int64).clamp(min=0).view(torch.float64)


@op("table")
def autocontrast(images: Tensor, values: Tensor, sizes: Tensor | None) -> Tensor:
    """Stretch each channel's range to 0..255 (ImageOps.autocontrast)."""
    # int32: torch 2.15 compiles reductions of uint8 for a CPU so that the unused lanes of a register take part
    # (measured)
    pixels = images.int()
    high = blank_outside(pixels, sizes).amax((2, 3)).long()
    low = 255 - blank_outside(255 - pixels, sizes).amax((2, 3)).long()
    # int(level * scale - low * scale), as Pillow rounds it: the exact difference may be a whole number
    span = (high - low).clamp(min=1)[:, :, None]
    difference = _stretched(_levels(images), span) - _stretched(low[:, :, None], span)
    stretched = difference.clamp(0, 255).to(torch.uint8)
    return torch.where((high > low)[:, :, None], stretched, _levels(images).to(torch.uint8))


@op("table")
def equalize(images: Tensor, values: Tensor, sizes: Tensor | None) -> Tensor:
    """Equalise each channel's histogram (ImageOps.equalize)."""
    B, C, H, W = images.shape
    count = images.new_ones((), dtype=torch.int32) if sizes is None else valid_mask(images, sizes).int()
    count = count.expand(B, C, H, W).flatten(2)
    histogram = images.new_zeros((B, C, 256), dtype=torch.int32)
    histogram = histogram.scatter_add(2, images.flatten(2).long(), count)
    below = histogram.cumsum(2, dtype=torch.int32) - histogram
    levels = _levels(images)
    last = torch.where(histogram > 0, levels, 0).amax(2, keepdim=True)
    step = below.gather(2, last) // 255  # all pixels but those of the highest level
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step > 0, table, levels).to(torch.uint8)


@op("table")
def invert(images: Tensor, values: Tensor, sizes: Tensor | None) -> Tensor:
    """255 - v (ImageOps.invert)."""
    return _as_table(kornia.enhance.invert(_level_images(images, values), images.new_full((1,), 255)))


@op("table", "bits kept")
def posterize(images: Tensor, values: Tensor, sizes: Tensor | None) -> Tensor:
    """Keep the highest bits (ImageOps.posterize); 0 bits or less leave black, 8 or more change nothing."""
    dropped = 8 - values.long().clamp(0, 8)[:, None, None]
    return (_levels(images) >> dropped << dropped).to(torch.uint8)


@op("table", "threshold, levels")
def solarize(images: Tensor, values: Tensor, sizes: Tensor | None) -> Tensor:
    """Invert levels from a threshold up (ImageOps.solarize)."""
    # halfway between two levels, where no rounding of a threshold or level in 0..1 matters
    thresholds = (values.clamp(-1, 257).ceil() - 0.5).float() / 255
    return _as_table((kornia.enhance.solarize(_level_images(images, values) / 255, thresholds) * 255).round())


@op("table", "levels added")
def solarize_add(images: Tensor, values: Tensor, sizes: Tensor | None) -> Tensor:
    """Add int(value), clip, then solarize at 128 (SolarizeAdd of ildoonet/pytorch-randaugment)."""
    # kornia's own additions end at 127 levels
    added = (_level_images(images, values) + values.clamp(-256, 256).trunc().float().view(-1, 1, 1, 1)).clamp(0, 255)
    threshold = added.new_full((len(added),), 127.5 / 255)  # of a Python number kornia makes a tensor on the host
    return _as_table((kornia.enhance.solarize(added / 255, threshold) * 255).round())


@op("table", "factor, 1 changes nothing")
def brightness(images: Tensor, values: Tensor, sizes: Tensor | None) -> Tensor:
    """Blend with black (ImageEnhance.Brightness)."""
    # one product in float32, as in Pillow's blend
    levels, factors = _level_images(images, values), values.float()
    bright = kornia.enhance.adjust_brightness_accumulative(levels, factors, clip_output=False)
    return _as_table(bright.clamp(0, 255))


@op("table", "factor, 1 changes nothing")
def contrast(images: Tensor, values: Tensor, sizes: Tensor | None) -> Tensor:
    """Blend with the mean of the grey image, rounded half up (ImageEnhance.Contrast)."""
    height, width = extents(images, sizes)
    total = blank_outside(_grey(images), sizes).sum((1, 2, 3))
    count = height * width
    mean = (2 * total + count) // (2 * count)
    return _blend(mean[:, None, None], _levels(images), values)


@op("table")
def identity(images: Tensor, values: Tensor, sizes: Tensor | None) -> Tensor:
    """Change nothing."""
    return _levels(images).to(torch.uint8).expand(images.shape[0], -1, -1)


# ---------------------------------------------------------------------------------------------------------------------
# Affine maps: (values, height, width, rotation) -> int64 (B, 6) in units of 2**-48, from output to input positions


def _shifted(values: Tensor, b: Tensor | int, d: Tensor | int, c: Tensor | int, f: Tensor | int) -> Tensor:
    one = torch.full_like(values, ONE, dtype=torch.int64)
    return linear_map(one, one * 0 + b, one * 0 + d, one, one * 0 + c, one * 0 + f)


@op("affine", "degrees, counter-clockwise")
def rotate(values: Tensor, height: Tensor, width: Tensor, rotation: Tensor | None) -> Tensor:
    """Rotate about the centre (Image.rotate)."""
    return rotation_map(rotation_units(values) if rotation is None else rotation, height, width)


@op("affine", "columns per row")
def shear_x(values: Tensor, height: Tensor, width: Tensor, rotation: Tensor | None) -> Tensor:
    """Take pixel (x, y) from (x + value * y, y)."""
    return _shifted(values, b=to_units(values), d=0, c=0, f=0)


@op("affine", "rows per column")
def shear_y(values: Tensor, height: Tensor, width: Tensor, rotation: Tensor | None) -> Tensor:
    """Take pixel (x, y) from (x, y + value * x)."""
    return _shifted(values, b=0, d=to_units(values), c=0, f=0)


@op("affine", "pixels")
def translate_x(values: Tensor, height: Tensor, width: Tensor, rotation: Tensor | None) -> Tensor:
    """Take pixel (x, y) from (x + value, y)."""
    return _shifted(values, b=0, d=0, c=to_units(values), f=0)


@op("affine", "pixels")
def translate_y(values: Tensor, height: Tensor, width: Tensor, rotation: Tensor | None) -> Tensor:
    """Take pixel (x, y) from (x, y + value)."""
    return _shifted(values, b=0, d=0, c=0, f=to_units(values))


# ---------------------------------------------------------------------------------------------------------------------
# Blends: (images, sizes) -> the degenerate image, integers (B, 3 or 1, H, W)


@op("blend", "factor, 1 changes nothing")
def color(images: Tensor, sizes: Tensor | None) -> Tensor:
    """Blend with the grey image (ImageEnhance.Color)."""
    return _grey(images)


@op("blend", "factor, 1 changes nothing")
def sharpness(images: Tensor, sizes: Tensor | None) -> Tensor:
    """Blend with the image smoothed by 1 1 1 / 1 5 1 / 1 1 1, its border copied (ImageEnhance.Sharpness)."""
    levels = images.int()
    if min(images.shape[2:]) < 3:
        return levels
    height, width = (extent[:, None] for extent in extents(images, sizes))
    row = torch.arange(1, images.shape[2] - 1, device=images.device)
    column = torch.arange(1, images.shape[3] - 1, device=images.device)
    inner = (row < height - 1)[:, None, :, None] & (column < width - 1)[:, None, None, :]
    total = levels[:, :, :-2] + levels[:, :, 1:-1] + levels[:, :, 2:]
    total = total[..., :-2] + total[..., 1:-1] + total[..., 2:] + 4 * levels[:, :, 1:-1, 1:-1]
    difference = (2 * total + 13) // 26 - levels[:, :, 1:-1, 1:-1]
    return levels + torch.nn.functional.pad(difference * inner, (1, 1, 1, 1))


# ---------------------------------------------------------------------------------------------------------------------
# Pixels: (images, values) -> images


@op("pixel", "shift, 1 is the whole circle")
def hue(images: Tensor, values: Tensor) -> Tensor:
    """Turn the hue of Pillow's HSV image by int(255 * value) of 256 steps (torchvision's adjust_hue)."""
    return in_chunks(shift_hue, images.shape[2] * images.shape[3], images, (values * 255).long())


# ---------------------------------------------------------------------------------------------------------------------
# Boxes: (images, values, sizes, centers) -> images


@op("box", "side in pixels, less one")
def cutout_abs(images: Tensor, values: Tensor, sizes: Tensor | None, centers: Tensor) -> Tensor:
    """Fill a square with (125, 123, 114), both ends included (CutoutAbs of ildoonet/pytorch-randaugment).

    The square of side `value` about the centre begins at int(max(0, centre - value / 2)) and ends `value` pixels later
    or at the border; PIL's rectangle includes its last pixel, so value 4 fills 5 x 5. Negative values change nothing.

    Args:
        images: uint8 (B, 3, H, W).
        values: float64 (B,), pixels.
        sizes: valid (height, width), (B, 2), or None.
        centers: int64 (B, 2), (y, x) in units of 1/65536 pixel.
    """
    first = (centers - torch.round(values * 32768).long()[:, None]).clamp(min=0) >> 16
    last = first + values.floor().long()[:, None]
    mask = box_mask(images.shape[2:], *first.unbind(1), *last.unbind(1))
    return torch.where(mask, colour(images, CUTOUT_COLOUR), images)


# ---------------------------------------------------------------------------------------------------------------------
# Applying them


def _look_up(images: Tensor, chosen: Tensor, values: Tensor, sizes: Tensor | None, *, members: dict[int, Op]) -> Tensor:
    """The table family: one table per sample, then one lookup."""
    B, C, H, W = images.shape
    table = identity(images, values, sizes).expand(B, C, 256)
    for code, member in members.items():

        def make(*cut: Tensor, function: Callable[..., Tensor] = member.function) -> Tensor:
            return function(*cut).expand(-1, C, 256)

        if member.name != "identity":
            table = on_rows(chosen == code, make, images, values, sizes, out=table)
    return blank_outside(table.gather(2, images.flatten(2).long()).view(B, C, H, W), sizes)


def _move(
    images: Tensor, chosen: Tensor, values: Tensor, sizes: Tensor | None, rotation: Tensor | None,
    *, members: dict[int, Op], fill: tuple[int, int, int], bilinear: bool,
) -> Tensor:  # fmt: skip
    """The affine family: one map per sample, then one gather."""
    height, width = extents(images, sizes)
    matrix = images.new_zeros((len(images), 6), dtype=torch.int64)
    for code, member in members.items():  # (B, 6) integers: cheaper for all rows than for some
        own = member.function(values, height, width, rotation)
        matrix = torch.where((chosen == code)[:, None], own, matrix)
    return affine(images, sizes, matrix, fill=fill, bilinear=bilinear)


def _enhance(images: Tensor, values: Tensor, sizes: Tensor | None, *, member: Op) -> Tensor:
    """The blend family."""
    return _blend(member.function(images, sizes), images, values)


def _recolour(images: Tensor, values: Tensor, sizes: Tensor | None, *, member: Op) -> Tensor:
    """The pixel family."""
    return blank_outside(member.function(images, values), sizes)


def _paint(images: Tensor, values: Tensor, sizes: Tensor | None, centers: Tensor, *, member: Op) -> Tensor:
    """The box family."""
    return blank_outside(member.function(images, values, sizes, centers), sizes)


def apply_ops(
    names: tuple[str, ...],
    images: Tensor,
    chosen: Tensor,
    values: Tensor,
    sizes: Tensor | None = None,
    *,
    fill: tuple[int, int, int] = (0, 0, 0),
    bilinear: bool = False,
    centers: Tensor | None = None,
    rotation: Tensor | None = None,
) -> Tensor:
    """Apply to each sample the operation it has chosen, with its own value.

    Args:
        names: the operations to choose from.
        images: uint8 (B, 3, H, W).
        chosen: int64 (B,), an index into `names`; any other number leaves the sample as it is.
        values: float64 (B,), each in its operation's unit, signed.
        sizes: valid (height, width), integer (B, 2), or None for the whole canvas.
        fill: colour of what an affine map brings in from outside.
        bilinear: affine maps interpolate; else nearest pixel.
        centers: int64 (B, 2), for `cutout_abs`.
        rotation: cosine and sine, int64 (B, 2) in units of 2**-48, for `rotate`; computed from `values` if None.

    Returns:
        uint8 (B, 3, H, W), 0 outside the valid areas (which unchosen samples must have been before).
    """
    families: dict[str, dict[int, Op]] = {}
    for code, name in enumerate(names):
        families.setdefault(get_op(name).family, {})[code] = get_op(name)

    def chose(members: dict[int, Op]) -> Tensor:
        return functools.reduce(torch.logical_or, (chosen == code for code in members))

    if tables := families.get("table"):
        look_up = functools.partial(_look_up, members=tables)
        images = on_rows(chose(tables), look_up, images, chosen, values, sizes)
    if maps := families.get("affine"):
        move = functools.partial(_move, members=maps, fill=fill, bilinear=bilinear)
        images = on_rows(chose(maps), move, images, chosen, values, sizes, rotation)
    for code, member in families.get("blend", {}).items():
        images = on_rows(chosen == code, functools.partial(_enhance, member=member), images, values, sizes)
    for code, member in families.get("pixel", {}).items():
        images = on_rows(chosen == code, functools.partial(_recolour, member=member), images, values, sizes)
    for code, member in families.get("box", {}).items():
        if centers is None:
            raise FastnoisyError(f"{member.name} needs centers", "Give int64 (B, 2), (y, x) in 1/65536 pixel.")
        images = on_rows(chosen == code, functools.partial(_paint, member=member), images, values, sizes, centers)
    return images


def apply_op(
    name: str,
    images: Tensor,
    values: Tensor,
    sizes: Tensor | None = None,
    *,
    fill: tuple[int, int, int] = (0, 0, 0),
    bilinear: bool = False,
    centers: Tensor | None = None,
) -> Tensor:
    """Apply one operation to every image, each with its own value.

    Example:
        >>> apply_op("rotate", images, torch.full((len(images),), 10.0))

    Args:
        name: see `op_names`.
        images: uint8 (B, 3, H, W).
        values: (B,), in the operation's unit (degrees, bits, threshold, factor, pixels), signed; float64.
        sizes: valid (height, width) at the top left of each image, integer (B, 2); None: the whole canvas.
        fill: colour of what an affine map brings in from outside.
        bilinear: affine maps interpolate; else nearest pixel.
        centers: int64 (B, 2), (y, x) in units of 1/65536 pixel, for `cutout_abs`.

    Returns:
        uint8 (B, 3, H, W), 0 outside the valid areas.

    Raises:
        FastnoisyError: an unknown name, or a tensor of another shape or type.
    """
    get_op(name)
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
        raise FastnoisyError(f"{name}: images are {images.dtype} {tuple(images.shape)}, not uint8 (B, 3, H, W)")
    B = images.shape[0]
    for label, tensor, shape in (("values", values, (B,)), ("sizes", sizes, (B, 2)), ("centers", centers, (B, 2))):
        if tensor is not None and tuple(tensor.shape) != shape:
            raise FastnoisyError(f"{name}: {label} has shape {tuple(tensor.shape)}, not {shape}")
    chosen = torch.zeros(B, dtype=torch.int64, device=images.device)
    images = blank_outside(images, sizes)
    return apply_ops((name,), images, chosen, values.double(), sizes, fill=fill, bilinear=bilinear, centers=centers)
