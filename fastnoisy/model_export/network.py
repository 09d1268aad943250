"""Which network of a run is exported, and what the run measured of it.

What a run reports may be one network's main classifier, a mean over two networks, or a mean with sub-classifiers. Which
of these it is, is found by asking: candidates answer the same images as the method does, and the first that agrees is
taken. So a method of the user's own, whatever it reports, is exported right or as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Method
from fastnoisy.models.heads import Network
from fastnoisy.models.timm_nets import TimmBackbone
from fastnoisy.training.run import Run

_IMAGES = 8
_CLOSE = 1e-5  # of the largest logit: the same sum in another order


@dataclass(frozen=True)
class Exported:
    """A network to be written down.

    Attributes:
        module: normalised float32 images (B, 3, h, w) to logits (B, C); in evaluation mode, on the CPU.
        what: what it is, a few words.
        predictor: under which of the run's predictors it was evaluated; empty: under none.
        reported: the run's reported predictor.
        images: float32 (B, 3, h, w), a few to check what was written with.
        logits: float32 (B, C), the method's own of these images.
    """

    module: nn.Module
    what: str
    predictor: str
    reported: str
    images: Tensor
    logits: Tensor


class Mean(nn.Module):
    """The mean of several networks' logits.

    Args:
        networks: whose logits are averaged.
        ensemble: each network's own mean of main classifier and deepest sub-classifier; else the main classifier alone.
    """

    def __init__(self, networks: Iterable[Network], ensemble: bool) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.networks = nn.ModuleList(networks if ensemble else [network.backbone for network in networks])

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, h, w) to logits (B, C)."""
        logits = [net(images).ensemble if self.ensemble else net(images) for net in self.networks]
        return torch.stack(logits).mean(dim=0)


class Whole(nn.Module):
    """All of a method, asked for its reported predictor."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, h, w) to logits (B, C)."""
        return self.method.predict(images)


def reported(run: Run) -> Exported:
    """What `predict` uses: the reported predictor, be it one network or a mean."""
    method, images, found = _asked(run)
    name, logits = next(iter(found.items()))
    for module, what in _candidates(method):
        if _agree(_logits(module, images), logits):
            return _exported(module, what, name, name, images, logits)
    whole = "all that the method predicts with"
    return _exported(Whole(method), whole, name, name, images, logits)


def timm_network(run: Run) -> tuple[Exported, TimmBackbone]:
    """The main classifier of the run's first network, which is one of timm's.

    Raises:
        FastnoisyError: it is none of timm's.
    """
    method, images, found = _asked(run)
    backbone = method.primary_network().backbone
    if not isinstance(backbone, TimmBackbone):
        raise FastnoisyError(
            f"{run.path} cannot be exported to timm: its network {backbone.name} is fastnoisy's own, none of timm's",
            "Use --to onnx or --to torch",
        )
    logits = _logits(backbone, images)
    name = next((name for name, theirs in found.items() if _agree(logits, theirs)), "")
    what = "the main classifier of the network" if len(method.networks) == 1 else "the first network's main classifier"
    return _exported(backbone.model, what, name, next(iter(found)), images, logits), backbone


def _asked(run: Run) -> tuple[Method, Tensor, dict[str, Tensor]]:
    """The method, images as its networks take them, and what each predictor says of these."""
    method = run.method("cpu").to(memory_format=torch.contiguous_format)  # as the file has it, to compare bit for bit
    height, width = run.metadata("canvas")
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (_IMAGES, 3, height, width), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        images = run.view(torch.device("cpu"))(pixels, None, torch.arange(_IMAGES), 0).contiguous()
        return method, images, method.predictions(images)


def _candidates(method: Method) -> Iterator[tuple[nn.Module, str]]:
    networks = [network for network in method.networks if isinstance(network, Network)]
    one = len(networks) == 1
    for number, network in enumerate(networks, 1):
        yield network.backbone, "the main classifier of the network" if one else f"network {number}'s main classifier"
    if not one:
        yield Mean(networks, ensemble=False), f"the mean of the logits of {len(networks)} networks"
    heads = "the mean of the logits of the main classifier and the deepest sub-classifier"
    yield Mean(networks, ensemble=True), heads if one else f"{heads}, over {len(networks)} networks"


def _logits(module: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = module(images)
        return logits


def _agree(logits: Tensor, others: Tensor) -> bool:
    return logits.shape == others.shape and bool((logits - others).abs().max() <= _CLOSE * others.abs().max())


def _exported(module: nn.Module, what: str, predictor: str, reported: str, images: Tensor, logits: Tensor) -> Exported:
    """In float32, whatever the run computed in."""
    module = module.float().eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    return Exported(module, what, predictor, reported, images.float(), logits.float())
