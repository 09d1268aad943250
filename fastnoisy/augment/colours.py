"""Colour spaces with Pillow's pixels: RGB to HSV and back (src/libImaging/Convert.c), in integers.

Pillow computes both ways in single and double precision and truncates or rounds to bytes. Compared with it on all 2**24
inputs of either way: truncated integer quotients give its saturation, rounded ones its RGB (no quotient there is half
an integer, as all denominators are odd), and truncated ones its hue too, except where the exact hue is one of 64 whole
bytes, which single precision reaches from below. Those are in `_REACHED_FROM_BELOW`, found by Pillow's own steps.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def _pillow_hue(byte: int) -> int:
    """The hue that Pillow gives a colour whose hue is exactly `byte` / 255 of the circle, by its own rounding."""
    eighty_fifths = 2 * byte  # of a sixth of the circle
    centre = 2 * ((eighty_fifths + 84) // 170)  # 0 or 6 where red is the largest, 2 green, 4 blue
    offset = (eighty_fifths - 85 * centre) / 85
    plus, minus = np.float32(min(1.0, 1 + offset)), np.float32(min(1.0, 1 - offset))  # such as bc and gc
    sixths = float(np.float32(centre % 6 + float(plus) - float(minus)))
    return int(float(np.float32(math.fmod(sixths / 6.0 + 1.0, 1.0))) * 255.0)


def _as_words(members: list[int]) -> tuple[int, ...]:
    """A set of numbers below 256 as four words of 64 bits, each an int64."""
    words = [
        sum(1 << (member - first) for member in members if first <= member < first + 64) for first in range(0, 256, 64)
    ]
    return tuple(word - (1 << 64) if word >> 63 else word for word in words)


_REACHED_FROM_BELOW = _as_words([byte for byte in range(255) if _pillow_hue(byte) < byte])


def rgb_to_hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue, saturation and value, int32 (B, H, W) of 0..255 each, of uint8 (B, 3, H, W), as `convert("HSV")`."""
    red, green, blue = images.int().unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    sixths = torch.where(green == value, 2 * chroma + blue - red, 4 * chroma + red - green)  # times chroma
    sixths = torch.where(red == value, green - blue, sixths)
    numerator, denominator = 85 * torch.where(sixths < 0, sixths + 6 * chroma, sixths), 2 * chroma.clamp(min=1)
    hue = numerator // denominator
    word, *words = _REACHED_FROM_BELOW
    bits = torch.full_like(hue, word, dtype=torch.int64)
    for index, word in enumerate(words, start=1):
        bits = torch.where(hue >= 64 * index, word, bits)
    from_below = ((bits >> (hue & 63)) & 1).int() * (hue * denominator == numerator)
    return hue - from_below, 255 * chroma // value.clamp(min=1), value


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Uint8 (B, 3, H, W) of int32 (B, H, W) of 0..255 each, as `convert("RGB")` of an HSV image."""
    sector = 6 * hue // 255
    rest = 2 * hue - 85 * sector  # 85ths of a sector

    def darkened(share: Tensor) -> Tensor:  # value * (1 - saturation / 255 * share / 85), rounded
        return (2 * value * (21675 - saturation * share) + 21675) // 43350

    p, q, t = darkened(torch.full_like(rest, 85)), darkened(rest), darkened(85 - rest)
    channels = []
    for order in ((value, q, p, p, t, value), (t, value, value, q, p, p), (p, p, t, value, value, q)):
        channel = order[0]  # also of sector 6, which hue 255 is in
        for index in range(1, 6):
            channel = torch.where(sector == index, order[index], channel)
        channels.append(channel)
    return torch.stack(channels, 1).to(torch.uint8)


def shift_hue(images: Tensor, steps: Tensor) -> Tensor:
    """Turn the hues of uint8 (B, 3, H, W) by `steps`, int64 (B,), of 256 (Pillow's hues end at 254, yet wrap at
    256).
    """
    hue, saturation, value = rgb_to_hsv(images)
    return hsv_to_rgb((hue + steps.int()[:, None, None]) & 255, saturation, value)
