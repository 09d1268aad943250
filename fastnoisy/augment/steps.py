"""The steps a view is made of: each a class under `@step(name, parameters)`, found by its name, documented by itself.

What a step is stands in `registry.Step`: `draw`, `apply` and `words`. Steps up to `normalize` take and give uint8
(B, 3, H, W); `normalize` gives float32; steps after it take and give float32. Every single operation of `ops` is a step
too, with a fixed value: `rotate(10)`. Here are crops, flips, sizes and what follows `normalize`; the policies are in
`policies`, `autoaugment` and `jitter`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import kornia.enhance
import torch
from torch import Tensor

from fastnoisy.augment import autoaugment, geometry, jitter, ops, policies
from fastnoisy.augment.draws import TRIES, Box, Window, box_sides, first_fit, ratio_table, to_shares
from fastnoisy.augment.registry import REQUIRED, STEPS, Parameter, Result, Step, StepType, step
from fastnoisy.augment.rows import extents, valid_sizes
from fastnoisy.errors import unknown_name
from fastnoisy.keyed_random import below

__all__ = [
    "REQUIRED",
    "Parameter",
    "Step",
    "StepType",
    "autoaugment",
    "get_step",
    "jitter",
    "policies",
    "step",
    "step_docs",
    "step_names",
]


def step_names() -> list[str]:
    """The names of all steps, sorted."""
    return sorted({*STEPS, *ops.op_names()})


def step_docs() -> dict[str, str]:
    """Every step's signature and what it does, in one line each."""
    return {kind.signature: kind.doc for kind in map(get_step, step_names())}


@functools.cache
def get_step(name: str) -> StepType:
    """The step of that name.

    Raises:
        FastnoisyError: no such step; the message lists near misses and all names.
    """
    if name in STEPS:
        return STEPS[name]
    if name not in ops.op_names():
        raise unknown_name("view step", name, step_names())
    operation = ops.get_op(name)
    parameters = [Parameter("value", "number")] if operation.unit else []
    if operation.family == "affine":
        parameters.append(Parameter("bilinear", "switch", False))
        parameters.append(Parameter("fill", "colour", (0, 0, 0), 0, 255))
    doc = operation.doc + (f" value: {operation.unit}." if operation.unit else "")
    return StepType(name, doc, tuple(parameters), "uint8", functools.partial(SingleOp, name))


def _rows(draws: tuple[Tensor, ...]) -> list[list[int]]:
    """Integers (B,), read and put side by side."""
    rows: list[list[int]] = torch.stack(draws, 1).tolist()
    return rows


class Centers(NamedTuple):
    """The centres of `cutout_abs`, int64 (B, 2), (y, x) in 1/65536 pixel."""

    centers: Tensor


class SingleOp(Step):
    """One operation of `ops` with the same value for every image; `cutout_abs` draws its centres."""

    rotation: Tensor

    def __init__(
        self, name: str, value: float = 0.0, bilinear: bool = False, fill: tuple[int, int, int] = (0, 0, 0)
    ) -> None:
        self.operation = ops.get_op(name)
        super().__init__(draws=2 if self.operation.family == "box" else 0)
        self.value, self.bilinear, self.fill = float(value), bilinear, fill
        self.register_buffer("rotation", geometry.rotation_table([self.value]), persistent=False)

    def draw(self, keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Any:
        """`Centers` for `cutout_abs`; nothing for other operations."""
        if self.operation.family != "box":
            return ()
        return Centers(policies.cutout_centers(self.numbers(keys), valid_sizes(keys, sizes, canvas)))

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """See `Step.apply`."""
        B = images.shape[0]
        images = ops.apply_ops(
            (self.operation.name,),
            images,
            torch.zeros(B, dtype=torch.int64, device=images.device),
            torch.full((B,), self.value, dtype=torch.float64, device=images.device),
            sizes,
            fill=self.fill,
            bilinear=self.bilinear,
            centers=draws.centers if draws else None,
            rotation=self.rotation.expand(B, 2),
        )
        return images, sizes

    def words(self, draws: Any) -> list[str]:
        """The operation with its value."""
        centers = draws.centers.tolist() if draws else [None]
        return [self.operation.text(self.value, center) for center in centers]


@step("random_crop", Parameter("size", "integer", low=1), Parameter("padding", "integer", 0, 0))
class RandomCrop(Step):
    """Pad the valid area with black on all sides, then cut size x size at a uniform place.

    An area that is smaller than `size` even with its padding is cut from its top left corner, black beyond.
    """

    def __init__(self, size: int, padding: int) -> None:
        super().__init__(draws=2)
        self.size, self.padding = size, padding

    def draw(self, keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Window:
        """Top and left."""
        room = (valid_sizes(keys, sizes, canvas) + (2 * self.padding - self.size)).clamp(min=0) + 1
        return Window(*(below(self.numbers(keys), room) - self.padding).unbind(1))

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """See `Step.apply`."""
        return geometry.crop(images, sizes, draws.top, draws.left, self.size), None

    def words(self, draws: Any) -> list[str]:
        """The window's top and left."""
        return ["crop {:+d},{:+d}".format(*corner) for corner in _rows(draws)]


class Flips(NamedTuple):
    """Which samples are mirrored, bool (B,)."""

    flipped: Tensor


@step("hflip", Parameter("p", "number", 0.5, 0, 1))
class HorizontalFlip(Step):
    """Mirror left to right with probability p."""

    def __init__(self, p: float) -> None:
        super().__init__(draws=1)
        self.threshold = round(p * (1 << 31))

    def draw(self, keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Flips:
        """Of 2**31."""
        return Flips(below(self.numbers(keys)[:, 0], 1 << 31) < self.threshold)

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """See `Step.apply`."""
        return geometry.flip(images, sizes, draws.flipped), sizes

    def words(self, draws: Any) -> list[str]:
        """Whether it is mirrored."""
        return ["flip" if flipped else "" for flipped in draws.flipped.tolist()]


@step(
    "random_resized_crop",
    Parameter("size", "integer", low=1),
    Parameter("scale", "range", (0.08, 1.0), 1 / 1024, 1.0),
    Parameter("ratio", "range", (3 / 4, 4 / 3), 0.25, 4.0),
)
class RandomResizedCrop(Step):
    """Cut a box of random area and aspect ratio and resize it to size x size, antialiased.

    The distribution is that of torchvision's `RandomResizedCrop.get_params`: up to ten tries of an area share uniform
    in `scale` and a ratio log-uniform in `ratio`; if none fits, the largest central box of an allowed ratio. Share and
    ratio are integers in units of 2**-18, the ratio from a table made on the host, and sides are integer square roots,
    so every device draws the same boxes (of areas up to 2**24 / 4 pixels).
    """

    ratios: Tensor

    def __init__(self, size: int, scale: tuple[float, float], ratio: tuple[float, float]) -> None:
        super().__init__(draws=2 * TRIES + 2)
        self.size = size
        self.shares = to_shares(scale)
        self.bounds = tuple((round(side * (1 << 18)), round((1 << 18) / side)) for side in ratio)
        self.register_buffer("ratios", ratio_table(*ratio), persistent=False)

    def draw(self, keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Box:
        """Share and ratio of each try, then the place."""
        numbers, half = self.numbers(keys), 1 << 17
        height, width = valid_sizes(keys, sizes, canvas).unbind(1)
        wide, tall = box_sides(numbers[:, : 2 * TRIES], self.shares, self.ratios, height * width)
        fits = (wide > 0) & (wide <= width[:, None]) & (tall > 0) & (tall <= height[:, None])
        found, box_height, box_width = first_fit(fits, tall, wide)
        (narrowest, flattest), (widest, _) = self.bounds
        too_narrow, too_wide = (width << 18) < narrowest * height, (width << 18) > widest * height
        tallest = torch.where(too_narrow, (width * flattest + half) >> 18, height).clamp(min=1).minimum(height)
        broadest = torch.where(too_wide, (height * widest + half) >> 18, width).clamp(min=1).minimum(width)
        box_height, box_width = torch.where(found, box_height, tallest), torch.where(found, box_width, broadest)
        free_y, free_x = height - box_height, width - box_width
        top = torch.where(found, below(numbers[:, 2 * TRIES], free_y + 1), free_y // 2)
        left = torch.where(found, below(numbers[:, 2 * TRIES + 1], free_x + 1), free_x // 2)
        return Box(top, left, box_height, box_width)

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """See `Step.apply`."""
        top, left, height, width = draws
        return geometry.resized_crop(images, top, left, height, width, self.size), None

    def words(self, draws: Any) -> list[str]:
        """The box's height, width, top and left."""
        return [f"crop {height}x{width} at {top},{left}" for top, left, height, width in _rows(draws)]


@step("resize", Parameter("size", "integer", low=1))
class Resize(Step):
    """Resize the valid area to size x size, antialiased."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """See `Step.apply`."""
        height, width = extents(images, sizes)
        corner = torch.zeros_like(height)
        return geometry.resized_crop(images, corner, corner, height, width, self.size), None

    def words(self, draws: Any) -> list[str]:
        """The new side."""
        return [f"resize {self.size}"]


@step("resize_shorter", Parameter("size", "integer", low=4), sides=2)
class ResizeShorter(Step):
    """Resize the shorter side of the valid area to size, antialiased, as Resize(size) of torchvision; before
    center_crop.

    What comes out lies on a canvas of 2 size x 2 size pixels; of an area that is longer, only the middle is kept, cut
    so that a `center_crop` afterwards takes the same pixels as of the whole.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """See `Step.apply`."""
        return geometry.resize_shorter(images, sizes, self.size)

    def words(self, draws: Any) -> list[str]:
        """The new shorter side."""
        return [f"resize_shorter {self.size}"]


@step("center_crop", Parameter("size", "integer", low=1))
class CenterCrop(Step):
    """Cut size x size from the middle of the valid area, black where it is smaller (torchvision's rounding)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """See `Step.apply`."""
        top, left = (geometry.middle(extent, self.size) for extent in extents(images, sizes))
        return geometry.crop(images, sizes, top, left, self.size), None

    def words(self, draws: Any) -> list[str]:
        """The window's side."""
        return [f"center_crop {self.size}"]


@step(
    "normalize",
    Parameter("mean", "channels", None, 0.0, 1.0),
    Parameter("std", "channels", None, 1e-6),
    stage="normalize",
)
class Normalize(Step):
    """(v / 255 - mean) / std per channel, float32; mean and std default to the data set's."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64).mul(255).float(), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float64).mul(255).float(), persistent=False)

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """See `Step.apply`."""
        return kornia.enhance.normalize(images.float(), self.mean, self.std), sizes


class Holes(NamedTuple):
    """The holes' middles, int64 (B,) each."""

    row: Tensor
    column: Tensor


@step("cutout", Parameter("length", "integer", low=0), stage="float")
class Cutout(Step):
    """Set a square to 0, the mean colour, about a pixel drawn uniformly (DeVries and Taylor 2017, arXiv:1708.04552).

    As CutoutDefault of ildoonet/pytorch-randaugment: rows and columns [centre - length // 2, centre + length // 2),
    clipped at the border, so an odd length leaves a square of side length - 1.
    """

    def __init__(self, length: int) -> None:
        super().__init__(draws=2)
        self.reach = length // 2

    def draw(self, keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Holes:
        """Anywhere on the canvas."""
        return Holes(*below(self.numbers(keys), valid_sizes(keys, None, canvas)).unbind(1))

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """See `Step.apply`."""
        first, last = -self.reach, self.reach - 1
        row, column = draws
        mask = geometry.box_mask(images.shape[2:], row + first, column + first, row + last, column + last)
        return images.masked_fill(mask, 0.0), sizes

    def words(self, draws: Any) -> list[str]:
        """The hole's middle row and column."""
        return ["cutout at {},{}".format(*center) for center in _rows(draws)]


@step(
    "random_erasing",
    Parameter("p", "number", 0.5, 0, 1),
    Parameter("scale", "range", (0.02, 0.33), 0.0, 1.0),
    Parameter("ratio", "range", (0.3, 3.3), 0.25, 4.0),
    Parameter("value", "number", 0),
    stage="float",
)
class RandomErasing(Step):
    """With probability p, set a box of random area and aspect ratio to a value (Zhong et al. 2017, arXiv:1708.04896).

    The distribution is that of torchvision's `RandomErasing`: up to ten tries of a share of the valid area uniform in
    `scale` and a ratio of height to width log-uniform in `ratio`, then a uniform place; nothing if none is smaller than
    the area on both sides. Integers as in `random_resized_crop`. 0 is the mean colour.
    """

    ratios: Tensor

    def __init__(self, p: float, scale: tuple[float, float], ratio: tuple[float, float], value: float) -> None:
        super().__init__(draws=2 * TRIES + 3)
        self.threshold, self.shares, self.value = round(p * (1 << 31)), to_shares(scale), float(value)
        self.register_buffer("ratios", ratio_table(*ratio), persistent=False)

    def draw(self, keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Box:
        """Share and ratio of each try, the place, and whether at all; height and width 0 where nothing is erased."""
        numbers = self.numbers(keys)
        height, width = valid_sizes(keys, sizes, canvas).unbind(1)
        tall, wide = box_sides(numbers[:, : 2 * TRIES], self.shares, self.ratios, height * width)
        found, tall, wide = first_fit((tall < height[:, None]) & (wide < width[:, None]), tall, wide)
        erased = found & (below(numbers[:, 2 * TRIES + 2], 1 << 31) < self.threshold)
        tall, wide = tall * erased, wide * erased
        top = below(numbers[:, 2 * TRIES], height - tall + 1)
        left = below(numbers[:, 2 * TRIES + 1], width - wide + 1)
        return Box(top, left, tall, wide)

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """See `Step.apply`."""
        top, left, tall, wide = draws
        box = geometry.box_mask(images.shape[2:], top, left, top + tall - 1, left + wide - 1)
        return images.masked_fill(box, self.value), sizes

    def words(self, draws: Any) -> list[str]:
        """The box's height, width, top and left."""
        return [f"erase {tall}x{wide} at {top},{left}" * (tall * wide > 0) for top, left, tall, wide in _rows(draws)]
