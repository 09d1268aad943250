"""Every operation against Pillow on drawn images, sizes and values: at, between and beyond the edges of their ranges.

Look-up, arithmetic and enhancement operations and nearest pixels equal Pillow everywhere, bilinear ones within a level.
The examples are the same in every run (derandomize).
"""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fastnoisy.augment import apply_op, geometry, op_names
from fastnoisy.augment.ops import get_op

EXAMPLES = 200
PROFILE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
)
# at and beyond the edges of what a policy draws, and where the arithmetic turns
EDGES = {
    "rotate": [0, 90, 180, 270, 360, -90, 30, -30, 45, 1e-3, 720, -1000],
    "posterize": [0, 1, 4, 7, 8, 9, -1, 3.9],
    "solarize": [0, 0.5, 1, 128, 255, 256, 300, -1],
    "solarize_add": [0, 0.9, 110, 255, 300, -255, -300, -0.9],
    "shear_x": [0, 0.3, -0.3, 0.1, 1, -1, 5, 1 / 15],
    "shear_y": [0, 0.3, -0.3, 0.1, 1, -1, 5, 1 / 15],
    "translate_x": [0, 0.5, 1, -1, 100, -100, 224, 300.5],
    "translate_y": [0, 0.5, 1, -1, 100, -100, 224, 300.5],
    "cutout_abs": [0, 0.5, 1, 2, 5, 40, 300],
} | {name: [0, 0.1, 1, 1.9, 0.28, -1, 10, 1e-4, -100] for name in ("color", "contrast", "brightness", "sharpness")}
CASES = [
    (name, bilinear)
    for name in op_names()
    for bilinear in ([False, True] if get_op(name).family == "affine" else [False])
]
side = st.one_of(st.sampled_from([1, 2, 3, 5, 31, 32, 33, 224]), st.integers(1, 224))


def picture(kind, rng, H, W):
    """One uint8 image (3, H, W)."""
    y, x = np.mgrid[:H, :W]
    slope = rng.uniform(-4, 4, (2, 3, 1, 1))
    plane = {
        "noise": lambda: rng.integers(0, 256, (3, H, W)),
        "grey": lambda: np.repeat(rng.integers(0, 256, (1, H, W)), 3, 0),
        "constant": lambda: np.broadcast_to(rng.integers(0, 256, (3, 1, 1)), (3, H, W)),
        "one grey": lambda: np.full((3, H, W), rng.integers(0, 256)),
        "two levels": lambda: rng.choice(rng.integers(0, 256, 2), (3, H, W)),
        "narrow": lambda: rng.integers(0, 250) + rng.integers(0, 6, (3, H, W)),
        "gradient": lambda: np.clip(128 + slope[0] * (y - H / 2) + slope[1] * (x - W / 2), 0, 255),
        "extremes": lambda: 255 * rng.integers(0, 2, (3, H, W)),
    }
    return plane[kind]().astype(np.uint8)


KINDS = ["noise", "grey", "constant", "one grey", "two levels", "narrow", "gradient", "extremes"]


@st.composite
def batches(draw, most=224):
    """uint8 images (B, 3, H, W), whose valid areas are smaller than the canvas in some batches, and `sizes` or None."""
    count, rng = draw(st.integers(1, 3)), np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = [(min(draw(side), most), min(draw(side), most)) for _ in range(count)]
    padded = draw(st.booleans())
    if not padded:
        sizes = sizes[:1] * count
    room = draw(st.sampled_from([0, 1, 40])) if padded else 0
    H, W = (max(size[axis] for size in sizes) + room for axis in (0, 1))
    images = rng.integers(0, 256, (count, 3, H, W), dtype=np.uint8)  # rubbish outside the valid area
    for image, (height, width) in zip(images, sizes, strict=True):
        image[:, :height, :width] = picture(draw(st.sampled_from(KINDS)), rng, height, width)
    return torch.from_numpy(images), torch.tensor(sizes, dtype=torch.int32) if padded else None


def values_of(name, reference):
    """Edges of the operation, or any number of its range (32 bits: what policies draw has fewer)."""
    low, high = reference.values.get(name, (0.0, 1.0))
    between = st.floats(low, high, width=32)
    if get_op(name).family == "box":  # in units of 1/32768, as centres are in units of 1/65536
        between = st.integers(int(low * 32768), int(high * 32768)).map(lambda units: units / 32768)
    return st.one_of(st.sampled_from([float(edge) for edge in EDGES.get(name, [low, high])]), between)


def source_on_the_edge(degrees, height, width):
    """Bool (height, width): a rotation takes the pixel from the very edge of the image, up to doubles' rounding.

    There Pillow's last bits decide whether it is filled: of 1 x 3 pixels rotated by 30 degrees, the outer two.
    """
    turn = np.radians(degrees)
    y, x = np.mgrid[:height, :width] + 0.5
    x, y = x - width / 2, y - height / 2
    column = np.cos(turn) * x - np.sin(turn) * y + width / 2
    row = np.sin(turn) * x + np.cos(turn) * y + height / 2
    return np.min([np.abs(edge) for edge in (column, column - width, row, row - height)], 0) < 1e-9


def area(images, sizes, row):
    return images.shape[2:] if sizes is None else tuple(sizes[row].tolist())


@pytest.mark.parametrize(("name", "bilinear"), CASES, ids=[f"{n}-{'bilinear' if b else 'nearest'}" for n, b in CASES])
def test_every_operation_has_pillows_pixels(name, bilinear, reference):
    @PROFILE
    @given(data=st.data(), batch=batches())
    def check(data, batch):
        images, sizes = batch
        count = len(images)
        values = [data.draw(values_of(name, reference)) for _ in range(count)]
        shares = [data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1))) for _ in range(count)]
        extents = torch.tensor([area(images, sizes, row) for row in range(count)])
        centers = (torch.tensor(shares, dtype=torch.float64) * extents * 65536).long()
        values_tensor = torch.tensor(values, dtype=torch.float64)
        result = apply_op(name, images, values_tensor, sizes, bilinear=bilinear, centers=centers)
        for row, value in enumerate(values):
            height, width = area(images, sizes, row)
            pixels = images[row, :, :height, :width].numpy()
            taken = min(value, 8) if name == "posterize" else value  # Pillow refuses more bits than there are
            try:
                expected = reference.apply(name, pixels, taken, bilinear, (centers[row] / 65536).tolist())
            except (AttributeError, KeyError) as error:
                pytest.fail(f"{name} has no Pillow reference: add one to tests/augment/conftest.py ({error})")
            got = result[row, :, :height, :width].numpy().astype(int)
            difference = np.abs(got - expected)
            if name == "rotate" and bilinear:
                difference = difference * ~source_on_the_edge(value, height, width)
            difference = difference.max()
            assert difference <= int(bilinear), f"{name}({value!r}) of {height} x {width}: off by {difference}"
            outside = result[row].clone()
            outside[:, :height, :width] = 0
            assert not outside.any(), "pixels outside the valid area are not 0"

    check()


def on_pillow(pixels):
    return Image.fromarray(np.ascontiguousarray(pixels.numpy().transpose(1, 2, 0)))


def off_pillow(image):
    return torch.from_numpy(np.array(image).transpose(2, 0, 1))


def boxes(data, images, sizes):
    """A box inside the valid area of each image: top, left, height, width, int64 (B,) each."""
    rows = []
    for row in range(len(images)):
        height, width = area(images, sizes, row)
        tall, wide = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
        rows.append((data.draw(st.integers(0, height - tall)), data.draw(st.integers(0, width - wide)), tall, wide))
    return torch.tensor(rows).unbind(1)


@PROFILE
@given(data=st.data(), batch=batches(most=150), size=st.one_of(st.sampled_from([1, 7, 32]), st.integers(1, 100)))
def test_resized_crops_have_pillows_pixels(data, batch, size):
    """Two passes, the horizontal one first: a single `resize` of Pillow 13 sometimes begins with the vertical one."""
    images, sizes = batch
    drawn = boxes(data, images, sizes)
    result = geometry.resized_crop(images, *drawn, size)
    for row, (top, left, tall, wide) in enumerate(torch.stack(drawn, 1).tolist()):
        cut = on_pillow(images[row]).crop((left, top, left + wide, top + tall))
        narrow = cut.resize((size, tall), Image.Resampling.BILINEAR)
        expected = off_pillow(narrow.resize((size, size), Image.Resampling.BILINEAR))
        assert torch.equal(result[row], expected)


@PROFILE
@given(data=st.data(), batch=batches(), size=side)
def test_crops_and_flips_have_pillows_pixels(data, batch, size):
    images, sizes = batch
    corner = st.integers(-250, 250)
    corners = torch.tensor([(data.draw(corner), data.draw(corner)) for _ in images])
    flips = torch.tensor([data.draw(st.booleans()) for _ in images])
    result = geometry.crop(images, sizes, corners[:, 0], corners[:, 1], size)
    flipped = geometry.flip(images, sizes, flips)
    for row, (top, left) in enumerate(corners.tolist()):
        height, width = area(images, sizes, row)
        image = on_pillow(images[row, :, :height, :width])
        assert torch.equal(result[row], off_pillow(image.crop((left, top, left + size, top + size))))
        mirrored = off_pillow(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) if flips[row] else off_pillow(image)
        assert torch.equal(flipped[row, :, :height, :width], mirrored)
