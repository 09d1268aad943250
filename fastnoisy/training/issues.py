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

from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import replacing
from fastnoisy.training.labels import Labels

COLUMNS = ("index", "path", "given_label", "predicted_label", "label_score", "is_label_issue")


def write_issues(path: Path, split: Split, labels: Labels, logits: Tensor, clean_probability: Tensor) -> dict[str, Any]:
    """Write one row per training and held-out sample.

    Args:
        logits: (N, C) of the reported predictor, for `predicted_label`.
        clean_probability: (N,), written as `label_score`: how probable it is that the given label is right.

    `is_label_issue` holds where another class is predicted and the given label's score is below one half. Written under
    a temporary name and renamed.

    Returns:
        How many `rows` were written, how many are `flagged`, and the file's `sha256`, for the run's final line.
    """
    rows = torch.cat([torch.from_numpy(labels.train), torch.from_numpy(labels.holdout)]).sort().values
    rows = rows[clean_probability[rows].argsort(stable=True)]
    predicted = logits.argmax(dim=1)
    flagged = 0
    with (
        replacing(path, durable=True) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows.tolist():
            given, guess, score = int(labels.given[row]), int(predicted[row]), float(clean_probability[row])
            issue = guess != given and score < 0.5
            flagged += issue
            names = split.class_names
            writer.writerow([row, split.sources[row], names[given], names[guess], f"{score:.6f}", issue])
    return {"rows": len(rows), "flagged": flagged, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


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
