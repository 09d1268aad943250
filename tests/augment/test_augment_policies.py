"""RandAugment and both kinds of AugMix: what is drawn, how often, and that every sample draws for itself.

Uniform draws pass the chi-square limits below in all but 1 of 100,000 runs, and the keys are fixed.
"""

import collections

import numpy as np
import pytest
import torch

from fastnoisy.augment import autoaugment, jitter, policies, rows
from fastnoisy.augment.geometry import rotation_table
from fastnoisy.augment.ops import apply_op
from fastnoisy.keyed_random import fold, key

MANY = 20_000


def keys(count, start=0):
    return fold(key(7, 0), torch.arange(start, start + count))


def chi_square(draws, categories):
    expected = len(draws) / categories
    return float(((torch.bincount(draws, minlength=categories) - expected) ** 2 / expected).sum())


POLICIES = {
    "randaugment": lambda: policies.RandAugment(2, 9),
    "augmix": policies.AugMix,
    "google_augmix": lambda: policies.GoogleAugMix(severity=5, all_ops=True),
    "autoaugment": autoaugment.AutoAugment,
    "torchvision_randaugment": lambda: autoaugment.TorchvisionRandAugment(2, 11),
    "color_jitter": lambda: jitter.ColorJitter(0.4, 0.4, 0.4, 0.2),
}


def policy(name):
    return POLICIES[name]()


class TestRandAugment:
    def test_operations_are_uniform_and_signs_even(self):
        augment = policies.RandAugment(2, 3)
        first, negative = augment.choose(keys(MANY), 0)
        second, _ = augment.choose(keys(MANY), 1)
        assert chi_square(first, 16) < 50.5  # 15 degrees of freedom
        assert chi_square(16 * first + second, 256) < 363  # 255 degrees of freedom; with replacement
        assert abs(negative.double().mean() - 0.5) < 0.015

    def test_table_is_the_golden_one(self, golden):
        names = [row["op"].lower().replace("abs", "") for row in golden("randaugment")["table"]]
        assert [name.replace("_", "").replace("abs", "") for name, *_ in policies.RANDAUGMENT_TABLE] == names
        for row, (name, low, high, _) in zip(golden("randaugment")["table"], policies.RANDAUGMENT_TABLE, strict=True):
            assert (row["min"], row["max"]) == (low, high)
            for magnitude in (3, 4, 14):
                value = row[f"value_at_M{magnitude}"]
                value = max(1, int(value)) if name == "posterize" else value
                assert policies.randaugment_value(name, magnitude) == pytest.approx(value, rel=1e-15)

    def test_equals_pillow_with_the_same_draws(self, reference):
        count, H, W = 200, 21, 26
        sizes = reference.random_sizes(count, H, W)
        images = rows.blank_outside(reference.random_images(count, H, W), sizes)
        augment = policies.RandAugment(2, 14)
        result = augment(images, sizes, keys(count))
        for row in range(count):
            height, width = sizes[row].tolist()
            pixels = images[row, :, :height, :width].numpy()
            for slot in range(2):
                (code,), (negative,) = augment.choose(keys(1, row), slot)
                name, _, _, signed = policies.RANDAUGMENT_TABLE[code]
                value = policies.randaugment_value(name, 14) * (-1 if signed and negative else 1)
                centers = policies.cutout_centers(
                    keys(1, row), 4 * slot + 2, images[row : row + 1], sizes[row : row + 1]
                )
                pixels = reference.apply(name, pixels, value, center=(centers[0] / 65536).tolist())
            assert np.array_equal(result[row, :, :height, :width], pixels)

    def test_one_batch_holds_many_operations(self):
        chosen, _ = policies.RandAugment(1, 3).choose(keys(128), 0)
        assert len(chosen.unique()) == 16

    def test_cutout_centers_are_uniform(self):
        images = torch.zeros(MANY, 3, 8, 32, dtype=torch.uint8)
        centers = policies.cutout_centers(keys(MANY), 2, images, None) / 65536
        assert centers.amin(0).ge(1).all()
        assert centers.amax(0).lt(torch.tensor([8.0, 32.0])).all()
        assert centers.mean(0).tolist() == pytest.approx([4.5, 16.5], rel=0.02)


class TestAugMix:
    def test_depths_operations_and_levels_are_uniform(self):
        augment = policies.AugMix()
        chains = augment.chain_keys(keys(MANY // 3))
        assert len(chains) == 3 * (MANY // 3)
        assert chi_square(augment.depths(chains) - 1, 3) < 23.0  # 2 degrees of freedom
        for position in range(3):
            chosen, level, negative = augment.choose(chains, position)
            assert chi_square(chosen, 13) < 45.1
            assert chi_square(level, 3) < 23.0
            assert chi_square(negative, 2) < 19.5
        assert set(policies.AugMix(depth=2).depths(chains).tolist()) == {2}

    def test_weights_are_dirichlet_and_sum_to_one(self):
        weights = policies.AugMix().weights(keys(MANY))
        assert (weights >= 0).all()
        assert (weights.sum(1) == 65536).all()
        share = 1 - weights[:, 0] / 65536  # m, uniform
        assert share.mean() == pytest.approx(0.5, abs=0.01)
        assert share.var() == pytest.approx(1 / 12, abs=0.003)
        gaps = weights[:, 1:] / weights[:, 1:].sum(1, keepdim=True).clamp(min=1)
        large = share > 0.1  # where rounding to 16 bits is small
        assert gaps[large].mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
        assert gaps[large].var(0).tolist() == pytest.approx([1 / 18] * 3, abs=0.003)  # Dirichlet(1, 1, 1)
        covariance = torch.cov(gaps[large].T)[0, 1].item()
        assert covariance == pytest.approx(-1 / 36, abs=0.003)

    @pytest.mark.parametrize("width", [1, 2, 5])
    def test_other_widths(self, width):
        weights = policies.AugMix(width=width).weights(keys(1000))
        assert weights.shape == (1000, 1 + width)
        assert (weights.sum(1) == 65536).all()

    def test_values_are_torchvisions(self, golden):
        table = golden("augmix")["torchvision_magnitudes_by_index"]
        for level in range(10):
            for name, column in (
                ("shear_x", "ShearX/Y"),
                ("rotate", "Rotate"),
                ("posterize", "Posterize"),
                ("solarize", "Solarize"),
                ("color", "Brightness/Color/Contrast/Sharpness (1+m)"),
            ):
                assert policies.augmix_value(name, level) == pytest.approx(table[column][level], rel=1e-14)
            for size in (32, 224):
                assert level * size // 27 == int(table[f"TranslateX/Y ({size}px)"][level])

    def test_translation_rounds_as_linspace_does(self):
        for size in range(1, 600):
            pixels = [int(value) for value in np.linspace(0, size / 3, 10)[:3]]
            assert [level * size // 27 for level in range(3)] == pixels, size

    def test_equals_pillow_with_the_same_draws(self, reference):
        """Operations by Pillow, mixed with the same weights: within a level per operation where pixels interpolate."""
        count, H, W = 60, 24, 33
        images, sizes = reference.random_images(count, H, W), reference.random_sizes(count, H, W)
        images = rows.blank_outside(images, sizes)
        augment = policies.AugMix()
        result = augment(images, sizes, keys(count))
        chains, weights = augment.chain_keys(keys(count)).view(3, count), augment.weights(keys(count)).numpy()
        interpolating = ("rotate", "shear_x", "shear_y")
        compared = 0
        for row in range(count):
            height, width = sizes[row].tolist()
            original = images[row, :, :height, :width].numpy()
            mixed, exact = original.astype(int) * weights[row, 0], True
            for chain in range(3):
                pixels, one = original, chains[chain, row : row + 1]
                for position in range(int(augment.depths(one))):
                    chosen, level, negative = (int(draw) for draw in augment.choose(one, position))
                    name, sign = policies.AUGMIX_OPS[chosen], -1 if negative else 1
                    exact &= name not in interpolating
                    value = policies.augmix_value(name, level)
                    if name in ("translate_x", "translate_y"):
                        value = sign * (level * (width if name == "translate_x" else height) // 27)
                    elif name in ("brightness", "color", "contrast", "sharpness"):
                        value = 1 + sign * value
                    elif name in interpolating:
                        value = sign * value
                    pixels = reference.apply(name, pixels, value, bilinear=True)
                mixed = mixed + pixels.astype(int) * weights[row, 1 + chain]
            error = np.abs(result[row, :, :height, :width].numpy().astype(int) - (mixed >> 16))
            compared += exact
            assert error.max() == 0 if exact else np.median(error) <= 1
        assert compared >= 10

    def test_one_batch_holds_many_operations(self):
        augment = policies.AugMix()
        chosen, _, _ = augment.choose(augment.chain_keys(keys(64)), 0)
        assert len(collections.Counter(chosen.tolist())) == 13


def google_value(name, level, size):
    """google-research/augmix's value of an operation at a level, before its sign (augmentations.py)."""
    if name == "posterize":
        return 4 - int(level * 4 / 10)
    if name == "rotate":
        return int(level * 30 / 10)
    if name == "solarize":
        return 256 - int(level * 256 / 10)
    if name.startswith("shear"):
        return level * 0.3 / 10
    if name.startswith("translate"):
        return int(level * (size / 3) / 10)
    return level * 1.8 / 10 + 0.1 if name in policies.ENHANCEMENTS else 0


class TestGoogleAugMix:
    @pytest.mark.parametrize("severity", [1, 3, 10])
    def test_values_are_the_authors_at_every_level(self, severity, golden, monkeypatch):
        augment = policies.GoogleAugMix(severity, all_ops=True)
        number = torch.arange(65536)
        levels = (0.1 + (number.double() + 0.5) / 65536 * (severity - 0.1)).tolist()
        side = torch.full((65536,), 32)
        found = {}
        for code, name in enumerate(augment.names):
            for negative in (0, 1):
                drawn = (torch.full_like(number, code), number, torch.full_like(number, negative))
                monkeypatch.setattr(augment, "choose", lambda keys, position, drawn=drawn: drawn)
                slot = augment.operations(number, 0, side, side)
                signed = name.startswith(("rotate", "shear", "translate"))
                sign = -1 if signed and negative else 1
                expected = torch.tensor([sign * google_value(name, level, 32) for level in levels]).double()
                assert (slot.values - expected).abs().max() < (1e-7 if expected.frac().any() else 1e-12), name
                if name == "rotate":
                    assert torch.equal(slot.rotation, rotation_table(slot.values.tolist()))
            found[name] = slot.values.abs()
        ranges = golden("augmix")["ranges_by_severity"][str(severity)]
        for name, column in (
            ("rotate", "rotate_deg_int"), ("solarize", "solarize_threshold"), ("shear_x", "shear"),
            ("translate_x", "translate_px_int_32"), ("color", "color_contrast_brightness_sharpness_factor"),
        ):  # fmt: skip
            # the golden upper end is that of level = severity, which a level drawn below it just misses
            low, high = found[name].min().item(), found[name].max().item()
            step = 1 if name in ("rotate", "solarize", "translate_x") else 1e-4
            assert low == pytest.approx(ranges[column][0], abs=step)
            assert high == pytest.approx(ranges[column][1], abs=step)

    def test_operations_are_the_golden_ones(self, golden):
        assert sorted(golden("augmix")["ops_default"]) == sorted(policies.GoogleAugMix().names)
        assert sorted(golden("augmix")["ops_all"]) == sorted(policies.GoogleAugMix(all_ops=True).names)

    def test_equals_a_mixture_of_floats_within_half_a_level(self, reference):
        """Chains by `apply_op`, mixed in float64 with the drawn weights and never rounded, as the authors do."""
        count = 60
        images, sizes = reference.random_images(count, 24, 33), reference.random_sizes(count, 24, 33)
        images = rows.blank_outside(images, sizes)
        augment = policies.GoogleAugMix()
        result = augment(images, sizes, keys(count))
        share, gaps = augment.mixture(keys(count))
        mixed = images * (1 - share / 65536).view(-1, 1, 1, 1).double()
        slots = augment.slots(images, sizes, keys(count))
        for chain in range(3):
            part = slice(chain * count, (chain + 1) * count)
            pixels = images.clone()
            for row in range(count):
                one = slice(row, row + 1)
                for slot in slots:
                    if (code := slot.chosen[part][row]) >= 0:
                        value = slot.values[part][one]
                        pixels[one] = apply_op(slot.names[code], pixels[one], value, sizes[one], bilinear=True)
            mixed += pixels * (share * gaps[:, chain] / 65536**2).view(-1, 1, 1, 1)
        assert (result - mixed).abs().max() < 0.52

    def test_golden_mixture(self, reference, golden, monkeypatch):
        """The authors' own numbers: three given chains at level 2, given weights, on normalised floats."""
        case = golden("augmix")["mix_case"]
        augment = policies.GoogleAugMix(severity=10)
        number = round((2.0 - 0.1) / 9.9 * 65536)  # the level nearest to 2 from above

        def choose(chain_keys, position):
            names = [chain[position] if position < len(chain) else chain[0] for chain in case["chains"]]
            codes = torch.tensor([augment.names.index(name) for name in names])
            return codes, torch.full_like(codes, number), torch.zeros_like(codes)

        weights = [round(weight * case["m"] * 65536) for weight in case["w"]]
        monkeypatch.setattr(augment, "choose", choose)
        monkeypatch.setattr(augment, "depths", lambda keys: torch.tensor([len(chain) for chain in case["chains"]]))
        monkeypatch.setattr(augment, "weights", lambda keys: torch.tensor([[65536 - sum(weights), *weights]]))
        image = augment(reference.golden_image(), None, keys(1))
        mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
        std = torch.tensor([0.2023, 0.1994, 0.2010]).view(3, 1, 1)
        row = torch.as_tensor(case["row10"])
        level = 1 / 255 / 0.2
        assert (((image[0] / 255 - mean) / std)[:, 10].T - row).abs().max() < level


@pytest.mark.parametrize("name", POLICIES)
class TestEveryPolicy:
    def batch(self, reference):
        sizes = reference.random_sizes(16, 14, 19)
        return rows.blank_outside(reference.random_images(16, 14, 19), sizes), sizes, keys(16)

    def test_samples_do_not_depend_on_their_batch(self, name, reference):
        augment, batch = policy(name), self.batch(reference)
        whole = augment(*batch)
        halves = [augment(*(tensor[part] for tensor in batch)) for part in (slice(0, 8), slice(8, 16))]
        assert torch.equal(whole, torch.cat(halves))
        order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
        assert torch.equal(whole[order], augment(*(tensor[order] for tensor in batch)))

    def test_keys_matter(self, name, reference):
        images, sizes, sample_keys = self.batch(reference)
        assert not torch.equal(policy(name)(images, sizes, sample_keys), policy(name)(images, sizes, sample_keys + 1))

    def test_computing_all_rows_gives_the_same_bits(self, name, reference, monkeypatch):
        augment, batch = policy(name), self.batch(reference)
        expected = augment(*batch)
        monkeypatch.setattr(rows, "selects_rows", lambda images: False)
        assert torch.equal(augment(*batch), expected)

    def test_chunks_give_the_same_bits(self, name, reference, monkeypatch):
        augment, batch = policy(name), self.batch(reference)
        expected = augment(*batch)
        monkeypatch.setitem(rows._CHUNK_PIXELS, "cpu", 1)
        assert torch.equal(augment(*batch), expected)

    def test_descriptions_are_of_the_sample_alone(self, name, reference):
        augment, batch = policy(name), self.batch(reference)
        texts = augment.describe(*batch)
        assert texts == [augment.describe(*(tensor[row : row + 1] for tensor in batch))[0] for row in range(16)]
        assert len(set(texts)) > 8

    def test_tables_are_no_state_and_survive_half_precision(self, name, reference):
        augment, batch = policy(name), self.batch(reference)
        expected = augment(*batch)
        assert not augment.state_dict()
        assert torch.equal(augment.half()(*batch), expected)


def test_randaugment_uses_the_operation_it_names(reference):
    """A policy of one operation repeated is that operation."""
    images = reference.random_images(64, 12, 12)
    augment = policies.RandAugment(1, 30)
    chosen, _ = augment.choose(keys(64), 0)
    result = augment(images, None, keys(64))
    inverted = chosen == 2
    assert inverted.any()
    assert torch.equal(result[inverted], apply_op("invert", images, torch.zeros(64))[inverted])
