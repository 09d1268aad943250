"""Draws of numpy's legacy generator as the published codes had them, whatever numpy is installed.

`RandomState` is frozen but for faults that are mended, and `multinomial` was one: numpy 1.17 to 2.4, with which the
published labels were made, draw one stream; up to 1.16 and from 2.5 on it is another (numpy issue 32299). What is left
of `RandomState` here are its doubles, permutations and integers, which are the Mersenne Twister's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

_BLOCK = 1 << 14  # doubles that are drawn at once


def choices(transition: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """For each row of a matrix of probabilities, in turn, the column that `multinomial(1, ...)` draws.

    Args:
        transition: float64 (C, C); each row sums to 1.
        rows: (N,) integers, which row is drawn from.
        seed: of `RandomState`.

    Returns:
        int64 (N,).
    """
    doubles = _doubles(np.random.RandomState(seed))
    steps = [_steps(probabilities) for probabilities in transition.tolist()]
    last = transition.shape[1] - 1
    return np.array([_choose(steps[row], last, doubles) for row in np.asarray(rows).tolist()], np.int64)


def _doubles(generator: np.random.RandomState) -> Iterator[float]:
    while True:
        yield from generator.random_sample(_BLOCK).tolist()


def _steps(probabilities: list[float]) -> list[tuple[int, bool, float, float]]:
    """The binomial draws of one trial that a multinomial draw consists of, for each column but the last.

    Returns:
        Column; whether it is drawn that it is not the one, as is done from one half on; and the first two steps of the
        inversion: up to the first bound the answer is no, and up to the second, from there on, yes.
    """
    steps, left = [], 1.0
    for column, probability in enumerate(probabilities[:-1]):
        share = probability / left if left else math.nan
        left -= probability
        if share == 0.0:
            continue
        reverse = not share <= 0.5
        p = 1.0 - share if reverse else share
        none = math.exp(math.log1p(-p))
        steps.append((column, reverse, none, p * none / (1.0 - p)))
    return steps


def _choose(steps: list[tuple[int, bool, float, float]], last: int, doubles: Iterator[float]) -> int:
    for column, reverse, none, one in steps:
        while True:
            drawn = next(doubles)
            if drawn <= none or drawn - none <= one:
                break  # else between what rounding leaves of both and 1: drawn again
        if (drawn > none) != reverse:
            return column
    return last
