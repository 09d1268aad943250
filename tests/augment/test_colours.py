"""RGB to HSV and back against Pillow, on every colour there is."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from fastnoisy.augment import apply_op, colours


@pytest.fixture(scope="module")
def planes():
    """All 2**24 triples of bytes, in 16 images (16, 256, 256, 3) at a time."""
    first, second, third = np.meshgrid(np.arange(16), np.arange(256), np.arange(256), indexing="ij")
    start = np.stack([first, second, third], 3).astype(np.uint8)
    return [start + np.array([16 * index, 0, 0], np.uint8) for index in range(16)]


def test_rgb_to_hsv_equals_pillow_on_every_colour(planes):
    for triples in planes:
        expected = np.asarray(Image.fromarray(triples.reshape(-1, 256, 3)).convert("HSV")).reshape(triples.shape)
        result = torch.stack(colours.rgb_to_hsv(torch.from_numpy(triples).permute(0, 3, 1, 2)), 3)
        assert np.array_equal(result.numpy(), expected)


def test_hsv_to_rgb_equals_pillow_on_every_triple(planes):
    for triples in planes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's name for reading bytes as HSV is deprecated
            image = Image.fromarray(triples.reshape(-1, 256, 3), "HSV")
        expected = np.asarray(image.convert("RGB")).reshape(triples.shape)
        result = colours.hsv_to_rgb(*torch.from_numpy(triples).permute(3, 0, 1, 2).int().unbind(0))
        assert np.array_equal(result.permute(0, 2, 3, 1).numpy(), expected)


def test_hue_truncates_its_shift_as_torchvision(reference):
    """Every shift of 255 steps and those right beside them."""
    shifts = np.concatenate([np.arange(-127, 128) / 255, np.arange(-127, 128) / 255 + 1e-9, [-0.5, 0.5]])
    images = reference.random_images(len(shifts), 4, 5)
    result = apply_op("hue", images, torch.from_numpy(shifts))
    for row, shift in enumerate(shifts):
        expected = functional.adjust_hue(reference.to_pillow(images[row]), float(shift))
        assert np.array_equal(result[row].permute(1, 2, 0), np.asarray(expected)), shift
