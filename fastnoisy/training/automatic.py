"""The values that a recipe leaves to the network, the device and the data: written as `auto`, numbers in a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fastnoisy import config
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.features.network import SIDES

_SEEN = {"cpu": 8_000, "cuda": 60_000}  # images that a run trains on, over all epochs
_EPOCHS = {"cpu": (3, 30), "cuda": (5, 30)}  # the fewest and the most
_KEYS = ("epochs", "drop_last", "views.size", "data.mean", "data.std")
_FEW_BATCHES = 4  # below so many, the images of an incomplete last one count
_MANY = 50_000  # images, above which a classifier learns soon enough by itself


def filled(tables: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A composed configuration with every `auto` that stands for a number replaced.

    Images are counted in the store that it names; without one, or with one that cannot be read, they count as few.

    Returns:
        The tables, and what was chosen in one line, empty where nothing was.
    """
    flat = config.flatten(tables)
    asked = [key for key in _KEYS if flat.get(key) == "auto"]
    head = flat.get("model.head") == "auto"
    if not asked and not head:
        return dict(tables), ""
    kind = _device_type(flat.get("device", "auto"))
    count = _count(flat)
    network = _Network(tables.get("model"))
    found: dict[str, Any] = {}
    for key in asked:
        if key == "epochs":
            few, many = _EPOCHS[kind]
            found[key] = many if count is None else min(many, max(few, round(_SEEN[kind] / max(1, count))))
        elif key == "drop_last":
            found[key] = count is not None and _drops_last(count, flat.get("batch_size"), flat.get("accumulate"))
        elif key == "views.size":
            found[key] = network.side or SIDES[kind]
        else:
            found[key] = list(network.mean if key == "data.mean" else network.std)
    if head:
        found["model.head"] = "regression" if network.linear and (count is None or count <= _MANY) else "fresh"
    result = dict(tables)
    for key, value in found.items():
        name, _, inner = key.partition(".")
        result = config.merge(result, {name: {inner: value} if inner else value})
    told = ", ".join(f"{key}={found[key]}" for key in ("epochs", "views.size") if key in found)
    where = "a CPU" if kind == "cpu" else "a GPU"
    images = "" if count is None else f"{count:,} images on "
    return result, f"{told}: for {images}{where}" if told else ""


def _drops_last(count: int, batch: Any, parts: Any) -> bool:
    """Whether there are batches enough to do without an incomplete last one, or that is too small to train on."""
    if not isinstance(batch, int) or batch < 1:
        return False
    small = count % batch // (parts if isinstance(parts, int) and parts > 0 else 1) < 2
    return count >= _FEW_BATCHES * batch or (count > batch and small)


class _Network:
    """What is known of the network that a configuration names; ImageNet's usual numbers where that is nothing.

    Attributes:
        mean, std: of the images that its weights were trained on.
        side: that it is bound to, in pixels; 0: any.
        linear: whether its classifier is one linear layer.
    """

    def __init__(self, table: Any) -> None:
        import timm
        from timm.models import PretrainedCfg

        table = table if isinstance(table, Mapping) else {}
        cfg = timm.get_pretrained_cfg(str(table.get("name"))) if timm.is_model(str(table.get("name"))) else None
        cfg = cfg or PretrainedCfg()
        self.mean, self.std = tuple(cfg.mean), tuple(cfg.std)
        own = table.get("img_size")
        self.side = own if isinstance(own, int) else int(cfg.input_size[-1]) if cfg.fixed_input_size else 0
        self.linear = isinstance(cfg.classifier, str) and isinstance(_classifier(str(table["name"])), nn.Linear)


def _classifier(name: str) -> Any:
    """The classifier of one of timm's networks, which is built without weights to see it."""
    import timm

    with torch.device("meta"):
        model: Any = timm.create_model(name)
        return model.get_classifier() if hasattr(model, "get_classifier") else None


def _device_type(device: Any) -> str:
    gpu = str(device).startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return "cuda" if gpu else "cpu"


def _count(flat: Mapping[str, Any]) -> int | None:
    """Images of the training part, before a label file drops any; None where that cannot be told."""
    try:
        with open_store(str(flat["data.store"])) as store:
            count = store.split("train").num_samples
    except (KeyError, FastnoisyError, OSError):  # said when the run opens it
        return None
    subset, holdout = flat.get("data.subset"), flat.get("data.holdout")
    count = min(count, subset) if isinstance(subset, int) else count
    return round(count * (1 - holdout)) if isinstance(holdout, (int, float)) and 0 <= holdout < 1 else count
