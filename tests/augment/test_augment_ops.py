"""Every operation against Pillow, pixel by pixel, and against the golden files."""

import json

import numpy as np
import pytest
import torch

from fastnoisy.augment import apply_op, op_names, ops
from fastnoisy.augment.ops import apply_ops, get_op
from fastnoisy.errors import FastnoisyError

H, W, COUNT = 29, 37, 150
CASES = [
    (name, bilinear) for name in op_names() for bilinear in ([False, True] if get_op(name).family == "affine" else [0])
]
CAMEL = {
    "AutoContrast": "autocontrast", "Equalize": "equalize", "Invert": "invert", "Rotate": "rotate",
    "Posterize": "posterize", "Solarize": "solarize", "SolarizeAdd": "solarize_add", "Color": "color",
    "Contrast": "contrast", "Brightness": "brightness", "Sharpness": "sharpness", "ShearX": "shear_x",
    "ShearY": "shear_y", "CutoutAbs": "cutout_abs", "TranslateXabs": "translate_x", "TranslateYabs": "translate_y",
}  # fmt: skip


def random_values(reference, name):
    rng = np.random.default_rng(1)
    values = rng.uniform(*reference.values.get(name, (0, 1)), COUNT)
    special = {
        "rotate": [0, 90, 180, 270, 360, -90, 45, 30, 60, 20 / 3],
        "shear_x": [0, 1 / 15, -1 / 15, 0.1, 0.3],
        "shear_y": [0, 1 / 15, -1 / 15, 0.1, 0.3],
        "color": [0, 1, 0.28],
        "contrast": [0, 1, 0.28],
        "brightness": [0, 1, 0.28],
        "sharpness": [0, 1, 0.28],
    }.get(name, [])
    values[20 : 20 + 3 * len(special)] = np.repeat(special, 3)
    if name.startswith("translate"):
        values[60:100] = np.round(values[60:100])
        values[100:120] = np.round(values[100:120] * 2) / 2
    return torch.from_numpy(values)


@pytest.mark.parametrize(("name", "bilinear"), CASES)
def test_equals_pillow_on_the_valid_area(reference, name, bilinear):
    images, sizes = reference.random_images(COUNT, H, W), reference.random_sizes(COUNT, H, W)
    values = random_values(reference, name)
    rng = np.random.default_rng(2)
    centers = torch.from_numpy(np.floor(rng.uniform(0, 1, (COUNT, 2)) * sizes.numpy() * 65536).astype(np.int64))
    result = apply_op(name, images, values, sizes, bilinear=bool(bilinear), centers=centers).numpy()
    differing = 0
    for row in range(COUNT):
        height, width = sizes[row].tolist()
        pixels = images[row, :, :height, :width].numpy()
        center = (centers[row] / 65536).tolist()
        expected = reference.apply(name, pixels, values[row].item(), bool(bilinear), center)
        error = np.abs(result[row, :, :height, :width].astype(int) - expected)
        assert error.max() <= (1 if bilinear else 0), (row, sizes[row], values[row])
        assert result[row].sum() == result[row, :, :height, :width].sum(), "pixels outside the valid area are not 0"
        differing += int((error > 0).sum())
    assert differing <= 0.003 * 3 * sizes.prod(1).sum()


@pytest.mark.parametrize(("name", "bilinear"), CASES)
def test_whole_canvas_needs_no_sizes(reference, name, bilinear):
    images = reference.random_images(12, H, W)
    values = random_values(reference, name)[20:32]
    options = {"bilinear": bool(bilinear), "centers": torch.arange(24).view(12, 2) << 16}
    sizes = torch.tensor([[H, W]]).expand(12, 2)
    assert torch.equal(apply_op(name, images, values, **options), apply_op(name, images, values, sizes, **options))


@pytest.mark.parametrize("name", [name for name in op_names() if get_op(name).family == "affine"])
def test_fill_colour_equals_pillows(reference, name):
    """Pillow fills whole pixels and blends no fill colour in, so the same pixels get the colour, bilinear or not."""
    images, sizes = reference.random_images(60, 15, 18), reference.random_sizes(60, 15, 18)
    values = torch.linspace(*reference.values[name], 60, dtype=torch.float64)
    fill = (125, 123, 114)
    for bilinear in (False, True):
        result = apply_op(name, images, values, sizes, fill=fill, bilinear=bilinear).numpy().astype(int)
        for row in range(60):
            height, width = sizes[row].tolist()
            pixels = images[row, :, :height, :width].numpy()
            expected = reference.apply(name, pixels, values[row].item(), bilinear, fill=fill)
            assert np.abs(result[row, :, :height, :width] - expected).max() <= bilinear
            assert result[row].sum() == result[row, :, :height, :width].sum()


@pytest.mark.parametrize(("name", "bilinear"), CASES)
def test_plain_images_and_single_pixels(reference, name, bilinear):
    """Images of one colour, of greys, and of 1 x 1 pixels, where a range or a spread is 0."""
    for H, W in ((1, 1), (3, 5)):
        images = reference.plain_images(H, W)
        value = torch.full((len(images),), 0.3 if name == "hue" else 2.0)
        centers = torch.zeros(len(images), 2, dtype=torch.int64)
        result = apply_op(name, images, value, bilinear=bool(bilinear), centers=centers).numpy().astype(int)
        for row in range(len(images)):
            expected = reference.apply(name, images[row].numpy(), value[row].item(), bool(bilinear), (0, 0))
            assert np.abs(result[row] - expected).max() <= bool(bilinear), row


def test_golden_randaugment(reference, golden):
    expected = golden("randaugment")
    image = reference.golden_image()
    assert reference.digest(image[0]) == expected["input_image"]["sha256_uint8_hwc"]
    for case in expected["outputs_M3"]:
        value = -case["v"] if case["sign"] == "-" else case["v"]
        if case["op"] == "Posterize":
            value = max(1, int(value))
        x, y = case.get("center_draws_xy", (0, 0))
        centers = torch.tensor([[int(y * 65536), int(x * 65536)]])
        result = apply_op(CAMEL[case["op"]], image, torch.tensor([value], dtype=torch.float64), centers=centers)[0]
        assert int(result.long().sum()) == case["sum"], case["op"]
        assert result[:, 10].T.tolist() == case["row10_rgb"], case["op"]
        assert reference.digest(result) == case["sha256_uint8_hwc"], case["op"]


def augmix_value(name, level, sign):
    """Value of google-research/augmix at a continuous level, on 32 x 32 images."""
    value = {
        "posterize": 4 - int(0.4 * level),
        "rotate": int(3 * level),
        "solarize": 256 - int(25.6 * level),
        "shear_x": 0.03 * level,
        "shear_y": 0.03 * level,
        "translate_x": int(level * 32 / 30),
        "translate_y": int(level * 32 / 30),
    }.get(name, 0.18 * level + 0.1)
    return torch.tensor([-value if sign == "-" else value], dtype=torch.float64)


def test_golden_augmix_operations(reference, golden):
    cases = golden("augmix")["op_outputs"]
    image = reference.golden_image()
    exact = 0
    for case in cases:
        value = augmix_value(case["op"], case["level"], case["sign"])
        result = apply_op(case["op"], image, value, bilinear=True)[0]
        if "row10_rgb" in case:
            assert (result[:, 10].T.int() - torch.tensor(case["row10_rgb"])).abs().max() <= 1, case["op"]
        assert abs(int(result.long().sum()) - case["sum"]) <= 40, case
        same = reference.digest(result) == case["sha256_uint8_hwc"]
        interpolated = case["op"] in ("rotate", "shear_x", "shear_y")
        assert same or interpolated, case
        exact += same
    assert exact >= len(cases) - 18


def test_golden_augmix_mixture(reference, golden):
    case = golden("augmix")["mix_case"]
    image = reference.golden_image()
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
    std = torch.tensor([0.2023, 0.1994, 0.2010]).view(1, 3, 1, 1)
    mixed = (1 - case["m"]) * (image / 255 - mean) / std
    for weight, chain in zip(case["w"], case["chains"], strict=True):
        result = image
        for name in chain:
            result = apply_op(name, result, augmix_value(name, case["level"], "+"), bilinear=True)
        mixed = mixed + case["m"] * weight * (result / 255 - mean) / std
    row = torch.tensor(json.loads(case["row10"]) if isinstance(case["row10"], str) else case["row10"])
    assert (mixed[0, :, 10].T - row).abs().max() < 0.01  # a level is 0.02 before its weight
    assert mixed.sum().item() == pytest.approx(case["sum"], abs=1.0)
    assert mixed.abs().mean().item() == pytest.approx(case["mean_abs"], abs=1e-3)


def test_each_sample_gets_its_own_operation(reference):
    names = tuple(op_names())
    count = 3 * (len(names) + 1)
    images, sizes = reference.random_images(count, H, W), reference.random_sizes(count, H, W)
    images = apply_op("identity", images, torch.zeros(count), sizes)
    chosen = torch.arange(count) % (len(names) + 1)
    values = torch.linspace(0.1, 7, count, dtype=torch.float64)
    centers = torch.arange(2 * count).view(count, 2) << 14
    result = apply_ops(names, images, chosen, values, sizes, centers=centers)
    for row, code in enumerate(chosen.tolist()):
        one = slice(row, row + 1)
        expected = images[one]
        if code < len(names):
            expected = apply_op(names[code], images[one], values[one], sizes[one], centers=centers[one])
        assert torch.equal(result[one], expected), names[code]


def test_errors_name_the_value_and_what_is_allowed():
    images, values = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2)
    with pytest.raises(FastnoisyError, match="did you mean posterize"):
        apply_op("posterise", images, values)
    with pytest.raises(FastnoisyError, match="float32"):
        apply_op("invert", images.float(), values)
    with pytest.raises(FastnoisyError, match=r"values has shape \(3,\), not \(2,\)"):
        apply_op("invert", images, torch.zeros(3))
    with pytest.raises(FastnoisyError, match="centers"):
        apply_op("cutout_abs", images, values)
    with pytest.raises(FastnoisyError, match="up to 4096"):
        apply_op("rotate", torch.zeros(1, 3, 1, 5000, dtype=torch.uint8), torch.zeros(1))


@pytest.mark.parametrize("threshold", [128, 128 + 1e-9, 128 - 1e-9, 0, 1e-9, 255, 255 + 1e-9, 256, 1e6, -1e6])
def test_solarize_at_a_level(threshold, reference):
    """A threshold a hair from a level, which a float32 of threshold / 255 could not tell from it."""
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    result = apply_op("solarize", pixels, torch.tensor([threshold], dtype=torch.float64))
    assert np.array_equal(result[0].numpy(), reference.apply("solarize", pixels[0].numpy(), threshold))


def test_rounding_by_bits_is_rounding():
    draw = torch.Generator().manual_seed(0)
    factors = torch.rand(200_000, generator=draw)
    products = factors.double() * torch.randint(-255, 256, (200_000,), generator=draw)
    ties = torch.tensor(
        [0.0, -0.0, 1 + 2**-24, 1 + 3 * 2**-24, -1 - 2**-24, 2 - 2**-25, 1e-9, 1e20], dtype=torch.float64
    )
    for values in (products, ties, torch.randn(200_000, generator=draw, dtype=torch.float64)):
        assert torch.equal(ops._rounded_to_single(values), values.float().double())
