"""CIFAR-10 as published (python version): 50,000 train and 10,000 test images of 32x32 in 10 classes.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Read are the folder `cifar-10-batches-py`,
a folder that holds it, or `cifar-10-python.tar.gz` itself. The published labels count as clean.
"""

from __future__ import annotations

from pathlib import Path

from fastnoisy.data.sources._cifar import SIDE, Cifar, write_example
from fastnoisy.data.sources.base import Source
from fastnoisy.noise.cifar import CIFAR10_CLASSES

LAYOUT = "cifar-10-python.tar.gz, or the folder cifar-10-batches-py out of it (data_batch_1 to 5, test_batch)"
NEEDS_PATH = True
FALLBACK = False
CLASS_NAMES = list(CIFAR10_CLASSES)
DATA = Cifar(
    kind="cifar10",
    title="CIFAR-10",
    layout=LAYOUT,
    folder="cifar-10-batches-py",
    archive="cifar-10-python",
    batches={"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
    marks=["data_batch_1"],
    labels="labels",
    meta="batches.meta",
    names="label_names",
    class_names=CLASS_NAMES,
)


def recognises(path: Path) -> bool:
    """Whether the path is the folder, its parent, or an archive of the published name."""
    return DATA.recognises(path)


def open(path: Path | None) -> Source:
    """Read all six batches into memory (184 MB).

    Raises:
        FastnoisyError: a file is missing, cut off, hostile, or holds other shapes or labels than CIFAR-10 has.
    """
    return DATA.open(path)


def make_example(folder: Path) -> str:
    """Write the seven pickles with 20 images each, made of patterns; every class is in every batch."""
    labels = [i % 10 for i in range(20)]
    batches = {name: {"labels": labels} for names in DATA.batches.values() for name in names}
    meta = {"label_names": [name.encode() for name in CLASS_NAMES], "num_vis": 3 * SIDE * SIDE}
    write_example(folder / DATA.folder, batches, (DATA.meta, meta))
    return str(folder)
