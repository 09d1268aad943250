"""ImageNet's validation images (ILSVRC-2012): 50,000 in 1,000 classes; the split is `val`.

Three layouts are read: `val/WNID/*.JPEG` (torchvision), `val/LABEL/*.JPEG` (DivideMix), and `imagenet_val.txt` with
lines `NAME.JPEG LABEL` beside the images or `val/` (ALASCA, ELR). Labels count the classes by sorted WordNet id, so
class k is WebVision's class k, and the names are the same. The labels count as clean. A folder that has `train/` beside
`val/` is taken for class folders unless this kind is named.
"""

from __future__ import annotations

from pathlib import Path

from fastnoisy.data.sources import _imagenet
from fastnoisy.data.sources.base import Source

LAYOUT = "a folder with val/WNID/*.JPEG, or val/LABEL/*.JPEG, or imagenet_val.txt (lines 'NAME.JPEG LABEL') and images"
NEEDS_PATH = True
FALLBACK = False
DATA = _imagenet.ImageNetVal(kind="imagenet-val", layout=LAYOUT, num_classes=_imagenet.NUM_CLASSES)


def recognises(path: Path) -> bool:
    """Whether a folder holds ImageNet's validation images and no training images, by names alone."""
    return _imagenet.recognises(path)


def open(path: Path | None) -> Source:
    """List the images; see `ImageNetVal.open`."""
    return DATA.open(path)


def make_example(folder: Path) -> str:
    """Twelve images in the first layout."""
    return str(_imagenet.write_val_example(folder))
