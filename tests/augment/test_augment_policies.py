"""RandAugment and both kinds of AugMix: what is drawn, how often, and that every sample draws for itself.

Uniform draws pass the chi-square limits below in all but 1 of 100,000 runs, and the keys are fixed.
"""

import collections

import numpy as np
import pytest
import torch

from fastnoisy.augment import policies, rows
from fastnoisy.augment.geometry import rotation_table
from fastnoisy.augment.ops import apply_op
from fastnoisy.augment.steps import get_step
from fastnoisy.keyed_random import fold, key

MANY = 20_000


def keys(count, start=0):
    return fold(key(7, 0), torch.arange(start, start + count))


def chi_square(draws, categories):
    expected = len(draws) / categories
    return float(((torch.bincount(draws, minlength=categories) - expected) ** 2 / expected).sum())


POLICIES = {
    "randaugment": {"n": 2, "m": 9},
    "augmix": {},
    "google_augmix": {"severity": 5, "all_ops": True},
    "autoaugment": {},
    "torchvision_randaugment": {"n": 2, "m": 11},
    "color_jitter": {},
}


def policy(name, **arguments):
    return get_step(name).build(**(arguments or POLICIES[name]))


def randaugment(n, m):
    return policy("randaugment", n=n, m=m)


def made(augment, images, sizes, sample_keys):
    """The images alone; a policy keeps the valid areas."""
    result, areas = augment(images, sizes, sample_keys)
    assert areas is sizes
    return result


class TestRandAugment:
    def test_operations_are_uniform_and_signs_even(self):
        augment = randaugment(2, 3)
        (first, second), (negative, other) = (part.unbind(1) for part in augment.choose(keys(MANY)))
        assert chi_square(first, 16) < 50.5  # 15 degrees of freedom
        assert chi_square(16 * first + second, 256) < 363  # 255 degrees of freedom; with replacement
        assert abs(negative.double().mean() - 0.5) < 0.015
        assert abs(other.double().mean() - 0.5) < 0.015

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
        augment = randaugment(2, 14)
        result = made(augment, images, sizes, keys(count))
        for row in range(count):
            height, width = sizes[row].tolist()
            drawn, signs = (part[0].tolist() for part in augment.choose(keys(1, row)))
            pixels = images[row, :, :height, :width].numpy()
            for slot in range(2):
                code, negative = drawn[slot], signs[slot]
                name, _, _, signed = policies.RANDAUGMENT_TABLE[code]
                value = policies.randaugment_value(name, 14) * (-1 if signed and negative else 1)
                numbers = torch.stack([fold(keys(1, row), 4 * slot + 2 + axis) for axis in (0, 1)], 1)
                centers = policies.cutout_centers(numbers, sizes[row : row + 1].long())
                pixels = reference.apply(name, pixels, value, center=(centers[0] / 65536).tolist())
            assert np.array_equal(result[row, :, :height, :width], pixels)

    def test_one_batch_holds_many_operations(self):
        chosen, _ = randaugment(1, 3).choose(keys(128))
        assert len(chosen.unique()) == 16

    def test_cutout_centers_are_uniform(self):
        centers = randaugment(1, 3).draw(keys(MANY), None, (8, 32)).centers[:, 0] / 65536
        assert centers.amin(0).ge(1).all()
        assert centers.amax(0).lt(torch.tensor([8.0, 32.0])).all()
        assert centers.mean(0).tolist() == pytest.approx([4.5, 16.5], rel=0.02)


class TestAugMix:
    def test_depths_operations_and_levels_are_uniform(self):
        choices = policy("augmix").choose(keys(MANY // 3))
        assert choices.depths.shape == (MANY // 3, 3)
        assert choices.chosen.shape == (MANY // 3, 3, 3)
        assert chi_square(choices.depths.view(-1) - 1, 3) < 23.0  # 2 degrees of freedom
        for position in range(3):
            chosen, level, negative = (part[..., position].flatten() for part in choices[1:4])
            assert chi_square(chosen, 13) < 45.1
            assert chi_square(level, 3) < 23.0
            assert chi_square(negative, 2) < 19.5
        fixed = policy("augmix", depth=2).choose(keys(50))
        assert fixed.depths.unique().tolist() == [2]
        assert fixed.chosen.shape == (50, 3, 2)

    def test_weights_are_dirichlet_and_sum_to_one(self):
        weights = policy("augmix").choose(keys(MANY)).weights()
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
        weights = policy("augmix", width=width).choose(keys(1000)).weights()
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
        augment = policy("augmix")
        result, choices = made(augment, images, sizes, keys(count)), augment.choose(keys(count))
        weights = choices.weights().numpy()
        interpolating = ("rotate", "shear_x", "shear_y")
        compared = 0
        for row in range(count):
            height, width = sizes[row].tolist()
            original = images[row, :, :height, :width].numpy()
            mixed, exact = original.astype(int) * weights[row, 0], True
            for chain in range(3):
                pixels = original
                for position in range(int(choices.depths[row, chain])):
                    chosen, level, negative = (int(part[row, chain, position]) for part in choices[1:4])
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
        chosen = policy("augmix").choose(keys(64)).chosen[:, :, 0].flatten()
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
    def test_values_are_the_authors_at_every_level(self, severity, golden):
        augment = policy("google_augmix", severity=severity, all_ops=True)
        number = torch.arange(65536)
        levels = (0.1 + (number.double() + 0.5) / 65536 * (severity - 0.1)).tolist()
        side = torch.full((65536, 1, 1), 32)
        found = {}
        for code, name in enumerate(augment.names):
            for negative in (0, 1):
                drawn = (torch.full_like(number, code), number, torch.full_like(number, negative))
                parts = (part.view(-1, 1, 1) for part in drawn)
                choices = policies.Choices(number, *parts, share=number, gaps=number)
                values, rotation = augment.operations(choices, side, side)
                values, rotation = values.flatten(), rotation.flatten(0, 2)
                signed = name.startswith(("rotate", "shear", "translate"))
                sign = -1 if signed and negative else 1
                expected = torch.tensor([sign * google_value(name, level, 32) for level in levels]).double()
                assert (values - expected).abs().max() < (1e-7 if expected.frac().any() else 1e-12), name
                if name == "rotate":
                    assert torch.equal(rotation, rotation_table(values.tolist()))
            found[name] = values.abs()
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
        assert sorted(golden("augmix")["ops_default"]) == sorted(policy("google_augmix", all_ops=False).names)
        assert sorted(golden("augmix")["ops_all"]) == sorted(policy("google_augmix", all_ops=True).names)

    def test_equals_a_mixture_of_floats_within_half_a_level(self, reference):
        """Chains by `apply_op`, mixed in float64 with the drawn weights and never rounded, as the authors do."""
        count = 60
        images, sizes = reference.random_images(count, 24, 33), reference.random_sizes(count, 24, 33)
        images = rows.blank_outside(images, sizes)
        augment = policy("google_augmix", all_ops=False)
        result, choices = made(augment, images, sizes, keys(count)), augment.choose(keys(count))
        share, gaps = choices.share, choices.gaps
        mixed = images * (1 - share / 65536).view(-1, 1, 1, 1).double()
        draws = augment.draw(keys(count), sizes, (24, 33))
        for chain in range(3):
            pixels = images.clone()
            for row in range(count):
                one = slice(row, row + 1)
                for position in range(3):
                    if (code := draws.chosen[row, chain, position]) >= 0:
                        value = draws.values[one, chain, position]
                        pixels[one] = apply_op(augment.names[code], pixels[one], value, sizes[one], bilinear=True)
            mixed += pixels * (share * gaps[:, chain] / 65536**2).view(-1, 1, 1, 1)
        assert (result - mixed).abs().max() < 0.52

    def test_golden_mixture(self, reference, golden, monkeypatch):
        """The authors' own numbers: three given chains at level 2, given weights, on normalised floats."""
        case = golden("augmix")["mix_case"]
        augment = policy("google_augmix", severity=10)
        number = round((2.0 - 0.1) / 9.9 * 65536)  # the level nearest to 2 from above

        chains = [[*chain, *chain[:1] * (3 - len(chain))] for chain in case["chains"]]
        codes = torch.tensor([[[augment.names.index(name) for name in chain] for chain in chains]])
        depths = torch.tensor([[len(chain) for chain in case["chains"]]])
        weights = [round(weight * case["m"] * 65536) for weight in case["w"]]

        def choose(sample_keys):
            one = torch.zeros(1, dtype=torch.int64)
            return policies.Choices(depths, codes, torch.full_like(codes, number), torch.zeros_like(codes), one, one)

        monkeypatch.setattr(augment, "choose", choose)
        monkeypatch.setattr(
            policies.Choices, "weights", lambda choices: torch.tensor([[65536 - sum(weights), *weights]])
        )
        image = made(augment, reference.golden_image(), None, keys(1))
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
        whole = made(augment, *batch)
        halves = [augment(*(tensor[part] for tensor in batch))[0] for part in (slice(0, 8), slice(8, 16))]
        assert torch.equal(whole, torch.cat(halves))
        order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
        assert torch.equal(whole[order], augment(*(tensor[order] for tensor in batch))[0])

    def test_keys_matter(self, name, reference):
        images, sizes, sample_keys = self.batch(reference)
        augment = policy(name)
        assert not torch.equal(made(augment, images, sizes, sample_keys), made(augment, images, sizes, sample_keys + 1))

    def test_computing_all_rows_gives_the_same_bits(self, name, reference, monkeypatch):
        augment, batch = policy(name), self.batch(reference)
        expected = made(augment, *batch)
        monkeypatch.setattr(rows, "selects_rows", lambda images: False)
        assert torch.equal(made(augment, *batch), expected)

    def test_chunks_give_the_same_bits(self, name, reference, monkeypatch):
        augment, batch = policy(name), self.batch(reference)
        expected = made(augment, *batch)
        monkeypatch.setitem(rows._CHUNK_PIXELS, "cpu", 1)
        assert torch.equal(made(augment, *batch), expected)

    def test_descriptions_are_of_the_sample_alone(self, name, reference):
        augment, batch = policy(name), self.batch(reference)
        texts = augment.describe(*batch)
        assert texts == [augment.describe(*(tensor[row : row + 1] for tensor in batch))[0] for row in range(16)]
        assert len(set(texts)) > 8

    def test_tables_are_no_state_and_survive_half_precision(self, name, reference):
        augment, batch = policy(name), self.batch(reference)
        expected = made(augment, *batch)
        assert not augment.state_dict()
        assert torch.equal(made(augment.half(), *batch), expected)


def test_randaugment_uses_the_operation_it_names(reference):
    """A policy of one operation repeated is that operation."""
    images = reference.random_images(64, 12, 12)
    augment = randaugment(1, 30)
    chosen, _ = augment.choose(keys(64))
    result = made(augment, images, None, keys(64))
    inverted = chosen[:, 0] == 2
    assert inverted.any()
    assert torch.equal(result[inverted], apply_op("invert", images, torch.zeros(64))[inverted])
