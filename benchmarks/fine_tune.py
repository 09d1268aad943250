"""Fine-tuning on folders with wrong labels: cross-entropy, NRD and ALASCA beside a linear head on frozen features.

    python benchmarks/fine_tune.py folders/uniform-0.2-0 folders/confused-0.4-0 --work cells --out benchmarks/results

Each FOLDER holds `photos/CLASS/...`, `truth.csv` with columns path, given, true, and `new-photos/CLASS__NAME`, which
nobody trains on. What its name has before the last hyphen is its kind; the number after it is the seed of the run too.
Every cell is what a user would do: `fastnoisy audit`, `correct` with its `suggestions.csv`, `train`, `predict
new-photos/`. Cells that `--work` holds are not done again.

* Accuracies are pooled over the folders of a kind; differences are paired, photograph by photograph, with their
  standard error.
* *Head, all labels*: logistic regression on features of the frozen network, fitted to all labels, its strength by
  cross-validated log-loss. *Head, second pass*: fitted without the rows whose likeliest class differed in the first:
  what fine-tuning starts from.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from _report import command, markdown, run, train, write
from audit import table_of, tiny_folder

from fastnoisy.errors import FastnoisyError

HEADS = {"all": "linear head, all labels", "second": "linear head, second pass"}
LABELS = ("given", "corrected", "true")
NOTE = (
    "Per cent of the photographs kept aside that are recognised, those of all folders of a kind together; differences"
    " are in points, photograph by photograph, with their standard error."
)
Right = dict[str, bool]


def true_class(path: str) -> str:
    """The class in the name of a photograph that was kept aside."""
    return Path(path).name.split("__")[0]


class Folder:
    """A folder and what is made of it, in a folder of its own within `work`."""

    def __init__(self, path: Path, work: Path, size: Sequence[str]) -> None:
        self.path, self.work, self.size = path, work / path.name, size
        self.kind, _, number = path.name.rpartition("-")
        self.seed = int(number)
        self.work.mkdir(parents=True, exist_ok=True)

    def store(self, labels: str) -> Path:
        """The store with the labels given, corrected or true."""
        out = self.work / f"store-{labels}"
        if out.exists():
            return out
        if labels == "given":
            command("convert", self.path / "photos", out)
            return out
        command(
            "correct", self.store("given"), self._suggested() if labels == "corrected" else self._true(), "--out", out
        )
        return out

    def _suggested(self) -> Path:
        """What an audit would do by itself."""
        audit = self.work / "audit"
        if not (audit / "summary.json").exists():
            command("audit", self.store("given"), "--out", audit, *self.size)
        return audit / "suggestions.csv"

    def _true(self) -> Path:
        corrections = self.work / "true.csv"
        with corrections.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "label"))
            writer.writerows((row["path"], row["true"]) for row in table_of(self.path / "truth.csv"))
        return corrections

    def kept_aside(self) -> Path:
        """A store of the photographs kept aside, true labels, for the features of the linear heads."""
        out = self.work / "store-aside"
        if not out.exists():
            with tempfile.TemporaryDirectory(dir=self.work) as links:
                for photo in sorted((self.path / "new-photos").iterdir()):
                    place = Path(links) / true_class(photo.name)
                    place.mkdir(exist_ok=True)
                    os.symlink(photo.resolve(), place / photo.name)
                command("convert", links, out)
        return out

    def trained(self, method: str, labels: str, words: Sequence[str]) -> dict[str, Any]:
        """A run, and which of the photographs kept aside its network gets right."""
        out = self.work / f"run-{method}-{labels}"
        data = self.store(labels)
        began = time.perf_counter()
        whole = train(out, f"folder-{method}", *words, f"seed={self.seed + 1}", data=data)
        seconds = time.perf_counter() - began
        rows = csv.DictReader(command("predict", out, self.path / "new-photos").splitlines())
        right = {Path(row["path"]).name: row["class"] == true_class(row["path"]) for row in rows}
        return {"right": right, **({"seconds": seconds} if whole else {})}

    def head(self, kind: str, labels: str, side: int | None) -> dict[str, Any]:
        """A linear head on frozen features, and what it gets right."""
        import torch

        from fastnoisy.data.store import open_store
        from fastnoisy.features import out_of_sample as heads
        from fastnoisy.features.extract import extract
        from fastnoisy.features.network import open_network

        network = open_network(torch.device("cpu"), side=side)
        with open_store(self.store(labels)) as store, open_store(self.kept_aside()) as aside:
            (features,) = extract([store.split("train")], network, say=print)
            (seen,) = extract([aside.split("train")], network, say=print)
            given, names = np.asarray(store.split("train").given_labels), store.class_names
            truth = [aside.class_names[i] for i in aside.split("train").given_labels]
            paths = list(aside.split("train").sources)
        if kind == "second":
            ((weight, bias),) = heads.linear_heads(features, given, len(names), 1)
            predicted = (seen @ weight.T + bias).argmax(axis=1)
        else:
            from sklearn.linear_model import LogisticRegression

            strength = heads.out_of_sample(features, given, len(names)).strengths[0]
            scaled, middle, spread = heads.standardised(features)
            model = LogisticRegression(C=strength, max_iter=300).fit(scaled, given)
            predicted = model.predict((seen - middle) / spread)
        pairs = zip(paths, predicted, truth, strict=True)
        return {"right": {Path(path).name: names[int(label)] == true for path, label, true in pairs}}


def pooled(cells: Mapping[str, Any], kind: str, row: str, labels: str) -> Right:
    """Which photographs a row of the table gets right, over all folders of a kind."""
    return {
        f"{folder}/{name}": right
        for folder, found in cells.items()
        if folder.rpartition("-")[0] == kind and f"{row} {labels}" in found
        for name, right in found[f"{row} {labels}"]["right"].items()
    }


def share(right: Right) -> str:
    """Per cent of what is right."""
    return f"{100 * statistics.fmean(right.values()):.1f}" if right else "-"


def gain(right: Right, other: Right) -> str:
    """The mean paired difference in points, with its standard error."""
    both = [float(right[name]) - float(other[name]) for name in right if name in other]
    if len(both) < 2:
        return "-"
    return f"{100 * statistics.fmean(both):+.1f} ± {100 * statistics.stdev(both) / len(both) ** 0.5:.1f}"


def table(cells: Mapping[str, Any], methods: Sequence[str]) -> str:
    """A row per kind of folder and head or method."""
    rows = []
    for kind in dict.fromkeys(folder.rpartition("-")[0] for folder in cells):
        yardstick = pooled(cells, kind, "ce", "given")
        for row in (*HEADS, *methods):
            given, corrected, true = (pooled(cells, kind, row, labels) for labels in LABELS)
            if given:
                beside = gain(given, yardstick) if row != "ce" else "-"
                numbers = [share(given), beside, share(corrected), gain(corrected, given), share(true)]
                rows.append([f"{kind}, {HEADS.get(row, row)}", *numbers])
    header = ["folders, labels", "given", "less ce's", "corrected", "less given's", "true"]
    return markdown(header, rows)


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option("--work", type=click.Path(path_type=Path), help="Where stores, runs and finished cells lie; kept.")
@click.option("--methods", default="ce,nrd,alasca", show_default=True)
@click.option("--labels", "wanted", default="given,corrected", show_default=True, help="Of the methods.")
@click.option("--epochs", default=3, show_default=True)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path), help="For fine_tune.json.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--tiny", is_flag=True, help="A made-up folder, a few seconds.")
def main(
    folders: tuple[Path, ...], work: Path | None, methods: str, wanted: str, epochs: int, out: Path, device: str,
    tiny: bool,
) -> None:  # fmt: skip
    """See the module."""
    if not folders and not tiny:
        raise FastnoisyError("no folder to train on", "Name some, with photos/, truth.csv, new-photos/, or give --tiny")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) if work is None else work
        words = [f"epochs={epochs}", f"device={device}"]
        if tiny:
            folders = (_tiny(place / "moved-0"),)
            words = ["epochs=1", "views.size=32", "batch_size=8", "threads=1", "data.workers=0"]
        size = ["--size", "32", "--threads", "1", "--workers", "1"] if tiny else []
        jobs = [(method, labels) for labels in wanted.split(",") for method in methods.split(",")]
        jobs += [(kind, labels) for kind in HEADS for labels in LABELS]
        cells: dict[str, dict[str, Any]] = {}
        for row, labels in jobs:
            for path in folders:
                folder = Folder(path, place, size)
                cell = folder.work / f"cell-{row}-{labels}.json"
                if not cell.exists():
                    found = (
                        folder.head(row, labels, 32 if tiny else None)
                        if row in HEADS
                        else folder.trained(row, labels, words)
                    )
                    cell.write_text(json.dumps(found))
                    seconds = f", {found['seconds']:.0f} s" if "seconds" in found else ""
                    print(f"{path.name}, {row}, {labels}: {share(found['right'])} %{seconds}", flush=True)
                cells.setdefault(path.name, {})[f"{row} {labels}"] = json.loads(cell.read_text())
    shown = table(cells, methods.split(","))
    write(out, "fine_tune", {"overrides": words, "cells": _wrong_alone(cells), "note": NOTE, "table": shown})
    print(shown)


def _wrong_alone(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The cells with the names of what was wrong, which is less to keep."""
    return {
        folder: {
            name: {
                **{key: value for key, value in cell.items() if key != "right"},
                "photographs": len(cell["right"]),
                "wrong": sorted(photo for photo, right in cell["right"].items() if not right),
            }
            for name, cell in found.items()
        }
        for folder, found in cells.items()
    }


def _tiny(place: Path) -> Path:
    tiny_folder(place, "moved")
    (place / "new-photos").mkdir(exist_ok=True)
    for path in sorted((place / "photos").rglob("*-1?.png")):
        path.rename(place / "new-photos" / f"{path.name.partition('-')[0]}__{path.name}")
    rows = [row for row in table_of(place / "truth.csv") if (place / "photos" / row["path"]).exists()]
    with (place / "truth.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return place


if __name__ == "__main__":
    run(main)
