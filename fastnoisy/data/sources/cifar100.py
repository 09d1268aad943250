"""CIFAR-100 as published (python version): 50,000 train and 10,000 test images of 32x32 in 100 classes.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Read are the folder `cifar-100-python`,
a folder that holds it, or `cifar-100-python.tar.gz` itself. The labels are the fine ones; `cifar100-coarse` has those
of the 20 super-classes. The published labels count as clean.
"""

from __future__ import annotations

from pathlib import Path

from fastnoisy.data.sources._cifar import Cifar, write_example
from fastnoisy.data.sources.base import Source
from fastnoisy.noise.cifar import CIFAR100_CLASSES, CIFAR100_COARSE_OF_FINE, CIFAR100_SUPERCLASSES

LAYOUT = "cifar-100-python.tar.gz, or the folder cifar-100-python out of it (train, test, meta)"
NEEDS_PATH = True
FALLBACK = False
CLASS_NAMES = list(CIFAR100_CLASSES)
DATA = Cifar(
    kind="cifar100",
    title="CIFAR-100",
    layout=LAYOUT,
    folder="cifar-100-python",
    archive="cifar-100-python",
    batches={"train": ["train"], "test": ["test"]},
    marks=["train", "test"],
    labels="fine_labels",
    meta="meta",
    names="fine_label_names",
    class_names=CLASS_NAMES,
)


def recognises(path: Path) -> bool:
    """Whether the path is the folder, its parent, or an archive of the published name."""
    return DATA.recognises(path)


def open(path: Path | None) -> Source:
    """Read both pickles into memory (184 MB).

    Raises:
        FastnoisyError: a file is missing, cut off, hostile, or holds other shapes or labels than CIFAR-100 has.
    """
    return DATA.open(path)


def make_example(folder: Path) -> str:
    """Write the three pickles with 100 images in each split, one of each class, made of patterns."""
    fine = [(7 * i) % 100 for i in range(100)]
    labels = {"fine_labels": fine, "coarse_labels": [CIFAR100_COARSE_OF_FINE[label] for label in fine]}
    meta = {
        "fine_label_names": [name.encode() for name in CIFAR100_CLASSES],
        "coarse_label_names": [name.encode() for name in CIFAR100_SUPERCLASSES],
    }
    write_example(folder / DATA.folder, {"train": labels, "test": labels}, (DATA.meta, meta))
    return str(folder)
