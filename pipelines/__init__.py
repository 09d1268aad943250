"""Pipelines: how decoded images reach the device, one file each, behind the interface of `base.py`.

This folder stands at the top of the checkout and is imported as `fastnoisy.pipelines`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fastnoisy import discovery
from fastnoisy.data.store import Split
from fastnoisy.errors import unknown_name
from fastnoisy.pipelines.base import Pipeline


def names() -> list[str]:
    """All pipelines, sorted."""
    return discovery.names(__name__)


def find(name: str) -> type[Pipeline]:
    """The class of a pipeline.

    Raises:
        FastnoisyError: unknown name; near misses and all names are listed.
    """
    if name not in names():
        raise unknown_name("pipeline", name, ["auto", *names()])
    found: type[Pipeline] = discovery.load(__name__, "pipeline", name).PIPELINE
    return found


def choose(name: str, splits: Sequence[Split], device: torch.device, available_bytes: int) -> tuple[str, str]:
    """Resolve `auto`: the resident pipeline where all splits of the run fit into half of what is available.

    Returns:
        (name of a pipeline, one line saying why).
    """
    if name != "auto":
        return name, "asked for"
    need = sum(find("resident").bytes_needed(split) for split in splits)
    where = "GPU" if device.type == "cuda" else "main"
    sizes = f"the decoded images take {need / 2**20:.0f} MiB of {available_bytes / 2**20:.0f} MiB free {where} memory"
    return ("resident" if need <= available_bytes / 2 else "torch-loader"), sizes


def open_pipeline(
    name: str, split: Split, labels: np.ndarray, device: torch.device, workers: int = 0, **options: Any
) -> Pipeline:
    """Open a pipeline by name. See `Pipeline` for the arguments; `options` may hold those of other pipelines, too."""
    found = find(name)
    return found(split, labels, device, workers, **{key: options[key] for key in found.OPTIONS if key in options})
