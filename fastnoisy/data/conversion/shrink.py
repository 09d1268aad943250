"""Pillow's antialiased bilinear resize of a photograph to less, on the same integers in a third of the time.

Pillow weighs pixels by 22-bit integers, along rows first, rounds to 8 bits and does the same along columns: so there is
one right answer, and every pixel here is Pillow's. What differs is the order of the work: both passes run along
columns, the first of them over the image turned on its side, so that each weight meets a whole row of bytes and the
compiler uses the processor's widest registers. Photographs of 300x200 made 224x149 take 92 us instead of 321 (one core
of an AMD EPYC).
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from fastnoisy.compiler import Compiled
from fastnoisy.data.conversion.jpeg import decode_rgbx

WORTH_IMAGES = 5000  # below, importing numba and compiling (0.5 to 3 s) take longer than they save
_BITS = 22  # of a weight; Pillow: 32 - 8 of the result - 2 against overflow
_CHUNK = 4  # weights of an output pixel that are used at once
_KEPT = 1 << 22  # pixels: of larger images memory is not kept
_KEPT_LENGTH = 1024  # of a side: the weights of longer ones are not kept
_MAX_WEIGHT_SUM = 1 << 22  # of the exact weights as integers; Pillow's doubles round to the same up to 2**23
_PROBES = ((31, 47, 20, 30), (40, 33, 13, 11), (64, 48, 63, 47), (90, 120, 10, 13), (60, 30, 30, 15), (7, 90, 7, 30))


class Shrink(Compiled):
    """Resizes images to less, as `Image.resize(size, BILINEAR)` does; by that until prepared, and wherever it may
    differ.
    """

    def _load(self) -> None:
        from fastnoisy import resample_passes  # numba takes a third of a second to import

        self._passes, self._scratch_size = resample_passes.both, resample_passes.scratch_size
        self._kept: dict[str, np.ndarray] = {}

    def _is_right(self) -> bool:
        """Whether the Pillow that is installed gives the same: one that rounds otherwise does all the work itself."""
        random = np.random.default_rng(0)
        for height, width, new_height, new_width in _PROBES:
            image = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
            wanted = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
            if self(image, new_height, new_width).tobytes() != wanted.tobytes():
                return False
        return True

    def __call__(self, rgb: Image.Image, height: int, width: int) -> Image.Image:
        """An RGB image, resized."""
        if not self.compiled or not _in_range(rgb.height, rgb.width, height, width):
            return rgb.resize((width, height), Image.Resampling.BILINEAR)
        # Four bytes a pixel, as Pillow keeps them, are copied as they are.
        pixels = np.frombuffer(rgb.tobytes("raw", "RGBX"), np.uint8)
        result = self._resized(pixels, rgb.height, rgb.width, height, width)
        return Image.frombytes("RGB", (width, height), result, "raw", "RGBX")

    def jpeg(self, data: bytes, height: int, width: int, new_height: int, new_width: int) -> Image.Image | None:
        """A sound YCbCr JPEG of that size, resized, an RGBX image; None where that is not for this class, or libjpeg
        warns of it.

        Its pixels go into memory that is used again and again: fresh pages cost as much as the work on them (of 300x200
        photographs on a virtual machine: 160 us of 620).
        """
        if not self.compiled or not _in_range(height, width, new_height, new_width):
            return None
        pixels = decode_rgbx(data, self._memory("pixels", height * width))
        if pixels is None:
            return None
        result = self._resized(pixels, height, width, new_height, new_width)
        return Image.frombuffer("RGBX", (new_width, new_height), result, "raw", "RGBX", 0, 1)

    def _resized(self, pixels: np.ndarray, height: int, width: int, new_height: int, new_width: int) -> np.ndarray:
        """uint8 RGBX pixels as uint32 (new_height, new_width)."""
        source = pixels.view(np.uint32).reshape(height, width)
        scratch = self._memory("scratch", self._scratch_size(height, width, new_width))
        result = np.empty((new_height, new_width), np.uint32)
        self._passes(source, *_weights(width, new_width), *_weights(height, new_height), scratch, result)
        return result

    def _memory(self, name: str, size: int) -> np.ndarray:
        """uint32 (size or more,) for one purpose, kept for the next image unless it is large."""
        if size > _KEPT:
            return np.empty(size, np.uint32)
        if name not in self._kept or len(self._kept[name]) < size:
            self._kept[name] = np.empty(size, np.uint32)
        return self._kept[name]


def _in_range(height: int, width: int, new_height: int, new_width: int) -> bool:
    """Whether neither side grows, Pillow takes rows first, and weights are sure to be rounded alike.

    Pillow 13 takes columns first where the height loses more than twice as many pixels as the width.
    """
    if new_height > height or new_width > width or height - new_height > 2 * (width - new_width):
        return False
    return max(height * height // new_height, width * width // new_width) < _MAX_WEIGHT_SUM // 4


def _weights(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """See `_made_weights`; kept for the next image, unless they are large. Photographs come in hundreds of sizes, and
    to make weights takes as long as to use them.
    """
    return _kept_weights(length, size) if length <= _KEPT_LENGTH else _made_weights(length, size)


def _made_weights(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `size` pixels along a side of `length`: pixels that are weighed, and weights, int32 and uint32 (size,
    K).

    Pixel j weighs max(0, 1 - distance / scale), which is an integer over 2 length; see Pillow's `precompute_coeffs`. K
    is a multiple of 4, and weights that fill up are 0.
    """
    centre = (2 * np.arange(size, dtype=np.int64)[:, None] + 1) * length
    taps = -(-(2 * length // size + 1) // _CHUNK) * _CHUNK
    first = np.maximum((centre - 2 * length + size) // (2 * size), 0)
    source = first + np.arange(taps)
    weight = np.maximum(2 * length - np.abs((2 * source + 1) * size - centre), 0) * (source < length)
    total = weight.sum(1, keepdims=True)
    weight = ((weight << (_BITS + 1)) + total) // (2 * total)
    return np.minimum(source, length - 1).astype(np.int32), weight.astype(np.uint32)


_kept_weights = functools.lru_cache(maxsize=1024)(_made_weights)  # photographs: up to 20 MB a process
