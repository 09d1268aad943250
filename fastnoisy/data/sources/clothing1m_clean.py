"""Clothing1M's clean training list, 47,570 images with checked labels; `clothing1m-clean:PATH`.

Validation and test are those of `clothing1m`.

The same tree as `clothing1m` reads, see there, with clean_train_key_list.txt for the noisy list; a path alone means the
noisy one. Its training labels count as clean, as those of val and test do.
"""

from __future__ import annotations

from pathlib import Path

from fastnoisy.data.sources import clothing1m
from fastnoisy.data.sources.base import Source

LAYOUT = (
    "a folder with clean_train_key_list.txt, clean_val_key_list.txt, clean_test_key_list.txt, clean_label_kv.txt, "
    "category_names_eng.txt (or these in annotations/) and images/0/ to images/9/"
)
NEEDS_PATH = True
FALLBACK = False
DATA = clothing1m.Clothing1M(kind="clothing1m-clean", train="clean_train")


def recognises(path: Path) -> bool:
    """False: the same tree is `clothing1m`, unless this kind is named."""
    return False


def open(path: Path | None) -> Source:
    """Read the lists; see `Clothing1M.open`."""
    return DATA.open(path)


def make_example(folder: Path) -> str:
    """The example of `clothing1m` with 9 clean training images, and this kind named."""
    return f"{DATA.kind}:{clothing1m.write_example(folder, clean_train=9)}"
