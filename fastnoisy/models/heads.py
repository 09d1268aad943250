"""Sub-classifiers: BYOT bottlenecks on chosen stages of any backbone (methods.md 2.5; Zhang et al. 2019)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastnoisy.errors import FastnoisyError
from fastnoisy.models.base import Backbone, without_step_counts


class Outputs(NamedTuple):
    """What a network says of a batch.

    Attributes:
        logits: (B, C) of the main classifier.
        sub_logits: (B, C) of each sub-classifier, shallowest first; empty without heads.
    """

    logits: Tensor
    sub_logits: tuple[Tensor, ...]

    @property
    def ensemble(self) -> Tensor:
        """Logits (B, C) to predict by: the main classifier's, with heads the mean of its and the deepest head's, as
        ALASCA's authors' code does at test time (decision A5).
        """
        return (self.logits + self.sub_logits[-1]) / 2 if self.sub_logits else self.logits


class SubClassifier(nn.Module):
    """conv 1x1, conv kxk stride k, conv 1x1, each with bias, BN and ReLU; global average pool; linear.

    Args:
        c_in: channels at the tap.
        c_out: channels of the backbone's last stage; the bottleneck's middle has a quarter of them.
        stride: k, the total stride from the tap to the last stage.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, num_classes: int) -> None:
        super().__init__()
        self.stride = stride
        middle = max(1, c_out // 4)
        self.conv1, self.bn1 = nn.Conv2d(c_in, middle, 1), nn.BatchNorm2d(middle)
        self.conv2, self.bn2 = nn.Conv2d(middle, middle, stride, stride), nn.BatchNorm2d(middle)
        self.conv3, self.bn3 = nn.Conv2d(middle, c_out, 1), nn.BatchNorm2d(c_out)
        self.fc = nn.Linear(c_out, num_classes)
        for module in (self.conv1, self.conv2, self.conv3, self.fc):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, h, w) to logits (B, C).

        Raises:
            FastnoisyError: h or w is below k.
        """
        height, width = x.shape[-2:]
        if min(height, width) < self.stride:
            raise FastnoisyError(
                f"a sub-classifier of stride {self.stride} got a map of {height} x {width}: smaller than its "
                "convolution",
                "Use larger images, or name deeper stages alone (method.stages)",
            )
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = F.relu(self.bn3(self.conv3(x)), inplace=True)
        return self.fc(x.mean(dim=(2, 3)))

    def recomputed(self, x: Tensor) -> Tensor:
        """As `forward`, but nothing is kept for the backward, which computes it again; buffers are updated once."""
        if torch.compiler.is_compiling():  # one graph, in which the buffers' update stands once
            return checkpoint(self.forward, x, use_reentrant=False, preserve_rng_state=False)
        contexts = (contextlib.nullcontext(), self._statistics_left_alone())
        return checkpoint(self.forward, x, use_reentrant=False, preserve_rng_state=False, context_fn=lambda: contexts)

    @contextlib.contextmanager
    def _statistics_left_alone(self) -> Iterator[None]:
        """For a second forward of the same batch: what it adds to the running statistics goes into copies."""
        norms = (self.bn1, self.bn2, self.bn3)
        own = [dict(norm.named_buffers()) for norm in norms]
        for norm, buffers in zip(norms, own, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())
        try:
            yield
        finally:
            for norm, buffers in zip(norms, own, strict=True):
                for name, buffer in buffers.items():
                    setattr(norm, name, buffer)


class Network(nn.Module):
    """A backbone with sub-classifiers on some stages (none by default).

    Args:
        taps: stage numbers from 1; the last stage, which the main classifier sits on, cannot be tapped.
        recompute: whether training computes the sub-classifiers again in the backward instead of keeping their
            activations.

    Raises:
        FastnoisyError: a tap that the backbone does not have, or a backbone without stages to tap.
    """

    def __init__(self, backbone: Backbone, num_classes: int, taps: Sequence[int] = (), recompute: bool = False) -> None:
        super().__init__()
        self.recompute = recompute
        last = len(backbone.stage_channels)
        if taps and last == 1:
            raise backbone.no_taps()
        if bad := [tap for tap in taps if not 1 <= tap < last]:
            raise FastnoisyError(
                f"no stage {bad[0]} to attach a sub-classifier to: {backbone.name} allows 1 to {last - 1}"
            )
        self.backbone = backbone
        self.taps = tuple(sorted(taps))
        self.heads = nn.ModuleList(
            SubClassifier(
                backbone.stage_channels[tap - 1],
                backbone.stage_channels[-1],
                backbone.head_kernel or max(1, backbone.stage_reductions[-1] // backbone.stage_reductions[tap - 1]),
                num_classes,
            )
            for tap in self.taps
        )
        without_step_counts(self.heads)

    def forward(self, images: Tensor) -> Outputs:
        """Images (B, 3, H, W) to the logits of the main classifier and of every sub-classifier."""
        if not self.taps:
            return Outputs(self.backbone(images), ())
        heads = {tap: head for tap, head in zip(self.taps, self.heads, strict=True) if isinstance(head, SubClassifier)}
        subs: list[Tensor] = []
        for number, stage in enumerate(self.backbone.forward_stages(images), 1):
            # At once: a head's backward then comes when the later stages' activations are gone. Of CIFAR's ResNet-34
            # with three heads a step's peak is 1.18 times that without them, 1.29 with the heads after the last stage.
            if number in heads:
                again = self.recompute and self.training and torch.is_grad_enabled()
                subs.append(heads[number].recomputed(stage) if again else heads[number](stage))
        return Outputs(self.backbone.classify(stage), tuple(subs))

    def predict(self, images: Tensor) -> Tensor:
        """`Outputs.ensemble` of the images."""
        outputs: Outputs = self(images)
        return outputs.ensemble
