"""WebVision 1.0, all training images: over 2.4 million from Google and Flickr, and 50,000 validation images.

As `webvision`, see there, with both of its origins. A path alone means this kind where the lists of each are absent.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fastnoisy.data.sources import _webvision, webvision, webvision_flickr
from fastnoisy.data.sources.base import Source

LAYOUT = "a folder with info/train_filelist_all.txt, google/, flickr/, info/val_filelist.txt and val_images_256/"
NEEDS_PATH = True
FALLBACK = False
DATA = dataclasses.replace(
    webvision.DATA,
    kind="webvision-all",
    layout=LAYOUT,
    train_list="info/train_filelist_all.txt",
    folders=("google/", "flickr/"),
    published=None,
    others=(webvision.DATA.train_list, webvision_flickr.DATA.train_list),
)


def recognises(path: Path) -> bool:
    """Whether the list of all is there, and neither of the others."""
    return DATA.recognises(path)


def open(path: Path | None) -> Source:
    """Read the lists; see `WebVision.open`."""
    return DATA.open(path)


def make_example(folder: Path) -> str:
    """Eight images of each origin and eight validation images, of five classes."""
    root = _webvision.write_example(folder, {"google": "google", "flickr": "flickr"})
    parts = [root / f"info/train_filelist_{origin}.txt" for origin in ("google", "flickr")]
    (root / "info/train_filelist_all.txt").write_text("".join(part.read_text() for part in parts))
    for part in parts:
        part.unlink()
    return str(root)
