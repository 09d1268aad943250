"""What benchmarks/views.py times ours against: Pillow, torchvision v2 and kornia 0.9, each as its users write it.

Pillow's side is what the official codes of the methods run: RandAugment of ildoonet/pytorch-randaugment (here in words
of our own), everything else torchvision's transforms on Pillow images. torchvision is optional; without it only
Pillow's and kornia's own operations are timed.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import kornia
import kornia.augmentation as kornia_augmentation
import numpy as np
import PIL
import torch
from kornia.augmentation.auto import AutoAugment as KorniaAutoAugment
from kornia.augmentation.auto import RandAugment as KorniaRandAugment
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torch import Tensor

from fastnoisy.augment.policies import RANDAUGMENT_TABLE, randaugment_value
from fastnoisy.compiler import missing_packages

try:
    import torchvision
    from torchvision import transforms as v1
    from torchvision.transforms import v2
except ImportError:
    torchvision = None

PILLOW, TORCHVISION, KORNIA, KORNIA_COMPILED = "Pillow", "torchvision v2", "kornia", "kornia compiled"
Picture = Image.Image
MEAN_STD: Any = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}  # CIFAR-10's


def versions() -> dict[str, str | None]:
    """Of the competitors; None: not there."""
    return {
        "Pillow": PIL.__version__,
        "torchvision": torchvision.__version__ if torchvision else None,
        "kornia": kornia.__version__,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Single operations


def pillow_op(name: str, value: float) -> Callable[[Picture], Picture] | None:
    """An operation of RandAugment's on one Pillow image; None: Pillow has no such thing."""
    maps = {
        "shear_x": (1, value, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, value, 1, 0),
        "translate_x": (1, 0, value, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, value),
    }
    if name in maps:
        return lambda image: image.transform(image.size, Image.Transform.AFFINE, maps[name])
    if name in ("color", "contrast", "brightness", "sharpness"):
        enhancer = getattr(ImageEnhance, name.capitalize())
        return lambda image: enhancer(image).enhance(value)
    found: dict[str, Callable[[Picture], Picture]] = {
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "invert": ImageOps.invert,
        "rotate": lambda image: image.rotate(value),
        "posterize": lambda image: ImageOps.posterize(image, int(value)),
        "solarize": lambda image: ImageOps.solarize(image, int(value)),
        "solarize_add": lambda image: _solarize_add(image, int(value)),
        "cutout_abs": lambda image: _cutout_abs(image, value),
    }
    if torchvision is not None:
        found["hue"] = lambda image: v1.functional.adjust_hue(image, value)
    return found.get(name)


def _solarize_add(image: Picture, value: int) -> Picture:
    added = np.clip(np.asarray(image).astype(int) + value, 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(added), 128)


def _cutout_abs(image: Picture, value: float) -> Picture:
    width, height = image.size
    x, y = np.random.uniform(width), np.random.uniform(height)
    left, top = int(max(0, x - value / 2)), int(max(0, y - value / 2))
    image = image.copy()
    ImageDraw.Draw(image).rectangle((left, top, min(width, left + value), min(height, top + value)), (125, 123, 114))
    return image


def torchvision_op(name: str, value: float) -> Callable[[Tensor], Tensor] | None:
    """The operation on a uint8 batch."""
    if torchvision is None:
        return None
    F = v2.functional
    nothing: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    turned, moved = math.degrees(math.atan(value)), -int(value)
    maps = {
        "shear_x": {"shear": [turned, 0.0]},
        "shear_y": {"shear": [0.0, turned]},
        "translate_x": {"translate": [moved, 0]},
        "translate_y": {"translate": [0, moved]},
    }
    if name in maps:
        return lambda images: F.affine(images, **{**nothing, **maps[name]})
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "autocontrast": F.autocontrast,
        "equalize": F.equalize,
        "invert": F.invert,
        "rotate": lambda images: F.rotate(images, value),
        "posterize": lambda images: F.posterize(images, int(value)),
        "solarize": lambda images: F.solarize(images, value),
        "color": lambda images: F.adjust_saturation(images, value),
        "contrast": lambda images: F.adjust_contrast(images, value),
        "brightness": lambda images: F.adjust_brightness(images, value),
        "sharpness": lambda images: F.adjust_sharpness(images, value),
        "hue": lambda images: F.adjust_hue(images, value),
        "cutout_abs": lambda images: F.erase(
            images, 8, 8, int(value) + 1, int(value) + 1, images.new_tensor([125, 123, 114])[:, None, None]
        ),
    }
    return found.get(name)


def kornia_op(name: str, value: float, B: int, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """kornia's functional on a float batch in [0, 1], with one value per image where it takes them."""
    E, T = kornia.enhance, kornia.geometry.transform
    each = torch.full((B,), value, device=device)
    pair = {
        "shear_x": (value, 0.0),
        "shear_y": (0.0, value),
        "translate_x": (-value, 0.0),
        "translate_y": (0.0, -value),
    }
    if name in pair:
        both = torch.tensor([pair[name]] * B, device=device)
        map_ = T.shear if name.startswith("shear") else T.translate
        return lambda images: map_(images, both, mode="nearest")
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "autocontrast": E.normalize_min_max,
        "equalize": E.equalize,
        "invert": E.invert,
        "rotate": lambda images: T.rotate(images, each, mode="nearest"),
        "posterize": lambda images: E.posterize(images, int(value)),
        "solarize": lambda images: E.solarize(images, value / 255),
        "solarize_add": lambda images: E.solarize(images, 0.5, value / 255),
        "color": lambda images: E.adjust_saturation_with_gray_subtraction(images, each),
        "contrast": lambda images: E.adjust_contrast_with_mean_subtraction(images, each),
        "brightness": lambda images: E.adjust_brightness_accumulative(images, each),
        "sharpness": lambda images: E.sharpness(images, each),
        "hue": lambda images: E.adjust_hue(images, each * (2 * math.pi)),
    }
    return found.get(name)


def compiled(work: Callable[[Tensor], Any], images: Tensor) -> Callable[[Tensor], Any] | None:
    """What torch.compile makes of kornia's way; None where it fails, or has no compiler.

    What draws once per batch is traced anew for each thing drawn, until torch gives up and runs it as it is.
    """
    if missing_packages():
        return None
    own: Callable[[Tensor], Any] = eval("lambda images: work(images)", {"work": work})  # torch counts by code objects
    made = torch.compile(own, dynamic=False)
    try:
        for _ in range(3):
            made(images)
    except Exception as error:  # of the compiler's, whatever it is
        print(f"torch.compile: {type(error).__name__}: {str(error).partition(chr(10))[0][:120]}", file=sys.stderr)
        return None
    return made


# ---------------------------------------------------------------------------------------------------------------------
# Steps and programs


class PillowRandAugment:
    """RandAugment on one Pillow image: n operations with replacement, each at magnitude m of 30."""

    def __init__(self, n: int, m: float) -> None:
        self.n = n
        self.choices: list[tuple[Callable[[Picture], Picture], ...]] = []
        for name, _, _, signed in RANDAUGMENT_TABLE:
            value = randaugment_value(name, m)
            made = [pillow_op(name, sign * value) for sign in ((1, -1) if signed else (1,))]
            self.choices.append(tuple(operation for operation in made if operation))

    def __call__(self, image: Picture) -> Picture:
        """Augment one image."""
        for signs in random.choices(self.choices, k=self.n):
            image = random.choice(signs)(image)
        return image


class CutoutDefault:
    """The square hole of DeVries and Taylor on one normalized image (3, H, W), as the official codes make it."""

    def __init__(self, length: int) -> None:
        self.reach = length // 2

    def __call__(self, image: Tensor) -> Tensor:
        """Cut it."""
        height, width = image.shape[1:]
        mask = np.ones((height, width), np.float32)
        y, x = np.random.randint(height), np.random.randint(width)
        mask[max(0, y - self.reach) : y + self.reach, max(0, x - self.reach) : x + self.reach] = 0
        return image * torch.from_numpy(mask).expand_as(image)


Step = Callable[[Any], Any]


@dataclass(frozen=True)
class Peer:
    """A competitor's way through a program.

    Attributes:
        steps: one after another.
        per_batch: whether it draws once for a whole batch where ours draws per image.
    """

    steps: tuple[Step, ...]
    per_batch: bool

    def __call__(self, images: Any) -> Any:
        """Do it."""
        for step in self.steps:
            images = step(images)
        return images

    @classmethod
    def build(
        cls, name: str, calls: Sequence[tuple[str, Mapping[str, Any]]], mean_std: Mapping[str, Any]
    ) -> Peer | None:
        """The competitor's way through steps given as (name, arguments); None where it has none of one of them."""
        make = {PILLOW: _pillow_step, TORCHVISION: _torchvision_step, KORNIA: _kornia_step}[name]
        steps = [make(step, dict(keywords), mean_std) for step, keywords in calls]
        drawn = {step for step, _ in calls} - {"normalize", "resize", "center_crop"}
        once = {PILLOW: set(), TORCHVISION: drawn, KORNIA: drawn & {"randaugment", "autoaugment"}}[name]
        return cls(tuple(step for step in steps if step), bool(once)) if all(steps) else None


def _pillow_step(name: str, options: dict[str, Any], mean_std: Mapping[str, Any]) -> Step | None:
    if name == "randaugment":
        return PillowRandAugment(**options)
    if name == "cutout":
        return CutoutDefault(**options)
    if torchvision is None:
        return None
    if name == "normalize":
        return v1.Compose([v1.ToTensor(), v1.Normalize(**mean_std)])
    return _torchvision_class(v1, name, options)


def _torchvision_step(name: str, options: dict[str, Any], mean_std: Mapping[str, Any]) -> Step | None:
    if torchvision is None:
        return None
    if name == "randaugment":  # 14 operations of its own, not the same 16
        return v2.RandAugment(num_ops=options["n"], magnitude=int(options["m"]), num_magnitude_bins=31)
    if name == "normalize":
        return v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(**mean_std)])
    if name == "cutout":
        return lambda images: _erasing(v2.RandomErasing, options, images.shape)(images)
    return _torchvision_class(v2, name, options)


def _torchvision_class(module: Any, name: str, options: dict[str, Any]) -> Step | None:
    bilinear = v1.InterpolationMode.BILINEAR
    found: dict[str, Callable[[], Step]] = {
        "augmix": lambda: module.AugMix(
            options["severity"], options["width"], options["depth"], float(options["alpha"]), interpolation=bilinear
        ),
        "torchvision_randaugment": lambda: module.RandAugment(options["n"], options["m"], num_magnitude_bins=31),
        "autoaugment": lambda: module.AutoAugment(v1.AutoAugmentPolicy.CIFAR10),
        "random_crop": lambda: module.RandomCrop(options["size"], padding=options["padding"]),
        "hflip": lambda: module.RandomHorizontalFlip(options["p"]),
        "random_resized_crop": lambda: module.RandomResizedCrop(
            options["size"], options["scale"], options["ratio"], antialias=True
        ),
        "resize": lambda: module.Resize((options["size"],) * 2, antialias=True),
        "center_crop": lambda: module.CenterCrop(options["size"]),
        "color_jitter": lambda: module.ColorJitter(**options),
        "random_erasing": lambda: module.RandomErasing(**options),
    }
    return found[name]() if name in found else None


def _kornia_step(name: str, options: dict[str, Any], mean_std: Mapping[str, Any]) -> Step | None:
    K = kornia_augmentation
    found: dict[str, Callable[[], Step]] = {
        "randaugment": lambda: KorniaRandAugment(n=options["n"], m=int(options["m"])),
        "autoaugment": lambda: KorniaAutoAugment("cifar10"),
        "random_crop": lambda: K.RandomCrop((options["size"],) * 2, padding=options["padding"]),
        "hflip": lambda: K.RandomHorizontalFlip(p=options["p"]),
        "random_resized_crop": lambda: K.RandomResizedCrop(
            (options["size"],) * 2, scale=options["scale"], ratio=options["ratio"]
        ),
        "resize": lambda: K.Resize((options["size"],) * 2, antialias=True),
        "center_crop": lambda: K.CenterCrop(options["size"]),
        "color_jitter": lambda: K.ColorJitter(**options, p=1.0),
        "random_erasing": lambda: K.RandomErasing(**options),
        "normalize": lambda: K.Normalize(torch.tensor(mean_std["mean"]), torch.tensor(mean_std["std"])),
        "cutout": lambda: lambda images: _erasing(K.RandomErasing, options, images.shape)(images),
    }
    return found[name]() if name in found else None


def _erasing(kind: Any, options: dict[str, Any], shape: Sequence[int]) -> Step:
    share = (2 * (options["length"] // 2)) ** 2 / (shape[-1] * shape[-2])
    return kind(p=1.0, scale=(share, share), ratio=(1.0, 1.0), value=0)
