"""Resizing, cropping and flipping against Pillow and torch."""

import numpy as np
import pytest
import torch
from PIL import Image

from fastnoisy.augment import geometry, rows

BILINEAR = Image.Resampling.BILINEAR


def pillow_resize(pixels, size):
    """Two passes, horizontal first, as one `resize` does in Pillow up to 12 (13 sometimes begins with the vertical)."""
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return np.asarray(image.resize((size, image.height), BILINEAR).resize((size, size), BILINEAR)).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("H", "W", "size"), [(64, 48, 32), (33, 40, 57), (90, 130, 7), (50, 300, 96), (20, 20, 20), (200, 31, 1), (1, 9, 5)]
)
def test_resized_crop_equals_pillow(reference, H, W, size):
    count = 40
    images = reference.random_images(count, H, W)
    rng = np.random.default_rng(3)
    height, width = rng.integers(1, H + 1, count), rng.integers(1, W + 1, count)
    height[:2], width[:2] = H, W
    top, left = rng.integers(0, H - height + 1), rng.integers(0, W - width + 1)
    boxes = [torch.from_numpy(part) for part in (top, left, height, width)]
    result = geometry.resized_crop(images, *boxes, size).numpy()
    for row in range(count):
        y, x, h, w = (int(part[row]) for part in (top, left, height, width))
        expected = pillow_resize(images[row, :, y : y + h, x : x + w].numpy(), size)
        assert np.array_equal(result[row], expected), (y, x, h, w)


def test_resize_of_photograph_size(reference):
    images = reference.random_images(2, 375, 500)
    corner, height, width = torch.zeros(2).long(), torch.full((2,), 375), torch.full((2,), 500)
    result = geometry.resized_crop(images, corner, corner, height, width, 224)
    for row in range(2):
        image = Image.fromarray(images[row].permute(1, 2, 0).contiguous().numpy())
        assert np.array_equal(result[row].permute(1, 2, 0), np.asarray(image.resize((224, 224), BILINEAR)))


def test_crop_is_black_outside_the_valid_area(reference):
    images, sizes = reference.random_images(30, 11, 13), reference.random_sizes(30, 11, 13)
    rng = np.random.default_rng(4)
    top, left = torch.from_numpy(rng.integers(-6, 12, (2, 30)))
    result = geometry.crop(images, sizes, top, left, 8)
    for row in range(30):
        height, width = sizes[row].tolist()
        image = Image.fromarray(images[row, :, :height, :width].permute(1, 2, 0).contiguous().numpy())
        x, y = left[row].item(), top[row].item()
        assert np.array_equal(result[row].permute(1, 2, 0), np.asarray(image.crop((x, y, x + 8, y + 8))))


def test_flip_mirrors_the_valid_area(reference):
    images, sizes = reference.random_images(20, 9, 12), reference.random_sizes(20, 9, 12)
    images = rows.blank_outside(images, sizes)
    mask = torch.arange(20) % 2 == 0
    result = geometry.flip(images, sizes, mask)
    for row in range(20):
        width = sizes[row, 1]
        valid = images[row, :, :, :width]
        assert torch.equal(result[row, :, :, :width], valid.flip(2) if mask[row] else valid)
        assert not result[row, :, :, width:].any()
    assert torch.equal(geometry.flip(images, None, mask)[0], images[0].flip(2))


def test_integer_sqrt():
    roots = torch.tensor([0, 1, 2, 3, 1000, 94906267, 2147483646, 2147483647])
    squares = roots * roots
    assert torch.equal(geometry.integer_sqrt(squares), roots)
    assert torch.equal(geometry.integer_sqrt(squares + 2 * roots), roots)
    assert torch.equal(geometry.integer_sqrt((squares - 1).clamp(min=0)), (roots - 1).clamp(min=0))


def test_rotation_on_the_device_equals_the_host_table():
    """The fallback for angles that live on a GPU: last-bit differences of cosines may not move a coefficient by 2."""
    angles = torch.linspace(-400, 400, 2001, dtype=torch.float64)
    turns = torch.deg2rad(torch.remainder(angles, 360.0))
    on_device = torch.stack([torch.cos(turns), torch.sin(turns)], 1).mul(geometry.ONE).round().long()
    assert (on_device - geometry.rotation_table(angles.tolist())).abs().max() <= 1


def test_rows_are_computed_alone_or_all_with_the_same_bits(monkeypatch, reference):
    images = reference.random_images(10, 5, 6)
    shift = torch.arange(10)

    def brighten(images, shift):
        return images + shift.view(-1, 1, 1, 1).to(torch.uint8)

    for mask in (shift % 3 == 0, shift < 0, shift >= 0):
        selected = rows.on_rows(mask, brighten, images, shift)
        with monkeypatch.context() as patch:
            patch.setattr(rows, "selects_rows", lambda images: False)
            assert torch.equal(rows.on_rows(mask, brighten, images, shift), selected)
