"""Noise that depends on the image: a random projection of the pixels decides which class an image is mistaken for.

`cores`: Cheng et al. 2020 (UCSC-REAL/cores), which ALASCA's instance-dependent columns use. `pdn`: Xia et al. 2020
(xiaoboxia/Part-dependent-label-noise). Either draws for each sample i a flip rate q_i around `rate`, and puts

    P_i[k] = q_i * softmax(x_i W)[k]  for k other than the true class y,     P_i[y] = 1 - q_i
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.noise.labels import check, check_other_class

INSTANCE_VARIANTS = ("cores", "pdn")  # the default first
SPREAD = 0.1  # standard deviation of the flip rates, in both papers
BLOCK = 1_000_000  # normal numbers that the published code draws to pick its flip rates from
CHUNK_VALUES = 1 << 22  # pixel values at a time: 32 MiB as float64
_REMEDY = "Convert the data with --resize square=N"

Read = Callable[[np.ndarray], np.ndarray]


def instance_dependent(
    images: np.ndarray, labels: np.ndarray, rate: float, num_classes: int, seed: int, variant: str = "cores"
) -> np.ndarray:
    """Labels replaced by the class that the image looks like to a random projection.

    * `cores`: one projection W (S, C) for all classes, of the raw pixels 0 to 255 (H, W, 3 flattened). These scores are
      in the thousands, so the softmax gives almost all weight to one class. Flip rates are normal, those outside (0, 1)
      rejected. With seed 0 equal to the published code, draw by draw.
    * `pdn`: one projection (S, C) for each true class, of (pixel/255 - 0.5) / 0.25. Flip rates are truncated normal.
      The published code's numbers in float64 instead of float32.

    Cutting the normal off moves its mean away from 0 and 1: at rate 0.05 about 10 % of the labels flip; from 0.2 to 0.8
    the mean stays within 0.006 of the rate. Rate 0 leaves every label as it is.

    Args:
        images: uint8 (N, H, W, 3), RGB.
        labels: (N,) integers, the true ones.

    Raises:
        FastnoisyError: unknown variant, rate outside [0, 1], labels out of range, other images than these.
    """
    images = np.asarray(images)
    if len(images) != len(labels):
        raise FastnoisyError(f"there are {len(images)} images and {len(labels)} labels")
    return from_reader(lambda rows: images[rows], labels, rate, num_classes, seed, variant)


def from_reader(
    read: Read, labels: np.ndarray, rate: float, num_classes: int, seed: int, variant: str = "cores"
) -> np.ndarray:
    """`instance_dependent` with images that are read in chunks.

    Args:
        read: rows, int64 (n,), to their images, uint8 (n, H, W, 3). Called with few rows at a time, so that the set
            never has to be in memory.
    """
    if variant not in INSTANCE_VARIANTS:
        raise unknown_name("variant of instance-dependent noise", variant, INSTANCE_VARIANTS)
    clean = check(labels, rate, num_classes)
    check_other_class(num_classes)
    if rate == 0 or not len(clean):
        return clean
    pixels = _Pixels(read)
    generator = np.random.RandomState(seed)
    return (_cores if variant == "cores" else _pdn)(pixels, clean, rate, num_classes, generator)


def _cores(
    pixels: _Pixels, clean: np.ndarray, rate: float, num_classes: int, generator: np.random.RandomState
) -> np.ndarray:
    flip_rates = _rejected_normal(generator, rate, len(clean))
    projection = generator.normal(size=(pixels.num_features, num_classes))
    noisy = np.empty_like(clean)
    for rows in pixels.chunks(np.arange(len(clean))):
        scores = pixels.read(rows) @ projection
        noisy[rows] = _draw(_flip_probabilities(scores, clean[rows], flip_rates[rows]), generator)
    return noisy


def _pdn(
    pixels: _Pixels, clean: np.ndarray, rate: float, num_classes: int, generator: np.random.RandomState
) -> np.ndarray:
    flip_rates = _truncated_normal(generator, rate, len(clean))
    probabilities = np.empty((len(clean), num_classes))
    for label in range(num_classes):
        projection = generator.standard_normal((pixels.num_features, num_classes))
        for rows in pixels.chunks(np.flatnonzero(clean == label)):
            scores = _pdn_features(pixels.read(rows)) @ projection
            probabilities[rows] = _flip_probabilities(scores, clean[rows], flip_rates[rows])
    return _draw(probabilities, generator)


class _Pixels:
    """Images as rows of float64 values 0 to 255, in chunks, all of one size."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.shape = _checked(read(np.zeros(1, np.int64))).shape[1:]
        self.num_features = int(np.prod(self.shape))

    def chunks(self, rows: np.ndarray) -> list[np.ndarray]:
        size = max(1, CHUNK_VALUES // self.num_features)
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def read(self, rows: np.ndarray) -> np.ndarray:
        images = _checked(self._read(rows))
        if images.shape != (len(rows), *self.shape):
            sizes = f"{self.shape[1]}x{self.shape[0]} and {images.shape[2]}x{images.shape[1]}"
            raise FastnoisyError(f"instance noise needs images of one size, got {sizes}", _REMEDY)
        return images.reshape(len(rows), -1).astype(np.float64)


def _checked(images: np.ndarray) -> np.ndarray:
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3:
        return images
    found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
    raise FastnoisyError(f"instance noise needs images of one size as uint8 (N, H, W, 3), got {found}", _REMEDY)


def _pdn_features(pixels: np.ndarray) -> np.ndarray:
    """Pixels 0 to 255 as the features that `pdn` projects."""
    return (pixels / 255 - 0.5) / 0.25


def _flip_probabilities(scores: np.ndarray, labels: np.ndarray, flip_rates: np.ndarray) -> np.ndarray:
    """P (n, C) of the module's formula, from scores x W (n, C), true labels (n,) and flip rates q (n,)."""
    rows = np.arange(len(labels))
    scores = scores.copy()
    scores[rows, labels] = -np.inf
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = flip_rates[:, None] * (weights / weights.sum(axis=1, keepdims=True))
    probabilities[rows, labels] = 1 - flip_rates
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def _draw(probabilities: np.ndarray, generator: np.random.RandomState) -> np.ndarray:
    """One class per row of (n, C); the same as calling `generator.choice(C, p=row)` for each row in turn."""
    cumulative = probabilities.cumsum(axis=1)
    cumulative /= cumulative[:, -1:]
    return (cumulative <= generator.random_sample(len(probabilities))[:, None]).sum(axis=1)


def _rejected_normal(generator: np.random.RandomState, mean: float, count: int) -> np.ndarray:
    """Normal numbers (count,), those outside (0, 1) left out; drawn a million at a time, as published."""
    found = np.empty(0)
    while len(found) < count:
        drawn = generator.normal(mean, SPREAD, BLOCK)
        found = np.concatenate([found, drawn[(drawn > 0) & (drawn < 1)]])
    return found[:count]


def _truncated_normal(generator: np.random.RandomState, mean: float, count: int) -> np.ndarray:
    """Normal numbers (count,) given that they lie in [0, 1], by inversion: the draws of scipy.stats.truncnorm."""
    from scipy.special import ndtr, ndtri  # a tenth of a second to import

    low, high = ndtr(-mean / SPREAD), ndtr((1 - mean) / SPREAD)
    drawn = mean + SPREAD * ndtri(low + generator.random_sample(count) * (high - low))
    return np.clip(np.asarray(drawn), 0, 1)
