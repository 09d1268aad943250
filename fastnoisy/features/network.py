"""The frozen network that features are of: which one, where its weights come from, what it takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastnoisy import models
from fastnoisy.augment import View, executors, parse_view
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import sha256_of
from fastnoisy.machine import has_bf16
from fastnoisy.models import weights
from fastnoisy.models.timm_nets import TimmBackbone

DEFAULT = "tf_efficientnet_lite0"
SIDES = {"cpu": 160, "cuda": 224}  # of the images, in pixels
_MARGIN = 1.14  # the shorter side is made so many times longer than the crop, as ImageNet's networks are evaluated


@dataclass(frozen=True)
class Network:
    """A frozen network on a device, in evaluation mode.

    Attributes:
        name: timm's.
        origin: where its weights come from, a few words.
        digest: sha256 of the file of weights.
        device: where it is.
        dtype: of its convolutions: bfloat16 where the device computes with it natively, else that of its weights.
        view: the evaluation program of its images.
    """

    name: str
    origin: str
    digest: str
    device: torch.device
    dtype: torch.dtype
    view: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    model: nn.Module

    def build_view(self) -> View:
        """The evaluation view on the device."""
        executor = executors.at_hand(self.device)
        view = parse_view(self.view).build("eval", mean=self.mean, std=self.std, channels_last=True, executor=executor)
        return view.to(self.device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """What the network's classifier would see of each image, float32 (B, D), on the device.

        Args:
            images: float32 (B, 3, h, w), normalised.
        """
        model = self.model
        half = self.dtype == torch.bfloat16
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            seen = model.forward_features(images if half else images.to(self.dtype))  # type: ignore[operator]
            features = model.forward_head(seen, pre_logits=True)  # type: ignore[operator]
        return features.flatten(1).float()

    def __str__(self) -> str:
        kind = "bf16" if self.dtype == torch.bfloat16 else "fp32"
        return f"{self.name} ({self.origin}, sha256 {self.digest[:12]}), {kind} on {self.device}, {self.view}"


def open_network(
    device: torch.device,
    name: str = DEFAULT,
    file: str = "",
    *,
    download: bool = False,
    precision: str = "auto",
    side: int | None = None,
) -> Network:
    """Open a pretrained network.

    Args:
        device: where it is to run.
        name: timm's, with or without a tag for the weights.
        file: its weights, .safetensors or .pth; where empty, those installed with fastnoisy or in timm's cache.
        download: fetch them where they are not on this machine.
        precision: `bf16`, `fp32`, or `auto`: bf16 where the device computes with it natively.
        side: of its images in pixels; by default 160 on a CPU and 224 on a GPU, or what the network is bound to.

    Raises:
        FastnoisyError: no such network, no weights of it, weights that cannot be read or are not what was published.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise FastnoisyError(f"precision: {precision!r} is none", "Choose auto, bf16 or fp32")
    table = {"name": name, "pretrained": True, "weights": file, "download": download}
    if name in models.names():
        raise FastnoisyError(
            f"features are of a pretrained network, and {name} has no published weights", "Name one of timm's"
        )
    with torch.random.fork_rng(devices=[]):  # the classifier, which nobody asks for, draws its weights
        backbone = models.build(table, 2)
    assert isinstance(backbone, TimmBackbone)
    found = weights.located(name, file)
    if backbone.size is not None and side not in (None, backbone.size[0]):
        raise FastnoisyError(
            f"size: {name} takes images of {backbone.size[0]} pixels and no others, not of {side}", "Leave it out"
        )
    size = backbone.size[0] if backbone.size is not None else side or SIDES[device.type]
    bf16 = precision == "bf16" or (precision == "auto" and has_bf16(device))
    cfg = backbone.model.pretrained_cfg  # type: ignore[union-attr]
    return Network(
        name=name,
        origin=found.origin,
        digest=sha256_of(found.path),
        device=device,
        dtype=torch.bfloat16 if bf16 else torch.float32,
        view=f"resize_shorter({round(_MARGIN * size)}) | center_crop({size}) | normalize",
        mean=tuple(cfg["mean"]),  # type: ignore[index]
        std=tuple(cfg["std"]),  # type: ignore[index]
        model=backbone.model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
    )
