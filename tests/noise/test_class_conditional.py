"""Symmetric, asymmetric and pair-flip noise against the published codes' labels."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastnoisy import noise
from fastnoisy.errors import FastnoisyError
from fastnoisy.noise import cifar

Golden = Callable[[str], Any]


@pytest.fixture
def data(golden: Golden) -> Any:
    return golden("noise_class_conditional")


@pytest.fixture
def c10(data: Any) -> np.ndarray:
    return np.array(data["inputs"]["labels_c10"])


@pytest.fixture
def c100(data: Any) -> np.ndarray:
    return np.array(data["inputs"]["labels_c100"])


def cases(found: list[dict[str, Any]], words: str, key: str = "rule") -> list[dict[str, Any]]:
    chosen = [case for case in found if words in case.get(key, "")]
    assert chosen
    return chosen


# Symmetric


def test_symmetric_equals_published_labels(data: Any, c10: np.ndarray, c100: np.ndarray) -> None:
    for case in data["symmetric_uniform_incl_true"]:
        labels, classes = (c10, 10) if case["dataset"] == "C10" else (c100, 100)
        noisy = noise.symmetric(labels, case["rate"], classes, case["seed"])
        assert noisy.tolist() == case["noisy"]
        assert (noisy != labels).mean() == pytest.approx(case["actual_noise"])


def test_symmetric_at_full_size_equals_published_hash(data: Any) -> None:
    for case in data["symmetric_full_size"]:
        count = case["N"]
        classes = 10 if case["dataset"] == "C10" else 100
        noisy = noise.symmetric(np.zeros(count, np.int64), case["rate"], classes, case["seed"])
        twin = noise.symmetric(np.ones(count, np.int64), case["rate"], classes, case["seed"])
        redrawn = np.where(noisy == twin, noisy, -1)  # only untouched rows differ between the two
        assert redrawn[:24].tolist() == case["first_24_values(-1=untouched)"]
        assert (redrawn >= 0).sum() == case["n_redrawn"]
        assert hashlib.sha256(redrawn.astype("<i8").tobytes()).hexdigest() == case["sha256_int64_le"]


def test_exclude_true_equals_published_labels(data: Any, c10: np.ndarray) -> None:
    for case in cases(data["other_rules"], "symmetric excluding"):
        noisy = noise.symmetric(c10, case["rate"], 10, 0, exclude_true=True)
        assert noisy.tolist() == case["noisy"]
        assert (noisy != c10).mean() == pytest.approx(case["actual_noise"])


def test_dividemix_rules_equal_published_labels(data: Any, c10: np.ndarray) -> None:
    for case in cases(data["other_rules"], "DivideMix sym"):
        assert noise.symmetric(c10, case["rate"], 10, 123, dividemix=True).tolist() == case["noisy"]
    for case in cases(data["other_rules"], "DivideMix asym"):
        assert noise.asymmetric(c10, case["rate"], "cifar10", 123, "dividemix").tolist() == case["noisy"]


def test_symmetric_options_exclude_each_other(c10: np.ndarray) -> None:
    with pytest.raises(FastnoisyError, match="exclude_true or dividemix"):
        noise.symmetric(c10, 0.4, 10, 1, True, dividemix=True)


# Asymmetric and pairs


def test_sequential_equals_published_labels(data: Any, c10: np.ndarray) -> None:
    for case in data["asymmetric_c10"]:
        if "noisy" in case:
            noisy = noise.asymmetric(c10, case["rate"], "cifar10", case["seed"])
            assert noisy.tolist() == case["noisy"]
            assert (noisy != c10).mean() == pytest.approx(case["actual_noise"])
    (full,) = [case for case in data["asymmetric_c10"] if "transition_counts" in case]
    labels = np.repeat(np.arange(10), 5000)
    noisy = noise.asymmetric(labels, full["rate"], "cifar10", full["seed"], "sequential")
    assert noise.transition_counts(labels, noisy, 10).tolist() == full["transition_counts"]


def test_snapshot_gives_every_class_its_rate() -> None:
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(10), 500))
    noisy = noise.asymmetric(labels, 0.4, "cifar10", 1, "snapshot")
    expected = np.diag([500] * 10)
    for clean, other in cifar.CIFAR10_MISTAKEN_FOR.items():
        expected[clean, clean], expected[clean, other] = 300, 200
    assert noise.transition_counts(labels, noisy, 10).tolist() == expected.tolist()


def test_no_dog_cat_is_sequential_without_dogs_turned_cats() -> None:
    labels = np.repeat(np.arange(10), 500)
    noisy = noise.asymmetric(labels, 0.4, "cifar10", 1, "no_dog_cat")
    counts = noise.transition_counts(labels, noisy, 10)
    assert (counts[5, 5], counts[3, 5]) == (500, 200)
    other = noise.asymmetric(labels, 0.4, "cifar10", 1)
    rest = ~np.isin(labels, (3, 5))
    assert (noisy[rest] == other[rest]).all()


def test_cifar100_rules_equal_published_labels(data: Any, c100: np.ndarray) -> None:
    for case in cases(data["asymmetric_c100"], "gjs", "variant"):
        noisy = noise.asymmetric(c100, case["rate"], "cifar100", case["seed"])
        assert noisy.tolist() == case["noisy"]
        assert (noisy != c100).mean() == pytest.approx(case["actual_noise"])
    for case in cases(data["asymmetric_c100"], "index blocks", "variant"):
        noisy = noise.asymmetric(c100, case["rate"], "cifar100", 0, "index_blocks")
        assert noisy.tolist() == case["noisy"]
        assert (noisy != c100).mean() == pytest.approx(case["actual_noise"])


def test_pair_flip_equals_published_labels(data: Any, c10: np.ndarray) -> None:
    for case in cases(data["other_rules"], "pairflip"):
        noisy = noise.pair_flip(c10, case["rate"], 10, 0)
        assert noisy.tolist() == case["noisy"]
        assert set((noisy - c10) % 10) == {0, 1}


def test_the_default_rules_come_first(c10: np.ndarray, c100: np.ndarray) -> None:
    for labels, dataset in ((c10, "cifar10"), (c100, "cifar100")):
        by_rule = {
            rule: noise.asymmetric(labels, 0.4, dataset, 1, rule).tolist() for rule in noise.ASYMMETRIC_RULES[dataset]
        }
        assert noise.asymmetric(labels, 0.4, dataset, 1).tolist() == next(iter(by_rule.values()))
        assert len({tuple(noisy) for noisy in by_rule.values()}) == len(by_rule)


def _asymmetric(dataset: str, rule: str, labels: np.ndarray, rate: float, seed: int) -> np.ndarray:
    return noise.asymmetric(labels, rate, dataset, seed, rule)


DRAWS: dict[str, Callable[[np.ndarray, float, int], np.ndarray]] = {
    "uniform": lambda labels, rate, seed: noise.symmetric(labels, rate, 10, seed),
    "exclude_true": lambda labels, rate, seed: noise.symmetric(labels, rate, 10, seed, True),
    "dividemix": lambda labels, rate, seed: noise.symmetric(labels, rate, 10, seed, dividemix=True),
    "pair_flip": lambda labels, rate, seed: noise.pair_flip(labels, rate, 10, seed),
    **{
        f"{dataset}-{rule}": functools.partial(_asymmetric, dataset, rule)
        for dataset, rules in noise.ASYMMETRIC_RULES.items()
        for rule in rules
    },
}


@pytest.mark.parametrize("name", DRAWS)
def test_what_every_kind_keeps(name: str) -> None:
    draw = DRAWS[name]
    labels = np.random.RandomState(3).randint(10, size=2000).astype(np.int32)
    before = labels.copy()
    first = draw(labels, 0.4, 5)
    assert (labels == before).all()
    assert (first.dtype, first.shape) == (np.int64, labels.shape)
    assert (first == draw(labels, 0.4, 5)).all()
    assert (first != draw(labels, 0.4, 6)).any()
    assert (draw(labels, 0.0, 5) == labels).all()
    assert 0.1 < (first != labels).mean() < 0.45
    assert draw(labels[:0], 0.4, 5).shape == (0,)
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(FastnoisyError, match="must lie between 0 and 1"):
            draw(labels, rate, 5)
    with pytest.raises(FastnoisyError, match="out of range: row 1 is 100"):
        draw(np.array([0, 100]), 0.4, 5)
    for wrong in (np.zeros(3), np.zeros((2, 2), np.int64)):
        with pytest.raises(FastnoisyError, match="vector of integers"):
            draw(wrong, 0.4, 5)


def test_what_needs_another_class_says_so() -> None:
    labels = np.zeros(4, np.int64)
    for draw in (lambda: noise.pair_flip(labels, 0.4, 1, 1), lambda: noise.symmetric(labels, 0.4, 1, 1, True)):
        with pytest.raises(FastnoisyError, match="at least 2"):
            draw()


def test_unknown_data_sets_and_rules_are_named() -> None:
    with pytest.raises(FastnoisyError, match="'cifar': did you mean cifar10 or cifar100"):
        noise.asymmetric(np.zeros(1, np.int64), 0.4, "cifar", 1)
    with pytest.raises(FastnoisyError, match=r"asymmetric rule of cifar10 'superclass'.*known: .*sequential"):
        noise.asymmetric(np.zeros(1, np.int64), 0.4, "cifar10", 1, "superclass")


# The classes and their counts


def test_the_tables_of_cifar100(data: Any) -> None:
    table = data["cifar100"]
    assert list(cifar.CIFAR100_CLASSES) == table["fine_names_by_index"]
    assert list(cifar.CIFAR100_SUPERCLASSES) == table["super_names"]
    assert list(cifar.CIFAR100_COARSE_OF_FINE) == table["super_of_fine"]
    assert cifar.next_in_superclass() == table["next_in_superclass"]


def test_data_sets_are_told_by_their_classes_in_order() -> None:
    assert noise.dataset_of(list(cifar.CIFAR10_CLASSES)) == "cifar10"
    assert noise.dataset_of(cifar.CIFAR100_CLASSES) == "cifar100"
    assert noise.dataset_of(cifar.CIFAR100_SUPERCLASSES) == ""
    assert noise.dataset_of(cifar.CIFAR10_CLASSES[::-1]) == ""
    assert noise.dataset_of([str(i) for i in range(10)]) == ""


def test_transition_counts() -> None:
    counts = noise.transition_counts(np.array([0, 0, 2, 1]), np.array([1, 0, 0, 1]), 3)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    with pytest.raises(FastnoisyError, match="2 clean labels and 1 given"):
        noise.transition_counts(np.array([0, 0]), np.array([1]), 3)
    with pytest.raises(FastnoisyError, match="the given labels are out of range: row 0 is 3"):
        noise.transition_counts(np.array([0]), np.array([3]), 3)
