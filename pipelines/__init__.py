"""Pipelines: how decoded images reach the device, one file each, behind the interface of `base.py`.

This folder stands at the top of the checkout and is imported as `fastnoisy.pipelines`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fastnoisy import discovery, extras
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.machine import available_host, cores, mebibytes
from fastnoisy.pipelines.base import Pipeline, thread_counts_kept


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
    """Resolve `auto`: what holds the images decoded where all splits of the run fit into half of what is available; else
    what decodes fastest of what is installed: DALI where there is a GPU, FFCV, a plain DataLoader. DALI and FFCV trust the
    file, so they are taken for verified splits only.

    Returns:
        (name of a pipeline, one line saying why).
    """
    if name != "auto":
        return name, "asked for"
    need = sum(find("resident").bytes_needed(split) for split in splits)
    where = "GPU" if device.type == "cuda" else "main"
    sizes = f"the decoded images take {mebibytes(need)} of {mebibytes(available_bytes)} free {where} memory"
    if need <= available_bytes / 2:
        return "resident", sizes
    stored, free = sum(split.num_bytes for split in splits), available_host()
    if stored > free:
        sizes += (
            f"; the files take {mebibytes(stored)} of {mebibytes(free)}: data.order=blocked reads them piece by piece"
        )
    unverified = [split for split in splits if not split.verified]
    reasons = []
    for candidate in ("dali", "ffcv"):
        if candidate not in names() or (candidate == "dali" and device.type != "cuda"):
            continue
        if unverified:
            reasons.append(f"not {candidate}: {unverified[0].beton_path} is not verified (fastnoisy verify)")
        elif problem := _import_problem(candidate):
            reasons.append(f"not {candidate}: {problem} ({extras.EXTRAS[candidate].install})")
        else:
            return candidate, "; ".join([sizes, *reasons])
    return "torch-loader", "; ".join([sizes, *reasons])


def worker_count(name: str, asked: int | None) -> int:
    """`workers` of `open_pipeline` for a run's `data.workers`; None: one per core where a pipeline does not choose itself."""
    if asked is None:
        return cores() if name == "torch-loader" else 0
    return asked


def _import_problem(extra: str) -> str:
    """Why an extra cannot be imported; empty where it can. Tried in earnest, for a package may lack what it links."""
    with thread_counts_kept():
        try:
            extras.load(extra)
        except FastnoisyError as error:
            return error.message
    return ""


def open_pipeline(
    name: str, split: Split, labels: np.ndarray, device: torch.device, workers: int = 0, **options: Any
) -> Pipeline:
    """Open a pipeline by name. See `Pipeline` for the arguments; `options` may hold those of other pipelines, too."""
    found = find(name)
    return found(split, labels, device, workers, **{key: options[key] for key in found.OPTIONS if key in options})
