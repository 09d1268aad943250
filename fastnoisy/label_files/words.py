"""The words by which people name splits: in folders, in files' names, in columns of lists. One list for all of them."""

from __future__ import annotations

import re

SPLITS = ("train", "val", "test")
_WORDS = {
    **dict.fromkeys(("train", "training", "train_set", "trainset", "training_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "val_set", "validation_set"), "val"),
    **dict.fromkeys(("test", "testing", "test_set", "testset", "testing_set"), "test"),
}
_IN_NAME = re.compile(r"(?<![a-z])(train|val|test|dev)(ing|id|idation|set)?(?![a-z])")


def split_of_word(text: str) -> str | None:
    """The split that a whole word means, in any case: `Training` is train; None for every other word."""
    return _WORDS.get(re.sub(r"[\s-]+", "_", text.strip().lower()))


def split_within(name: str) -> str | None:
    """The split that a word within a name tells of, as in `imagenet-val-0003.tar`; None where it tells of none."""
    found = _IN_NAME.search(name.lower())
    return {"dev": "val"}.get(found[1], found[1]) if found else None


def split_in_name(name: str) -> str:
    """The same, and `train` where a name tells of none."""
    return split_within(name) or "train"
