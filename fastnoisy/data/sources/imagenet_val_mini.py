"""ImageNet's validation images of the first 50 classes, to evaluate mini-WebVision: 2,500; `imagenet-val-mini:PATH`.

The same files as `imagenet-val` reads, see there; a path alone means all 1,000 classes.
"""

from __future__ import annotations

from pathlib import Path

from fastnoisy.data.sources import _imagenet, imagenet_val
from fastnoisy.data.sources.base import Source

LAYOUT = imagenet_val.LAYOUT
NEEDS_PATH = True
FALLBACK = False
DATA = _imagenet.ImageNetVal(kind="imagenet-val-mini", layout=LAYOUT, num_classes=_imagenet.NUM_MINI)


def recognises(path: Path) -> bool:
    """False: the same files are `imagenet-val`, unless this kind is named."""
    return False


def open(path: Path | None) -> Source:
    """List the images; see `ImageNetVal.open`."""
    return DATA.open(path)


def make_example(folder: Path) -> str:
    """The example of `imagenet-val`, with this kind named."""
    return f"{DATA.kind}:{imagenet_val.make_example(folder)}"
