"""The sets that a run is evaluated on: its store's own test split, and those named under `eval`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastnoisy.config import Config
from fastnoisy.data.store import Split, Store, open_store
from fastnoisy.data.store.stage import stage
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.meaning import key
from fastnoisy.training.evaluate import truth_of
from fastnoisy.training.labels import Labels


@dataclass
class EvalSet:
    """A set that is evaluated on, as a whole, or without the rows that a label file drops.

    Attributes:
        corrected: int64 (N,), what it is scored against where a label file says so, -1 where a row is dropped; None
            where none does.
    """

    name: str
    split: Split
    corrected: np.ndarray | None = None

    @property
    def truth(self) -> np.ndarray:
        """What it is scored against, int64 (N,); of dropped rows any label."""
        own = truth_of(self.split)
        return own if self.corrected is None else np.where(self.corrected < 0, own, self.corrected)

    @property
    def rows(self) -> np.ndarray:
        """The rows that are scored, int64, ascending."""
        rows = np.arange(self.split.num_samples, dtype=np.int64)
        return rows if self.corrected is None else rows[self.corrected >= 0]


def open_staged(config: Config, path: Path) -> Store:
    """Open a store, or its copy on the local disk where `data.stage` asks for one."""
    return open_store(stage(path, Path(config.data.stage)) if config.data.stage else path)


def test_split(config: Config, store: Store) -> str:
    """The split a run is evaluated on: what the configuration names; `val` where that is `test` and there is none."""
    own = config.data.test_split
    return "val" if own == "test" and own not in store.splits and "val" in store.splits else own


def evaluated_split(config: Config, store: Store) -> str:
    """The split of a store that a run is evaluated on if none is named: as `test_split`; of another store than the
    run's own that has but one, that one.

    Raises:
        FastnoisyError: the store has no such split.
    """
    name, there = test_split(config, store), list(store.splits)
    if name in there:
        return name
    if len(there) == 1 and store.path.resolve() != Path(config.data.store).resolve():
        return there[0]
    raise FastnoisyError(
        f"{store.path} has no split {name!r}, only {', '.join(there)}",
        "Name a store of images that were kept aside, --data STORE, or a split, --split NAME",
    )


def eval_sets(config: Config, store: Store, class_names: list[str], labels: Labels) -> list[EvalSet]:
    """The store's own test split (or val, where it has no test), and the sets named under `eval`.

    Args:
        labels: of the run: corrections of the store's own splits.

    Raises:
        FastnoisyError: a store or split is missing, or has other classes than the run; or one of `eval` has the name of
            the run's own.
    """
    sets: list[EvalSet] = []
    own = test_split(config, store)
    if own in store.splits:
        sets.append(_own(store.split(own), labels))
    elif own != "test":
        store.split(own)  # says which there are
    if config.select not in ("", "holdout", own):
        if config.select not in store.splits:
            raise FastnoisyError(
                f"select={config.select}: {store.path} has no such split to choose on, only {', '.join(store.splits)}",
                'Convert the data set with it, or set select="" to report the last epoch',
            )
        sets.append(_own(store.split(config.select), labels))
    for name, text in config.eval.items():
        if any(name == taken.name for taken in sets):  # `test_split` may have fallen back to it
            raise FastnoisyError(
                f"eval.{name}: the name is taken by the run's own data",
                f"Choose another, for example eval.{name}2={text}",
            )
        path = Path(text)
        whole = path.is_dir()
        other = open_staged(config, path.parent if not whole and any(path.parent.glob("*.beton")) else path)
        if whole:
            known = [part for part in ("test", "val") if part in other.splits] or list(other.splits)[:1]
            if known == ["train"] and len(other.splits) > 1:
                raise FastnoisyError(f"eval.{name}={text} has neither test nor val", "Name the split: STORE/SPLIT")
            split = other.split(known[0])
        else:
            split = other.split(path.name)
        check_classes(f"eval.{name}={text}", split.class_names, class_names)
        sets.append(EvalSet(name, split))
    return sets


def _own(split: Split, labels: Labels) -> EvalSet:
    """A split of the run's own store, with the corrections that the run began with."""
    corrected = labels.truth(split)
    if corrected is None and split.name in labels.truths:
        raise FastnoisyError(
            f"{split.beton_path} is not the split whose labels the run has corrected: its images or labels differ",
            "Name the run's own data set with --data, or start a new run on this one",
        )
    found = EvalSet(split.name, split, corrected)
    if len(found.rows) == 0:
        raise FastnoisyError(
            f"the label file drops all {split.num_samples} images of {split.name}", "Keep some, or convert without it"
        )
    return found


def check_classes(what: str, there: Sequence[str], ours: Sequence[str]) -> None:
    """Labels mean the same only where the class lists are equal.

    Raises:
        FastnoisyError: another number of classes, or other names; says where they differ first.
    """
    if list(map(key, there)) == list(map(key, ours)):
        return
    if len(there) != len(ours):
        problem, remedy = f"has {len(there)} classes, the run {len(ours)}", ""
        if {len(there), len(ours)} == {50, 1000}:
            remedy = (
                "Convert with the -mini kinds: webvision-mini:PATH and imagenet-val-mini:PATH have the same 50 classes"
            )
    else:
        number = next(i for i, pair in enumerate(zip(there, ours, strict=True)) if key(pair[0]) != key(pair[1]))
        problem = f"has other classes than the run: class {number} is {there[number]!r} there, {ours[number]!r} here"
        remedy = ""
    raise FastnoisyError(
        f"{what} {problem}", remedy or "Evaluate on a data set with the run's own classes, in its order"
    )
