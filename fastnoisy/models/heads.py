"""Sub-classifiers: BYOT bottlenecks on chosen stages of any backbone (methods.md 2.5; Zhang et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from fastnoisy.errors import FastnoisyError
from fastnoisy.models.base import Backbone


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
                f"a sub-classifier of stride {self.stride} got a map of {height} x {width}: smaller than its convolution",
                "Use larger images, or name deeper stages alone (method.stages)",
            )
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        return self.fc(x.mean(dim=(2, 3)))


class Network(nn.Module):
    """A backbone with sub-classifiers on some stages (none by default).

    Args:
        taps: stage numbers from 1; the last stage, which the main classifier sits on, cannot be tapped.

    Raises:
        FastnoisyError: a tap that the backbone does not have, or a backbone without stages to tap.
    """

    def __init__(self, backbone: Backbone, num_classes: int, taps: Sequence[int] = ()) -> None:
        super().__init__()
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

    def forward(self, images: Tensor) -> Outputs:
        """Images (B, 3, H, W) to the logits of the main classifier and of every sub-classifier."""
        if not self.taps:
            return Outputs(self.backbone(images), ())
        stages = self.backbone.forward_stages(images)
        subs = tuple(head(stages[tap - 1]) for tap, head in zip(self.taps, self.heads, strict=True))
        return Outputs(self.backbone.classify(stages[-1]), subs)

    def predict(self, images: Tensor) -> Tensor:
        """`Outputs.ensemble` of the images."""
        outputs: Outputs = self(images)
        return outputs.ensemble
