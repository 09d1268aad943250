"""Real handwritten digits that come with scikit-learn: 1,797 images of 16x16 in 10 classes, nothing to download.

The optical digits of E. Alpaydin and C. Kaynak (UCI, 1998), 8x8 with values 0 to 16, in scikit-learn's copy. Scaled to
0..255, enlarged to 16x16 (bilinear) and repeated over R, G and B. 600 train images (60 of each class) and
1,197 test images, always the same ones: few enough that wrong labels hurt and can be memorised in a minute on a CPU,
and enough to tell methods apart. The labels were checked by their makers and count as clean.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fastnoisy import keyed_random
from fastnoisy.data.sources.base import Source, SourceSplit

LAYOUT = "nothing: the digits come with scikit-learn"
NEEDS_PATH = False
FALLBACK = False
SIDE = 16
NUM_TRAIN_PER_CLASS = 60


def recognises(path: Path) -> bool:
    """False: there is no path to recognise."""
    return False


def open(path: Path | None = None) -> Source:
    """The digits, split into train and test by a fixed keyed order within each class. `path` must be None."""
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    train = np.zeros(len(labels), bool)
    for label in range(10):
        rows = np.flatnonzero(labels == label)
        keys = keyed_random.key(keyed_random.name_value("digits-split"), rows)
        train[rows[np.argsort(keys, kind="stable")][:NUM_TRAIN_PER_CLASS]] = True

    def read(i: int) -> np.ndarray:
        image = Image.fromarray(pixels[i]).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return np.repeat(np.asarray(image)[:, :, None], 3, axis=2)

    whole = SourceSplit("all", [f"digits/{i}" for i in range(len(labels))], labels, labels, read)
    splits = [whole.select("train", np.flatnonzero(train)), whole.select("test", np.flatnonzero(~train))]
    return Source([str(label) for label in range(10)], splits, (SIDE, SIDE))


def make_example(folder: Path) -> str:
    """The data are their own example."""
    return "digits"
