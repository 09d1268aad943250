"""Cross-validated probabilities: of every image by fits that did not see it, whatever the number of cores."""

from __future__ import annotations

import numpy as np
import pytest

from fastnoisy.confident_learning import flag
from fastnoisy.errors import FastnoisyError
from fastnoisy.features import out_of_sample as module
from fastnoisy.features.out_of_sample import STRENGTHS, linear_heads, out_of_sample, stratified


def blobs(num: int, classes: int, wrong: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features around a centre per class, given labels of which a share is wrong, and the true ones."""
    draw = np.random.default_rng(seed)
    true = np.arange(num) % classes
    features = draw.normal(0, 1, (classes, 40))[true] * 1.5 + draw.normal(0, 1, (num, 40))
    moved = draw.random(num) < wrong
    given = np.where(moved, (true + draw.integers(1, classes, num)) % classes, true)
    return features.astype(np.float32), given, true


def test_wrong_labels_are_found() -> None:
    features, given, true = blobs(600, 6, 0.2)
    found = out_of_sample(features, given, 6)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert (found.probabilities.argmax(axis=1) == true).mean() > 0.99
    flags = flag(found.probabilities, given)
    assert (given != true)[flags.flagged].mean() > 0.95
    assert flags.flagged[given != true].mean() > 0.95
    assert found.kept.mean() == pytest.approx((given == true).mean(), abs=0.05)


def test_no_image_is_judged_by_a_fit_that_saw_it() -> None:
    """One image in a class of its own making: where it was seen, its label would be learned."""
    features, given, _ = blobs(200, 4, 0.0)
    features[7] = 100.0
    given[7] = (given[7] + 1) % 4
    found = out_of_sample(features, given, 4)
    other = out_of_sample(features, np.where(np.arange(200) == 7, (given + 1) % 4, given), 4)
    assert found.probabilities[7].argmax() == other.probabilities[7].argmax()


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_the_number_of_cores_changes_nothing(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, given, _ = blobs(300, 5, 0.1)
    before = out_of_sample(features, given, 5)
    monkeypatch.setattr(module, "cores", lambda: cores)
    assert (out_of_sample(features, given, 5).probabilities == before.probabilities).all()


def test_folds_are_stratified_of_one_size_and_drawn_by_the_seed() -> None:
    given = np.repeat([0, 1, 2], [50, 33, 7])
    parts = stratified(given, 5, seed=1)
    assert np.ptp(np.bincount(parts)) <= 1
    for label in range(3):
        assert np.ptp(np.bincount(parts[given == label], minlength=5)) <= 1
    assert (parts != stratified(given, 5, seed=2)).any()
    assert (parts == stratified(given, 5, seed=1)).all()


def test_the_strength_is_the_one_of_the_least_loss() -> None:
    features, given, _ = blobs(300, 5, 0.2)
    data = module._Folds(features, given, 5, stratified(given, 5, 1), lambda: None)
    everything = np.ones(300, bool)
    losses = []
    for strength in STRENGTHS:
        p = data._scored(everything, strength, {})
        losses.append(-np.log(p[np.arange(300), given]).mean())
    best, _ = data.search(everything, STRENGTHS.index(1e-3))
    assert best == int(np.argmin(losses))


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_class_stays_one_in_the_second_pass(seed: int) -> None:
    """Of ten images, none of them wrong, the first pass takes most for another class."""
    draw, given = np.random.default_rng(seed), np.repeat([0, 1, 2], [300, 300, 10])
    features = draw.normal(0, 0.25, (3, 200))[given] + draw.normal(0, 1, (610, 200))
    found = out_of_sample(features.astype(np.float32), given, 3)
    assert found.kept[given == 2].sum() >= 5
    assert (found.probabilities[given == 2, 2] > 0).all()
    assert flag(found.probabilities, given).flagged[given == 2].sum() <= 5


def test_no_further_head_is_fitted_to_wrong_labels() -> None:
    """With more features than images of a class, whatever is fitted to a wrong label learns it by heart."""
    draw, true = np.random.default_rng(0), np.arange(600) % 6
    features = (draw.normal(0, 0.5, (6, 400))[true] + draw.normal(0, 1, (600, 400))).astype(np.float32)
    given = np.where(draw.random(600) < 0.25, draw.integers(0, 6, 600), true)
    heads = linear_heads(features, given, 6, seed=1, count=3)
    guesses = [(features @ weight.T + bias).argmax(axis=1) for weight, bias in heads]
    wrong = given != true
    for guess in guesses:
        assert (guess[wrong] == given[wrong]).mean() < 0.1
        assert (guess[wrong] == true[wrong]).mean() > 0.85
    assert (heads[0][0] != heads[1][0]).any()
    assert (heads[1][0] != heads[2][0]).any()


def test_classes_with_one_image_or_none_and_a_constant_feature() -> None:
    features, given, _ = blobs(100, 3, 0.0)
    features[:, 0] = 3.0
    given[0] = 4  # the only one; 3 has none
    found = out_of_sample(features, given, 5)
    assert np.isfinite(found.probabilities).all()
    assert (found.probabilities[:, 3] == 0).all()
    assert found.probabilities[0, 4] == 0
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "folds", "message"),
    [
        (np.zeros(20, np.int64), 5, "images of at least two are needed"),
        (np.arange(20), 5, "no class has more than one"),
        (np.arange(20) % 2, 1, "1 folds: they must be at least 2, and no more than the largest class has images, 10"),
        (np.arange(20) % 2, 11, "11 folds"),
    ],
)
def test_mistakes_are_one_line(given: np.ndarray, folds: int, message: str) -> None:
    with pytest.raises(FastnoisyError, match=message):
        out_of_sample(np.random.default_rng(0).random((20, 3), np.float32), given, 2, folds=folds)


def test_it_can_be_stopped() -> None:
    features, given, _ = blobs(100, 3, 0.0)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        out_of_sample(features, given, 3, poll=stop)
