"""Noise that depends on the class alone: symmetric, asymmetric, pair flips.

The draws follow the published codes call by call (numpy's legacy generator, or Python's for DivideMix), so a seed gives
the very labels that the published tables were made with. That is why some of them loop over samples.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np

from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.noise.cifar import CIFAR10_MISTAKEN_FOR, next_in_superclass
from fastnoisy.noise.labels import check, check_other_class
from fastnoisy.noise.legacy import choices

# By data set, the default first.
ASYMMETRIC_RULES: Mapping[str, tuple[str, ...]] = {
    "cifar10": ("sequential", "snapshot", "no_dog_cat", "dividemix"),
    "cifar100": ("superclass", "index_blocks"),
}
BLOCK = 5  # classes per index block


def symmetric(
    labels: np.ndarray, rate: float, num_classes: int, seed: int, exclude_true: bool = False, *, dividemix: bool = False
) -> np.ndarray:
    """Labels replaced uniformly at random.

    Args:
        labels: (N,) integers.
        rate: by default the first rate * N samples of a permutation are redrawn uniformly over ALL classes, so the
            effective noise is rate * (1 - 1/C) (GJS, ELR, ALASCA). With `exclude_true` each sample flips with this
            probability to one of the other classes (Co-teaching, JoCoR, CDR).
        seed: seeds numpy's legacy generator; with seed 1 the default equals the published GJS labels bit for bit.
        dividemix: the default's rule with the draws of DivideMix's code: Python's generator, int(rate * N) samples. Its
            published seed is 123.

    Raises:
        FastnoisyError: rate outside [0, 1], labels out of range, or both options at once.
    """
    noisy = check(labels, rate, num_classes)
    if exclude_true and dividemix:
        raise FastnoisyError("symmetric noise takes exclude_true or dividemix, not both")
    if exclude_true:
        check_other_class(num_classes)
        transition = np.full((num_classes, num_classes), rate / (num_classes - 1))
        np.fill_diagonal(transition, 1 - rate)
        return choices(transition, noisy, seed)
    if dividemix:
        source = random.Random(seed)
        for i in sorted(_dividemix_choice(source, len(noisy), rate)):
            noisy[i] = source.randint(0, num_classes - 1)
        return noisy
    generator = np.random.RandomState(seed)
    for i in _first_share(generator.permutation(len(noisy)), rate):  # one draw per sample: the published draws
        noisy[i] = generator.randint(num_classes, dtype=np.int32)
    return noisy


def asymmetric(labels: np.ndarray, rate: float, dataset: str, seed: int, rule: str = "") -> np.ndarray:
    """Labels replaced by the class that theirs is mistaken for.

    CIFAR-10: truck -> automobile, bird -> airplane, cat <-> dog, deer -> horse; other classes stay clean.

    * `sequential` (default; the codes of GJS, ELR, ALASCA): class by class, `rate` of the class's members flip. Members
      are looked up in the array being modified, so cats already called dogs are drawn again with the dogs: at 0.4 24 %
      of the cats and 40 % of the dogs end up wrong, 18.4 % of all labels of CIFAR-10 (seed 1) instead of 20 %.
    * `snapshot`: the same with members looked up in the clean labels, so that each class has exactly `rate`.
    * `no_dog_cat`: `sequential` without dog -> cat, as ALASCA's text has it.
    * `dividemix`: int(rate * N) samples of the whole set by Python's generator (published seed: 123), mapped where they
      have a map.

    CIFAR-100:

    * `superclass` (default; GJS): the first rate * N samples of a permutation go to the next class of their
    super-class.
    * `index_blocks` (the codes of ELR, FINE, ALASCA, with seed 0): each sample flips with probability `rate` to the
      next class within the block of five consecutive classes that it lies in. These blocks are NOT super-classes.

    Args:
        labels: (N,) integers.
        dataset: `cifar10` or `cifar100`.
        seed: with seed 1 `sequential` and `superclass` equal the published GJS labels bit for bit.
        rule: one of ASYMMETRIC_RULES[dataset]; empty for its default.

    Raises:
        FastnoisyError: unknown data set or rule, rate outside [0, 1], labels out of range.
    """
    if dataset not in ASYMMETRIC_RULES:
        raise unknown_name("data set with an asymmetric rule", dataset, ASYMMETRIC_RULES)
    rule = rule or ASYMMETRIC_RULES[dataset][0]
    if rule not in ASYMMETRIC_RULES[dataset]:
        raise unknown_name(f"asymmetric rule of {dataset}", rule, ASYMMETRIC_RULES[dataset])
    noisy = check(labels, rate, 10 if dataset == "cifar10" else 100)
    if rule == "superclass":
        chosen = _first_share(np.random.RandomState(seed).permutation(len(noisy)), rate)
        noisy[chosen] = np.array(next_in_superclass())[noisy[chosen]]
        return noisy
    if rule == "index_blocks":
        blocks = [start + (i + 1) % BLOCK for start in range(0, 100, BLOCK) for i in range(BLOCK)]
        return choices(_flips(blocks, rate), noisy, seed)
    if rule == "dividemix":
        for i in _dividemix_choice(random.Random(seed), len(noisy), rate):
            noisy[i] = CIFAR10_MISTAKEN_FOR.get(int(noisy[i]), int(noisy[i]))
        return noisy
    generator = np.random.RandomState(seed)
    clean = noisy.copy()
    for label in range(10):
        members = np.flatnonzero((clean if rule == "snapshot" else noisy) == label)
        generator.shuffle(members)  # for every class, since the published draws do it too
        if label in CIFAR10_MISTAKEN_FOR and not (rule == "no_dog_cat" and label == 5):
            noisy[_first_share(members, rate)] = CIFAR10_MISTAKEN_FOR[label]
    return noisy


def pair_flip(labels: np.ndarray, rate: float, num_classes: int, seed: int) -> np.ndarray:
    """Each label flips with probability `rate` to the next class, the last to the first (Han et al. 2018, Co-teaching).

    Args:
        labels: (N,) integers.
        seed: seeds numpy's legacy generator; the published code has 0.

    Raises:
        FastnoisyError: rate outside [0, 1], labels out of range, fewer than two classes.
    """
    noisy = check(labels, rate, num_classes)
    check_other_class(num_classes)
    return choices(_flips([(i + 1) % num_classes for i in range(num_classes)], rate), noisy, seed)


def _first_share(rows: np.ndarray, rate: float) -> np.ndarray:
    """The rows whose rank r has r < rate * N, as the published codes compare."""
    return rows[np.arange(len(rows)) < rate * len(rows)]


def _flips(partner: Sequence[int], rate: float) -> np.ndarray:
    """The transition matrix (C, C) in which class i becomes partner[i] with probability `rate`."""
    transition = (1 - rate) * np.eye(len(partner))
    transition[np.arange(len(partner)), partner] = rate
    return transition


def _dividemix_choice(source: random.Random, count: int, rate: float) -> list[int]:
    rows = list(range(count))
    source.shuffle(rows)
    return rows[: int(rate * count)]
