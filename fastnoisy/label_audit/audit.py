"""The audit of a data set: from a store, or a folder that is converted first, to the files that it writes.

Every image of every split is judged by classifiers that did not see it: out-of-sample probabilities of a linear
classifier on the features of a frozen pretrained network.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastnoisy import confident_learning
from fastnoisy.confident_learning import Flags
from fastnoisy.data.store import Store, open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.features.extract import extract
from fastnoisy.features.network import DEFAULT, Network, open_network
from fastnoisy.features.out_of_sample import FOLDS, OutOfSample, out_of_sample
from fastnoisy.label_audit import output, page
from fastnoisy.label_audit.converted import store_of
from fastnoisy.training.device import caller_unchanged, choose_device, set_threads
from fastnoisy.workers import Progress, Status

Say = Callable[[str], object]
_EVERY = 10.0  # seconds between lines on how far it is


@dataclass(frozen=True)
class Images:
    """The N images of all splits of a store, one split after another.

    Attributes:
        split_names: of the splits.
        split: int64 (N,), which of them each image is in.
        index: int64 (N,), its row there.
        paths: where it came from.
        given: int64 (N,), its label.
        class_names: one per label.
    """

    split_names: tuple[str, ...]
    split: np.ndarray
    index: np.ndarray
    paths: tuple[str, ...]
    given: np.ndarray
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, store: Store) -> Images:
        """All of a store."""
        splits = list(store.splits.values())
        return cls(
            split_names=tuple(split.name for split in splits),
            split=np.repeat(np.arange(len(splits)), [split.num_samples for split in splits]),
            index=np.concatenate([np.arange(split.num_samples, dtype=np.int64) for split in splits]),
            paths=tuple(path for split in splits for path in split.sources),
            given=np.concatenate([split.given_labels for split in splits]),
            class_names=tuple(store.class_names),
        )


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        out: the folder with its files.
        store: the store that was looked at.
        images: its images, N of them.
        judgement: their out-of-sample probabilities.
        score: float64 (N,), the probability of the given label.
        judged: bool (N,): of a class with fewer images than folds nothing can be said.
        flags: the joint counts of given and true classes, and which labels are flagged.
        network: the frozen network, in words.
        seconds: how long each part took.
    """

    out: Path
    store: Path
    images: Images
    judgement: OutOfSample
    score: np.ndarray
    judged: np.ndarray
    flags: Flags
    network: str
    digest: str
    seconds: dict[str, float]

    @property
    def suggested(self) -> np.ndarray:
        """The likeliest class of each image, int64 (N,)."""
        return self.judgement.probabilities.argmax(axis=1)

    @property
    def order(self) -> np.ndarray:
        """The images, int64 (N,): those flagged first, then the others, the most suspect first in either."""
        return np.lexsort((self.score, ~self.flags.flagged))


def audit(
    data: str | Path,
    out: str | Path | None = None,
    *,
    model: str = DEFAULT,
    weights: str | Path = "",
    download: bool = False,
    precision: str = "auto",
    side: int | None = None,
    folds: int = FOLDS,
    seed: int = 1,
    device: str = "auto",
    threads: int = 0,
    workers: int | None = None,
    say: Say,
    progress: Callable[[str], Progress],
) -> Audit:
    """Audit the labels of a store, or of whatever can be converted into one, and write what was found.

    Args:
        data: a store, or a source as `convert` takes it: a folder of classes, most often.
        out: the folder for what is written; by default `DATA-audit` beside the data.
        model: the frozen network, by timm's name.
        weights: a file of its weights.
        download: fetch its weights where they are not on this machine.
        precision: `bf16`, `fp32` or `auto`.
        side: of the images it is shown, in pixels; by default 160 on a CPU and 224 on a GPU.
        folds: into how many parts the images are dealt, each judged by a fit to the others.
        seed: which images go into which part.
        device: auto, cpu or cuda.
        threads: CPU threads; 0: one per core.
        workers: processes that decode where data are converted.
        say: told what a user should read, a line each.
        progress: makes what is told of how far a part is, from what it does ("converting").

    Raises:
        FastnoisyError: no data, no network, too few classes, a folder that holds something else; one line says what.
    """
    began = time.monotonic()
    seconds: dict[str, float] = {}

    def took(part: str) -> None:
        nonlocal began
        began, before = time.monotonic(), began
        seconds[part] = began - before

    folder = Path(out) if out is not None else _beside(data)
    output.check_free(folder)
    with caller_unchanged():
        where = choose_device(device)
        set_threads(threads)
        network = open_network(where, model, str(weights), download=download, precision=precision, side=side)
        say(f"features: {network}")
        took("network")
        path = store_of(data, folder, workers, say, progress)
        took("conversion")
        with open_store(path) as store:
            images = Images.of(store)
            features = np.concatenate(
                extract(list(store.splits.values()), network, say=say, progress=progress("features"))
            )
            took("features")
            result = _judged(folder, path, images, features, network, folds, seed, say, seconds)
            took("probabilities")
            told = progress("thumbnails")
            page.write(
                result, store, folder / "audit.html", threads=threads, poll=lambda n, all_: told(Status(n, all_))
            )
            took("page")
    output.write(result)
    return result


def _beside(data: str | Path) -> Path:
    """`photos-audit` for `photos`, `folder:photos` and `photos.zip`."""
    text = str(data)
    path = Path(text)
    if not path.exists() and ":" in text:
        path = Path(text.partition(":")[2])
    if path.name in ("", ".", ".."):
        path = path.resolve()
    if not path.name:
        raise FastnoisyError(f"there is no place beside {data} for what the audit writes", "name a folder with --out")
    return path.with_name(f"{path.name}-audit")


def _judged(
    out: Path,
    store: Path,
    images: Images,
    features: np.ndarray,
    network: Network,
    folds: int,
    seed: int,
    say: Say,
    seconds: dict[str, float],
) -> Audit:
    fits, told = 0, time.monotonic()

    def poll() -> None:
        nonlocal fits, told
        fits += 1
        if time.monotonic() - told > _EVERY:
            told = time.monotonic()
            say(f"judging: {fits} fits to {len(images.given):,} images are done")

    judgement = out_of_sample(features, images.given, len(images.class_names), folds=folds, seed=seed, poll=poll)
    counts = np.bincount(images.given, minlength=len(images.class_names))
    judged = counts[images.given] >= folds
    return Audit(
        out=out,
        store=store,
        images=images,
        judgement=judgement,
        score=confident_learning.self_confidence(judgement.probabilities, images.given),
        judged=judged,
        flags=confident_learning.flag(judgement.probabilities, images.given, judged),
        network=str(network),
        digest=network.digest,
        seconds=seconds,
    )
