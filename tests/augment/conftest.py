"""Pillow as the reference: the same operations on one image at a time."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torchvision.transforms import functional

VALUES = {
    "rotate": (-200.0, 200.0),
    "posterize": (0.0, 8.0),
    "solarize": (-3.0, 260.0),
    "solarize_add": (-60.0, 120.0),
    "color": (-0.5, 3.0),
    "contrast": (-0.5, 3.0),
    "brightness": (-0.5, 3.0),
    "sharpness": (-0.5, 3.0),
    "shear_x": (-0.5, 0.5),
    "shear_y": (-0.5, 0.5),
    "translate_x": (-40.0, 40.0),
    "translate_y": (-40.0, 40.0),
    "cutout_abs": (0.0, 40.0),
    "hue": (-0.5, 0.5),
}


def _cutout(image, value, center):
    width, height = image.size
    left, top = int(max(0, center[1] - value / 2)), int(max(0, center[0] - value / 2))
    image = image.copy()
    box = (left, top, min(width, left + value), min(height, top + value))
    ImageDraw.Draw(image).rectangle(box, (125, 123, 114))
    return image


def _solarize_add(image, value):
    added = np.clip(np.asarray(image).astype(int) + int(value), 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(added), 128)


def to_pillow(pixels):
    """One uint8 array (3, H, W) as an image."""
    return Image.fromarray(np.ascontiguousarray(np.asarray(pixels).transpose(1, 2, 0)))


def apply(name, pixels, value, bilinear=False, center=None, fill=None):
    """One operation by Pillow (hue by torchvision on Pillow) on one uint8 array (3, H, W)."""
    image = to_pillow(pixels)
    filter_ = Image.Resampling.BILINEAR if bilinear else Image.Resampling.NEAREST
    maps = {
        "shear_x": (1, value, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, value, 1, 0),
        "translate_x": (1, 0, value, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, value),
    }
    if name in maps:
        image = image.transform(image.size, Image.Transform.AFFINE, maps[name], filter_, fillcolor=fill)
    elif name == "rotate":
        image = image.rotate(value, filter_, fillcolor=fill)
    elif name in ("color", "contrast", "brightness", "sharpness"):
        image = getattr(ImageEnhance, name.capitalize())(image).enhance(value)
    elif name == "posterize":
        image = ImageOps.posterize(image, int(value)) if value >= 1 else Image.new("RGB", image.size)
    elif name == "solarize":
        image = ImageOps.solarize(image, value)
    elif name == "solarize_add":
        image = _solarize_add(image, value)
    elif name == "cutout_abs":
        image = _cutout(image, value, center)
    elif name == "hue":
        image = functional.adjust_hue(image, value)
    elif name != "identity":
        image = getattr(ImageOps, name)(image)
    return np.asarray(image).transpose(2, 0, 1)


def random_images(count, H, W, seed=0):
    """Noise, low-contrast noise and smooth images, uint8 (count, 3, H, W)."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (count, 3, H, W))
    flat = rng.integers(0, 200, (count, 3, 1, 1)) + rng.integers(0, 56, (count, 3, H, W))
    y, x = np.mgrid[:H, :W]
    slopes = rng.uniform(-6, 6, (2, count, 3, 1, 1))
    smooth = np.clip(128 + slopes[0] * (y - H / 2) + slopes[1] * (x - W / 2), 0, 255)
    kind = (np.arange(count) % 3)[:, None, None, None]
    return torch.from_numpy(np.select([kind == 0, kind == 1], [noise, flat], smooth).astype(np.uint8))


def random_sizes(count, H, W, seed=0):
    """Valid (height, width), int32 (count, 2), the smallest and the largest among them."""
    rng = np.random.default_rng(seed)
    sizes = np.stack([rng.integers(1, H + 1, count), rng.integers(1, W + 1, count)], 1)
    edges = [(1, 1), (2, 2), (3, 3), (H, W), (1, W), (H, 1)][:count]
    sizes[: len(edges)] = edges
    return torch.from_numpy(sizes.astype(np.int32))


def plain_images(H, W):
    """Black, white, grey noise, one grey, and four colours, uint8 (8, 3, H, W)."""
    grey = np.random.default_rng(5).integers(0, 256, (1, 1, H, W))
    colours = [(0, 0, 0), (255, 255, 255), (90, 90, 90), (255, 0, 0), (0, 255, 1), (200, 3, 201), (1, 0, 0)]
    flat = np.array(colours)[:, :, None, None] + np.zeros((1, 3, H, W), int)
    return torch.from_numpy(np.concatenate([np.repeat(grey, 3, 1), flat]).astype(np.uint8))


class Reference:
    """What the tests share; given out as a fixture, since test folders are no packages."""

    values = VALUES
    apply = staticmethod(apply)
    to_pillow = staticmethod(to_pillow)
    plain_images = staticmethod(plain_images)
    random_images = staticmethod(random_images)
    random_sizes = staticmethod(random_sizes)

    @staticmethod
    def golden_image():
        """The image of the golden files, uint8 (1, 3, 32, 32)."""
        y, x = np.mgrid[:32, :32]
        plain = 7 * x + 3 * y + 90 * ((x // 8 + y // 8) % 2) + x * y // 6
        return torch.from_numpy((plain[None, None] + 50 * np.arange(3)[None, :, None, None]).astype(np.uint8))

    @staticmethod
    def digest(image):
        """SHA-256 of one uint8 image (3, H, W) as height x width x channel."""
        return hashlib.sha256(np.ascontiguousarray(image.numpy().transpose(1, 2, 0)).tobytes()).hexdigest()


@pytest.fixture(scope="session")
def reference():
    return Reference
