"""issues.csv: the training labels, most suspect first, in the columns that cleanlab's users know."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastnoisy.confident_learning import ClassRow, by_class, flag
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError, one_line
from fastnoisy.files import replacing, sha256_of
from fastnoisy.training.labels import Labels

_SHOWN = 12  # classes
COLUMNS = ("index", "path", "given_label", "predicted_label", "label_score", "is_label_issue")


def write_issues(
    path: Path, split: Split, labels: Labels, logits: Tensor, clean_probability: Tensor
) -> tuple[dict[str, Any], list[str]]:
    """Write one row per training and held-out sample, the most suspect first.

    `is_label_issue` holds for as many as the confident joint of the predicted probabilities counts wrong, the lowest
    `label_score` first, where another class is predicted (see `confident_learning`). The probabilities are those of a
    network that was trained on these labels: what it has memorised, it does not count.

    Args:
        logits: (N, C) of the reported predictor, for `predicted_label`.
        clean_probability: (N,), written as `label_score`: how probable it is that the given label is right.

    Returns:
        How many `rows` were written, how many are wrong by estimate and `flagged`, and the file's `sha256`, for the
        run's final line; and lines that tell of them by class.
    """
    rows = torch.cat([torch.from_numpy(labels.train), torch.from_numpy(labels.holdout)]).sort().values
    rows = rows[clean_probability[rows].argsort(stable=True)]
    given, score = labels.given[rows.numpy()], clean_probability[rows].double().numpy()
    probabilities = logits[rows].double().softmax(dim=1).numpy()
    suggested, flags = probabilities.argmax(axis=1), flag(probabilities, given, score=score)
    names = split.class_names
    with (
        replacing(path, durable=True) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for place, row in enumerate(rows.tolist()):
            label, guess = names[given[place]], names[suggested[place]]
            issue = bool(flags.flagged[place])
            writer.writerow([row, split.sources[row], label, guess, f"{score[place]:.6f}", issue])
    flagged = int(flags.flagged.sum())
    facts = {"rows": len(rows), "estimated_wrong": flags.count, "flagged": flagged}
    told = [
        f"{flags.count:,} of {len(rows):,} labels are wrong by estimate ({flags.rate:.1%}); {flagged:,} are flagged"
    ]
    told += _by_class(by_class(flags, given, suggested, names))
    return {**facts, "sha256": sha256_of(path)}, told


def _by_class(rows: list[ClassRow]) -> list[str]:
    """The classes with the most wrong labels, a line each."""
    rows = sorted((row for row in rows if row.flagged), key=lambda row: -row.wrong)
    lines = [
        f"  {one_line(row.name)}: {row.images:,} images, {row.wrong:,.0f} wrong by estimate, {row.flagged:,} flagged, "
        f"mostly as {one_line(row.mostly)}"
        for row in rows[:_SHOWN]
    ]
    return lines + ([f"  and {len(rows) - _SHOWN:,} classes more"] if len(rows) > _SHOWN else [])


@dataclass(frozen=True)
class Issue:
    """A row of issues.csv: a training label, and how probable it is that it is right."""

    index: int
    path: str
    given_label: str
    predicted_label: str
    label_score: float
    is_label_issue: bool


def read_issues(path: Path, written: Mapping[str, Any]) -> list[Issue]:
    """Read issues.csv, most suspect first.

    Args:
        written: what `write_issues` returned.

    Raises:
        FastnoisyError: it cannot be read, or is not what the run wrote.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FastnoisyError(f"{path} cannot be read: {error.strerror or error}") from None
    if hashlib.sha256(content).hexdigest() != written["sha256"]:
        raise FastnoisyError(
            f"{path} is not what the run wrote: it was edited, or is damaged",
            f"'fastnoisy train --resume {path.parent}' writes it again",
        )
    rows = csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline=""))
    next(rows)
    return [
        Issue(int(index), name, given, predicted, float(score), flagged == "True")
        for index, name, given, predicted, score, flagged in rows
    ]
