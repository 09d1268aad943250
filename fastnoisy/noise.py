"""Label noise: pure functions of labels, rate and seed, drawn once before training and saved with the run.

Every function returns new int64 labels (N,) and leaves its input alone. Rates are shares in [0, 1].
A run names its noise by a spec: `none`, `symmetric:0.4`, `symmetric:0.4:exclude_true`, `file:PATH`.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastnoisy.errors import FastnoisyError, unknown_name


def _check(labels: np.ndarray, rate: float, num_classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise FastnoisyError(f"labels must be a vector of integers, got shape {labels.shape} of {labels.dtype}")
    if not 0 <= rate <= 1:
        raise FastnoisyError(f"noise rate {rate:g} is not a share: it must lie between 0 and 1", "Write 0.4 for 40 %")
    return check_range(labels.astype(np.int64), num_classes, "the labels")


def check_range(labels: np.ndarray, num_classes: int, where: str) -> np.ndarray:
    """Return `labels` unless one lies outside 0..num_classes-1.

    Raises:
        FastnoisyError: names the first row that is out of range, its value and `where` it came from.
    """
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(bad):
        raise FastnoisyError(
            f"{len(bad)} labels in {where} are out of range: row {bad[0]} is {labels[bad[0]]}, "
            f"allowed are 0 to {num_classes - 1}",
            "Check that the labels belong to this data set and count classes from 0",
        )
    return labels


def symmetric(labels: np.ndarray, rate: float, num_classes: int, seed: int, exclude_true: bool = False) -> np.ndarray:
    """Labels replaced uniformly at random.

    Args:
        labels: (N,) integers.
        rate: by default the first rate * N samples of a permutation are redrawn uniformly over ALL classes, so the
            effective noise is rate * (1 - 1/C) (GJS, ELR, ALASCA, DivideMix). With `exclude_true` each sample flips with
            this probability to one of the other classes (Co-teaching, JoCoR, CDR).
        seed: seeds numpy's legacy generator; with seed 1 the default equals the published GJS labels bit for bit.

    Raises:
        FastnoisyError: rate outside [0, 1] or labels out of range.
    """
    noisy = _check(labels, rate, num_classes)
    generator = np.random.RandomState(seed)
    if exclude_true:
        row = np.full(num_classes, rate / (num_classes - 1))
        for i, label in enumerate(noisy):  # one multinomial per sample in sequence: the published draws
            row[label] = 1 - rate
            noisy[i] = int(generator.multinomial(1, row).argmax())
            row[label] = rate / (num_classes - 1)
        return noisy
    permutation = generator.permutation(len(noisy))
    chosen = permutation[np.arange(len(noisy)) < rate * len(noisy)]
    for i in chosen:  # one draw per sample in sequence: the published draws
        noisy[i] = generator.randint(num_classes, dtype=np.int32)
    return noisy


def from_file(path: Path, num_samples: int, num_classes: int) -> np.ndarray:
    """Labels from a file: `.npy` (a vector), `.npz` (its `given` array, as in a run's labels.npz), `.csv` or `.txt`
    (one label per line, or a column named `label`), in the order of the data set's rows.

    Raises:
        FastnoisyError: missing or unreadable file, wrong number of labels, label out of range.
    """
    if not path.is_file():
        raise FastnoisyError(f"label file {path} does not exist")
    try:
        if path.suffix == ".npy":
            labels = np.load(path, allow_pickle=False)
        elif path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                if "given" not in archive:
                    raise FastnoisyError(f"label file {path} holds no array 'given', only {', '.join(archive)}")
                labels = archive["given"]
        elif path.suffix in (".csv", ".txt"):
            labels = _from_text(path)
        else:
            raise FastnoisyError(f"label file {path}: unknown ending {path.suffix!r}, known: .npy .npz .csv .txt")
    except (ValueError, IndexError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FastnoisyError(f"label file {path} cannot be read: {error}") from error
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise FastnoisyError(f"label file {path} must hold a vector of integers, got {labels.dtype} {labels.shape}")
    if len(labels) != num_samples:
        raise FastnoisyError(f"label file {path} holds {len(labels)} labels, the training split has {num_samples} rows")
    return check_range(labels.astype(np.int64), num_classes, str(path))


def _from_text(path: Path) -> np.ndarray:
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    header = [cell.strip() for cell in lines[0].split(",")] if lines else []
    if "label" in header:
        column = header.index("label")
        return np.array([int(line.split(",")[column]) for line in lines[1:]], np.int64)
    return np.array([int(line) for line in lines], np.int64)


@dataclass(frozen=True)
class NoiseSpec:
    """A parsed noise spec. `str(spec)` is the text that parses to it again."""

    kind: str
    rate: float = 0.0
    option: str = ""

    @classmethod
    def parse(cls, text: str) -> NoiseSpec:
        """Parse `none`, `symmetric:RATE[:exclude_true]` or `file:PATH`.

        Raises:
            FastnoisyError: names what was wrong and what is allowed.
        """
        kind, _, rest = text.partition(":")
        if kind == "none" and not rest:
            return cls("none")
        if kind == "file":
            if not rest:
                raise FastnoisyError(f"noise {text!r} names no file", "Write noise=file:PATH")
            return cls("file", option=rest)
        if kind == "symmetric":
            rate, _, option = rest.partition(":")
            try:
                value = float(rate)
            except ValueError:
                value = float("nan")
            if not 0 <= value <= 1:
                raise FastnoisyError(
                    f"noise {text!r}: the rate {rate!r} must be a number between 0 and 1", "Write noise=symmetric:0.4"
                )
            if option not in ("", "exclude_true"):
                raise unknown_name("option of symmetric noise", option, ["exclude_true"])
            return cls("symmetric", value, option)
        raise unknown_name("noise", kind, ["none", "symmetric", "file"])

    def __str__(self) -> str:
        if self.kind == "symmetric":
            return f"symmetric:{self.rate!r}" + (f":{self.option}" if self.option else "")
        return f"{self.kind}:{self.option}" if self.option else self.kind

    def absolute(self) -> NoiseSpec:
        """The same with a file's path made absolute."""
        return NoiseSpec(self.kind, self.rate, os.path.abspath(self.option)) if self.kind == "file" else self

    def apply(self, labels: np.ndarray, num_classes: int, seed: int, rows: np.ndarray) -> np.ndarray:
        """The noisy labels.

        Args:
            labels: (N,) int64, the labels of the whole training split.
            rows: int64, the rows in use (all, or a subset); noise is drawn over these rows alone, others keep theirs.
        """
        noisy = check_range(np.array(labels, np.int64), num_classes, "the training split")
        if self.kind == "symmetric":
            noisy[rows] = symmetric(noisy[rows], self.rate, num_classes, seed, self.option == "exclude_true")
        elif self.kind == "file":
            noisy[rows] = from_file(Path(self.option), len(noisy), num_classes)[rows]
        return noisy
