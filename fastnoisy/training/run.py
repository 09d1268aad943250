"""A run that is opened: its configuration, labels, metrics and issues, and its network to predict and evaluate with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastnoisy import machine, pipelines
from fastnoisy.augment import View, executors, parse_view
from fastnoisy.config import Config
from fastnoisy.data.conversion.encode import Plan, Resize
from fastnoisy.data.conversion.outcome import Rejected
from fastnoisy.data.store import Split, Store, open_store
from fastnoisy.data.store.corrections import read_corrections
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Method, NoiseFacts
from fastnoisy.sample_memory import SampleMemory
from fastnoisy.training import evaluate, loop, ranks, setup
from fastnoisy.training.checkpoint import Checkpoint
from fastnoisy.training.device import caller_unchanged, choose_device, set_threads
from fastnoisy.training.eval_sets import EvalSet, check_classes, evaluated_split
from fastnoisy.training.evaluate import Evaluator
from fastnoisy.training.flags import Flags, find_flags, read_flags
from fastnoisy.training.images import Unread, decoded, items_of
from fastnoisy.training.issues import Issue, read_issues
from fastnoisy.training.labels import Labels, corrected_truth
from fastnoisy.training.logs import Observer, warn, warn_of_notes
from fastnoisy.training.precision import amp_dtype, autocast, memory_format
from fastnoisy.training.run_folder import RunFolder, Say
from fastnoisy.training.settings import Settings
from fastnoisy.training.state import load_method
from fastnoisy.training.stop import Stop
from fastnoisy.workers import TIMEOUT, Status, check_timeout

_BATCH = 64


@dataclass(frozen=True)
class Evaluation:
    """Numbers of a run on one split.

    Attributes:
        data: which store and split.
        images: how many.
        predictors: name -> accuracy, top5 (where there are more than five classes) and ece, shares in [0, 1]; the
            reported predictor first.
        classes: of each class its name (`class`), `images` and `accuracy` (None where it has no image).
        corrected: what the label file changed, one line; empty where none was read.
        split: the name of the split.
        unchecked: whether nothing is known about the labels: there are no clean ones, and no correction names the
            split.
        flags: the audit's file by which labels are flagged; empty where there is none.
        flagged: of the images, those whose labels are flagged.
        unflagged: the numbers of the predictors without these; empty where there are no flags, or all are flagged.
    """

    data: str
    images: int
    predictors: dict[str, dict[str, float]]
    classes: list[dict[str, Any]]
    corrected: str = ""
    split: str = ""
    unchecked: bool = False
    flags: str = ""
    flagged: int = 0
    unflagged: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Of the reported predictor, a share in [0, 1]."""
        return next(iter(self.predictors.values()))["accuracy"]


@dataclass(frozen=True)
class Prediction:
    """What an image shows, or why that cannot be said.

    Attributes:
        path: of the file; None for an image that was handed over as pixels.
        class_name, probability: of the likeliest class; empty and 0 where there is a problem.
        problem: why nothing could be predicted; empty where something was.
        top: name and probability of as many classes as were asked for, the likeliest first.
    """

    path: Path | None
    class_name: str = ""
    probability: float = 0.0
    problem: str = ""
    top: tuple[tuple[str, float], ...] = ()


class Run:
    """A run folder that is opened. Made by `fastnoisy.load` and `fastnoisy.train`; reads what is asked for when it is.

    Args:
        path: the folder.
        say: told of what is damaged or was changed by hand, a line each; by default a warning.

    Attributes:
        path: the folder.

    Raises:
        FastnoisyError: there is no run, or its files are damaged or do not belong together.
    """

    def __init__(self, path: str | Path, say: Say | None = None) -> None:
        self.folder, self._say = RunFolder(Path(path)), warn if say is None else say
        self.path = self.folder.path
        self.folder.require()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @cached_property
    def settings(self) -> Settings:
        """The resolved configuration and what it means. What was edited by hand counts as overrides do: refused, or
        said.
        """
        return self.folder.read_config(self._newest.origin.config, self._say)

    @property
    def config(self) -> Config:
        """The plain values of `settings`."""
        return self.settings.config

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint whose numbers the run reports: the newest, or the one of the epoch chosen (`select`)."""
        return self.folder.reported(self._newest)

    @cached_property
    def _newest(self) -> Checkpoint:
        return self.folder.newest(self._say)

    @cached_property
    def labels(self) -> Labels:
        """The labels trained on, checked against the checkpoint."""
        labels = self.folder.read_labels()
        if labels.digest != self.checkpoint.origin.labels:
            raise FastnoisyError(
                f"{self.folder.labels_path} is not what checkpoint {self.checkpoint.path.name} was trained on"
            )
        return labels

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: one per epoch, and the final one where the run has ended. Damaged ones are left
        out.
        """
        ended = 0
        with suppress(FastnoisyError):  # of a checkpoint, which says so where it is needed
            ended = self._newest.position.epoch if self.folder.has_checkpoint else 0
        lines, problem = self.folder.metrics.read(ended)
        if problem:
            self._say(f"warning: {self.folder.metrics.path} is damaged: {problem}")
        return lines

    @property
    def final(self) -> dict[str, Any] | None:
        """The final line of metrics.jsonl: numbers of the reported weights. None where the run has not ended."""
        lines = self.metrics
        return lines[-1] if lines and lines[-1].get("event") == "final" else None

    @property
    def class_names(self) -> list[str]:
        """The classes, in the order of the labels."""
        names: list[str] = self.metadata("class_names")
        return names

    def resume(
        self, *overrides: str, data: str | Path = "", progress: Observer | None = None, stop: Stop | None = None
    ) -> Run:
        """Go on with the run from its newest whole checkpoint; returns it, opened anew.

        Args:
            overrides: `key=value` of what may change in a run that goes on, for example `epochs=20`.
            data: the folder of its store, where that has moved.
            progress: called with an `Event` for each line, step and epoch; by default notes alone become warnings.
            stop: asked from elsewhere to stop after the step under way.

        Raises:
            FastnoisyError: see `fastnoisy.training.loop.resume`.
            Interrupted: `stop` was asked; a checkpoint was written.
        """
        observe = warn_of_notes if progress is None else progress
        with caller_unchanged(), ranks.joined(lambda: self.folder.read_config(None, self._say, overrides)) as group:
            loop.resume(self.path, overrides, str(data), observe, stop, group)
        return Run(self.path, self._say)

    def issues(self) -> list[Issue]:
        """The training labels, most suspect first: the rows of issues.csv.

        Raises:
            FastnoisyError: the run has not ended, showed synthetic pixels, or the file is not what the run wrote.
        """
        final = self.final
        if final is None or "issues" not in final:
            why = "has not ended" if final is None else "was trained on synthetic pixels"
            raise FastnoisyError(f"{self.path} has no issues.csv: the run {why}")
        return read_issues(self.folder.issues_path, final["issues"])

    def method(self, device: str = "auto") -> Method:
        """The trained method on a device, in evaluation mode, without what it remembers of each sample."""
        names, found = self.class_names, self.checkpoint
        method = setup.build_method(self.settings, len(names), found.origin.num_samples, NoiseFacts(), restored=True)
        load_method(method, found.state["method"], f"checkpoint {found.path}")
        for module in method.modules():
            # no prediction reads it, and it may be larger than the device's memory
            if isinstance(module, SampleMemory):
                module.rows = module.rows.new_empty(0, module.rows.shape[1])
        where = choose_device(device)
        return method.to(where).to(memory_format=memory_format(self.config, where)).eval()

    def evaluate(
        self,
        store: str | Path = "",
        split: str = "",
        device: str = "auto",
        *,
        labels: str | Path = "",
        labels_as: str = "",
        labels_columns: str = "",
        flags: str | Path = "",
    ) -> Evaluation:
        """Accuracy, calibration and classes of the reported weights on a split.

        Where the run's own label file (`labels=`) has corrected the split, the corrected labels count.

        Args:
            store: another store than the run's own; it must have the same classes.
            split: default: the run's test split; of another store that has but one, that one.
            device: auto, cpu or cuda.
            labels: a file of corrections, instead of the run's own; rows that it drops are left out.
            labels_as, labels_columns: how it is read, as the keys of the configuration.
            flags: the issues.csv that `fastnoisy audit` wrote for the store, for the numbers without what it flags. By
                default, where nothing is known about the labels, the one beside a store that an audit made.

        Raises:
            FastnoisyError: no checkpoint, unknown split, other classes, or a label file or flags that are not for this
                split.
        """
        config = self.config
        with caller_unchanged(), open_store(Path(store or config.data.store)) as opened:
            where = choose_device(device)
            set_threads(config.threads)
            part = opened.split(split or evaluated_split(config, opened))
            check_classes(f"{opened.path} ({part.name})", part.class_names, self.class_names)
            scored, line = self._scored(opened, part, str(labels), labels_as, labels_columns)
            truth, rows = scored.truth, scored.rows
            unchecked = scored.corrected is None and is_unchecked(part)
            found = read_flags(Path(flags), part) if flags else None
            if found is None and unchecked:
                found = find_flags(opened.path, part, self._say)
            logits = self._logits(part, truth, rows, where, device)
            right = torch.from_numpy(truth[rows])
            numbers = {predictor: evaluate.classification(z, right) for predictor, z in logits.items()}
            classes = evaluate.per_class(next(iter(logits.values())), right, part.class_names)
            data = f"{opened.path} ({part.name})"
            result = Evaluation(data, len(rows), numbers, classes, line, part.name, unchecked)
            return result if found is None else _with_flags(result, found, rows, logits, right)

    def _scored(self, store: Store, split: Split, file: str, labels_as: str, columns: str) -> tuple[EvalSet, str]:
        """A split with what it is scored against, and a line on the label file, if any."""
        if not file and (labels_as or columns):
            raise FastnoisyError("labels_as and labels_columns say how a label file is read", "Name it with labels")
        if file:
            found, line = read_corrections(file, store, labels_as, columns)
            if split.name not in found:
                raise FastnoisyError(
                    f"{line}: it names no row of {split.name}", "Name another --split, or add a column split or path"
                )
            scored = EvalSet(split.name, split, corrected_truth(split, found[split.name]))
            if len(scored.rows) == 0:
                raise FastnoisyError(f"{line}: it drops all images of {split.name}", "Keep some of them")
            return scored, line
        own = self.labels.truth(split) if self.config.labels else None
        if own is None:
            return EvalSet(split.name, split), ""
        changed, dropped = int(((own >= 0) & (own != evaluate.truth_of(split))).sum()), int((own < 0).sum())
        line = f"labels {self.config.labels}, as the run began: {split.name}: {changed:,} changed, {dropped:,} dropped"
        return EvalSet(split.name, split, own), line

    def probabilities(self, split: Split, *, device: str = "auto") -> np.ndarray:
        """How probable the reported predictor holds the classes of all images of a split, float32 (N, C).

        Raises:
            FastnoisyError: no checkpoint, or other classes than the run's.
        """
        check_classes(f"{split.beton_path}", split.class_names, self.class_names)
        with caller_unchanged():
            where = choose_device(device)
            set_threads(self.config.threads)
            rows = np.arange(split.num_samples, dtype=np.int64)
            found = self._logits(split, split.given_labels, rows, where, device)
        return next(iter(found.values())).double().softmax(dim=1).float().numpy()

    def _logits(
        self, split: Split, labels: np.ndarray, rows: np.ndarray, where: torch.device, device: str
    ) -> dict[str, Tensor]:
        """Each predictor's logits of some rows of a split, float32 (n, C) on the CPU."""
        evaluator = Evaluator.of(self.config, self.method(device), self.view(where), where)
        free = machine.available_device(where)
        choice = pipelines.choose(pipelines.Request(pipelines.AUTO), [split], where, free)
        with pipelines.open_pipeline(choice, split, labels, where, self.config.data.workers) as pipeline:
            return evaluator.logits(pipeline, rows)

    def predict(
        self,
        images: str | Path | np.ndarray | Tensor | Iterable[str | Path | np.ndarray],
        device: str = "auto",
        *,
        top: int = 1,
        workers: int | None = None,
        timeout: float = TIMEOUT,
        progress: Callable[[Status], None] | None = None,
    ) -> Iterator[Prediction]:
        """The likeliest classes of each image, in order, by what the run reports: both networks where a method has two.

        Args:
            images: a file, a folder (every file below it that may be an image), pixels (uint8 (h, w, 3) or
                (n, h, w, 3), RGB), or any of these in a list. Files are read and resized as the run's store was made.
            device: auto, cpu or cuda.
            top: how many classes are named for each image; all where there are fewer.
            workers: processes that decode files; by default one per core, as far as memory allows.
            timeout: seconds that reading and decoding one file may take.
            progress: called as images are done.

        Yields:
            One `Prediction` per image; a file that is no image has a `problem`.

        Raises:
            FastnoisyError: no checkpoint, a path that does not exist, pixels of another type or shape, `top` below 1.
        """
        check_timeout(timeout)
        if top < 1:
            raise FastnoisyError(f"top={top} classes of each image cannot be named", "Ask for at least 1")
        items = items_of(images, self._say)
        with caller_unchanged():
            where = choose_device(device)
            method, view, names = self.method(device), self.view(where), self.class_names
        height, width = self.metadata("canvas")
        plan = Plan(Resize.parse(self.metadata("resize")), (height, width), "raw", 90, 3 * height * width)
        done = bad = 0
        with closing(decoded(items, plan, workers, timeout)) as contents:
            for start in range(0, len(items), _BATCH):
                chunk = list(zip(items[start : start + _BATCH], contents, strict=False))
                good = [image for _, image in chunk if isinstance(image, np.ndarray)]
                with caller_unchanged():  # not around the whole: between two images the caller has its own way
                    set_threads(self.config.threads)
                    answers = iter(self._answers(method, view, good, (height, width), where, top) if good else [])
                for item, content in chunk:
                    path = item if isinstance(item, Path) else item.path if isinstance(item, Unread) else None
                    if isinstance(content, Rejected):
                        bad += 1
                        yield Prediction(path, problem=content.reason)
                    else:
                        likely = tuple((names[number], probability) for number, probability in next(answers))
                        yield Prediction(path, *likely[0], top=likely)
                done += len(chunk)
                if progress is not None:
                    progress(Status(done, len(items), bad))

    def _answers(
        self,
        method: Method,
        view: View,
        images: Sequence[np.ndarray],
        canvas: tuple[int, int],
        device: torch.device,
        top: int,
    ) -> list[list[tuple[int, float]]]:
        """Number and probability of each image's likeliest classes."""
        pixels = torch.zeros(len(images), *canvas, 3, dtype=torch.uint8)
        sizes = torch.tensor([image.shape[:2] for image in images], dtype=torch.int32).reshape(-1, 2)
        for slot, image in enumerate(images):
            pixels[slot, : image.shape[0], : image.shape[1]] = torch.from_numpy(image)
        with torch.no_grad(), autocast(device, amp_dtype(self.config, device)):
            indices = torch.arange(len(images), device=device)
            made = view(pixels.to(device).permute(0, 3, 1, 2), sizes.to(device), indices, 0)
            found = method.predict(made).float().softmax(dim=1)
            best = found.sort(dim=1, descending=True, stable=True)  # of equals the first, as argmax has it
        numbers, shares = best.indices[:, :top].tolist(), best.values[:, :top].tolist()
        return [list(zip(*image, strict=True)) for image in zip(numbers, shares, strict=True)]

    def view(self, device: torch.device) -> View:
        """The evaluation view as it was when the checkpoint was written."""
        view = parse_view(self.metadata("view"))
        return view.build(
            "eval",
            mean=self.metadata("mean"),
            std=self.metadata("std"),
            dtype=getattr(torch, self.config.dtype),
            channels_last=memory_format(self.config, device) == torch.channels_last,
            executor=executors.at_hand(device),
        ).to(device)

    def metadata(self, key: str) -> Any:
        """What the checkpoint says of its network; see `setup.network_metadata`.

        Raises:
            FastnoisyError: it says nothing of that.
        """
        found = self.checkpoint
        if key not in found.metadata:
            raise FastnoisyError(f"checkpoint {found.path} says nothing of {key!r}: it is not one of fastnoisy's")
        return json.loads(found.metadata[key])


def is_unchecked(split: Split) -> bool:
    """Whether a store says nothing of a split's labels but that they were given."""
    corrected = any(split.name in note["splits"] for note in split.info.get("corrections", []))
    return split.clean_labels is None and not corrected


def _with_flags(
    result: Evaluation, flags: Flags, rows: np.ndarray, logits: dict[str, Tensor], right: Tensor
) -> Evaluation:
    """The evaluation of these rows, with the numbers of those that are not flagged."""
    kept = torch.from_numpy(~flags.rows[rows])
    left = int(kept.sum())
    numbers = {name: evaluate.classification(z[kept], right[kept]) for name, z in logits.items()} if left else {}
    return replace(result, flags=str(flags.file), flagged=len(rows) - left, unflagged=numbers)
