"""The classifier of a pretrained network, started from a regression on the features of the training images.

A fresh classifier on a pretrained network spends the first epoch, of the few that there are, on what a regression finds
in a second; and its gradients meanwhile disturb the features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.features.extract import of_rows
from fastnoisy.features.network import Network
from fastnoisy.features.out_of_sample import linear_heads
from fastnoisy.machine import has_bf16
from fastnoisy.methods.base import Method
from fastnoisy.models import weights
from fastnoisy.models.heads import SubClassifier
from fastnoisy.models.timm_nets import TimmBackbone
from fastnoisy.progress import telling
from fastnoisy.training.labels import Labels
from fastnoisy.training.logs import Observer, feature_steps, notes
from fastnoisy.training.precision import amp_dtype
from fastnoisy.training.settings import Settings

_FRESH = "Set model.head=fresh"


def start_heads(
    settings: Settings,
    split: Split,
    labels: Labels,
    method: Method,
    observe: Observer,
    say: Callable[[str], object],
    trial: bool = False,
) -> None:
    """Set the classifier of every network of a method, averages included, where the model's `head` is `regression`;
    sub-classifiers, which are fresh, then begin with logits of 0. A frozen teacher keeps its own.

    Of methods with two networks the second's is fitted to a bootstrap sample: each must see with eyes of its own, for
    pretrained ones would otherwise be and stay the same.

    Args:
        trial: nothing is set, and what would be is said.

    Raises:
        FastnoisyError: a network whose classifier is not one linear layer on its features, or labels that no regression
            can be fitted to.
    """
    c = settings.config
    networks = [module for module in method.modules() if isinstance(module, TimmBackbone)]
    if c.model.get("head") != "regression" or not networks:
        return
    first, device, count = networks[0], next(method.parameters()).device, len(labels.train)
    if not isinstance(first.head, nn.Linear):
        kind = type(first.head).__name__
        raise FastnoisyError(
            f"model.head=regression needs a classifier of one linear layer; {first.name} has {kind}", _FRESH
        )
    if trial:
        say(f"the classifier would start from a regression on the features of {count:,} training images")
        return
    training = first.training
    network = _frozen(settings, first, device)
    first.eval()
    seen = of_rows(split, labels.train, network, say=say, progress=feature_steps(observe))
    first.train(training)  # its own, which leaves frozen parts as they are
    groups = _groups(networks)
    poll = telling(notes(observe), "regression on the features: {} fits are done")
    try:
        heads = linear_heads(seen, labels.given[labels.train], method.num_classes, c.seed, len(groups), poll)
    except FastnoisyError as error:
        raise FastnoisyError(f"model.head=regression: {error.message}", _FRESH) from None
    with torch.no_grad():
        for module in method.modules():
            if isinstance(module, SubClassifier):  # begins by saying nothing, for the ensemble is what predicts
                module.fc.weight.zero_()
                module.fc.bias.zero_()
        for alike, (weight, bias) in zip(groups, heads, strict=True):
            for head in alike:
                head.weight.copy_(torch.from_numpy(weight))
                head.bias.copy_(torch.from_numpy(bias))
    say(f"the classifier starts from a regression on the features of {count:,} training images")


def _frozen(settings: Settings, net: TimmBackbone, device: torch.device) -> Network:
    """What the features are of: the run's network as it is, in the run's precision."""
    c = settings.config
    half = amp_dtype(c, device) is not None and has_bf16(device)
    located = weights.located(str(c.model["name"]), str(c.model.get("weights", "")))
    return Network(
        name=str(c.model["name"]),
        origin=located.origin,
        digest=str(c.model["sha256"]),
        device=device,
        dtype=torch.bfloat16 if half else getattr(torch, c.dtype),
        view=str(settings.views["eval"]),
        mean=c.data.mean,
        std=c.data.std,
        model=net.model,
    )


def _groups(networks: Sequence[TimmBackbone]) -> list[list[nn.Linear]]:
    """The classifiers that train, each with its averages, which start with the same weights."""
    groups: dict[bytes, list[nn.Linear]] = {}
    for net in sorted(networks, key=lambda net: not net.head.weight.requires_grad):
        assert isinstance(net.head, nn.Linear)
        weight = net.head.weight
        key = weight.detach().float().cpu().numpy().tobytes()
        if weight.requires_grad or key in groups:
            groups.setdefault(key, []).append(net.head)
    return list(groups.values())
