"""How often each policy draws what: 100,000 keys each, by chi-square.

Every draw below is uniform or has a known distribution; with the fixed keys each comparison has p > 1e-4, which a right
one fails once in 10,000 seeds and a wrong one by many orders of magnitude.
"""

import pytest
import torch
from scipy.stats import chi2, chisquare

from fastnoisy.augment import autoaugment, parse_view
from fastnoisy.augment.steps import get_step
from fastnoisy.keyed_random import fold, key

COUNT = 100_000
LIMIT = 1e-4


def build(name, **arguments):
    return get_step(name).build(**arguments)


@pytest.fixture(scope="module")
def keys():
    return fold(key(11, 0), torch.arange(COUNT))


def assert_uniform(draws, categories):
    """Integers in 0..categories - 1, all equally often."""
    counts = torch.bincount(draws.long().view(-1), minlength=categories)
    assert len(counts) == categories
    assert chisquare(counts.numpy()).pvalue > LIMIT, counts


def assert_independent(*columns):
    """Pairs (draws, categories), all combinations equally often."""
    code = torch.zeros_like(columns[0][0])
    for draws, categories in columns:
        code = code * categories + draws.long()
    assert_uniform(code, torch.tensor([categories for _, categories in columns]).prod().item())


def assert_share(drawn, probability):
    """Of bool (n,), `probability` are true."""
    expected, count = probability * len(drawn), int(drawn.sum())
    if not 0 < probability < 1:
        assert count == expected
        return
    square = (count - expected) ** 2 / (expected * (1 - probability))
    assert chi2.sf(square, 1) > LIMIT, (count, expected)


class TestRandAugment:
    def test_operations_and_signs(self, keys):
        (first, second), (sign, other) = (part.unbind(1) for part in build("randaugment", n=2, m=3).choose(keys))
        assert_independent((first, 16), (second, 16))
        assert_independent((first, 16), (sign, 2), (other, 2))

    def test_torchvisions(self, keys):
        policy = build("torchvision_randaugment", n=2, m=9)
        (first, second), (sign, other) = (part.unbind(1) for part in policy.choose(keys))
        assert_independent((first, 14), (second, 14))
        assert_independent((first, 14), (sign, 2), (other, 2))


class TestAutoAugment:
    def test_pairs_and_signs(self, keys):
        pair, _, signs = build("autoaugment").choose(keys)
        assert_uniform(pair, 25)
        assert_independent((pair, 25), (signs[:, 0], 2), (signs[:, 1], 2))

    def test_probabilities_of_each_pair(self, keys):
        pair, applied, _ = build("autoaugment").choose(keys)
        for code, ((_, first, _), (_, second, _)) in enumerate(autoaugment.CIFAR10_POLICY):
            drawn = applied[pair == code]
            assert_share(drawn[:, 0], first)
            assert_share(drawn[:, 1], second)
            assert_share(drawn.all(1), first * second)


@pytest.mark.parametrize("kind", ["augmix", "google_augmix"])
class TestMixtures:
    def test_depths_operations_levels_and_signs(self, kind, keys):
        policy = build(kind)
        choices = policy.choose(keys[: COUNT // 3])
        depths = choices.depths.flatten()
        assert_uniform(depths - 1, 3)
        assert_independent(*((part - 1, 3) for part in choices.depths.unbind(1)))  # the chains of an image
        codes = []
        for position in range(3):
            chosen, level, negative = (part[..., position].flatten() for part in choices[1:4])
            bins = 3 if kind == "augmix" else 20
            level = level if kind == "augmix" else level * bins >> 16
            assert_independent((chosen, len(policy.names)), (level, bins), (negative, 2))
            assert_independent((depths - 1, 3), (chosen, len(policy.names)))
            codes.append(chosen)
        assert_independent(*((chosen, len(policy.names)) for chosen in codes))
        assert_uniform(codes[0], 13 if kind == "augmix" else 9)

    def test_share_is_uniform_and_its_parts_are_dirichlet(self, kind, keys):
        share, parts = build(kind).choose(keys)[4:]
        assert_uniform(share * 50 >> 16, 50)
        assert (parts.sum(1) == 1 << 16).all()
        for column in parts.unbind(1):
            uniform = 1 - (1 - (column + 0.5) / (65536 + 1)) ** 2  # by the distribution of Beta(1, 2)
            assert_independent(((uniform * 20).long(), 20), (share * 5 >> 16, 5))
        # all of Dirichlet(1, 1, 1): uniform in the triangle, which 16 equal triangles tile
        first, second, third = ((parts * 4) // 65537).unbind(1)
        corner = first * 16 + second * 4 + third
        up, down = first + second + third == 3, first + second + third == 2  # small triangles, upright and turned
        assert (up | down).all()
        assert_uniform(torch.unique(corner[up], return_inverse=True)[1], 10)
        assert_uniform(torch.unique(corner[down], return_inverse=True)[1], 6)
        assert_share(up, 10 / 16)

    def test_weights_are_share_times_parts(self, kind, keys):
        choices = build(kind).choose(keys)
        share, parts, weights = choices.share, choices.gaps, choices.weights()
        exact = share[:, None] * parts / 65536
        assert (weights.sum(1) == 65536).all()
        assert ((weights[:, 1:] - exact).abs() <= 1).all()
        assert ((weights[:, 0] - (65536 - share)).abs() <= 3).all()


def test_color_jitter_orders_and_values(keys):
    order, values = build("color_jitter").choose(keys)
    assert_uniform(order, 24)
    low, high = torch.tensor([0.6, 0.6, 0.6, -0.2]), torch.tensor([1.4, 1.4, 1.4, 0.2])
    for column in range(4):
        bins = ((values[:, column] - low[column]) / (high[column] - low[column]) * 20).long()
        assert_independent((bins, 20), (order, 24))
    tenths = ((values - low) / (high - low) * 8).long()
    assert_independent(*((column, 8) for column in tenths.unbind(1)))


def test_steps(keys):
    canvas = (28, 28)
    assert_share(build("hflip", p=0.3).draw(keys, None, canvas).flipped, 0.3)
    _, _, tall, wide = build("random_erasing").draw(keys, None, canvas)
    assert_share((tall > 0) & (wide > 0), 0.5)
    top, left = build("random_crop", size=28, padding=4).draw(keys, None, canvas)
    assert_independent((top + 4, 9), (left + 4, 9))
    row, column = build("cutout", length=5).draw(keys, None, canvas)
    assert_independent((row, 28), (column, 28))


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("randaugment(n=1, m=3)", 16),
        ("torchvision_randaugment(n=1)", 14),
        ("autoaugment", 25),
        ("augmix", 64),
        ("google_augmix", 64),
        ("color_jitter", 64),
    ],
)
def test_one_batch_holds_many_operations(text, least):
    """What kornia's and torchvision's batched policies do not give: 64 images of one batch, nearly each its own."""
    view = parse_view(f"{text} | normalize(mean=(0, 0, 0), std=(1, 1, 1))").build("student")
    rows = view.describe(torch.zeros(64, 3, 32, 32, dtype=torch.uint8), None, torch.arange(64), key(2, 0))
    texts = [words for words, _ in rows]
    if text.startswith("color"):
        assert len({tuple(word.split()[0] for word in line.split(", ")) for line in texts}) > 15  # of 24 orders
    assert len(set(texts)) >= least - (4 if least < 20 else 0)


def test_neighbouring_samples_and_epochs_draw_independently():
    near = fold(key(11, 0), torch.arange(COUNT + 1))
    other = fold(key(11, 1), torch.arange(COUNT))
    policy = build("randaugment", n=1, m=3)
    here, there = (policy.choose(part)[0][:, 0] for part in (near, other))
    assert_independent((here[:-1], 16), (here[1:], 16))
    assert_independent((here[:-1], 16), (there, 16))
