"""issues.csv: the training labels, most suspect first, in the columns that cleanlab's users know."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from torch import Tensor

from fastnoisy.data.store import Split
from fastnoisy.files import replacing
from fastnoisy.training.labels import Labels

COLUMNS = ("index", "path", "given_label", "predicted_label", "label_score", "is_label_issue")


def write_issues(path: Path, split: Split, labels: Labels, logits: Tensor, clean_probability: Tensor) -> None:
    """Write one row per training and held-out sample.

    Args:
        logits: (N, C) of the reported predictor, for `predicted_label`.
        clean_probability: (N,), written as `label_score`: how probable it is that the given label is right.

    `is_label_issue` holds where another class is predicted and the given label's score is below one half. Written under a
    temporary name and renamed.
    """
    rows = torch.cat([torch.from_numpy(labels.train), torch.from_numpy(labels.holdout)]).sort().values
    rows = rows[clean_probability[rows].argsort(stable=True)]
    predicted = logits.argmax(dim=1)
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows.tolist():
            given, guess, score = int(labels.given[row]), int(predicted[row]), float(clean_probability[row])
            issue = guess != given and score < 0.5
            names = split.class_names
            writer.writerow([row, split.sources[row], names[given], names[guess], f"{score:.6f}", issue])
