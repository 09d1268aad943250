"""The confident joint: by hand, its sums, and cleanlab's numbers where that is installed."""

from __future__ import annotations

import numpy as np
import pytest

from fastnoisy.confident_learning import confident_joint, flag


def drawn(num: int, classes: int, wrong: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of a good classifier, given labels of which a share is wrong, and the true ones."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, classes, num)
    logits = draw.normal(0, 1, (num, classes))
    logits[np.arange(num), true] += 4
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = np.where(draw.random(num) < wrong, (true + draw.integers(1, classes, num)) % classes, true)
    return p, given, true


def test_by_hand() -> None:
    """Thresholds are 0.6 for the first class and 0.7 for the second; the last image is sure of neither."""
    p = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9], [0.5, 0.5]])
    given = np.array([0, 0, 0, 1, 1])
    # class 0: two count for 0, one for 1; class 1: one for 1, none for 0; rows are then stretched to 3 and 2 images
    np.testing.assert_allclose(confident_joint(p, given), [[2, 1], [0, 2]])
    found = flag(p, given)
    assert (found.count, found.rate) == (1, pytest.approx(0.2))
    assert found.flagged.tolist() == [False, True, False, False, False]


def test_rows_sum_to_the_given_counts_and_the_count_is_near_the_truth() -> None:
    for seed, wrong in enumerate((0.05, 0.2, 0.4)):
        p, given, true = drawn(3000, 7, wrong, seed)
        found = flag(p, given)
        np.testing.assert_allclose(found.joint.sum(axis=1), np.bincount(given, minlength=7))
        assert found.count == pytest.approx((given != true).sum(), rel=0.15)
        assert (given != true)[found.flagged].mean() > 0.85
        assert found.flagged.sum() <= found.count


def test_what_is_not_judged_is_neither_counted_nor_flagged() -> None:
    p, given, _ = drawn(500, 4, 0.3, 1)
    judged = given != 2
    found = flag(p, given, judged)
    assert found.joint[2].sum() == 0
    assert not found.flagged[~judged].any()
    assert found.joint.sum() == pytest.approx(judged.sum())


def test_flags_follow_another_score() -> None:
    p, given, _ = drawn(500, 4, 0.3, 2)
    score = np.random.default_rng(0).random(500)
    found = flag(p, given, score=score)
    others = (p.argmax(axis=1) != given) & ~found.flagged
    assert score[found.flagged].max() <= score[others].min()


def test_a_class_that_has_no_image_and_one_that_no_image_is_sure_of() -> None:
    p = np.array([[0.5, 0.4, 0.1], [0.4, 0.5, 0.1], [0.9, 0.1, 0.0]])
    joint = confident_joint(p, np.array([0, 0, 0]))
    assert joint.sum() == pytest.approx(3)
    assert joint[1:].sum() == joint[:, 1:].sum() == 0


def test_cleanlab_counts_the_same() -> None:
    count = pytest.importorskip("cleanlab.count", reason="cleanlab is not installed: pip install cleanlab")
    for seed in range(5):
        p, given, _ = drawn(1500, 6, 0.25, seed)
        theirs = count.compute_confident_joint(given, p, calibrate=True)
        np.testing.assert_allclose(confident_joint(p, given), theirs, atol=1)  # theirs are whole numbers
