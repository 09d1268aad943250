"""The labels of a run: subset, hold-out and noise as pure functions of its configuration; what is trained on in an epoch."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastnoisy import keyed_random
from fastnoisy.config import Config
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import replacing
from fastnoisy.methods.base import NoiseFacts
from fastnoisy.noise import NoiseSpec, check_range
from fastnoisy.order import Population, balanced, stratified
from fastnoisy.training.settings import Settings


@dataclass
class Labels:
    """The labels of a run.

    Attributes:
        given: int64 (N,), what is trained on, noise included.
        clean: int64 (N,) or None; for metrics alone. Where the store knows none, labels before synthetic noise serve.
        train, holdout: int64 rows, ascending.
    """

    given: np.ndarray
    clean: np.ndarray | None
    train: np.ndarray
    holdout: np.ndarray

    @classmethod
    def draw(cls, settings: Settings, split: Split) -> Labels:
        """Subset, hold-out and noise of a run, pure functions of its configuration.

        The hold-out is taken first, by class as published; noise is drawn over either part by itself (methods.md 4.6).
        """
        config, spec = settings.config, settings.noise
        rows = np.arange(split.num_samples, dtype=np.int64)
        published = split.given_labels
        if config.data.subset is not None:
            if config.data.subset > len(rows):
                raise FastnoisyError(f"data.subset={config.data.subset} exceeds the {len(rows)} training images")
            rows = stratified(rows, published, config.data.subset, config.seed, "subset")
        count = round(config.data.holdout * len(rows))
        held = stratified(rows, published[rows], count, config.seed, "holdout")
        train = np.setdiff1d(rows, held)
        seed = config.seed if config.noise_seed is None else config.noise_seed

        def draw(part: np.ndarray, seed: int) -> np.ndarray:
            folder = split.beton_path.parent
            return spec.apply(published, split.class_names, seed, part, images=split.read_rows, folder=folder)

        given = draw(train, seed)
        if len(held):
            given[held] = draw(held, keyed_random.key(seed, keyed_random.name_value("holdout")) & 0x7FFFFFFF)[held]
        clean = split.clean_labels
        if clean is None and spec.keeps_truth:
            clean = published
        return cls(given, clean, train, held)

    def facts(self, noise: NoiseSpec) -> NoiseFacts:
        """What a method may know of the noise."""
        wrong = None if self.clean is None else self.given[self.train] != self.clean[self.train]
        return NoiseFacts(None if wrong is None else float(wrong.mean()), noise.kind, noise.rate)

    def save(self, path: Path, spec: str, split: Split) -> None:
        """labels.npz: given, train, holdout, noise, digests of the data they belong to, and clean where known."""
        arrays = {"given": self.given, "train": self.train, "holdout": self.holdout, "noise": np.array(spec)}
        arrays |= {f"{name}_digest": np.array(digest) for name, digest in _digests(split).items()}
        if self.clean is not None:
            arrays["clean"] = self.clean
        with replacing(path) as partial:
            np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path, split: Split) -> Labels:
        """Labels of an earlier run.

        They are rows' labels, so row for row the split must be the one they were drawn for: a store converted anew after a
        folder was renamed has as many rows in another order. Another `--resize` or a copy elsewhere changes none of it.

        Raises:
            FastnoisyError: unreadable, or of another data set.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                found = {key: archive[key] for key in archive}
            labels = cls(found["given"], found.get("clean"), found["train"], found["holdout"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise FastnoisyError(f"the run's labels {path} cannot be read: {error}") from error
        if len(labels.given) != split.num_samples:
            raise FastnoisyError(
                f"the run was trained on {len(labels.given)} rows, this data set has {split.num_samples}",
                "Name the run's own data set with --data",
            )
        for name, digest in _digests(split).items():
            if str(found.get(f"{name}_digest", digest)) != digest:  # labels written before there were digests have none
                raise FastnoisyError(
                    f"the run was trained on other data than {split.beton_path}: {_WHAT[name]}",
                    "Name the run's own data set with --data, or start a new run on this one",
                )
        check_range(labels.given, len(split.class_names), str(path))
        return labels


_WHAT = {
    "classes": "the class names differ",
    "sources": "its rows are other images, or the same in another order",
    "published": "the labels it was published with differ",
}


def _digests(split: Split) -> dict[str, str]:
    """SHA-256 of what says which row is which image and what its label means: by a key of `_WHAT`, the coarsest first."""
    sources = hashlib.sha256()
    for source in split.sources:
        sources.update(source.encode("utf-8", "surrogateescape") + b"\0")
    return {
        "classes": hashlib.sha256(json.dumps(split.class_names).encode()).hexdigest(),
        "sources": sources.hexdigest(),
        "published": hashlib.sha256(split.given_labels.astype("<i8").tobytes()).hexdigest(),
    }


def training_population(settings: Config, labels: Labels, epoch: int) -> Population:
    """What an epoch trains on: the whole training part, or with `data.draw` this epoch's class-balanced draw of it."""
    if not settings.data.draw:
        return Population("train", labels.train)
    given = labels.given[labels.train]
    return Population("train", balanced(labels.train, given, settings.data.draw, settings.seed, epoch))
