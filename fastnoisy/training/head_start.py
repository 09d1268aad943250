"""The classifier of a pretrained network, started from a regression on the features of the training images.

A fresh classifier on a pretrained network spends the first epoch, of the few that there are, on what a regression finds
in a second; and its gradients meanwhile disturb the features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.features.extract import of_rows
from fastnoisy.features.network import Network
from fastnoisy.features.out_of_sample import linear_head
from fastnoisy.machine import has_bf16
from fastnoisy.methods.base import Method
from fastnoisy.models import weights
from fastnoisy.models.heads import SubClassifier
from fastnoisy.models.timm_nets import TimmBackbone
from fastnoisy.training.labels import Labels
from fastnoisy.training.logs import Observer, feature_steps
from fastnoisy.training.settings import Settings


def start_heads(
    settings: Settings,
    split: Split,
    labels: Labels,
    method: Method,
    observe: Observer,
    say: Callable[[str], object],
) -> None:
    """Set the classifier of every network of a method, averages included, where the model's `head` is `regression`;
    sub-classifiers, which are fresh, then begin with logits of 0.

    Raises:
        FastnoisyError: a network whose classifier is not one linear layer on its features.
    """
    c = settings.config
    networks = [module for module in method.modules() if isinstance(module, TimmBackbone)]
    if c.model.get("head") != "regression" or not networks:
        return
    first, device = networks[0], next(method.parameters()).device
    if not isinstance(first.head, nn.Linear):
        kind = type(first.head).__name__
        raise FastnoisyError(
            f"model.head=regression needs a classifier of one linear layer; {first.name} has {kind}",
            "Set model.head=fresh",
        )
    located = weights.located(str(c.model["name"]), str(c.model.get("weights", "")))
    training = first.training
    network = Network(
        name=str(c.model["name"]),
        origin=located.origin,
        digest=str(c.model["sha256"]),
        device=device,
        dtype=torch.bfloat16 if has_bf16(device) else torch.float32,
        view=str(settings.views["eval"]),
        mean=c.data.mean,
        std=c.data.std,
        model=first.model,
    )
    first.eval()
    seen = of_rows(split, labels.train, network, say=say, progress=feature_steps(observe))
    first.train(training)  # its own, which leaves frozen parts as they are
    given = labels.given[labels.train]
    with torch.no_grad():
        for module in method.modules():
            if isinstance(module, SubClassifier):  # begins by saying nothing, for the ensemble is what predicts
                module.fc.weight.zero_()
                module.fc.bias.zero_()
        for number, alike in enumerate(_groups(networks)):
            rows = np.arange(len(given)) if number == 0 else _resampled(given, c.seed, number)
            weight, bias = linear_head(seen[rows], given[rows], method.num_classes, c.seed)
            for head in alike:
                head.weight.copy_(torch.from_numpy(weight))
                head.bias.copy_(torch.from_numpy(bias))
    say(f"the classifier starts from a regression on the features of {len(labels.train):,} training images")


def _groups(networks: Sequence[TimmBackbone]) -> list[list[nn.Linear]]:
    """The classifiers, those that start with the same weights together: a network's and its average's."""
    groups: dict[bytes, list[nn.Linear]] = {}
    for net in networks:
        assert isinstance(net.head, nn.Linear)
        groups.setdefault(net.head.weight.detach().float().cpu().numpy().tobytes(), []).append(net.head)
    return list(groups.values())


def _resampled(given: np.ndarray, seed: int, number: int) -> np.ndarray:
    """As many rows of each class, drawn with replacement: of methods with two networks, each must see with eyes of its
    own, for pretrained ones would otherwise be and stay the same.
    """
    draw = np.random.default_rng([seed, number])
    members = (np.flatnonzero(given == label) for label in np.unique(given))
    return np.concatenate([np.sort(draw.choice(rows, len(rows))) for rows in members])
