"""What a backbone is: stages with known widths and strides, and a classifier on the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

backbones: dict[str, Callable[..., Backbone]] = {}
_Builder = TypeVar("_Builder", bound=Callable[..., "Backbone"])


def backbone(name: str) -> Callable[[_Builder], _Builder]:
    """Register a function `(num_classes, **options) -> Backbone` under a name."""

    def register(builder: _Builder) -> _Builder:
        if backbones.setdefault(name, builder) is not builder:
            raise ValueError(f"two backbones are named {name!r}")
        return builder

    return register


class Backbone(nn.Module):
    """A classifier cut into stages.

    Attributes:
        stage_channels: width of each stage's output.
        stage_reductions: how many input pixels one output pixel of each stage stands for, per side.
    """

    stage_channels: tuple[int, ...]
    stage_reductions: tuple[int, ...]

    def forward_stages(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to each stage's output, (B, c_s, H / r_s, W / r_s)."""
        raise NotImplementedError

    def classify(self, last: Tensor) -> Tensor:
        """The last stage's output to logits (B, C)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to logits (B, C)."""
        return self.classify(self.forward_stages(images)[-1])
