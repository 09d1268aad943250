"""The labels of a run: subset, hold-out and noise as pure functions of its configuration; what is trained on in an
epoch.

labels.npz keeps them, with what they were drawn for and a digest over all of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy import keyed_random
from fastnoisy.config import Config
from fastnoisy.data.store import Split, open_store
from fastnoisy.data.store.corrections import read_corrections
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import replacing
from fastnoisy.label_files.corrections import Corrected
from fastnoisy.methods.base import NoiseFacts
from fastnoisy.noise import FileReading, NoiseSpec
from fastnoisy.order import Population, balanced, stratified
from fastnoisy.training.evaluate import truth_of
from fastnoisy.training.settings import Settings

_TRUTH = "truth."  # before the name of a split, in labels.npz


@dataclass(frozen=True)
class Truth:
    """What a split is scored against that a label file has corrected.

    Attributes:
        labels: int64 (N,); -1 where the row is dropped.
        data: digest of the split that they are for.
    """

    labels: np.ndarray
    data: str


@dataclass
class Labels:
    """The labels of a run.

    Attributes:
        given: int64 (N,), what is trained on: corrections and noise included.
        clean: int64 (N,) or None; for metrics alone. Where the store knows none, labels before synthetic noise serve.
        train, holdout: int64 rows, ascending; rows that the label file drops are in neither.
        origin: what they were drawn for, of labels that were read; None where they were just drawn.
        truths: by split, of those that the label file corrects and that are not trained on.
        notes: what should be said of labels that were just drawn: a line per label file.
        estimate: what share of the training labels is wrong by estimate, 0 to 1; None where nobody asked.
    """

    given: np.ndarray
    clean: np.ndarray | None
    train: np.ndarray
    holdout: np.ndarray
    origin: Origin | None = None
    truths: dict[str, Truth] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    estimate: float | None = None

    @classmethod
    def draw(cls, settings: Settings, split: Split) -> Labels:
        """Corrections, subset, hold-out and noise of a run, pure functions of its configuration and its label files.

        The hold-out is taken first, by class as published or corrected; noise is drawn over either part by itself
        (methods.md 4.6).
        """
        config, spec = settings.config, settings.noise
        rows = np.arange(split.num_samples, dtype=np.int64)
        published, clean, truths, notes = split.given_labels, split.clean_labels, {}, []
        if config.labels:
            with open_store(split.beton_path.parent) as store:  # the other splits, too: the file may name any
                found, line = read_corrections(config.labels, store, config.labels_as, config.labels_columns)
                truths = {
                    name: Truth(corrected_truth(store.split(name), corrected), _rows_digest(store.split(name)))
                    for name, corrected in found.items()
                    if name != split.name
                }
            notes.append(line)
            own = found.get(split.name)
            if own is not None:
                published, rows = own.labels, own.kept
                if clean is not None:
                    clean = np.where(own.labels != split.given_labels, own.labels, clean)
        if config.data.subset is not None:
            if config.data.subset > len(rows):
                raise FastnoisyError(f"data.subset={config.data.subset} exceeds the {len(rows)} training images")
            rows = stratified(rows, published[rows], config.data.subset, config.seed, "subset")
        count = round(config.data.holdout * len(rows))
        held = stratified(rows, published[rows], count, config.seed, "holdout")
        train = np.setdiff1d(rows, held)
        seed = config.seed if config.noise_seed is None else config.noise_seed

        reading = FileReading(
            lambda: split.sources, split.source, config.labels_as, config.labels_columns, notes.append
        )

        def draw(part: np.ndarray, seed: int) -> np.ndarray:
            folder = split.beton_path.parent
            return spec.apply(published, split.class_names, seed, part, split.read_rows, folder, reading)

        given = draw(train, seed)
        reading = replace(reading, say=None)  # once
        if len(held):
            given[held] = draw(held, keyed_random.key(seed, keyed_random.name_value("holdout")) & 0x7FFFFFFF)[held]
        if clean is None and spec.keeps_truth:
            clean = published
        return cls(given, clean, train, held, truths=truths, notes=notes)

    def truth(self, split: Split) -> np.ndarray | None:
        """What a split is scored against, int64 (N,), -1 where dropped; None where no label file corrects it, or it is
        not the split that was corrected.
        """
        found = self.truths.get(split.name)
        return found.labels if found is not None and found.data == _rows_digest(split) else None

    def facts(self, noise: NoiseSpec) -> NoiseFacts:
        """What a method may know of the noise."""
        wrong = None if self.clean is None else self.given[self.train] != self.clean[self.train]
        return NoiseFacts(None if wrong is None else float(wrong.mean()), noise.kind, noise.rate, self.estimate)

    @property
    def digest(self) -> str:
        """SHA-256 of all of them: what a checkpoint says of the labels that it was trained on."""
        return _digest(self.arrays())

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name; without `clean` and `estimate` where they are not known, `truth.SPLIT` where a label file
        corrects it.
        """
        own = {name: array for name, array in vars(self).items() if isinstance(array, np.ndarray)}
        own |= {} if self.estimate is None else {"estimate": np.array(self.estimate, np.float64)}
        return own | {f"{_TRUTH}{name}": truth.labels for name, truth in self.truths.items()}


@dataclass(frozen=True)
class Origin:
    """What the labels in a labels.npz were drawn for.

    Attributes:
        config: the resolved configuration that the run began with, as plain tables.
        data: digests of the split; see `_data_digests`. `truth.SPLIT`: of a split that a label file corrects.
    """

    config: dict[str, Any]
    data: dict[str, str]

    def check(self, split: Split) -> str:
        """Whether the labels belong to this split.

        They are rows' labels, so row for row it must be the one they were drawn for: a store converted anew after a
        folder was renamed has as many rows in another order. Another `--resize` or a copy elsewhere changes none of it.

        Returns:
            A line to say where the images are stored otherwise; empty where nothing differs.

        Raises:
            FastnoisyError: it is another split; says in what.
        """
        found = _data_digests(split)
        if self.data.get("rows") != found["rows"]:
            raise FastnoisyError(
                f"the run was trained on {self.data.get('rows')} rows, this data set has {found['rows']}",
                "Name the run's own data set with --data",
            )
        for name, what in _WHAT.items():
            if self.data.get(name) != found[name]:
                raise FastnoisyError(
                    f"the run was trained on other data than {split.beton_path}: {what}",
                    "Name the run's own data set with --data, or start a new run on this one",
                )
        if self.data.get("pixels") != found["pixels"]:
            return (
                f"note: {split.beton_path} holds the run's images in other bytes than when it began (another --resize?)"
            )
        return ""


_WHAT = {  # the coarsest first
    "classes": "the class names differ",
    "sources": "its rows are other images, or the same in another order",
    "published": "the labels it was published with differ",
}


def _data_digests(split: Split) -> dict[str, str]:
    """What says which row is which image and what its label means, by the keys of `_WHAT`; how many rows; their
    bytes.
    """
    sources = hashlib.sha256()
    for source in split.sources:
        sources.update(source.encode("utf-8", "surrogateescape") + b"\0")
    return {
        "rows": str(split.num_samples),
        "classes": hashlib.sha256(json.dumps(split.class_names).encode()).hexdigest(),
        "sources": sources.hexdigest(),
        "published": hashlib.sha256(split.given_labels.astype("<i8").tobytes()).hexdigest(),
        "pixels": hashlib.sha256(split.checksums.astype("<u4").tobytes()).hexdigest(),
    }


def _rows_digest(split: Split) -> str:
    """A digest of which row is which image and what it is labelled as."""
    found = _data_digests(split)
    return hashlib.sha256(json.dumps([found[key] for key in ("rows", *_WHAT)]).encode()).hexdigest()


def corrected_truth(split: Split, corrected: Corrected) -> np.ndarray:
    """What a corrected split is scored against, int64 (N,): corrections before what is known to be right; -1 where the
    row is dropped.
    """
    truth = np.where(corrected.labels != split.given_labels, corrected.labels, truth_of(split))
    truth[corrected.dropped] = -1
    return truth


def write_labels(path: Path, labels: Labels, config: Mapping[str, Any], split: Split) -> None:
    """Write labels.npz: given, train, holdout, clean and estimate where known, `truth.SPLIT` where a label file
    corrects it, `origin` (see `Origin`, as JSON) and a digest of it all.
    """
    data = _data_digests(split) | {f"{_TRUTH}{name}": truth.data for name, truth in labels.truths.items()}
    origin = json.dumps({"config": dict(config), "data": data})
    arrays = {**labels.arrays(), "origin": np.array(origin)}
    with replacing(path, durable=True) as partial:
        np.savez_compressed(partial, digest=np.array(_digest(arrays)), **arrays)  # type: ignore[arg-type]


def read_labels(path: Path) -> Labels:
    """Read labels.npz.

    Raises:
        FastnoisyError: it cannot be read, or is not what was written.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {key: archive[key] for key in archive}
        if str(found.pop("digest")) != _digest(found):
            raise ValueError("its contents have changed since they were written")
        origin = Origin(**json.loads(str(found.pop("origin"))))
        truths = {
            name.removeprefix(_TRUTH): Truth(array, str(origin.data[name]))
            for name, array in found.items()
            if name.startswith(_TRUTH)
        }
        estimate = float(found["estimate"]) if "estimate" in found else None
        return Labels(
            found["given"], found.get("clean"), found["train"], found["holdout"], origin, truths, estimate=estimate
        )
    except (
        Exception
    ) as error:  # zipfile, zlib, numpy and json raise a dozen kinds on damaged bytes (10,269 bit flips tried)
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise FastnoisyError(
            f"the run's labels {path} are damaged: {said}",
            "Put back a copy of the file, or start a new run: a run cannot go on under other labels",
        ) from error


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def training_population(settings: Config, labels: Labels, epoch: int) -> Population:
    """What an epoch trains on: the whole training part, or with `data.draw` this epoch's class-balanced draw of it."""
    if not settings.data.draw:
        return Population("train", labels.train)
    given = labels.given[labels.train]
    return Population("train", balanced(labels.train, given, settings.data.draw, settings.seed, epoch))
