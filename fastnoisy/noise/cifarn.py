"""CIFAR-N: labels that people gave to CIFAR's training images (Wei et al. 2022, github.com/UCSC-REAL/cifar-10-100n).

The published files are pickles within torch's zip format, read without trust: see `label_files/torch_files.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.label_files import torch_files

MAX_BYTES = 1 << 30  # unpacked; the published files have 2.4 MB
ENDINGS = (".pt", ".pth", ".npz")
PUBLISHED = "github.com/UCSC-REAL/cifar-10-100n"


@dataclass(frozen=True)
class LabelSet:
    """One of the published sets of labels.

    Attributes:
        official: its key in the file.
        dataset: `cifar10`, `cifar100`, or `cifar100-coarse`: whose classes the labels are.
        aliases: short names that the published code uses.
    """

    official: str
    dataset: str
    aliases: tuple[str, ...] = ()

    @property
    def clean(self) -> str:
        """The key of the true labels beside it."""
        return "clean_coarse_label" if self.dataset == "cifar100-coarse" else "clean_label"


LABEL_SETS = {
    "aggre": LabelSet("aggre_label", "cifar10"),
    "worse": LabelSet("worse_label", "cifar10", ("worst",)),
    "random1": LabelSet("random_label1", "cifar10", ("rand1",)),
    "random2": LabelSet("random_label2", "cifar10", ("rand2",)),
    "random3": LabelSet("random_label3", "cifar10", ("rand3",)),
    "noisy": LabelSet("noisy_label", "cifar100", ("noisy100",)),
    "noisy_coarse": LabelSet("noisy_coarse_label", "cifar100-coarse"),
}
FILES = {
    "cifar10": "CIFAR-10_human.pt",
    "cifar100": "CIFAR-100_human.pt",
    "cifar100-coarse": "CIFAR-100_human.pt",
}


def short_key(key: str) -> str:
    """The short name of a key, which may be short, official or an alias.

    Raises:
        FastnoisyError: no such key; lists near misses and all short names.
    """
    for short, labels in LABEL_SETS.items():
        if key in (short, labels.official, *labels.aliases):
            return short
    raise unknown_name("set of human labels", key, LABEL_SETS)


def human(path: Path | str, key: str, clean: np.ndarray | None = None) -> np.ndarray:
    """One set of labels of a CIFAR-N file, int64 (N,), in the order of CIFAR's python version.

    Args:
        path: `CIFAR-10_human.pt` or `CIFAR-100_human.pt` as published, or an `.npz` with the same keys.
        key: `aggre`, `worse`, `random1` to `random3` (CIFAR-10), `noisy`, `noisy_coarse` (CIFAR-100), or the official
            key, such as `worse_label`.
        clean: (N,) true labels of the rows they are for; the file's own must equal them on every row.

    Raises:
        FastnoisyError: missing, damaged or hostile file, a key that it does not hold, or other true labels.
    """
    path = Path(path)
    content = _load(path)
    held = {short: labels for short, labels in LABEL_SETS.items() if labels.official in content}
    found = next((labels for short, labels in held.items() if key in (short, labels.official, *labels.aliases)), None)
    if found is None:
        raise unknown_name(f"set of labels in {path}", key, held)
    labels = _vector(content[found.official], path, found.official)
    if clean is not None:
        if found.clean not in content:
            raise FastnoisyError(f"{path} holds no {found.clean}, so the order of its rows cannot be checked")
        _compare(_vector(content[found.clean], path, found.clean), np.asarray(clean), f"{found.clean} of {path}")
        if len(labels) != len(clean):
            raise FastnoisyError(f"{path}: {found.official} has {len(labels)} labels, {found.clean} {len(clean)}")
    return labels


def _compare(theirs: np.ndarray, ours: np.ndarray, what: str) -> None:
    if len(theirs) != len(ours):
        raise FastnoisyError(
            f"{what} has {len(theirs)} labels, the training split has {len(ours)} rows",
            "Convert the whole data set with no row taken out; data.holdout and data.subset choose rows of it later",
        )
    differing = np.flatnonzero(theirs != ours)
    if len(differing):
        first = differing[0]
        raise FastnoisyError(
            f"{what} differs from this data set's labels on {len(differing)} of {len(ours)} rows, first on row "
            f"{first}: "
            f"{theirs[first]} there, {ours[first]} here",
            "The rows are probably in another order (TensorFlow's, for example) or of another data set; the published "
            "files follow CIFAR's python version",
        )


def _load(path: Path) -> dict[str, Any]:
    """The dictionary in a file, its arrays not yet looked at."""
    if not path.is_file():
        raise FastnoisyError(f"CIFAR-N file {path} does not exist", f"It is published at {PUBLISHED}")
    if path.suffix not in ENDINGS:
        raise FastnoisyError(f"CIFAR-N file {path}: unknown ending {path.suffix!r}, known: {' '.join(ENDINGS)}")
    try:
        archive = torch_files.checked(path, MAX_BYTES)
        content = _load_arrays(archive) if path.suffix == ".npz" else torch_files.load(archive)
    except FastnoisyError:
        raise
    except Exception as error:  # damaged files make torch and numpy raise almost anything
        raise _damaged(path, error) from None
    if not isinstance(content, dict):
        raise FastnoisyError(f"CIFAR-N file {path} holds no dictionary of labels", f"It is published at {PUBLISHED}")
    return content


def _damaged(path: Path, error: Exception) -> FastnoisyError:
    if isinstance(error, torch_files.RefusedError):
        return FastnoisyError(
            f"CIFAR-N file {path} names {error}, which no such file needs; nothing was run",
            f"Get it again from {PUBLISHED}",
        )
    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:100]}"
    return FastnoisyError(f"CIFAR-N file {path} is damaged ({reason})", f"Get it again from {PUBLISHED}")


def _load_arrays(file: BytesIO) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive}


def _vector(value: Any, path: Path, key: str) -> np.ndarray:
    """What a file holds under a key (an array, a torch tensor or a list of integers) as int64 (N,)."""
    try:
        labels = value.array() if isinstance(value, torch_files.HeldArray) else np.asarray(value)
    except Exception as error:  # a pickle may have put anything in an array's state
        raise FastnoisyError(f"CIFAR-N file {path}: {key} cannot be read ({error})") from None
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise FastnoisyError(f"CIFAR-N file {path}: {key} is no vector of integers but {labels.dtype} {labels.shape}")
    return labels.astype(np.int64)
