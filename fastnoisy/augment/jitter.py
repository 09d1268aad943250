"""Colour jitter, per sample: brightness, contrast, saturation and hue in random order."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from fastnoisy.augment.draws import cells, middle, to_float
from fastnoisy.augment.policies import Operations, Policy
from fastnoisy.augment.registry import Parameter, step
from fastnoisy.keyed_random import below


@step(
    "color_jitter",
    Parameter("brightness", "number", 0.4, 0, 100),
    Parameter("contrast", "number", 0.4, 0, 100),
    Parameter("saturation", "number", 0.4, 0, 100),
    Parameter("hue", "number", 0.2, 0, 0.5),
)
class ColorJitter(Policy):
    """Brightness, contrast and saturation by factors in [1 - v, 1 + v], hue by a shift in [-v, v], in random order.

    torchvision's `ColorJitter` on Pillow's pixels, drawn per sample. Factors are uniform in [max(0, 1 - v), 1 + v], the
    hue's shift in [-v, v] of the circle, each of 65536 values; the order is one of 24, uniformly. What has v = 0 is
    left out (a shift of 0 still rounds colours to HSV and back).
    """

    cells: Tensor
    names = ("brightness", "contrast", "color", "hue")

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float) -> None:
        super().__init__(draws=5)
        strengths = (brightness, contrast, saturation)
        ranges = (*((max(0.0, 1 - v), 1 + v) for v in strengths), (-hue, hue))
        used = [code if strength > 0 else -1 for code, strength in enumerate((*strengths, hue))]
        orders = [[used[code] for code in order] for order in itertools.permutations(range(4))]
        self._store("orders", torch.tensor(orders))
        self._store("cells", torch.tensor([cells(*ends) for ends in ranges]).T.contiguous())

    def choose(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The order, 0..23 in `itertools.permutations`' count, int64 (B,), and the values, float64 (B, 4)."""
        numbers = self.numbers(keys)
        values = to_float(middle(below(numbers[:, 1:], 1 << 16), self.cells[0], self.cells[1]))
        return below(numbers[:, 0], 24), values

    def draw(self, keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Operations:
        """The four operations of each sample, in its own order."""
        order, values = self.choose(keys)
        chosen = self._load("orders", order)
        return Operations(chosen, values.gather(1, chosen.clamp(min=0)))
