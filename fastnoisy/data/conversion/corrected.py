"""Corrections of a source's labels while it is converted: rows of other classes, rows that are left out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastnoisy.data.sources.base import SourceSplit
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.corrections import Corrected, Options, Rows, correct


@dataclass(frozen=True)
class LabelOptions:
    """How labels are read.

    Attributes:
        columns: of a source that is a list: which column is what, `path=NAME,label=NAME`.
        labels: a file of corrections; empty where there is none.
        labels_as: what its numbers mean, `index` or `name`.
        labels_columns: which of its columns is what.
    """

    columns: str = ""
    labels: str = ""
    labels_as: str = ""
    labels_columns: str = ""

    def __post_init__(self) -> None:
        if not self.labels and (self.labels_as or self.labels_columns):
            raise FastnoisyError("labels_as and labels_columns say how a label file is read", "name it with --labels")

    def told(self) -> dict[str, str]:
        """Those that are not empty, for meta.json."""
        told = {**vars(self), "labels": self.labels and os.path.abspath(self.labels)}
        return {name: value for name, value in told.items() if value}


def correct_splits(
    splits: Sequence[SourceSplit], class_names: Sequence[str], source: str, options: LabelOptions
) -> tuple[list[SourceSplit], list[str]]:
    """The splits with the labels that a file corrects and without the rows that it drops, and lines to say.

    An index counts the rows of the split that the source has, before any image is rejected.

    Raises:
        FastnoisyError: the file cannot be read or is not meant for this source, or drops all of a split.
    """
    if not options.labels:
        return list(splits), []
    rows = {split.name: Rows(split.given_labels, split.paths) for split in splits}
    how = Options(options.labels_as, options.labels_columns, index_is_ours=False)
    found, line = correct(Path(options.labels), rows, class_names, source, how)
    return [_corrected(split, found[split.name]) if split.name in found else split for split in splits], [line]


def _corrected(split: SourceSplit, corrected: Corrected) -> SourceSplit:
    kept, clean = corrected.kept, split.clean_labels
    if len(kept) == 0:
        raise FastnoisyError(
            f"the label file drops all {len(split):,} images of {split.name}", "keep some, or convert another source"
        )
    if clean is not None:
        clean = np.where(corrected.labels != split.given_labels, corrected.labels, clean)
    changed = replace(split, given_labels=corrected.labels, clean_labels=clean)
    if len(kept) == len(split):
        return changed
    return replace(changed.select(split.name, kept), rejected=split.rejected)
