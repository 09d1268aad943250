"""The steps that are policies: each draws operations for every sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from fastnoisy.augment import autoaugment, jitter, policies
from fastnoisy.augment.registry import Parameter, Result, Step, step


class PolicyStep(Step):
    """Base of them; made with the arguments of its `kind`."""

    draws = True
    kind: Callable[..., policies.Policy]

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.policy = type(self).kind(**arguments)

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Result:
        """Apply it."""
        return self.policy(images, sizes, keys), sizes

    def describe(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> list[str]:
        """The operations with their values, and mixing weights."""
        return self.policy.describe(images, sizes, keys)


@step("randaugment", Parameter("n", "integer", low=1, high=16), Parameter("m", "number", low=0, high=30))
class RandAugment(PolicyStep):
    """RandAugment: n of 16 operations at magnitude m of 30, nearest pixels (ildoonet/pytorch-randaugment)."""

    kind = policies.RandAugment


@step(
    "torchvision_randaugment",
    Parameter("n", "integer", 2, 1, 16),
    Parameter("m", "integer", 9, 0, 30),
)
class TorchvisionRandAugment(PolicyStep):
    """RandAugment with torchvision's 14 operations: n of them at entry m of 31, nearest pixels."""

    kind = autoaugment.TorchvisionRandAugment


@step("autoaugment")
class AutoAugment(PolicyStep):
    """AutoAugment: one of the 25 pairs of operations found on CIFAR-10, nearest pixels (torchvision's)."""

    kind = autoaugment.AutoAugment


_MIXTURE = (
    Parameter("severity", "integer", 3, 1, 10),
    Parameter("width", "integer", 3, 1, 16),
    Parameter("depth", "integer", -1, choices=(-1, *range(1, 11)), note="-1: 1, 2 or 3, drawn per chain"),
    Parameter("alpha", "number", 1, choices=(1,), note="mixing weights are gaps between sorted integers, Dirichlet(1)"),
)


class _Mixture(PolicyStep):
    def __init__(self, alpha: float, **arguments: Any) -> None:
        super().__init__(**arguments)


@step("augmix", *_MIXTURE)
class AugMix(_Mixture):
    """AugMix: a random mixture of the image and `width` augmented copies (torchvision's, on Pillow's pixels)."""

    kind = policies.AugMix


@step("google_augmix", *_MIXTURE, Parameter("all_ops", "switch", False))
class GoogleAugMix(_Mixture):
    """AugMix as its authors' code: 9 operations (all_ops: 13) of continuous strength, the mixture rounded to uint8."""

    kind = policies.GoogleAugMix


@step(
    "color_jitter",
    Parameter("brightness", "number", 0.4, 0, 100),
    Parameter("contrast", "number", 0.4, 0, 100),
    Parameter("saturation", "number", 0.4, 0, 100),
    Parameter("hue", "number", 0.2, 0, 0.5),
)
class ColorJitter(PolicyStep):
    """Brightness, contrast and saturation by factors in [1 - v, 1 + v], hue by a shift in [-v, v], in random order."""

    kind = jitter.ColorJitter
