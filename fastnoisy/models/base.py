"""What a backbone is: stages with known widths and strides, and a classifier on the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fastnoisy.errors import FastnoisyError

backbones: dict[str, Callable[..., Backbone]] = {}
_Builder = TypeVar("_Builder", bound=Callable[..., "Backbone"])


def backbone(name: str) -> Callable[[_Builder], _Builder]:
    """Register a function `(num_classes, **options) -> Backbone` under a name."""

    def register(builder: _Builder) -> _Builder:
        if backbones.setdefault(name, builder) is not builder:
            raise ValueError(f"two backbones are named {name!r}")
        return builder

    return register


def without_step_counts(net: nn.Module) -> None:
    """Take `num_batches_tracked` out of every BatchNorm of a network, in place.

    Nothing reads it where the momentum is a number, and counting is a launch per layer and step. Weights that bring the
    counts (timm's, torchvision's) load as if they had none; ours load where counts are wanted, for torch fills in what
    is missing.
    """
    for module in net.modules():
        if isinstance(module, _NormBase) and module.num_batches_tracked is not None:
            module.num_batches_tracked = None
            module.register_load_state_dict_pre_hook(_drop_step_count)


def _drop_step_count(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    # torch adds it, too, to a dictionary without version, such as safetensors'
    state.pop(f"{prefix}num_batches_tracked", None)


class Backbone(nn.Module):
    """A classifier cut into stages.

    Attributes:
        name: what it was built as, for messages.
        stage_channels: width of each stage's output.
        stage_reductions: how many input pixels one output pixel of each stage stands for, per side.
        head_kernel: side and stride of the sub-classifiers' one large convolution; None: the stride from the tap to the
            end.
        min_tap_reduction: stages of a lower reduction carry no sub-classifier unless they are named.
        fresh_head: whether the classifier starts from random weights.
    """

    name: str = "this network"
    fresh_head: bool = True
    stage_channels: tuple[int, ...]
    stage_reductions: tuple[int, ...]
    head_kernel: int | None = None
    min_tap_reduction: int = 1

    @property
    def head(self) -> nn.Module:
        """The classifier on the last stage: what is fresh where the other weights are pretrained.

        Raises:
            FastnoisyError: it is not known of this network.
        """
        found = getattr(self, "fc", None)
        if not isinstance(found, nn.Module):
            raise FastnoisyError(f"the classifier of {self.name} is not known", "Set optim.head_lr=1")
        return found

    @property
    def default_taps(self) -> tuple[int, ...]:
        """Stages, numbered from 1, that carry sub-classifiers where none are named: the deepest three before the last.

        Raises:
            FastnoisyError: there is none.
        """
        last = len(self.stage_channels)
        taps = [s for s in range(1, last) if self.stage_reductions[s - 1] >= self.min_tap_reduction]
        if not taps:
            raise self.no_taps()
        return tuple(taps[-3:])

    def no_taps(self) -> FastnoisyError:
        """The error where sub-classifiers are asked of a network that has no stage to carry them."""
        return FastnoisyError(
            f"{self.name} has no feature maps before its last stage that could carry sub-classifiers",
            "Choose a network of several stages, such as resnet34_cifar or resnet50, or a method without "
            "sub-classifiers",
        )

    def forward_stages(self, images: Tensor) -> Iterator[Tensor]:
        """Images (B, 3, H, W) to each stage's output, (B, c_s, H / r_s, W / r_s), one after the other: what is done
        with one before the next is asked for has its backward after the later stages', when their activations are gone.
        """
        raise NotImplementedError

    def classify(self, last: Tensor) -> Tensor:
        """The last stage's output to logits (B, C)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to logits (B, C)."""
        last = images
        for stage in self.forward_stages(images):
            last = stage
        return self.classify(last)
