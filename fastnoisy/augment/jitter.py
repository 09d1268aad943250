"""Colour jitter, per sample: brightness, contrast, saturation and hue in random order."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from fastnoisy.augment.draws import to_float, uniform
from fastnoisy.augment.policies import Policy, Slot
from fastnoisy.keyed_random import below, fold

JITTER_OPS: tuple[str, ...] = ("brightness", "contrast", "color", "hue")


class ColorJitter(Policy):
    """torchvision's `ColorJitter` on Pillow's pixels, drawn per sample.

    Factors are uniform in [max(0, 1 - v), 1 + v], the hue's shift in [-hue, hue] of the circle, each of 65536 values;
    the order is one of 24, uniformly. What has v = 0 is left out (a shift of 0 still rounds colours to HSV and back).

    Args:
        brightness, contrast, saturation: v, at least 0.
        hue: at most 0.5.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float) -> None:
        super().__init__()
        strengths = (brightness, contrast, saturation)
        self.ranges = (*((max(0.0, 1 - v), 1 + v) for v in strengths), (-hue, hue))
        used = [code if strength > 0 else -1 for code, strength in enumerate((*strengths, hue))]
        self._store(
            "orders", torch.tensor([[used[code] for code in order] for order in itertools.permutations(range(4))])
        )

    def choose(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The order, 0..23 in `itertools.permutations`' count, int64 (B,), and the values, float64 (B, 4)."""
        numbers = [below(fold(keys, 1 + code), 1 << 16) for code in range(4)]
        values = [to_float(uniform(number, *ends)) for number, ends in zip(numbers, self.ranges, strict=True)]
        return below(fold(keys, 0), 24), torch.stack(values, 1)

    def slots(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> list[Slot]:
        """The four operations of each sample, in its own order."""
        order, values = self.choose(keys)
        codes = self._load("orders", order)
        return [
            Slot(JITTER_OPS, chosen, values.gather(1, chosen[:, None].clamp(min=0)).squeeze(1))
            for chosen in codes.unbind(1)
        ]
