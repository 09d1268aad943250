"""CIFAR-100's images with the labels of its 20 super-classes; `cifar100-coarse:PATH`, since a path alone means the 100.

The same files as `cifar100` reads, see there.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fastnoisy.data.sources import cifar100
from fastnoisy.data.sources.base import Source
from fastnoisy.noise.cifar import CIFAR100_SUPERCLASSES

LAYOUT = cifar100.LAYOUT
NEEDS_PATH = True
FALLBACK = False
CLASS_NAMES = list(CIFAR100_SUPERCLASSES)
DATA = dataclasses.replace(
    cifar100.DATA,
    kind="cifar100-coarse",
    labels="coarse_labels",
    names="coarse_label_names",
    class_names=CLASS_NAMES,
)


def recognises(path: Path) -> bool:
    """False: the same files are `cifar100`, unless this kind is named."""
    return False


def open(path: Path | None) -> Source:
    """As `cifar100.open`, with super-classes as labels."""
    return DATA.open(path)


def make_example(folder: Path) -> str:
    """The example of `cifar100`, with this kind named."""
    return f"{DATA.kind}:{cifar100.make_example(folder)}"
