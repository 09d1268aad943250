"""What benchmarks/agreement.py compares: each operation, its Pillow reference, and kornia's primitive for the same
thing.

A primitive is given every chance: several argument types and roundings are tried and the best of them is what the table
shows. "on levels" applies it to the 256 levels instead of the image, one little image per sample, and looks the pixels
up; "the grid's hole masked" takes kornia's interpolation with repeated borders and our knowledge of which pixels are
inside.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import kornia
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastnoisy.augment import geometry, op_names, ops, steps
from fastnoisy.augment.policies import RANDAUGMENT_TABLE, augmix_value, randaugment_value
from fastnoisy.keyed_random import below, fold

ROOT = Path(__file__).resolve().parent.parent
BILINEAR = Image.Resampling.BILINEAR
E, T = kornia.enhance, kornia.geometry.transform


def pillow() -> ModuleType:
    """The tests' Pillow references: there is one of each."""
    path = ROOT / "tests" / "augment" / "conftest.py"
    spec = importlib.util.spec_from_file_location("pillow_references", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: the operation.
        code: the function of ours that does it; what of kornia it calls is read from its source.
        inputs: tensors, one row per sample, that `ours` and the `kornia` variants take.
        ours: of the inputs, uint8.
        reference: Pillow's pixels of one row of the inputs, uint8.
        primitive: kornia's name, without "kornia."; empty where it has none.
        kornia: by its arguments, kornia's way from uint8 to uint8; "NAME: arguments" for another primitive than that.
        limits: why the primitive could not be used though it were exact.
    """

    name: str
    code: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    ours: Callable[..., Tensor]
    reference: Callable[..., np.ndarray]
    primitive: str = ""
    kornia: dict[str, Callable[..., Tensor]] = field(default_factory=dict)
    limits: str = ""

    @property
    def executed_by(self) -> str:
        """The primitives of kornia in the source of our function, or "own"."""
        found = re.findall(r"kornia(?:\.\w+)+", inspect.getsource(self.code))
        return ", ".join(sorted(set(found))) or "own"


# ---------------------------------------------------------------------------------------------------------------------
# From uint8 to floats and back


def rounded(x: Tensor) -> Tensor:
    """[0, 1] to uint8, to the nearest."""
    return (x * 255).round().clamp(0, 255).to(torch.uint8)


def truncated(x: Tensor) -> Tensor:
    """[0, 1] to uint8, down, as Pillow's blends do."""
    return (x * 255).clamp(0, 255).to(torch.uint8)


def _variants(function: Callable[..., Tensor], back: Callable[[Tensor], Tensor]) -> dict[str, Callable[..., Tensor]]:
    """`function(images, values)` on floats in [0, 1], in both precisions."""

    def run(images: Tensor, values: Tensor, *, dtype: torch.dtype) -> Tensor:
        return back(function(images.to(dtype) / 255, values))

    types = {"float32": torch.float32, "float64": torch.float64}
    return {f"{name}, {back.__name__}": functools.partial(run, dtype=dtype) for name, dtype in types.items()}


def _on_levels(function: Callable[..., Tensor], images: Tensor, values: Tensor) -> Tensor:
    """`function(levels, values)` on (B, 1, 16, 16) images of the 256 levels, then one look-up."""
    B, C, H, W = images.shape
    levels = torch.arange(256, dtype=torch.uint8, device=images.device).view(1, 1, 16, 16).expand(B, 1, 16, 16)
    table = function(levels, values).view(B, 1, 256).expand(B, C, 256)
    return table.gather(2, images.reshape(B, C, -1).long()).view(B, C, H, W)


def _with_levels(variants: dict[str, Callable[..., Tensor]]) -> dict[str, Callable[..., Tensor]]:
    return variants | {f"{name}, on levels": functools.partial(_on_levels, run) for name, run in variants.items()}


# ---------------------------------------------------------------------------------------------------------------------
# Operations


def _column(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype).view(-1, 1, 1, 1)


def _autocontrast(x: Tensor, values: Tensor) -> Tensor:
    return E.normalize_min_max(x, eps=1e-12 if x.dtype == torch.float64 else 1e-6)


def _autocontrast_nudged(x: Tensor, values: Tensor) -> Tensor:
    return E.normalize_min_max(x, eps=1e-12) + 1e-9  # truncation reaches whole numbers from below


def _solarize_add(images: Tensor, values: Tensor) -> Tensor:
    added = (images.int() + values.int().view(-1, 1, 1, 1)).clamp(0, 255)  # kornia's own additions end at 127 levels
    return rounded(E.solarize(added.float() / 255, 127.5 / 255))


def _scaled_brightness(images: Tensor, values: Tensor) -> Tensor:
    bright = E.adjust_brightness_accumulative(images.float(), values.float(), clip_output=False)
    return bright.clamp(0, 255).to(torch.uint8)


def _inverted(images: Tensor, values: Tensor) -> Tensor:
    return E.invert(images, images.new_full((1,), 255))


def _added(degenerate: Callable[[Tensor], Tensor], images: Tensor, values: Tensor) -> Tensor:
    """kornia's add_weighted of the image and our own degenerate one."""
    factor = values.float().view(-1, 1, 1, 1)
    other = degenerate(images).float().expand(images.shape)
    return E.add_weighted(images.float(), factor, other, 1 - factor, 0.0).clamp(0, 255).to(torch.uint8)


def _mean_grey(images: Tensor) -> Tensor:
    total = ops._grey(images).sum((1, 2, 3), keepdim=True)
    count = images.shape[2] * images.shape[3]
    return (2 * total + count) // (2 * count)


def _blends(
    function: Callable[..., Tensor], degenerate: Callable[[Tensor], Tensor]
) -> dict[str, Callable[..., Tensor]]:
    return {
        **_variants(function, truncated),
        **_variants(function, rounded),
        "enhance.add_weighted: with our degenerate image": functools.partial(_added, degenerate),
    }


def _fragile_levels() -> int:
    """How many of the levels v have int(v / 255 * 255) < v in float32 if the quotient is one float32 number lower.

    The compiler's division on a GPU need not be rounded correctly (Triton's fast one is within two units in the last
    place).
    """
    levels = np.arange(256, dtype=np.float32)
    quotients = np.nextafter(levels / np.float32(255), np.float32(-1))
    return int(((quotients * np.float32(255)).astype(int) < levels).sum())


def _primitives() -> dict[str, tuple[str, dict[str, Callable[..., Tensor]], str]]:
    """Of every operation but the affine maps and boxes: kornia's name, the variants to try, and other limits."""
    no_area = "takes no valid areas"
    return {
        "identity": ("", {}, ""),
        "autocontrast": (
            "enhance.normalize_min_max",
            {**_variants(_autocontrast, truncated), **_variants(_autocontrast, rounded),
             **_variants(_autocontrast_nudged, truncated)},
            no_area,
        ),
        "equalize": ("enhance.equalize", _variants(lambda x, values: E.equalize(x), rounded), no_area),
        "invert": (
            "enhance.invert",
            _with_levels({"uint8": _inverted, **_variants(lambda x, values: E.invert(x), rounded)}),
            "",
        ),
        "posterize": (
            "enhance.posterize",
            _with_levels(_variants(lambda x, values: E.posterize(x, values.long().clamp(0, 8)), rounded)),
            f"truncates v / 255 * 255: {_fragile_levels()} levels of 256 are lost where a division ends one bit lower",
        ),
        "solarize": (
            "enhance.solarize",
            _with_levels(_variants(lambda x, values: E.solarize(x, values.to(x.dtype) / 255), rounded)),
            "",
        ),
        "solarize_add": (
            "enhance.solarize", _with_levels({"after our addition": _solarize_add}), ""
        ),
        "brightness": (
            "enhance.adjust_brightness_accumulative",
            _with_levels(
                {"0..255": _scaled_brightness,
                 **_variants(lambda x, values: E.adjust_brightness_accumulative(x, values.to(x.dtype)), truncated)}
            ),
            "",
        ),
        "contrast": (
            "enhance.adjust_contrast_with_mean_subtraction",
            _blends(lambda x, values: E.adjust_contrast_with_mean_subtraction(x, values.to(x.dtype)), _mean_grey),
            no_area,
        ),
        "color": (
            "enhance.adjust_saturation_with_gray_subtraction",
            _blends(lambda x, values: E.adjust_saturation_with_gray_subtraction(x, values.to(x.dtype)), ops._grey),
            "",
        ),
        "sharpness": (
            "enhance.sharpness",
            _blends(
                lambda x, values: E.sharpness(x, values.to(x.dtype)),
                lambda images: ops.get_op("sharpness").function(images, None),
            ),
            no_area,
        ),
        "hue": (
            "enhance.adjust_hue",
            {**_variants(lambda x, values: E.adjust_hue(x, values * (2 * math.pi)), rounded),
             **_variants(lambda x, values: E.adjust_hue(x, (values * 255).long() / 256 * (2 * math.pi)), rounded),
             **_variants(lambda x, values: E.adjust_hue(x, values * (2 * math.pi)), truncated)},
            "",
        ),
    }  # fmt: skip


def _warp(
    images: Tensor, values: Tensor, *, name: str, mode: str, dtype: torch.dtype, corners: bool, masked: bool = False
) -> Tensor:
    """kornia's warp_affine with exactly our map, inverted in float64."""
    H, W = images.shape[2:]
    B, member = len(images), ops.get_op(name)
    height, width = (torch.full((B,), side, dtype=torch.int64, device=images.device) for side in (H, W))
    a, b, c, d, e, f = (member.function(values, height, width, None).double() / geometry.ONE).unbind(1)
    c, f = c + (a + b - 1) / 2, f + (d + e - 1) / 2  # between pixel indices, where Pillow's is between corners
    det = a * e - b * d
    inverse = torch.stack([e, -b, b * f - c * e, -d, a, c * d - a * f], 1) / det[:, None]
    padding = "border" if masked else "zeros"
    forward = inverse.view(B, 2, 3).to(dtype)
    warped = T.warp_affine(images.to(dtype), forward, (H, W), mode, padding, corners)
    if masked:
        x, y = torch.arange(W, device=images.device), torch.arange(H, device=images.device)[:, None]
        column = (a[:, None, None] * x + b[:, None, None] * y + c[:, None, None]).round(decimals=9)
        row = (d[:, None, None] * x + e[:, None, None] * y + f[:, None, None]).round(decimals=9)
        inside = (column >= -0.5) & (column < W - 0.5) & (row >= -0.5) & (row < H - 0.5)
        warped = warped * inside[:, None]
    return (warped + (1e-3 if mode == "bilinear" else 0.5)).clamp(0, 255).to(torch.uint8)


def _warps(name: str, bilinear: bool) -> dict[str, Callable[..., Tensor]]:
    mode, types = ("bilinear" if bilinear else "nearest"), {"float32": torch.float32, "float64": torch.float64}
    return {
        f"{label}, align_corners={corners}{', the hole masked' * masked}": functools.partial(
            _warp, name=name, mode=mode, dtype=dtype, corners=corners, masked=masked
        )
        for label, dtype in types.items()
        for corners in (True, False)
        for masked in (False, True)
    }


def _box_mask(images: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """kornia's bbox_to_mask, bool (B, 1, H, W); both ends belong to the box."""
    corners = torch.stack([left, top, right, top, right, bottom, left, bottom], 1).view(-1, 4, 2)
    return kornia.geometry.bbox.bbox_to_mask(corners.float(), images.shape[3], images.shape[2]).bool()[:, None]


def _cutout_abs(images: Tensor, values: Tensor, centers: Tensor) -> Tensor:
    """cutout_abs with kornia's mask of our box."""
    first = (centers - torch.round(values * 32768).long()[:, None]).clamp(min=0) >> 16
    last = first + values.floor().long()[:, None]
    mask = _box_mask(images, *first.unbind(1), *last.unbind(1))
    colour = torch.cat([images.new_full((1, 1, 1, 1), value) for value in ops.CUTOUT_COLOUR], 1)
    return torch.where(mask, colour, images)


def values_of(name: str, count: int, bounds: tuple[float, float]) -> Tensor:
    """Half of them what RandAugment and AugMix use, and half uniform in the tests' bounds; float64 (count,)."""
    table = []
    for operation, _, _, signed in RANDAUGMENT_TABLE:
        if operation == name:
            table += [sign * randaugment_value(name, m) for m in range(31) for sign in ((1, -1) if signed else (1,))]
    if name in ("translate_x", "translate_y"):  # half a pixel lies on the edge between two
        table += [sign * (pixels + 0.5) for pixels in range(10) for sign in (1, -1)]
    if name in ("shear_x", "shear_y", "rotate"):
        table += [sign * augmix_value(name, level) for level in range(10) for sign in (1, -1)]
    values = np.random.default_rng(1).uniform(*bounds, count)
    if table:
        values[::2] = np.resize(table, len(values[::2]))
    return torch.from_numpy(values)


def op_cases(images: Tensor) -> list[Case]:
    """A case for every operation there is (two for an affine map)."""
    references, count = pillow(), len(images)
    primitives = _primitives()
    cases = []
    for name in op_names():
        family = ops.get_op(name).family
        values = values_of(name, count, references.VALUES.get(name, (0.0, 1.0)))
        if family == "affine":
            for bilinear in (False, True):
                cases.append(
                    Case(
                        f"{name}, {'bilinear' if bilinear else 'nearest'}", geometry.affine, (images, values),
                        functools.partial(ops.apply_op, name, bilinear=bilinear),
                        functools.partial(_pillow_op, references, name, bilinear),
                        "geometry.transform.warp_affine", _warps(name, bilinear),
                        "takes no valid areas" if bilinear else "",
                    )
                )  # fmt: skip
            continue
        inputs: tuple[Tensor, ...] = (images, values)
        ours: Callable[..., Tensor] = functools.partial(ops.apply_op, name)
        primitive, variants, limits = primitives.get(name, ("", {}, ""))
        if family == "box":
            side = torch.tensor(images.shape[2:])
            centers = (torch.rand(count, 2, generator=torch.Generator().manual_seed(2)) * side * 65536).long()
            inputs, ours = (*inputs, centers), functools.partial(_with_centers, name)
            primitive, variants = "geometry.bbox.bbox_to_mask", {"our box": _cutout_abs}
        code = geometry.box_mask if family == "box" else ops.get_op(name).function
        reference = functools.partial(_pillow_op, references, name, False)
        cases.append(Case(name, code, inputs, ours, reference, primitive, variants, limits))
    return cases


def _with_centers(name: str, images: Tensor, values: Tensor, centers: Tensor) -> Tensor:
    return ops.apply_op(name, images, values, centers=centers)


def _pillow_op(
    references: ModuleType, name: str, bilinear: bool, pixels: Tensor, value: Tensor, *center: Tensor
) -> Any:
    middle = (center[0] / 65536).tolist() if center else None
    return references.apply(name, pixels.numpy(), value.item(), bilinear, middle)


# ---------------------------------------------------------------------------------------------------------------------
# Parts of operations, and steps


def _smoothed(images: Tensor) -> Tensor:
    """Pillow's smoothing (its borders copied) by kornia's filter2d with whole weights."""
    kernel = torch.ones(1, 3, 3, device=images.device)
    kernel[:, 1, 1] = 5
    total = kornia.filters.filter2d(images.float(), kernel, "constant")
    smooth = ((2 * total + 13) / 26).floor().to(torch.uint8)
    inner = torch.zeros_like(images, dtype=torch.bool)
    inner[:, :, 1:-1, 1:-1] = True
    return torch.where(inner, smooth, images)


def _pillow_smooth(pixels: Tensor) -> np.ndarray:
    from PIL import ImageFilter

    return np.asarray(_image(pixels).filter(ImageFilter.SMOOTH)).transpose(2, 0, 1)


def _image(pixels: Tensor) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels.numpy().transpose(1, 2, 0)))


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).transpose(2, 0, 1)


def _cropped(images: Tensor, top: Tensor, left: Tensor, *, size: int, pad: int) -> Tensor:
    """kornia's crop_by_indices after padding, as its RandomCrop does."""
    padded = torch.nn.functional.pad(images, (pad,) * 4)
    x, y = left + pad, top + pad
    right, bottom = x + size - 1, y + size - 1
    corners = torch.stack([x, y, right, y, right, bottom, x, bottom], 1).view(-1, 4, 2)
    return T.crop_by_indices(padded, corners, (size, size))


def _center_start(extent: int, size: int) -> int:
    return round((extent - size) / 2)


def step_cases(images: Tensor, photographs: Tensor) -> list[Case]:
    """Cases of the parts inside operations, and of crops, flips, resizing and `normalize`."""
    references, (B, _, H, W) = pillow(), images.shape
    generator = torch.Generator().manual_seed(3)
    size, pad = min(H, W), 4
    top, left = (torch.randint(-pad, side - size + pad + 1, (B,), generator=generator) for side in (H, W))
    mask = torch.arange(B) % 2 == 0
    eval_size, odd = photographs.shape[2] * 2 // 3, photographs.shape[2] * 2 // 3 - 1
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    normalize = steps.get_step("normalize").factory(mean=mean, std=std)
    boxes = torch.stack([top.clamp(min=0), left.clamp(min=0), 1 + top.abs() * 3, 1 + left.abs() * 3], 1)
    boxes[:, 2] = torch.minimum(boxes[:, 2] + size // 2, H - boxes[:, 0])
    boxes[:, 3] = torch.minimum(boxes[:, 3] + size // 2, W - boxes[:, 1])

    def center_crop(side: int) -> Callable[..., Tensor]:
        module = steps.get_step("center_crop").factory(size=side)
        return lambda photographs: module(photographs, None, torch.zeros(len(photographs), dtype=torch.int64))[0]

    def by_corner(photographs: Tensor, side: int) -> Tensor:
        start = [_center_start(extent, side) for extent in photographs.shape[2:]]
        corner = torch.tensor(start).expand(len(photographs), 2)
        return _cropped(photographs, corner[:, 0], corner[:, 1], size=side, pad=0)

    def pillow_center(pixels: Tensor, side: int) -> np.ndarray:
        return _array(references.functional.center_crop(_image(pixels), [side, side]))

    def restored(floats: Tensor) -> Tensor:
        shift, scale = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (mean, std))
        return ((floats.double() * scale + shift) * 255).round().to(torch.uint8)

    def whole_resized(photographs: Tensor) -> Tensor:
        corner, (h, w) = torch.zeros(len(photographs)).long(), photographs.shape[2:]
        return geometry.resized_crop(
            photographs, corner, corner, torch.full_like(corner, h), torch.full_like(corner, w), eval_size
        )

    def resized(photographs: Tensor, mode: str, antialias: bool) -> Tensor:
        out = T.resize(photographs.float(), (eval_size, eval_size), mode, antialias=antialias)
        return (out + 0.5).clamp(0, 255).to(torch.uint8)

    def boxes_resized(images: Tensor, boxes: Tensor, corners: bool) -> Tensor:
        y, x, h, w = boxes.unbind(1)
        points = torch.stack([x, y, x + w - 1, y, x + w - 1, y + h - 1, x, y + h - 1], 1).view(-1, 4, 2)
        out = T.crop_and_resize(images.float(), points.float(), (size, size), align_corners=corners)
        return (out + 0.5).clamp(0, 255).to(torch.uint8)

    def pillow_box(pixels: Tensor, box: Tensor) -> np.ndarray:
        y, x, h, w = box.tolist()
        return _array(_image(pixels).crop((x, y, x + w, y + h)).resize((size, size), BILINEAR))

    def kornia_center(photographs: Tensor, side: int, mode: str) -> Tensor:
        return (T.center_crop(photographs.float(), (side, side), mode) + 0.5).to(torch.uint8)

    def centers(side: int) -> dict[str, Callable[..., Tensor]]:
        found = {mode: functools.partial(kornia_center, side=side, mode=mode) for mode in ("nearest", "bilinear")}
        return found | {"geometry.transform.crop_by_indices: at the corner": functools.partial(by_corner, side=side)}

    keys = fold(0, torch.arange(B))
    cutout = steps.get_step("cutout").factory(length=2 * (size // 4))
    erasing = steps.get_step("random_erasing").factory(p=1.0, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0.0)

    def hole(images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:  # of cutout, as it draws it; both ends belong to it
        middle = [below(fold(keys, axis), extent) for axis, extent in enumerate(images.shape[-2:])]
        return *(m - size // 4 for m in middle), *(m + size // 4 - 1 for m in middle)

    def erased_box(images: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        height, width = images.shape[-2:]
        top, left, tall, wide = erasing.draw(keys, None, (height, width))
        return top, left, top + tall - 1, left + wide - 1

    def boxed(images: Tensor, keys: Tensor, box: Callable[..., tuple[Tensor, ...]]) -> Tensor:
        return images.masked_fill(_box_mask(images, *box(images, keys)), 0)

    def cut_by_slices(pixels: Tensor, key: Tensor, box: Callable[..., tuple[Tensor, ...]]) -> np.ndarray:
        top, left, bottom, right = (int(part) for part in box(pixels, key.view(1)))
        image = pixels.numpy().copy()
        image[:, max(top, 0) : bottom + 1, max(left, 0) : right + 1] = 0
        return image

    def erase(module: torch.nn.Module) -> Callable[..., Tensor]:
        return lambda images, keys: module(images, None, keys)[0]

    return [
        *(
            Case(
                name, geometry.box_mask, (images, keys), erase(module), functools.partial(cut_by_slices, box=box),
                "geometry.bbox.bbox_to_mask", {"our box": functools.partial(boxed, box=box)},
            )
            for name, module, box in (("cutout", cutout, hole), ("random_erasing", erasing, erased_box))
        ),
        Case(
            "grey image, in color and contrast", ops._grey, (images,),
            lambda images: ops._grey(images).to(torch.uint8),
            lambda pixels: np.asarray(_image(pixels).convert("L"))[None], "color.rgb_to_grayscale",
            {"uint8": kornia.color.rgb_to_grayscale,
             "float32": lambda images: rounded(kornia.color.rgb_to_grayscale(images.float() / 255))},
        ),
        Case(
            "smoothing, in sharpness", ops.get_op("sharpness").function, (images,),
            lambda images: ops.get_op("sharpness").function(images, None).to(torch.uint8), _pillow_smooth,
            "filters.filter2d", {"whole weights": _smoothed}, "takes no valid areas",
        ),
        Case(
            "hflip", geometry.flip, (images, mask), lambda images, mask: geometry.flip(images, None, mask),
            lambda pixels, flipped: _array(_image(pixels).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
            if flipped else pixels.numpy(),
            "geometry.transform.hflip",
            {"where": lambda images, mask: torch.where(mask.view(-1, 1, 1, 1), T.hflip(images), images)},
            "takes no valid areas",
        ),
        Case(
            "random_crop", geometry.crop, (images, top, left),
            lambda images, top, left: geometry.crop(images, None, top, left, size),
            lambda pixels, top, left: _array(_image(pixels).crop((int(left), int(top), int(left) + size,
            int(top) + size))),
            "geometry.transform.crop_by_indices",
            {"padded": functools.partial(_cropped, size=size, pad=pad)},
            "takes no valid areas, reads boxes on the host",
        ),
        Case(
            "random_resized_crop", geometry.resized_crop, (images, boxes),
            lambda images, boxes: geometry.resized_crop(images, *boxes.unbind(1), size), pillow_box,
            "geometry.transform.crop_and_resize",
            {f"align_corners={corners}": functools.partial(boxes_resized, corners=corners) for corners in (True,
            False)},
        ),
        Case(
            "resize", geometry.resized_crop, (photographs,), whole_resized,
            lambda pixels: _array(_image(pixels).resize((eval_size, eval_size), BILINEAR)), "geometry.transform.resize",
            {f"{mode}, antialias={antialias}": functools.partial(resized, mode=mode, antialias=antialias)
             for mode in ("bilinear", "area") for antialias in (True, False)},
        ),
        Case(
            "center_crop, even room", steps.CenterCrop.apply, (photographs,), center_crop(eval_size),
            functools.partial(pillow_center, side=eval_size), "geometry.transform.center_crop", centers(eval_size),
            "takes no valid areas, reads boxes on the host",
        ),
        Case(
            "center_crop, odd room", steps.CenterCrop.apply, (photographs,), center_crop(odd),
            functools.partial(pillow_center, side=odd), "geometry.transform.center_crop", centers(odd),
            "takes no valid areas, reads boxes on the host",
        ),
        Case(
            "normalize", steps.Normalize.apply, (images,),
            lambda images: restored(normalize(images, None, images[:, 0, 0, 0])[0]),
            lambda pixels: pixels.numpy(), "enhance.normalize",
            {"float32": lambda images: restored(
                E.normalize(images.float() / 255, torch.tensor(mean), torch.tensor(std)))},
        ),
    ]  # fmt: skip
