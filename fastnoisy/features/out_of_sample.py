"""Out-of-sample probabilities from features: a linear classifier, cross-validated, twice.

The first pass fits all given labels, wrong ones too. The second leaves out of its fits the images whose likeliest class
was another one in the first, and scores them out of fold all the same. Of photographs with confused labels the second
pass lifts the ranking of the wrong ones from AUC 0.983 to 0.999.

In both passes the strength of the penalty is the one with the least cross-validated log-loss on all given labels, wrong
ones included. So the second pass, whose fits are nearly clean, is not as sure of itself as a clean set would let it be.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnoisy import keyed_random
from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import cores

FOLDS = 5
# Of the penalty on the weights, as scikit-learn's C (the inverse); half decades, 1e-3 where the search begins.
STRENGTHS = tuple(float(f"{digit}e{power}") for power in range(-6, 2) for digit in (1, 3))
_BEGIN = STRENGTHS.index(1e-3)
_MAX_ITERATIONS = 300


@dataclass(frozen=True)
class OutOfSample:
    """Probabilities of N images, each from fits that did not see it.

    Attributes:
        probabilities: float32 (N, C); rows sum to 1.
        folds: int64 (N,), in which fold each image was scored.
        strengths: scikit-learn's C of the first and of the second pass.
        kept: bool (N,), the images that the second pass was fitted to: of each class those whose likeliest class it was
            in the first, or all, where these are fewer than folds.
    """

    probabilities: np.ndarray
    folds: np.ndarray
    strengths: tuple[float, float]
    kept: np.ndarray


def out_of_sample(
    features: np.ndarray,
    given: np.ndarray,
    num_classes: int,
    *,
    folds: int = FOLDS,
    seed: int = 1,
    poll: Callable[[], None] = lambda: None,
) -> OutOfSample:
    """Probabilities of every image by stratified cross-validation; see the module.

    The result does not depend on the number of cores.

    Args:
        features: float32 (N, D), finite.
        given: int64 (N,), labels from 0 to num_classes - 1.
        folds: how many parts, at least 2.
        seed: which images go into which fold.
        poll: called now and then; may raise, to stop.

    Raises:
        FastnoisyError: fewer than two classes have images, no class has two, or there are more folds than images of any
            class.
    """
    check_folds(folds, np.bincount(given, minlength=num_classes))
    parts = stratified(given, folds, seed)
    scaled, _, _ = standardised(features)  # of all images: it looks at no label
    data = _Folds(scaled, given, num_classes, parts, poll)
    begin, first = data.search(np.ones(len(given), bool), _BEGIN)
    kept = first.argmax(axis=1) == given
    # a rare class, all of which the first took for others, would be nobody's in the second
    left = np.bincount(given[kept], minlength=num_classes)
    kept |= left[given] < folds
    end, second = data.search(kept, begin)
    return OutOfSample(second, parts, (STRENGTHS[begin], STRENGTHS[end]), kept)


def check_folds(folds: int, counts: np.ndarray) -> None:
    """Refuse what cannot be dealt into folds.

    Args:
        counts: int64 (C,), images of each class.

    Raises:
        FastnoisyError: fewer than two classes have images, no class has two, or there are more folds than images of any
            class.
    """
    if (counts > 0).sum() < 2:
        raise FastnoisyError("wrong labels are told by comparing classes: images of at least two are needed")
    if counts.max() < 2:
        raise FastnoisyError("wrong labels are told by comparing images: no class has more than one")
    if not 2 <= folds <= counts.max():
        raise FastnoisyError(
            f"{folds} folds: they must be at least 2, and no more than the largest class has images, {counts.max():,}"
        )


def linear_heads(
    features: np.ndarray,
    given: np.ndarray,
    num_classes: int,
    seed: int,
    count: int = 1,
    poll: Callable[[], None] = lambda: None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Linear classifiers on features, fitted as in the second pass, to the images that it keeps.

    The first is fitted to these; each further one to a bootstrap sample of them, as many of each class.

    Args:
        features: float32 (N, D).
        given: int64 (N,).
        seed: of the folds and of the samples.
        count: of the classifiers.
        poll: called now and then; may raise, to stop.

    Returns:
        Weights float32 (C, D) and biases float32 (C,), for features as they are. A class without images is the least
        likely everywhere.

    Raises:
        FastnoisyError: as `out_of_sample`.
    """
    found = out_of_sample(features, given, num_classes, folds=usual_folds(given), seed=seed, poll=poll)
    scaled, middle, spread = standardised(features)
    kept = np.flatnonzero(found.kept)
    heads = []
    for number in range(count):
        rows = kept if number == 0 else _resampled(kept, given[kept], seed, number)
        rows_of_classes, offsets, present = _fitted(scaled[rows], given[rows], found.strengths[1])
        weight = np.zeros((num_classes, features.shape[1]))
        bias = np.full(num_classes, offsets.min() - 10.0)
        weight[present] = rows_of_classes / spread
        bias[present] = offsets - (rows_of_classes / spread) @ middle
        heads.append((weight.astype(np.float32), bias.astype(np.float32)))
        poll()
    return heads


def _fitted(features: np.ndarray, given: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights float64 (c, D), offsets float64 (c,) and numbers of the c classes that have images."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
    with _alike_everywhere():
        model.fit(features, given)
    rows, offsets = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
    if len(rows) == 1:  # of two classes it is the second's
        rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
    return rows, offsets, model.classes_


def _resampled(rows: np.ndarray, given: np.ndarray, seed: int, number: int) -> np.ndarray:
    """As many rows of each class, drawn with replacement. `given` are their labels."""
    draw = np.random.default_rng([seed, number])
    members = (rows[given == label] for label in np.unique(given))
    return np.concatenate([np.sort(draw.choice(own, len(own))) for own in members])


def usual_folds(given: np.ndarray) -> int:
    """`FOLDS`, or as many as the largest class of the labels, int64 (N,), has images."""
    return min(FOLDS, int(np.bincount(given).max()))


def standardised(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, D) less their means and over their spreads, the means, and the spreads (1 where there is none), all
    float32.
    """
    middle = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    scaled = features - middle
    spread = scaled.std(axis=0, dtype=np.float64).astype(np.float32)
    spread = np.where(spread > 0, spread, np.float32(1))
    scaled /= spread
    return scaled, middle, spread


@contextmanager
def _alike_everywhere() -> Iterator[None]:
    """Fits give the same numbers on any number of cores, and do not say that they have not come to their end."""
    # whose libraries must be there before their threads are limited
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a ranking is there long before
        yield


def stratified(given: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each image, int64 (N,): the images of each class are dealt round, in an order that the seed draws."""
    keys = keyed_random.fold(keyed_random.key(seed, keyed_random.name_value("folds")), np.arange(len(given)))
    order = np.lexsort((keys, given))
    parts = np.empty(len(given), np.int64)
    parts[order] = np.arange(len(given)) % folds  # goes on from class to class, so that folds are of one size
    return parts


@dataclass(frozen=True)
class _Folds:
    """Features (N, D) and labels (N,), dealt into parts (N,)."""

    features: np.ndarray
    given: np.ndarray
    num_classes: int
    parts: np.ndarray
    poll: Callable[[], None]

    def search(self, kept: np.ndarray, begin: int) -> tuple[int, np.ndarray]:
        """The strength of the least log-loss, downhill from `begin`, and its probabilities.

        Args:
            kept: bool (N,), the images to fit.
            begin: a place in `STRENGTHS`.
        """
        found: dict[int, tuple[float, np.ndarray]] = {}
        models: dict[int, Any] = {}  # by fold: each fit begins where the last one of its fold has ended

        def loss(place: int) -> float:
            if place not in found:
                probabilities = self._scored(kept, STRENGTHS[place], models)
                own = probabilities[np.arange(len(self.given)), self.given].astype(np.float64)
                found[place] = float(-np.log(np.maximum(own, 1e-12)).mean()), probabilities
            return found[place][0]

        best = begin
        for step in (1, -1):
            while 0 <= best + step < len(STRENGTHS) and loss(best + step) < loss(best):
                best += step
            if best != begin:
                break
        loss(best)
        return best, found[best][1]

    def _scored(self, kept: np.ndarray, strength: float, models: dict[int, Any]) -> np.ndarray:
        """Every image's probabilities by the fit that its fold was kept out of, float32 (N, C)."""
        from sklearn.linear_model import LogisticRegression

        for part in range(int(self.parts.max()) + 1):
            if part not in models:
                models[part] = LogisticRegression(max_iter=_MAX_ITERATIONS, warm_start=True)
            models[part].set_params(C=strength)
        result = np.zeros((len(self.given), self.num_classes), np.float32)
        with _alike_everywhere(), ThreadPoolExecutor(min(cores(), int(self.parts.max()) + 1)) as pool:
            jobs = [pool.submit(self._score, result, part, kept, model) for part, model in models.items()]
            try:
                for job in jobs:
                    job.result()
                    self.poll()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return result

    def _score(self, out: np.ndarray, part: int, kept: np.ndarray, model: Any) -> None:
        fitted, scored = kept & (self.parts != part), self.parts == part
        if not scored.any():
            return
        present = np.unique(self.given[fitted])
        if len(present) < 2:
            out[np.ix_(scored, present)] = 1
            return
        model.fit(self.features[fitted], self.given[fitted])
        out[np.ix_(scored, model.classes_)] = model.predict_proba(self.features[scored])
