"""The judgement of a run: of its own network, or out of sample of networks that its recipe trains on other folds."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy import config, methods
from fastnoisy.confident_learning import self_confidence
from fastnoisy.data.store import Store
from fastnoisy.errors import FastnoisyError
from fastnoisy.features.out_of_sample import check_folds, stratified
from fastnoisy.files import replacing
from fastnoisy.label_audit.judgement import Images, Judgement
from fastnoisy.label_files.corrections import TRAIN
from fastnoisy.training import loop, setup
from fastnoisy.training.logs import Observer, notes
from fastnoisy.training.run import Run
from fastnoisy.training.run_folder import RunFolder
from fastnoisy.training.stop import Stop


def images_of(run: Run, store: Store) -> Images:
    """All images of the run's store, with the labels that it was trained on where it was."""
    images = Images.of(store)
    labels = run.labels
    if labels.origin is not None:
        labels.origin.check(store.split(TRAIN))
    given = images.given.copy()
    given[images.training] = labels.given
    return replace(images, given=given)


def in_sample(run: Run, store: Store, images: Images, device: str) -> Judgement:
    """By the run's reported network and its `clean_probability`; other splits by the probability of the given label."""
    probabilities = np.concatenate([run.probabilities(split, device=device) for split in store.splits.values()])
    score = self_confidence(probabilities, images.given)
    first = int(np.flatnonzero(images.training)[0])
    for issue in run.issues():
        score[first + issue.index] = issue.label_score
    kept = probabilities.argmax(axis=1) == images.given
    judged = np.ones(len(images.given), bool)
    return Judgement(probabilities, score, kept, judged, {"run": str(run.path), "in_sample": True})


@dataclass(frozen=True)
class Folds:
    """How the run's recipe is trained anew.

    Attributes:
        count: of the folds.
        seed: which images go into which.
        folder: in which each fold has a run folder; one that has ended is taken as it is, another goes on.
        observe: of the trainings.
        stop: asked from elsewhere to stop after the step under way.
    """

    count: int
    seed: int
    folder: Path
    observe: Observer
    stop: Stop | None = None


def out_of_sample(run: Run, store: Store, images: Images, folds: Folds, device: str) -> Judgement:
    """By networks of the run's recipe, each trained without the fold that it judges.

    Images that the run was not trained on are judged by all of them, by the mean of their probabilities. Not judged are
    those of a class with fewer training images than folds.

    Raises:
        FastnoisyError: more folds than the largest class has images, or folds of another audit lie in the folder.
        Interrupted: `stop` was asked; the same command goes on.
    """
    trained, split = run.labels.train, store.split(TRAIN)
    given = run.labels.given
    counts = np.bincount(given[trained], minlength=store.num_classes)
    check_folds(folds.count, counts)
    part = np.full(split.num_samples, -1, np.int64)
    part[trained] = stratified(given[trained], folds.count, folds.seed)
    sums = {s.name: np.zeros((s.num_samples, store.num_classes), np.float64) for s in store.splits.values()}
    for fold in range(folds.count):
        notes(folds.observe)(
            f"fold {fold + 1} of {folds.count}: training {run.path} without {int((part == fold).sum()):,} images"
        )
        fitted = _train(run, store, given, trained[part[trained] != fold], fold, folds)
        for each in store.splits.values():
            probabilities = fitted.probabilities(each, device=device)
            if each.name == TRAIN:
                mine, others = part == fold, part < 0
                sums[TRAIN][mine] = probabilities[mine]
                sums[TRAIN][others] += probabilities[others] / folds.count
            else:
                sums[each.name] += probabilities / folds.count
    found = np.concatenate([sums[s.name] for s in store.splits.values()]).astype(np.float32)
    kept = found.argmax(axis=1) == images.given
    how = {"run": str(run.path), "in_sample": False, "folds": folds.count}
    judged = counts[images.given] >= folds.count
    return Judgement(found, self_confidence(found, images.given), kept, judged, how)


def _train(run: Run, store: Store, given: np.ndarray, rows: np.ndarray, fold: int, folds: Folds) -> Run:
    """Train the recipe on some rows with the labels that the run had there; or take, or go on with, what an earlier
    audit has trained on the same.
    """
    place = folds.folder / f"fold-{fold + 1}-of-{folds.count}"
    labels = folds.folder / f"{place.name}.csv"
    text = _listed(store, given, rows)
    changes = {
        "noise": "none", "labels": str(labels), "labels_as": "name", "labels_columns": "", "select": "",
        "data": {"store": str(store.path), "holdout": 0.0, "subset": None}, "method": _with_noise_rate(run),
    }  # fmt: skip
    settings = setup.check(config.merge(run.config.model_dump(), changes))
    if RunFolder(place).config_path.is_file():
        found = Run(place)
        if found.config != settings.config or not labels.is_file() or labels.read_text(encoding="utf-8") != text:
            raise FastnoisyError(
                f"{place} was trained by an audit of another run, or with other folds or another seed",
                f"Remove {folds.folder}, or name another folder with --out",
            )
        return found if found.final is not None else found.resume(progress=folds.observe, stop=folds.stop)
    folds.folder.mkdir(parents=True, exist_ok=True)
    with replacing(labels) as partial:
        partial.write_text(text, encoding="utf-8")
    loop.start(settings, place, folds.observe, folds.stop)
    return Run(place)


def _listed(store: Store, given: np.ndarray, rows: np.ndarray) -> str:
    """A file of labels, those of all rows; all but `rows` are dropped."""
    kept = np.zeros(len(given), bool)
    kept[rows] = True
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "split", "label", "drop"])
    for row, label in enumerate(given.tolist()):
        writer.writerow([row, TRAIN, store.class_names[label], "" if kept[row] else "true"])
    return text.getvalue()


def _with_noise_rate(run: Run) -> dict[str, Any]:
    """The run's method, told the rate of wrong labels that it knew, where it or the one that it wraps must know it."""
    rate = run.labels.facts(run.settings.noise).rate
    rate = run.settings.noise.rate if rate is None else rate

    def told(table: dict[str, Any]) -> dict[str, Any]:
        result = dict(table)
        if methods.find(str(table["name"])).needs_noise_rate and table.get("noise_rate") is None and rate is not None:
            result["noise_rate"] = rate
        if isinstance(table.get("base"), dict):
            result["base"] = told(table["base"])
        return result

    return told(run.config.method)
