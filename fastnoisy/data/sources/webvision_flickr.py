"""WebVision 1.0, training images from Flickr: some 1.4 million in 1,000 classes, and 50,000 validation images.

As `webvision`, see there, with the other of its two origins. A path alone means this kind where the Google list is
absent.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fastnoisy.data.sources import _webvision, webvision
from fastnoisy.data.sources.base import Source

LAYOUT = "a folder with info/train_filelist_flickr.txt, flickr/q0001/..., info/val_filelist.txt and val_images_256/"
NEEDS_PATH = True
FALLBACK = False
DATA = dataclasses.replace(
    webvision.DATA,
    kind="webvision-flickr",
    layout=LAYOUT,
    train_list="info/train_filelist_flickr.txt",
    folders=("flickr/",),
    published=None,
    others=(webvision.DATA.train_list,),
)


def recognises(path: Path) -> bool:
    """Whether the Flickr list is there and the Google list is not."""
    return DATA.recognises(path)


def open(path: Path | None) -> Source:
    """Read the lists; see `WebVision.open`."""
    return DATA.open(path)


def make_example(folder: Path) -> str:
    """Eight training and eight validation images of five classes."""
    return str(_webvision.write_example(folder, {"flickr": "flickr"}))
