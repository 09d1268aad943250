"""What share of the training labels is wrong, estimated from the labels themselves, for methods that must know it."""

from __future__ import annotations

import torch

from fastnoisy import confident_learning, methods
from fastnoisy.config import ESTIMATE
from fastnoisy.data.store import Split
from fastnoisy.features.extract import of_rows
from fastnoisy.features.network import open_network
from fastnoisy.features.out_of_sample import out_of_sample, usual_folds
from fastnoisy.progress import telling
from fastnoisy.training.labels import Labels
from fastnoisy.training.logs import Observer, feature_steps, notes


def wanted(method: methods.Choice) -> bool:
    """Whether an option of a method, or of what it wraps, is `estimate`."""
    own = getattr(method.options, "noise_rate", None) == ESTIMATE
    return own or (method.base is not None and wanted(method.base))


def rate(split: Split, labels: Labels, device: torch.device, seed: int, observe: Observer, keep: bool) -> float:
    """As `fastnoisy audit` estimates it: features of a frozen pretrained network, cross-validated linear classifiers,
    the calibrated confident joint.

    Args:
        keep: the features, for the next time.

    Returns:
        0 to below 1.

    Raises:
        FastnoisyError: the pretrained network is not there, or the labels are of one class.
    """
    network, steps = open_network(device), feature_steps(observe)
    features = of_rows(split, labels.train, network, say=notes(observe), progress=steps, keep=keep)
    given = labels.given[labels.train]
    poll = telling(notes(observe), "estimating how many labels are wrong: {} fits are done")
    found = out_of_sample(features, given, len(split.class_names), folds=usual_folds(given), seed=seed, poll=poll)
    return min(confident_learning.flag(found.probabilities, given).rate, 0.99)
