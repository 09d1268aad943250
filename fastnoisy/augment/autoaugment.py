"""AutoAugment's CIFAR-10 policy and RandAugment with torchvision's operations, strengths and pixels.

Magnitudes are torchvision's float32 tables (`_augmentation_space`), nearest pixels, black fill, Pillow's pixels. One
draw decides a sample's operation, one more its sign.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastnoisy.augment.geometry import rotation_table
from fastnoisy.augment.policies import ENHANCEMENTS, Operations, Policy
from fastnoisy.augment.registry import Parameter, step
from fastnoisy.augment.rows import valid_sizes
from fastnoisy.keyed_random import below

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


class _TorchvisionPolicy(Policy):
    """What both share: translations that follow from the valid area."""

    bins: int

    def _values(self, chosen: Tensor, entry: Tensor, index: Tensor | int, negative: Tensor, sizes: Tensor) -> Tensor:
        """The values of operations (B, P) by their entries in the table of values; `sizes` int64 (B, 2)."""
        values = self._load("values", entry).view(torch.float64)
        height, width = sizes[:, :, None].unbind(1)
        for name, extent in (("translate_x", width), ("translate_y", height)):
            pixels = translation_pixels(extent, self.bins, index) * (1 - 2 * negative)
            values = torch.where(chosen == self.names.index(name), pixels.double(), values)
        return values


@step("autoaugment")
class AutoAugment(_TorchvisionPolicy):
    """AutoAugment: one of the 25 pairs of operations found on CIFAR-10, nearest pixels (torchvision's).

    Cubuk et al. 2018, arXiv:1805.09501. The pair is uniform; each of its operations is applied with its own probability
    (of 2**16) and, where it has one, a random sign.
    """

    names = AUTOAUGMENT_OPS
    bins = 10

    def __init__(self) -> None:
        super().__init__(draws=5)
        rows = [row for pair in CIFAR10_POLICY for row in pair]
        self._store("codes", torch.tensor([self.names.index(name) for name, _, _ in rows]))
        self._store("thresholds", torch.tensor([round(probability * (1 << 16)) for _, probability, _ in rows]))
        self._store("indices", torch.tensor([index for _, _, index in rows]))
        values = [torchvision_values(name, self.bins, index) for name, _, index in rows]
        self._store("values", torch.tensor(values, dtype=torch.float64).view(-1))
        angles = [value if name == "rotate" else (0.0, 0.0) for (name, _, _), value in zip(rows, values, strict=True)]
        self._store("rotations", rotation_table([angle for pair in angles for angle in pair]))
        self._store("limits", torch.tensor([len(CIFAR10_POLICY), *[1 << 16, 2] * 2]))

    def choose(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The pair, int64 (B,), and for both its operations whether applied, bool, and negative, int64 (B, 2)."""
        numbers = below(self.numbers(keys), self.limits)
        pair, chances, negative = numbers[:, 0], numbers[:, 1::2], numbers[:, 2::2]
        return pair, chances < self._load("thresholds", self._rows(pair)), negative

    @staticmethod
    def _rows(pair: Tensor) -> Tensor:
        """Where the tables have the operations of a pair, int64 (B, 2)."""
        return 2 * pair[:, None] + torch.arange(2, device=pair.device)

    def draw(self, keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Operations:
        """Both operations of each sample."""
        pair, applied, negative = self.choose(keys)
        row = self._rows(pair)
        codes, entry = self._load("codes", row), 2 * row + negative
        area = valid_sizes(keys, sizes, canvas)
        values = self._values(codes, entry, self._load("indices", row), negative, area)
        return Operations(torch.where(applied, codes, -1), values, self._load("rotations", entry))


@step("torchvision_randaugment", Parameter("n", "integer", 2, 1, 16), Parameter("m", "integer", 9, 0, 30))
class TorchvisionRandAugment(_TorchvisionPolicy):
    """RandAugment with torchvision's 14 operations: n of them at entry m of 31, nearest pixels.

    arXiv:1909.13719; identity among the operations, which are drawn uniformly with replacement; signed factors. Not
    equivalent to `RandAugment`: at the same m, enhancement factors lie on either side of 1 and there is no invert, no
    solarize_add and no cutout.
    """

    names = TORCHVISION_RANDAUGMENT_OPS
    bins = 31

    def __init__(self, n: int, m: int) -> None:
        super().__init__(draws=2 * n)
        self.n, self.m = n, m
        values = [torchvision_values(name, self.bins, m) for name in self.names]
        self._store("values", torch.tensor(values, dtype=torch.float64).view(-1))
        self._store("rotations", rotation_table(list(torchvision_values("rotate", self.bins, m))))
        self._store("limits", torch.tensor([len(self.names), 2]))

    def choose(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Each sample's operations and whether their signs are negative, int64 (B, n) each."""
        chosen, negative = below(self.numbers(keys).view(-1, self.n, 2), self.limits).unbind(2)
        return chosen, negative

    def draw(self, keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Operations:
        """The n operations of each sample."""
        chosen, negative = self.choose(keys)
        values = self._values(chosen, 2 * chosen + negative, self.m, negative, valid_sizes(keys, sizes, canvas))
        return Operations(chosen, values, self._load("rotations", negative))
