"""AutoAugment, torchvision's RandAugment and colour jitter against torchvision on Pillow images, pixel by pixel."""

import itertools

import numpy as np
import pytest
import torch
from torchvision.transforms import AutoAugment, ColorJitter, InterpolationMode, RandAugment
from torchvision.transforms.autoaugment import AutoAugmentPolicy, _apply_op

from fastnoisy.augment import autoaugment, parse_view, rows
from fastnoisy.augment.steps import get_step
from fastnoisy.keyed_random import fold, key

H, W = 21, 26
CAMEL = {
    "shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX", "translate_y": "TranslateY",
    "rotate": "Rotate", "brightness": "Brightness", "color": "Color", "contrast": "Contrast", "sharpness": "Sharpness",
    "posterize": "Posterize", "solarize": "Solarize", "autocontrast": "AutoContrast", "equalize": "Equalize",
    "invert": "Invert", "identity": "Identity",
}  # fmt: skip


def batch(reference, count):
    sizes = reference.random_sizes(count, H, W)
    images = reference.random_images(count, H, W)
    plain = reference.plain_images(H, W)
    images[: len(plain)] = plain
    return rows.blank_outside(images, sizes), sizes


def valid(images, sizes, row):
    height, width = sizes[row].tolist()
    return images[row, :, :height, :width].numpy()


class TestAutoAugment:
    def test_policy_is_torchvisions(self):
        theirs = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
        ours = [
            tuple((CAMEL[name], probability, index) for name, probability, index in pair)
            for pair in autoaugment.CIFAR10_POLICY
        ]
        assert ours == [tuple((name, p, index or 0) for name, p, index in pair) for pair in theirs]

    def test_every_pair_and_sign_equals_torchvision(self, reference, monkeypatch):
        cases = list(itertools.product(range(25), (0, 1), (0, 1)))
        pair, *signs = (torch.tensor(column) for column in zip(*cases, strict=True))
        images, sizes = batch(reference, len(cases))
        ours, theirs = get_step("autoaugment").build(), AutoAugment(AutoAugmentPolicy.CIFAR10)
        signs = torch.stack(signs, 1)
        monkeypatch.setattr(ours, "choose", lambda keys: (pair, torch.ones(len(cases), 2, dtype=torch.bool), signs))
        result, _ = ours(images, sizes, torch.zeros(len(cases), dtype=torch.int64))
        for row, (policy, *negatives) in enumerate(cases):
            # torchvision's sign 0 is negative; its positive translations move right, where ours take from the right
            names = [name for name, _, _ in autoaugment.CIFAR10_POLICY[policy]]
            drawn = [
                negative if name.startswith("translate") else 1 - negative
                for name, negative in zip(names, negatives, strict=True)
            ]
            forced = (policy, torch.tensor([-1.0, -1.0]), torch.tensor(drawn))
            monkeypatch.setattr(theirs, "get_params", lambda _, forced=forced: forced)
            expected = np.asarray(theirs(reference.to_pillow(valid(images, sizes, row)))).transpose(2, 0, 1)
            assert np.array_equal(valid(result, sizes, row), expected), (policy, names, negatives)

    def test_only_what_is_applied_is_applied(self, reference):
        images, sizes = batch(reference, 200)
        keys = fold(key(3, 0), torch.arange(200))
        policy = get_step("autoaugment").build()
        _, applied, _ = policy.choose(keys)
        untouched = ~applied.any(1)
        assert 10 < untouched.sum() < 100
        assert torch.equal(policy(images, sizes, keys)[0][untouched], images[untouched])
        texts = policy.describe(images, sizes, keys)
        assert [text.count(",") + bool(text) for text in texts] == applied.sum(1).tolist()


class TestTorchvisionRandAugment:
    @pytest.mark.parametrize("m", [0, 9, 14, 30])
    def test_every_operation_and_sign_equals_torchvision(self, reference, m, monkeypatch):
        names = autoaugment.TORCHVISION_RANDAUGMENT_OPS
        cases = list(itertools.product(range(14), (0, 1))) * 3
        chosen, negative = (torch.tensor(column) for column in zip(*cases, strict=True))
        images, sizes = batch(reference, len(cases))
        ours, theirs = get_step("torchvision_randaugment").build(n=1, m=m), RandAugment(1, m)
        monkeypatch.setattr(ours, "choose", lambda keys: (chosen[:, None], negative[:, None]))
        result, _ = ours(images, sizes, torch.zeros(len(cases), dtype=torch.int64))
        assert [CAMEL[name] for name in names] == list(theirs._augmentation_space(31, (H, W)))
        for row, (code, sign) in enumerate(cases):
            name, image = names[code], reference.to_pillow(valid(images, sizes, row))
            table, signed = theirs._augmentation_space(31, (image.height, image.width))[CAMEL[name]]
            magnitude = table[m].item() if table.ndim else 0.0
            if signed and sign != name.startswith("translate"):
                magnitude = -magnitude
            expected = _apply_op(image, CAMEL[name], magnitude, InterpolationMode.NEAREST, None)
            assert np.array_equal(valid(result, sizes, row), np.asarray(expected).transpose(2, 0, 1)), (name, sign)

    def test_tables_are_torchvisions(self):
        for bins in (10, 31):
            for start, end in ((0.0, 0.3), (0.0, 30.0), (0.0, 0.9), (255.0, 0.0)):
                ours = [autoaugment.linspace_entry(start, end, bins, index) for index in range(bins)]
                theirs = torch.linspace(start, end, bins)
                # where a CPU has no AVX2, torch rounds the product too, which changes one of these numbers
                assert ours == pytest.approx(theirs.tolist(), rel=1e-7)
                assert sum(a != b for a, b in zip(ours, theirs.tolist(), strict=True)) <= 1

    def test_translations_are_torchvisions_for_every_canvas(self):
        for bins in (10, 31):
            for extent in (*range(1, 600), 331 * 4, 331 * 12, 4096):
                theirs = torch.linspace(0.0, 150.0 / 331.0 * extent, bins).int()
                ours = autoaugment.translation_pixels(torch.tensor(extent), bins, torch.arange(bins))
                assert torch.equal(ours.int(), theirs), extent


def jitter(*strengths):
    names = ("brightness", "contrast", "saturation", "hue")
    return get_step("color_jitter").build(**dict(zip(names, strengths, strict=True)))


class TestColorJitter:
    @pytest.mark.parametrize(
        "strengths", [(0.4, 0.4, 0.4, 0.2), (0.0, 0.4, 2.0, 0.5), (0.3, 0.0, 0.0, 0.0), (0, 0, 0, 0)]
    )
    def test_equals_torchvision_with_the_same_draws(self, reference, strengths, monkeypatch):
        count = 120
        images, sizes = batch(reference, count)
        keys = fold(key(5, 0), torch.arange(count))
        ours, theirs = jitter(*strengths), ColorJitter(*strengths)
        result, _ = ours(images, sizes, keys)
        orders = list(itertools.permutations(range(4)))
        for row, (order, values) in enumerate(zip(*(part.tolist() for part in ours.choose(keys)), strict=True)):
            used = [value if strength else None for value, strength in zip(values, strengths, strict=True)]
            forced = (torch.tensor(orders[order]), *used)
            monkeypatch.setattr(theirs, "get_params", lambda *ranges, forced=forced: forced)
            expected = np.asarray(theirs(reference.to_pillow(valid(images, sizes, row)))).transpose(2, 0, 1)
            assert np.array_equal(valid(result, sizes, row), expected), (row, forced)

    def test_values_lie_in_torchvisions_ranges(self):
        keys = fold(key(5, 0), torch.arange(20_000))
        _, values = jitter(0.4, 1.5, 0.25, 0.2).choose(keys)
        limits = torch.tensor([[0.6, 1.4], [0.0, 2.5], [0.75, 1.25], [-0.2, 0.2]], dtype=torch.float64)
        width = limits[:, 1] - limits[:, 0]
        low, high = values.amin(0) - limits[:, 0], limits[:, 1] - values.amax(0)
        for gap in (low, high):
            assert (gap > 0).all()
            assert (gap < width / 1000).all()
        assert (values * 2**40 == (values * 2**40).round()).all()  # the same number on every device

    def test_describes_its_order(self):
        images, keys = torch.zeros(3, 3, 2, 2, dtype=torch.uint8), fold(key(5, 0), torch.arange(3))
        policy = jitter(0.4, 0.0, 0.4, 0.2)
        orders, values = policy.choose(keys)
        for text, order, row in zip(policy.describe(images, None, keys), orders.tolist(), values, strict=True):
            codes = [code for code in list(itertools.permutations(range(4)))[order] if code != 1]
            assert text == ", ".join(f"{policy.names[code]} {row[code].item():.3g}" for code in codes)


def test_steps_take_their_defaults():
    text = "autoaugment | torchvision_randaugment | color_jitter | google_augmix | normalize | random_erasing"
    assert str(parse_view(text)) == text
    assert str(parse_view("torchvision_randaugment(n=2, m=9) | color_jitter(hue=0.1)")) == (
        "torchvision_randaugment | color_jitter(hue=0.1)"
    )
