"""The classes of ILSVRC-2012, which WebVision shares."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path

from fastnoisy.data.sources._lists import (
    line_error,
    read_lines,
)

NUM_CLASSES = 1000
NUM_MINI = 50  # the first classes, as mini-WebVision takes them
IMAGES_PER_CLASS = 50
LIST = "imagenet_val.txt"
_WNID = re.compile(r"n[0-9]{8}")


@cache
def synsets() -> tuple[tuple[str, str], ...]:
    """WordNet id and name of each of the 1,000 classes, in the order of their labels."""
    text = (resources.files("fastnoisy.data.sources") / "imagenet_classes.txt").read_text(encoding="utf-8")
    pairs = (line.split(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return tuple((wnid, name) for wnid, name in pairs)


def class_names(num_classes: int) -> list[str]:
    """The names of the first so many classes: the same for every source that has them."""
    return [name for _, name in synsets()[:num_classes]]


def check_synsets(kind: str, path: Path) -> None:
    """Check that a file of lines `wnid words` lists the 1,000 classes in the known order.

    Raises:
        FastnoisyError: it does not, so that labels would have other meanings.
    """
    number = count = 0
    for number, line in read_lines(kind, path):
        wnid = line.split(None, 1)[0].decode("ascii", "replace")
        expected = synsets()[count][0] if count < NUM_CLASSES else "the end"
        if wnid != expected:
            remedy = "labels would mean other classes than ILSVRC-2012's; is this another version of the data set?"
            raise line_error(kind, path, number, f"has {wnid}, where {expected} belongs", remedy)
        count += 1
    if count < NUM_CLASSES:
        raise line_error(kind, path, number, f"is the last, where {NUM_CLASSES} classes belong", "copy the file again")
