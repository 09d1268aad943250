"""Mini-WebVision: the first 50 classes of WebVision's Google images; `webvision-mini:PATH`.

65,944 training images and 2,500 for validation.

The same files as `webvision` reads, see there; a path alone means all 1,000 classes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fastnoisy.data.sources import _imagenet, webvision
from fastnoisy.data.sources.base import Source

LAYOUT = webvision.LAYOUT
NEEDS_PATH = True
FALLBACK = False
DATA = dataclasses.replace(webvision.DATA, kind="webvision-mini", num_classes=_imagenet.NUM_MINI, published=65_944)


def recognises(path: Path) -> bool:
    """False: the same files are `webvision`, unless this kind is named."""
    return False


def open(path: Path | None) -> Source:
    """As `webvision.open`, of the first 50 classes alone."""
    return DATA.open(path)


def make_example(folder: Path) -> str:
    """The example of `webvision`, with this kind named."""
    return f"{DATA.kind}:{webvision.make_example(folder)}"
