"""What several policies and steps draw: uniform numbers in fixed point, and boxes of random area and aspect ratio.

Integers all the way (see `keyed_random`), so that every device and every compiler draws the same.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from fastnoisy.augment.geometry import integer_sqrt
from fastnoisy.keyed_random import below


class Window(NamedTuple):
    """Where a window's top left lies in the image, int64 (B,) each; negative where it begins in the padding."""

    top: Tensor
    left: Tensor


class Box(NamedTuple):
    """A box in the image, int64 (B,) each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


UNIT = 1 << 40  # of a fixed-point number
TRIES = 10  # of a box


def cells(low: float, high: float) -> tuple[int, int]:
    """Where the 65536 equal cells of [low, high] begin, and half the width of one, in units of 2**-40."""
    return round(low * UNIT), round((high - low) * (UNIT >> 17))


def middle(number: Tensor, begin: Tensor | int, half: Tensor | int) -> Tensor:
    """The middle of one of the `cells`, by its number, int64; in units of 2**-40."""
    return begin + (2 * number + 1) * half


def to_float(units: Tensor) -> Tensor:
    """Numbers in units of 2**-40 as float64; exact below 8192."""
    return units.double() * (1 / UNIT)


@functools.cache
def ratio_table(low: float, high: float) -> Tensor:
    """65536 log-uniform aspect ratios and their inverses, int64 (65536, 2) in units of 2**-18."""
    step_size = (math.log(high) - math.log(low)) / 65536
    ratios = [math.exp(math.log(low) + (index + 0.5) * step_size) for index in range(65536)]
    return torch.tensor([[round(ratio * (1 << 18)), round((1 << 18) / ratio)] for ratio in ratios])


def to_shares(scale: tuple[float, float]) -> tuple[int, int]:
    """A range of shares of an area, in units of 2**-18."""
    low, high = (round(share * (1 << 18)) for share in scale)
    return low, high


def box_sides(numbers: Tensor, shares: tuple[int, int], ratios: Tensor, area: Tensor) -> tuple[Tensor, Tensor]:
    """Sides of ten boxes per sample, int64 (B, TRIES) each, in pixels: sqrt(area * share * ratio), and with 1 / ratio.

    The area must be below 2**24 / 4 pixels.

    Args:
        numbers: draws, int64 (B, 2 * TRIES): of each try its share and its ratio.
        shares: the share of the area is uniform between these, in units of 2**-18.
        ratios: `ratio_table`; the ratio is uniform over its rows.
        area: int64 (B,), pixels.
    """
    low, high = shares
    share = low + below(numbers[:, ::2], high - low + 1)
    ratio = ratios[below(numbers[:, 1::2], 65536)]
    area, half = area[:, None] * share, 1 << 17
    first, second = ((integer_sqrt(area * ratio[..., part]) + half) >> 18 for part in range(2))
    return first, second


def first_fit(fits: Tensor, *sides: Tensor) -> tuple[Tensor, ...]:
    """Whether any of the tries fits, bool (B,), and the sides, (B, TRIES), of the first that does, (B,)."""
    tries = torch.arange(TRIES, device=fits.device)
    first = torch.where(fits, tries, TRIES).amin(1)
    pick = first.clamp(max=TRIES - 1)[:, None]
    return first < TRIES, *(side.gather(1, pick).squeeze(1) for side in sides)
