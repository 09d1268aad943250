"""Which labels of a split an audit flags, for the accuracy without them.

An audit judges each image by fits that did not see it. The flags of a run are of a network that was trained on the very
labels that it flags, so they are not taken here.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.lines import line_error, shown

KIND = "flags"
COLUMNS = ("index", "path", "split", "given_label", "is_label_issue")
_WORDS = {"true": True, "false": False}
_REMEDY = "name the issues.csv that fastnoisy audit wrote for this store"


@dataclass(frozen=True)
class Flags:
    """What an audit flags of a split of N rows: the file, and bool (N,)."""

    file: Path
    rows: np.ndarray


def read_flags(file: Path, split: Split) -> Flags:
    """The flags in an audit's issues.csv, which must be of this split: each row once, with its path and given label.

    Raises:
        FastnoisyError: it cannot be read, is no audit's, or is of other images or labels.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            return Flags(file, _read(file, csv.DictReader(text), split))
    except OSError as error:
        raise FastnoisyError(f"{KIND}: cannot read {file}: {error.strerror or error}", _REMEDY) from None
    except csv.Error as error:
        raise FastnoisyError(f"{KIND}: {file} is damaged: {error}", _REMEDY) from None


def find_flags(store: Path, split: Split, say: Callable[[str], object]) -> Flags | None:
    """The flags beside a store that an audit made, AUDIT/store; None where there are none, or they are of other labels,
    which is said.
    """
    store = store.absolute()
    file = store.parent / "issues.csv"
    if store.name != "store" or not file.is_file():
        return None
    try:
        return read_flags(file, split) if _is_of_an_audit(file) else None
    except FastnoisyError as error:
        say(f"note: {error.message}; its flags are not used")
        return None


def _is_of_an_audit(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape") as text:
            return set(COLUMNS) <= set(text.readline().strip().split(","))
    except OSError:
        return False


def _read(file: Path, lines: csv.DictReader[str], split: Split) -> np.ndarray:
    missing = [name for name in COLUMNS if name not in (lines.fieldnames or ())]
    if missing:
        why = "; the issues.csv of a run has none, and its network has seen these labels" if "split" in missing else ""
        raise FastnoisyError(f"{KIND}: {file} has no column {' and '.join(missing)}{why}", _REMEDY)
    flagged, seen = np.zeros(split.num_samples, bool), np.zeros(split.num_samples, bool)
    for line in lines:
        if line["split"] != split.name:
            continue
        row = _row(file, lines.line_num, line["index"], split)
        given = split.class_names[int(split.given_labels[row])]
        for name, found, there in (("path", line["path"], split.sources[row]), ("label", line["given_label"], given)):
            if found != there:
                raise line_error(
                    KIND, file, lines.line_num,
                    f"has the {name} {shown(found or '', 80)} for row {row} of {split.name}, where "
                    f"{split.beton_path.parent} has {shown(there, 80)}",
                    _REMEDY,
                )  # fmt: skip
        word = (line["is_label_issue"] or "").strip().casefold()
        if seen[row] or word not in _WORDS:
            problem = f"names row {row} again" if seen[row] else f"has {shown(word)} as is_label_issue"
            raise line_error(KIND, file, lines.line_num, problem, "put back what fastnoisy audit wrote")
        flagged[row], seen[row] = _WORDS[word], True
    if not seen.all():
        raise FastnoisyError(
            f"{KIND}: {file} lists {int(seen.sum()):,} of the {len(seen):,} images of {split.name} in "
            f"{split.beton_path.parent}",
            _REMEDY,
        )
    return flagged


def _row(file: Path, number: int, text: str | None, split: Split) -> int:
    if text is None or not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) < split.num_samples):
        raise line_error(
            KIND, file, number, f"has the index {shown(text or '')}, where {split.name} has {split.num_samples:,} rows",
            _REMEDY,
        )  # fmt: skip
    return int(text)
