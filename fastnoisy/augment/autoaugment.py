"""AutoAugment's CIFAR-10 policy and RandAugment with torchvision's operations, strengths and pixels.

Magnitudes are torchvision's float32 tables (`_augmentation_space`), nearest pixels, black fill, Pillow's pixels. One
draw decides a sample's operation, one more its sign.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastnoisy.augment.geometry import rotation_table
from fastnoisy.augment.policies import ENHANCEMENTS, Policy, Slot
from fastnoisy.augment.rows import extents
from fastnoisy.keyed_random import below, fold

# pairs of (operation, probability, entry of its table of 10), as in torchvision's AutoAugmentPolicy.CIFAR10
CIFAR10_POLICY: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("color", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)
AUTOAUGMENT_OPS: tuple[str, ...] = (
    "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast", "sharpness", "posterize",
    "solarize", "autocontrast", "equalize", "invert",
)  # fmt: skip
TORCHVISION_RANDAUGMENT_OPS: tuple[str, ...] = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast",
    "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip


def linspace_entry(start: float, end: float, bins: int, index: int) -> float:
    """Entry of `torch.linspace(start, end, bins)` in float32, as it comes out where a CPU has AVX2 or more.

    Each half counts from its own end, with a step in float32 and one rounding of the whole.
    """
    step = float((np.float32(end) - np.float32(start)) / np.float32(bins - 1))
    near_start = float(np.float32(start)) + step * index
    near_end = float(np.float32(end)) - step * (bins - 1 - index)
    return float(np.float32(near_start if index < bins // 2 else near_end))


def torchvision_values(name: str, bins: int, index: int) -> tuple[float, float]:
    """An operation's value at an entry of torchvision's table of so many bins, with a positive and a negative sign.

    Translations depend on the image: see `translation_pixels`.
    """
    if name == "posterize":
        return (float(8 - round(index / ((bins - 1) / 4))),) * 2
    if name == "solarize":
        return (linspace_entry(255.0, 0.0, bins, index),) * 2
    if name in ENHANCEMENTS:
        magnitude = linspace_entry(0.0, 0.9, bins, index)
        return 1.0 + magnitude, 1.0 - magnitude
    highest = {"shear_x": 0.3, "shear_y": 0.3, "rotate": 30.0}.get(name, 0.0)
    magnitude = linspace_entry(0.0, highest, bins, index)
    return magnitude, -magnitude


def translation_pixels(extent: Tensor, bins: int, index: Tensor | int) -> Tensor:
    """int(linspace(0, 150 / 331 * extent, bins)[index]) in integers; the same number for every extent up to 4096."""
    return 150 * extent * index // (331 * (bins - 1))


def _with_translations(
    names: tuple[str, ...], chosen: Tensor, values: Tensor, index: Tensor | int, bins: int, negative: Tensor,
    images: Tensor, sizes: Tensor | None,
) -> Tensor:  # fmt: skip
    """`values` with those of translations put in, which follow from the valid area."""
    height, width = extents(images, sizes)
    for name, extent in (("translate_x", width), ("translate_y", height)):
        pixels = translation_pixels(extent, bins, index) * (1 - 2 * negative)
        values = torch.where(chosen == names.index(name), pixels.double(), values)
    return values


class AutoAugment(Policy):
    """AutoAugment (Cubuk et al. 2018, arXiv:1805.09501), the policy found on CIFAR-10, as torchvision's `AutoAugment`.

    One of 25 pairs of operations, uniformly; each operation is applied with its own probability (of 2**16) and, where
    it has one, a random sign.
    """

    def __init__(self) -> None:
        super().__init__()
        rows = [row for pair in CIFAR10_POLICY for row in pair]
        self._store("codes", torch.tensor([AUTOAUGMENT_OPS.index(name) for name, _, _ in rows]))
        self._store("thresholds", torch.tensor([round(probability * (1 << 16)) for _, probability, _ in rows]))
        self._store("indices", torch.tensor([index for _, _, index in rows]))
        values = [torchvision_values(name, 10, index) for name, _, index in rows]
        self._store("values", torch.tensor(values, dtype=torch.float64).view(-1))
        angles = [value if name == "rotate" else (0.0, 0.0) for (name, _, _), value in zip(rows, values, strict=True)]
        self._store("rotations", rotation_table([angle for pair in angles for angle in pair]))

    def choose(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The pair, int64 (B,), and for both its operations whether applied, bool, and negative, int64 (B, 2)."""
        pair = below(fold(keys, 0), len(CIFAR10_POLICY))
        slots = torch.arange(2, device=keys.device)
        thresholds = self._load("thresholds", (2 * pair[:, None] + slots).view(-1)).view(-1, 2)
        applied = below(fold(keys[:, None], 1 + 2 * slots), 1 << 16) < thresholds
        return pair, applied, below(fold(keys[:, None], 2 + 2 * slots), 2)

    def slots(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> list[Slot]:
        """Both operations of each sample."""
        pair, applied, signs = self.choose(keys)
        slots = []
        for position, negative in enumerate(signs.unbind(1)):
            row = 2 * pair + position
            codes, entry = self._load("codes", row), 2 * row + negative
            values = _with_translations(
                AUTOAUGMENT_OPS, codes, self._load("values", entry).view(torch.float64),
                self._load("indices", row), 10, negative, images, sizes,
            )  # fmt: skip
            chosen = torch.where(applied[:, position], codes, -1)
            slots.append(Slot(AUTOAUGMENT_OPS, chosen, values, rotation=self._load("rotations", entry)))
        return slots


class TorchvisionRandAugment(Policy):
    """RandAugment (arXiv:1909.13719) as torchvision's: 14 operations, identity among them, 31 bins, signed factors.

    Not equivalent to `RandAugment`: at the same m, enhancement factors lie on either side of 1 and there is no invert,
    no solarize_add and no cutout.

    Args:
        n: operations per image, drawn uniformly with replacement.
        m: entry of the tables, 0..30.
    """

    BINS = 31

    def __init__(self, n: int = 2, m: int = 9) -> None:
        super().__init__()
        self.n, self.m = n, m
        values = [torchvision_values(name, self.BINS, m) for name in TORCHVISION_RANDAUGMENT_OPS]
        self._store("values", torch.tensor(values, dtype=torch.float64).view(-1))
        self._store("rotations", rotation_table(list(torchvision_values("rotate", self.BINS, m))))

    def choose(self, keys: Tensor, slot: int) -> tuple[Tensor, Tensor]:
        """The operation in `slot` (0..n-1) and whether its sign is negative, int64 (B,) each."""
        return below(fold(keys, 2 * slot), len(TORCHVISION_RANDAUGMENT_OPS)), below(fold(keys, 2 * slot + 1), 2)

    def slots(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> list[Slot]:
        """The n operations of each sample."""
        names, slots = TORCHVISION_RANDAUGMENT_OPS, []
        for position in range(self.n):
            chosen, negative = self.choose(keys, position)
            values = self._load("values", 2 * chosen + negative).view(torch.float64)
            values = _with_translations(names, chosen, values, self.m, self.BINS, negative, images, sizes)
            slots.append(Slot(names, chosen, values, rotation=self._load("rotations", negative)))
        return slots
