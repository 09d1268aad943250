"""A converted data set on disk, opened: all of its splits."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from fastnoisy.data.store.meta import REMEDY
from fastnoisy.data.store.split import Split
from fastnoisy.errors import FastnoisyError, unknown_name

_ORDER = {"train": 0, "val": 1, "test": 2}


class Store:
    """A converted data set: its splits, open for reading. Close it, or use it in a `with` statement.

    Attributes:
        path: the folder.
        splits: by name, in the order train, val, test.
        class_names: one per label, the same for all splits.
        num_classes: how many.
    """

    def __init__(self, path: Path, splits: dict[str, Split]) -> None:
        self.path = path
        self.splits = splits
        self.class_names = next(iter(splits.values())).class_names
        self.num_classes = len(self.class_names)

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            FastnoisyError: there is none; lists those there are.
        """
        if name not in self.splits:
            raise unknown_name(f"split of {self.path}", name, self.splits)
        return self.splits[name]

    def close(self) -> None:
        """Close every split."""
        for split in self.splits.values():
            split.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(path: str | Path) -> Store:
    """Open a converted data set.

    Raises:
        FastnoisyError: missing, not a store, or with a damaged header, table, length or meta file.
    """
    path = Path(path)
    splits: dict[str, Split] = {}
    try:
        for name in split_names(path):
            splits[name] = Split(path, name)
        first = next(iter(splits.values()))
        for split in splits.values():
            if split.class_names != first.class_names or split.canvas != first.canvas:
                raise FastnoisyError(f"{path}: {split.name} has other class names or canvas than {first.name}", REMEDY)
    except BaseException:
        for split in splits.values():
            split.close()
        raise
    return Store(path, splits)


def split_names(path: Path) -> list[str]:
    """The names of the splits in a folder, as far as its files' names tell: train, val, test, then others.

    Raises:
        FastnoisyError: there is no such folder, or no split in it.
    """
    if not path.exists():
        raise FastnoisyError(f"store {path} does not exist", f"make it with: fastnoisy convert SOURCE {path}")
    names = {file.name.rsplit(".", 1)[0] for kind in ("beton", "meta") for file in path.glob(f"*.{kind}")}
    if not names:
        raise FastnoisyError(
            f"{path} is not a converted data set: it holds no .beton file",
            "make one with: fastnoisy convert SOURCE OUT, and give OUT",
        )
    return sorted(names, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
