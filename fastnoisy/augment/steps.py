"""The steps a view is made of: each a class under `@step(name, parameters)`, found by its name, documented by itself.

A step is a module called as `step(images, sizes, keys)`, returning images and sizes. Steps up to `normalize` take and
give uint8 (B, 3, H, W); `normalize` gives float32; steps after it take and give float32. `sizes` are the valid areas
(integer (B, 2), or None where the whole canvas is valid); `keys` int64 (B,) are the samples' own keys for this step.
Every single operation of `ops` is a step too, with a fixed value: `rotate(10)`.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kornia.enhance
import torch
from torch import Tensor, nn

from fastnoisy.augment import geometry, ops, policies
from fastnoisy.augment.rows import extents
from fastnoisy.errors import unknown_name
from fastnoisy.keyed_random import below, fold

REQUIRED = object()
Result = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Parameter:
    """An argument of a step: its name, kind, default, bounds (of a number, or of both ends of a range) or choices."""

    name: str
    kind: str  # integer, number, switch, range (two numbers), channels (three numbers, or None)
    default: Any = REQUIRED
    low: float = -1e9
    high: float = 1e9
    choices: tuple[Any, ...] = ()
    note: str = ""

    def problem(self, value: Any) -> str:
        """What `value` should have been, or nothing if it is fine."""

        def number(item: Any, types: tuple[type, ...] = (int, float)) -> bool:
            return type(item) in types and self.low <= item <= self.high

        bounds = f" from {self.low:g}" * (self.low > -1e9) + f" to {self.high:g}" * (self.high < 1e9)
        if self.choices:
            fine = number(value, (int,) if self.kind == "integer" else (int, float)) and value in self.choices
            wanted = f"{'one of ' * (len(self.choices) > 1)}{', '.join(map(repr, self.choices))}"
        elif self.kind == "integer":
            fine, wanted = number(value, (int,)), "an integer" + bounds
        elif self.kind == "number":
            fine, wanted = number(value), "a number" + bounds
        elif self.kind == "switch":
            fine, wanted = isinstance(value, bool), "True or False"
        elif self.kind == "range":
            fine = isinstance(value, tuple) and len(value) == 2 and all(map(number, value))
            fine, wanted = fine and value[0] <= value[1], f"two numbers{bounds}, the smaller first"
        else:
            fine = value is None or (isinstance(value, tuple) and len(value) == 3 and all(map(number, value)))
            wanted = f"three numbers{bounds}, one per channel"
        return "" if fine else f"{self.name} must be {wanted}{self.note and f' ({self.note})'}, got {value!r}"


@dataclass(frozen=True)
class StepType:
    """A registered step. `stage` is "uint8", "normalize" or "float"."""

    name: str
    doc: str
    parameters: tuple[Parameter, ...]
    stage: str
    factory: Callable[..., Step]

    @property
    def signature(self) -> str:
        """As a user would write it, for example `random_crop(size, padding=0)`."""
        shown = [p.name if p.default is REQUIRED else f"{p.name}={p.default!r}" for p in self.parameters]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


class Step(nn.Module):
    """Base of all steps."""

    draws = False  # whether it uses its keys; the others get the sample's keys as they are


_STEPS: dict[str, StepType] = {}


def step(name: str, *parameters: Parameter, stage: str = "uint8") -> Callable[[type[Step]], type[Step]]:
    """Register a class as the step `name`; its `__init__` takes the parameters by keyword, already checked."""

    def register(cls: type[Step]) -> type[Step]:
        doc = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
        _STEPS[name] = StepType(name, doc, parameters, stage, cls)
        return cls

    return register


def step_names() -> list[str]:
    """The names of all steps, sorted."""
    return sorted({*_STEPS, *ops.op_names()})


def step_docs() -> dict[str, str]:
    """Every step's signature and what it does, in one line each."""
    return {kind.signature: kind.doc for kind in map(get_step, step_names())}


@functools.cache
def get_step(name: str) -> StepType:
    """The step of that name.

    Raises:
        FastnoisyError: no such step; the message lists near misses and all names.
    """
    if name in _STEPS:
        return _STEPS[name]
    if name not in ops.op_names():
        raise unknown_name("view step", name, step_names())
    operation = ops.get_op(name)
    parameters = [Parameter("value", "number")] if operation.unit else []
    if operation.family == "affine":
        parameters.append(Parameter("bilinear", "switch", False))
    doc = operation.doc + (f" value: {operation.unit}." if operation.unit else "")
    return StepType(name, doc, tuple(parameters), "uint8", functools.partial(SingleOp, name))


class SingleOp(Step):
    """One operation of `ops` with the same value for every image; `cutout_abs` draws its centres."""

    rotation: Tensor

    def __init__(self, name: str, value: float = 0.0, bilinear: bool = False) -> None:
        super().__init__()
        self.name, self.value, self.bilinear = name, float(value), bilinear
        self.draws = name == "cutout_abs"
        self.register_buffer("rotation", geometry.rotation_table([self.value]), persistent=False)

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Result:
        """Apply it."""
        B = images.shape[0]
        images = ops.apply_ops(
            (self.name,),
            images,
            torch.zeros(B, dtype=torch.int64, device=images.device),
            torch.full((B,), self.value, dtype=torch.float64, device=images.device),
            sizes,
            bilinear=self.bilinear,
            centers=policies.cutout_centers(keys, 0, images, sizes) if self.draws else None,
            rotation=self.rotation.expand(B, 2),
        )
        return images, sizes


@step("randaugment", Parameter("n", "integer", low=1, high=16), Parameter("m", "number", low=0, high=30))
class RandAugment(Step):
    """RandAugment: n of 16 operations at magnitude m of 30, nearest pixels (ildoonet/pytorch-randaugment)."""

    draws = True

    def __init__(self, n: int, m: float) -> None:
        super().__init__()
        self.policy = policies.RandAugment(n, m)

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Result:
        """Apply it."""
        return self.policy(images, sizes, keys), sizes


@step(
    "augmix",
    Parameter("severity", "integer", 3, 1, 10),
    Parameter("width", "integer", 3, 1, 16),
    Parameter("depth", "integer", -1, choices=(-1, *range(1, 11)), note="-1: 1, 2 or 3, drawn per chain"),
    Parameter("alpha", "number", 1, choices=(1,), note="mixing weights are gaps between sorted integers, Dirichlet(1)"),
)
class AugMix(Step):
    """AugMix: a random mixture of the image and `width` augmented copies (torchvision's, on Pillow's pixels)."""

    draws = True

    def __init__(self, severity: int, width: int, depth: int, alpha: float) -> None:
        super().__init__()
        self.policy = policies.AugMix(severity, width, depth)

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Result:
        """Apply it."""
        return self.policy(images, sizes, keys), sizes


@step("random_crop", Parameter("size", "integer", low=1), Parameter("padding", "integer", 0, 0))
class RandomCrop(Step):
    """Pad the valid area with black on all sides, then cut size x size at a uniform place.

    An area that is smaller than `size` even with its padding is cut from its top left corner, black beyond.
    """

    draws = True

    def __init__(self, size: int, padding: int) -> None:
        super().__init__()
        self.size, self.padding = size, padding

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Result:
        """Apply it."""
        rooms = [(extent + 2 * self.padding - self.size).clamp(min=0) + 1 for extent in extents(images, sizes)]
        top, left = (below(fold(keys, draw), room) - self.padding for draw, room in enumerate(rooms))
        return geometry.crop(images, sizes, top, left, self.size), None


@step("hflip", Parameter("p", "number", 0.5, 0, 1))
class HorizontalFlip(Step):
    """Mirror left to right with probability p."""

    draws = True

    def __init__(self, p: float) -> None:
        super().__init__()
        self.threshold = round(p * (1 << 31))

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Result:
        """Apply it."""
        return geometry.flip(images, sizes, below(fold(keys, 0), 1 << 31) < self.threshold), sizes


@functools.cache
def _ratio_table(low: float, high: float) -> Tensor:
    """65536 log-uniform aspect ratios and their inverses, int64 (65536, 2) in units of 2**-18."""
    step_size = (math.log(high) - math.log(low)) / 65536
    ratios = [math.exp(math.log(low) + (index + 0.5) * step_size) for index in range(65536)]
    return torch.tensor([[round(ratio * (1 << 18)), round((1 << 18) / ratio)] for ratio in ratios])


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

    draws = True
    ratios: Tensor
    _TRIES = 10

    def __init__(self, size: int, scale: tuple[float, float], ratio: tuple[float, float]) -> None:
        super().__init__()
        self.size = size
        self.scale = tuple(round(share * (1 << 18)) for share in scale)
        self.bounds = tuple((round(side * (1 << 18)), round((1 << 18) / side)) for side in ratio)
        self.register_buffer("ratios", _ratio_table(*ratio), persistent=False)

    def boxes(self, keys: Tensor, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Top, left, height and width of each sample's box, int64 (B,), within an area of `height` x `width`."""
        tries = torch.arange(self._TRIES, device=keys.device)
        low, high = self.scale
        share = low + below(fold(keys[:, None], 2 * tries), high - low + 1)
        ratio = self.ratios[below(fold(keys[:, None], 2 * tries + 1), 65536)]
        area = (height * width)[:, None] * share
        half = 1 << 17
        wide = (geometry.integer_sqrt(area * ratio[..., 0]) + half) >> 18
        tall = (geometry.integer_sqrt(area * ratio[..., 1]) + half) >> 18
        fits = (wide > 0) & (wide <= width[:, None]) & (tall > 0) & (tall <= height[:, None])
        first = torch.where(fits, tries, self._TRIES).amin(1)
        found = first < self._TRIES
        pick = first.clamp(max=self._TRIES - 1)[:, None]
        (narrowest, flattest), (widest, _) = self.bounds
        too_narrow, too_wide = (width << 18) < narrowest * height, (width << 18) > widest * height
        tallest = torch.where(too_narrow, (width * flattest + half) >> 18, height).clamp(min=1).minimum(height)
        broadest = torch.where(too_wide, (height * widest + half) >> 18, width).clamp(min=1).minimum(width)
        box_height = torch.where(found, tall.gather(1, pick).squeeze(1), tallest)
        box_width = torch.where(found, wide.gather(1, pick).squeeze(1), broadest)
        free_y, free_x = height - box_height, width - box_width
        top = torch.where(found, below(fold(keys, 2 * self._TRIES), free_y + 1), free_y // 2)
        left = torch.where(found, below(fold(keys, 2 * self._TRIES + 1), free_x + 1), free_x // 2)
        return top, left, box_height, box_width

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Result:
        """Apply it."""
        return geometry.resized_crop(images, *self.boxes(keys, *extents(images, sizes)), self.size), None


@step("resize", Parameter("size", "integer", low=1))
class Resize(Step):
    """Resize the valid area to size x size, antialiased."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Result:
        """Apply it."""
        height, width = extents(images, sizes)
        corner = torch.zeros_like(height)
        return geometry.resized_crop(images, corner, corner, height, width, self.size), None


@step("center_crop", Parameter("size", "integer", low=1))
class CenterCrop(Step):
    """Cut size x size from the middle of the valid area, black where it is smaller (torchvision's rounding)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Result:
        """Apply it."""

        def start(extent: Tensor) -> Tensor:
            free = extent - self.size
            halved = free >> 1
            to_even = halved + (free & halved & 1)  # torchvision: int(round(free / 2)), and Python rounds 0.5 to even
            return torch.where(free >= 0, to_even, -(-free >> 1))

        top, left = map(start, extents(images, sizes))
        return geometry.crop(images, sizes, top, left, self.size), None


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

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Result:
        """Apply it."""
        return kornia.enhance.normalize(images.float(), self.mean, self.std), sizes


@step("cutout", Parameter("length", "integer", low=0), stage="float")
class Cutout(Step):
    """Set a square to 0, the mean colour, about a pixel drawn uniformly (DeVries and Taylor 2017, arXiv:1708.04552).

    As CutoutDefault of ildoonet/pytorch-randaugment: rows and columns [centre - length // 2, centre + length // 2),
    clipped at the border, so an odd length leaves a square of side length - 1.
    """

    draws = True

    def __init__(self, length: int) -> None:
        super().__init__()
        self.reach = length // 2

    def hole(self, center: Tensor, extent: int) -> Tensor:
        """Bool (B, extent): the pixels of one axis that lie in the hole about `center`, int64 (B,)."""
        pixel = torch.arange(extent, device=center.device)
        return (pixel >= center[:, None] - self.reach) & (pixel < center[:, None] + self.reach)

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Result:
        """Apply it."""
        rows, columns = (
            self.hole(below(fold(keys, axis), extent), extent) for axis, extent in enumerate(images.shape[2:])
        )
        return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0), sizes
