"""Where a pretrained network's weights lie on this machine. Nothing is fetched unless the run asks for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastnoisy.errors import FastnoisyError

_FILES = ("model.safetensors", "pytorch_model.bin")  # as timm's repositories name them, the first preferred


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
