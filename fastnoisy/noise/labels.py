"""Checks on labels, and the count of who became what."""

from __future__ import annotations

import numpy as np

from fastnoisy.errors import FastnoisyError


def check(labels: np.ndarray, rate: float, num_classes: int) -> np.ndarray:
    """A copy of labels (N,) as int64.

    Raises:
        FastnoisyError: labels that are no integers or out of range, or a rate outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise FastnoisyError(f"noise rate {rate:g} is not a share: it must lie between 0 and 1", "Write 0.4 for 40 %")
    return check_range(_integers(labels), num_classes, "the labels")


def check_range(labels: np.ndarray, num_classes: int, where: str) -> np.ndarray:
    """Return `labels` unless one lies outside 0..num_classes-1.

    Raises:
        FastnoisyError: names the first row that is out of range, its value and `where` it came from.
    """
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(bad):
        raise FastnoisyError(
            f"{len(bad)} labels in {where} are out of range: row {bad[0]} is {labels[bad[0]]}, "
            f"allowed are 0 to {num_classes - 1}",
            "Check that the labels belong to this data set and count classes from 0",
        )
    return labels


def check_other_class(num_classes: int) -> None:
    """Refuse noise that needs another class where there is none."""
    if num_classes < 2:
        raise FastnoisyError(f"this noise flips to another class and there are {num_classes}: it needs at least 2")


def transition_counts(clean: np.ndarray, given: np.ndarray, num_classes: int) -> np.ndarray:
    """How often each clean class bears each given label.

    Args:
        clean, given: (N,) integers.

    Returns:
        int64 (C, C): row = clean class, column = given label.

    Raises:
        FastnoisyError: labels that are no integers, out of range, or of differing number.
    """
    clean = check_range(_integers(clean), num_classes, "the clean labels")
    given = check_range(_integers(given), num_classes, "the given labels")
    if len(clean) != len(given):
        raise FastnoisyError(f"there are {len(clean)} clean labels and {len(given)} given ones")
    counts = np.bincount(clean * num_classes + given, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def _integers(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise FastnoisyError(f"labels must be a vector of integers, got shape {labels.shape} of {labels.dtype}")
    return labels.astype(np.int64)
