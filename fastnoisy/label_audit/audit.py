"""The audit of a data set: from a store, or a folder that is converted first, to the files that it writes.

Every image of every split is judged by classifiers that did not see it: out-of-sample probabilities of a linear
classifier on the features of a frozen pretrained network.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastnoisy.confident_learning import Flags, flag, self_confidence
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.features.extract import extract
from fastnoisy.features.network import DEFAULT, open_network
from fastnoisy.features.out_of_sample import check_folds, out_of_sample, usual_folds
from fastnoisy.label_audit import duplicates, oddities, output, page
from fastnoisy.label_audit.converted import store_of
from fastnoisy.label_audit.duplicates import Group
from fastnoisy.label_audit.judgement import Images, Judgement
from fastnoisy.progress import telling
from fastnoisy.training.device import caller_unchanged, choose_device, set_threads, threads_at_start
from fastnoisy.training.logs import Observer, notes
from fastnoisy.workers import Progress, Status

if TYPE_CHECKING:
    from fastnoisy.training.run import Run
    from fastnoisy.training.stop import Stop

Say = Callable[[str], None]
_IN_SAMPLE = (
    "note: the run's own network judges the images that it was trained on; what it has memorised it does not count. "
    "--folds 5 trains its recipe five times, each time without the images that it then judges"
)
_SURE = 0.5


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        out: the folder with its files.
        store: the store that was looked at.
        images: its images, N of them.
        judgement: the probabilities of their classes.
        flags: the joint counts of given and true classes, and which labels are flagged.
        groups: images that are one image, or look it, by their numbers.
        oddities: images that are no picture, or of no class, by their numbers, and what each is.
        network: the frozen network, in words.
        seconds: how long each part took.
    """

    out: Path
    store: Path
    images: Images
    judgement: Judgement
    flags: Flags
    groups: list[Group]
    oddities: list[tuple[int, str]]
    network: str
    digest: str
    seconds: dict[str, float]

    @property
    def judged(self) -> np.ndarray:
        """Whose labels may be flagged, bool (N,)."""
        return self.judgement.judged

    @property
    def score(self) -> np.ndarray:
        """How probable it is that each given label is right, float64 (N,)."""
        return self.judgement.score

    @cached_property
    def suggested(self) -> np.ndarray:
        """The likeliest class of each image, int64 (N,)."""
        return self.judgement.probabilities.argmax(axis=1)

    @cached_property
    def sure(self) -> np.ndarray:
        """Whose likeliest class is more probable than all others together, bool (N,)."""
        return self.judgement.probabilities.max(axis=1) >= _SURE

    @property
    def correctable(self) -> np.ndarray:
        """The flagged images of the training split, bool (N,): by labels of a network's own nothing can be tested."""
        return self.flags.flagged & self.images.training

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
    folds: int | None = None,
    seed: int = 1,
    device: str = "auto",
    threads: int = 0,
    workers: int | None = None,
    say: Say,
    progress: Callable[[str], Progress],
    observe: Observer = lambda event: None,
    stop: Stop | None = None,
) -> Audit:
    """Audit the labels of a store, or of whatever can be converted into one, and write what was found.

    Args:
        data: a store, a run, or a source as `convert` takes it: a folder of classes, most often.
        out: the folder for what is written; by default `DATA-audit` beside the data.
        model: the frozen network, by timm's name.
        weights: a file of its weights.
        download: fetch its weights where they are not on this machine.
        precision: `bf16`, `fp32` or `auto`.
        side: of the images it is shown, in pixels; by default 160 on a CPU and 224 on a GPU.
        folds: into how many parts the images are dealt, each judged by a fit to the others: by default 5, or as
            many as the largest class has images. Of a run: how often its recipe is trained, each time without a part;
            where it is not said, the run's own network judges the images that it was trained on.
        seed: which images go into which part.
        device: auto, cpu or cuda.
        threads: CPU threads; 0: on a CPU one per core that is free of other work.
        workers: processes that decode where data are converted.
        say: told what a user should read, a line each.
        progress: makes what is told of how far a part is, from what it does ("converting").
        observe: told what is done with what, and of the trainings of a run's folds.
        stop: asked from elsewhere to stop such a training after the step under way.

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
        number, why = threads_at_start(threads, where)
        set_threads(number)
        if why:
            notes(observe)(why)
        network = open_network(where, model, str(weights), download=download, precision=precision, side=side)
        notes(observe)(f"features: {network}")
        took("network")
        run = _run(Path(data), say)
        path = Path(run.config.data.store) if run else store_of(data, folder, workers, say, notes(observe), progress)
        took("conversion")
        with open_store(path) as store:
            splits = list(store.splits.values())
            images, judgement = Images.of(store), None
            parts = usual_folds(images.given) if folds is None else folds
            if run is None:
                check_folds(parts, np.bincount(images.given))  # before features are made, which takes long
            else:
                from fastnoisy.label_audit import of_run

                images = of_run.images_of(run, store)
                if folds is None:
                    say(_IN_SAMPLE)
                    judgement = of_run.in_sample(run, store, images, device)
                else:
                    plan = of_run.Folds(folds, seed, folder / "folds", observe, stop)
                    judgement = of_run.out_of_sample(run, store, images, plan, device)
                took("run")
            features = np.concatenate(extract(splits, network, say=say, progress=progress("features")))
            took("features")
            if judgement is None:
                judgement = _judged(images, features, parts, seed, say)
                took("probabilities")
            groups = duplicates.find(
                splits, features, say=say, poll=telling(say, "looking for copies: {} parts are done")
            )
            odd = oddities.find(
                splits,
                features,
                images.given,
                judgement.kept,
                telling(say, "looking for odd images: {} parts are done"),
            )
            took("copies and oddities")
            result = Audit(
                out=folder,
                store=path,
                images=images,
                judgement=judgement,
                flags=flag(judgement.probabilities, images.given, judgement.judged, judgement.score),
                groups=groups,
                oddities=odd,
                network=str(network),
                digest=network.digest,
                seconds=seconds,
            )
            told = progress("thumbnails")
            page.write(result, store, threads=threads, poll=lambda done, total: told(Status(done, total)))
            took("page")
    output.write(result)
    return result


def _run(path: Path, say: Say) -> Run | None:
    """The run in a folder; None where it holds none. What training needs is imported for a run alone."""
    if not (path / "config.toml").is_file():
        return None
    from fastnoisy.training.run import Run

    return Run(path, say)


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


def _judged(images: Images, features: np.ndarray, folds: int, seed: int, say: Say) -> Judgement:
    poll = telling(say, f"judging: {{}} fits to {len(images.given):,} images are done")
    found = out_of_sample(features, images.given, len(images.class_names), folds=folds, seed=seed, poll=poll)
    how = {"in_sample": False, "folds": int(found.folds.max()) + 1, "strengths": list(found.strengths)}
    score = self_confidence(found.probabilities, images.given)
    judged = np.bincount(images.given, minlength=len(images.class_names))[images.given] >= folds
    return Judgement(found.probabilities, score, found.kept, judged, how)
