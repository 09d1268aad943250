"""WebVision 1.0, training images from Google: 980,449 in 1,000 classes, and 50,000 validation images.

W. Li et al., "WebVision Database: Visual Learning and Understanding from Web Data", arXiv 1708.02862, 2017. Read are
the lists under `info/` and the images they name, resized to 256 pixels or as found. A training label is the query that
found the image, so no clean ones are known; validation labels were given by people and count as clean. The classes are
those of ILSVRC-2012, in its order and with the same names as `imagenet-val` has.
"""

from __future__ import annotations

from pathlib import Path

from fastnoisy.data.sources import _imagenet, _webvision
from fastnoisy.data.sources.base import Source

LAYOUT = "a folder with info/train_filelist_google.txt, google/q0001/..., info/val_filelist.txt and val_images_256/"
NEEDS_PATH = True
FALLBACK = False
DATA = _webvision.WebVision(
    kind="webvision",
    layout=LAYOUT,
    train_list="info/train_filelist_google.txt",
    folders=("google/",),
    num_classes=_imagenet.NUM_CLASSES,
    published=980_449,
)


def recognises(path: Path) -> bool:
    """Whether the Google list is there."""
    return DATA.recognises(path)


def open(path: Path | None) -> Source:
    """Read the lists; see `WebVision.open`."""
    return DATA.open(path)


def make_example(folder: Path) -> str:
    """Eight training and eight validation images of five classes."""
    return str(_webvision.write_example(folder, {"google": "google"}))
