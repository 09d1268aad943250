"""The features of a store's images, kept in the store's folder `features`, so that they are made once.

They are kept in pieces, each written under a temporary name and renamed: what is interrupted goes on where it was. A
piece's name is a digest of all that its numbers depend on: network, weights, view, precision, the records' bytes.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from fastnoisy import pipelines
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.features.network import Network
from fastnoisy.files import replacing
from fastnoisy.machine import available_device
from fastnoisy.workers import Progress, Status

FOLDER = "features"
_PIECE = 1 << 14  # images
_BATCH = {"cpu": 64, "cuda": 256}


def extract(
    splits: Sequence[Split],
    network: Network,
    *,
    say: Callable[[str], object],
    progress: Progress = lambda status: None,
    poll: Callable[[], None] = lambda: None,
    keep: bool = True,
) -> list[np.ndarray]:
    """The features of each split's images, float32 (N, D), finite, in the order of the records.

    Args:
        splits: of one store.
        say: told where nothing can be kept, a line.
        progress: called as images are done.
        poll: called before each batch; may raise, to stop.
        keep: what is made, for the next time.

    Raises:
        FastnoisyError: a record is damaged, or a feature is not finite.
    """
    advance = _advancing(progress, sum(split.num_samples for split in splits))
    told = False
    result = []
    for split in splits:
        pieces = _Pieces(split, network)
        parts: list[np.ndarray] = []
        opened: pipelines.Pipeline | None = None
        try:
            for first in range(0, split.num_samples, _PIECE):
                rows = np.arange(first, min(first + _PIECE, split.num_samples), dtype=np.int64)
                part = pieces.read(first, len(rows))
                if part is not None:
                    advance(len(rows))
                else:
                    opened = opened or _open(split, network)
                    part = _compute(opened, network, rows, advance, poll)
                    problem = pieces.write(first, part) if keep else ""
                    if problem and not told:
                        told = True
                        say(f"note: features are not kept for the next time: {problem}")
                parts.append(part)
        finally:
            if opened is not None:
                opened.close()
        result.append(np.concatenate(parts))
    return result


def of_rows(
    split: Split,
    rows: np.ndarray,
    network: Network,
    *,
    say: Callable[[str], object],
    progress: Progress = lambda status: None,
    keep: bool = True,
) -> np.ndarray:
    """The features of some images of a split, float32 (n, D), in the order of `rows`, int64 (n,).

    Of less than half of the split they are made for these rows alone, and not kept.

    Args, errors: as for `extract`.
    """
    if 2 * len(rows) >= split.num_samples:
        (features,) = extract([split], network, say=say, progress=progress, keep=keep)
        return features[rows]
    advance = _advancing(progress, len(rows))
    with closing(_open(split, network)) as pipeline:
        return _compute(pipeline, network, rows, advance, lambda: None)


def _advancing(progress: Progress, total: int) -> Callable[[int], None]:
    """What is called with how many images more are done, of `total`; that none is, is told at once."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(Status(done, total))

    advance(0)
    return advance


def _open(split: Split, network: Network) -> pipelines.Pipeline:
    free = available_device(network.device)
    choice = pipelines.choose(pipelines.Request(pipelines.AUTO), [split], network.device, free)
    return pipelines.open_pipeline(choice, split, split.given_labels, network.device, None)


def _compute(
    pipeline: pipelines.Pipeline,
    network: Network,
    rows: np.ndarray,
    advance: Callable[[int], None],
    poll: Callable[[], None],
) -> np.ndarray:
    view, size = network.build_view(), _BATCH[network.device.type]
    found = []
    for batch in pipeline.iterate([rows[i : i + size] for i in range(0, len(rows), size)]):
        poll()
        with torch.no_grad():
            found.append(network(view(batch.images, batch.sizes, batch.indices, 0)).cpu().numpy())
        advance(len(found[-1]))
    part = np.concatenate(found)
    bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
    if len(bad):
        raise FastnoisyError(
            f"{network.name} makes numbers that are not finite of image {rows[bad[0]]:,}",
            "choose precision fp32, or another network",
        )
    return part


class _Pieces:
    """Where the pieces of a split's features lie."""

    def __init__(self, split: Split, network: Network) -> None:
        facts = [network.name, network.digest, network.view, network.mean, network.std, str(network.dtype)]
        records = hashlib.sha256(split.checksums.astype("<u4").tobytes()).hexdigest()
        key = hashlib.sha256(json.dumps([*facts, network.device.type, split.info["digest"], records]).encode())
        self._stem = split.beton_path.parent / FOLDER / f"{split.name}-{network.name}-{key.hexdigest()[:16]}"

    def _path(self, first: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}-{first:09}.npz")

    def read(self, first: int, count: int) -> np.ndarray | None:
        """The piece of `count` images from `first` on; None where there is none, or a damaged one."""
        try:
            with self._path(first).open("rb") as file:  # given a path, numpy leaves a damaged file open
                features = np.load(file, allow_pickle=False)["features"]  # zip's own checksums are looked at
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        fits = features.dtype == np.float32 and features.ndim == 2 and len(features) == count
        return features if fits and np.isfinite(features).all() else None

    def write(self, first: int, features: np.ndarray) -> str:
        """Keep a piece; returns why that failed, empty where it did not."""
        path = self._path(first)
        try:
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as partial, partial.open("wb") as file:
                np.savez(file, features=features)
        except OSError as error:
            return f"{path}: {error.strerror or error}"
        return ""
