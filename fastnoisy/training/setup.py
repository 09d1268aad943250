"""From what the user typed to what the loop needs: the resolved configuration, then the objects it describes."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastnoisy import config, keyed_random, methods, models, pipelines, recipes
from fastnoisy.augment.views import View, parse_view
from fastnoisy.config import Config
from fastnoisy.data import order
from fastnoisy.data.order import Population, stratified
from fastnoisy.data.stage import stage
from fastnoisy.data.store import Split, Store, open_store
from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.files import replacing
from fastnoisy.methods.base import Context, Method
from fastnoisy.noise import NoiseSpec, check_range, dataset_of
from fastnoisy.training.step import memory_format


def resolve(recipe: str, words: Sequence[str], store: str = "") -> Config:
    """Compose a recipe, or a TOML file of the user's own, with overrides.

    Args:
        recipe: `<data>-<method>`, or a path ending in .toml.
        words: `key=value` overrides.
        store: what --data named; empty: what the configuration says.

    Raises:
        FastnoisyError: every problem of the configuration in one message.
    """
    overrides = config.parse_overrides(words)
    if store:
        overrides = config.merge(overrides, {"data": {"store": store}})
    for key in ("recipe", "row"):
        if key in overrides:
            raise FastnoisyError(
                f"{key}= is written by fastnoisy itself", "Leave it out; suite= and noise= choose the row"
            )
    if recipes.is_path(recipe):
        return check(recipes.change(recipes.from_file(Path(recipe)), overrides, recipe))
    data, method = recipes.split_name(recipe, methods.names())
    chosen = overrides.get("method", {})
    if not isinstance(chosen, Mapping):
        raise FastnoisyError(f"method={chosen!r} is not a method; known: {', '.join(methods.names())}")
    method = str(chosen.get("name", method))
    suite = str(overrides.get("suite") or methods.find(method).suite)
    base = methods.wrapped({"name": method, **chosen})
    if base is not None and "base" in chosen:
        overrides = config.merge(overrides, {"method": {"base": base}})
    return check(recipes.compose(data, method, suite, overrides, None if base is None else base["name"]))


def run_name(settings: Config, stem: str) -> str:
    """A run folder's default name: recipe (or `stem`), wrapped method, noise and seed."""
    base = settings.method.get("base")
    noise = NoiseSpec.parse(settings.noise)
    parts = [settings.recipe or stem]
    parts += [str(base["name"])] if isinstance(base, Mapping) and base["name"] != "ce" else []
    parts += [noise.kind, f"{noise.rate:g}" if noise.rate else "", "" if noise.path else noise.option]
    return "-".join([part for part in parts if part] + [f"seed{settings.seed}"])


def check(tables: Mapping[str, Any]) -> Config:
    """Validate a composed configuration: types, the method's and the model's own options, view programs, names.

    Raises:
        FastnoisyError: all problems at once.
    """
    result, found = config.validate(Config, tables)
    method, model, views = tables.get("method"), tables.get("model"), tables.get("views")
    if isinstance(method, Mapping) and "name" in method:
        found += methods.problems(dict(method))
    if isinstance(model, Mapping) and "name" in model:
        found += models.problems(dict(model))
    programs = dict(views) if isinstance(views, Mapping) else {}
    for name, text in programs.items():
        if name not in ("executor", "size") and text not in ["", *programs]:
            try:
                parse_view(config.ViewsConfig.expand(str(text), 32))
            except FastnoisyError as error:
                found.append(f"views.{name}: {error}")
    name = tables.get("pipeline", "auto")
    if name != "auto" and name not in pipelines.names():
        found.append(str(unknown_name("pipeline", name, ["auto", *pipelines.names()])))
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(tables.get("device", "auto"))):
        found.append(f"device: must be auto, cpu or cuda (or cuda:NUMBER), got {tables['device']!r}")
    data, extra = tables.get("data"), tables.get("eval")
    own = str(data.get("test_split", "test")) if isinstance(data, Mapping) else "test"
    for name in ("holdout", "train", own):
        if isinstance(extra, Mapping) and name in extra:
            found.append(f"eval.{name}: the name is taken by the run's own data; choose another")
    if found or not isinstance(result, Config):
        raise config.problems_error(found)
    return _spelled_out(result)


def _spelled_out(settings: Config) -> Config:
    """With every option of method and model written down and every path absolute, so that config.toml says it all."""
    model = {**models.defaults(settings.model["name"]), **settings.model}
    here = {
        "method": methods.complete(settings.method),
        "model": {"name": settings.model["name"], **{k: v for k, v in model.items() if k != "name"}},
        "noise": str(NoiseSpec.parse(settings.noise).absolute()),
        "data": settings.data.model_copy(
            update={
                key: value and os.path.abspath(value)
                for key, value in (("store", settings.data.store), ("stage", settings.data.stage))
            }
        ),
        "eval": {name: os.path.abspath(path) for name, path in settings.eval.items()},
    }
    return settings.model_copy(update=here)


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one.

    Raises:
        FastnoisyError: a GPU is asked for and there is none.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise FastnoisyError(f"device {name} is not there: torch {torch.__version__} sees no GPU", "Use device=cpu")
    device = torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu" if name == "auto" else name)
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise FastnoisyError(f"device {name} is not there: this machine has {torch.cuda.device_count()} GPUs")
    return device


def set_threads(threads: int) -> None:
    """Use `threads` CPU threads; 0: as many as this process may run on."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


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
    def draw(cls, settings: Config, split: Split) -> Labels:
        """Subset, hold-out and noise of a run, pure functions of its configuration.

        The hold-out is taken first, by class as published; noise is drawn over either part by itself (methods.md 4.6).
        """
        rows = np.arange(split.num_samples, dtype=np.int64)
        published = split.given_labels
        if settings.data.subset is not None:
            if settings.data.subset > len(rows):
                raise FastnoisyError(f"data.subset={settings.data.subset} exceeds the {len(rows)} training images")
            rows = stratified(rows, published, settings.data.subset, settings.seed, "subset")
        count = round(settings.data.holdout * len(rows))
        held = stratified(rows, published[rows], count, settings.seed, "holdout")
        train = np.setdiff1d(rows, held)
        spec = NoiseSpec.parse(settings.noise)
        seed = settings.seed if settings.noise_seed is None else settings.noise_seed

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

    def save(self, path: Path, spec: str) -> None:
        """labels.npz: given, train, holdout, noise, and clean where known."""
        arrays = {"given": self.given, "train": self.train, "holdout": self.holdout, "noise": np.array(spec)}
        if self.clean is not None:
            arrays["clean"] = self.clean
        with replacing(path) as partial:
            np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path, split: Split) -> Labels:
        """Labels of an earlier run.

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
        check_range(labels.given, len(split.class_names), str(path))
        return labels


@dataclass
class EvalSet:
    """A set that is evaluated on, as a whole."""

    name: str
    split: Split


@dataclass
class Setup:
    """Everything a run consists of, before the first step."""

    config: Config
    device: torch.device
    store: Store
    split: Split
    labels: Labels
    eval_sets: list[EvalSet]
    populations: dict[str, Population]
    method: Method
    views: dict[str, dict[str, View]]
    eval_view: View

    def order(self, population: str, stream: str, epoch: int) -> np.ndarray:
        """A population's rows, int64, in the order in which a stream visits them in an epoch."""
        rows, data, seed = self.populations[population], self.config.data, self.config.seed
        if data.order == "blocked":
            return order.blocked(rows, self.split.pages, data.window, stream, seed, epoch)
        return order.order(rows, stream, seed, epoch)


def prepare(settings: Config, labels_file: Path | None = None, restored: bool = False) -> Setup:
    """Open the data, draw the labels, build the method and the views.

    Args:
        labels_file: labels.npz of a run that goes on; None draws them.
        restored: a checkpoint will be put into the method, so files it would start from are not needed.

    Raises:
        FastnoisyError: whatever is missing or does not fit.
    """
    if not settings.data.store:
        raise FastnoisyError("no data set named", "Add --data STORE, the folder that 'fastnoisy convert' wrote")
    device = choose_device(settings.device)
    set_threads(settings.threads)
    store = _open(settings, Path(settings.data.store))
    split = store.split("train")
    meant, there = recipes.table_of(settings.recipe), dataset_of(split.class_names)
    if meant.startswith("cifar") and there and there != meant and settings.recipe.startswith(meant):
        raise FastnoisyError(
            f"recipe {settings.recipe} is for {meant}, but {settings.data.store} holds {there}",
            f"Use {there}-{settings.method['name']}, or name a store of {meant} with --data",
        )
    if split.num_samples == 0:
        raise FastnoisyError(f"the training split of {settings.data.store} is empty")
    num_classes = len(split.class_names)
    if num_classes < 2:
        raise FastnoisyError(f"{settings.data.store} has {num_classes} class, training needs at least two")
    labels = Labels.draw(settings, split) if labels_file is None else Labels.read(labels_file, split)
    if len(labels.train) == 0:
        raise FastnoisyError("no training images are left", "Raise data.subset or lower data.holdout")
    if len(labels.train) < settings.batch_size and settings.drop_last:
        raise FastnoisyError(
            f"{len(labels.train)} training images do not fill one batch of {settings.batch_size}",
            "Lower batch_size or set drop_last=false",
        )
    _check_batches(settings, len(labels.train))
    method = build_method(settings, num_classes, split.num_samples, restored=restored)
    method.to(device=device)
    method.to(memory_format=memory_format(settings, device))
    views = {
        stream: {name: build_view(settings, program, name) for name, program in spec.views.items()}
        for stream, spec in method.streams.items()
    }
    return Setup(
        settings,
        device,
        store,
        split,
        labels,
        eval_sets(settings, store, split.class_names),
        {"train": Population("train", labels.train)},
        method,
        {stream: {name: view.to(device) for name, view in made.items()} for stream, made in views.items()},
        build_view(settings, "eval", "eval").to(device),
    )


def _open(settings: Config, path: Path) -> Store:
    """Open a store, or its copy on the local disk where `data.stage` asks for one."""
    return open_store(stage(path, Path(settings.data.stage)) if settings.data.stage else path)


def _check_batches(settings: Config, count: int) -> None:
    """Batch statistics need at least two samples in every micro-batch, the last batch's included."""
    sizes = {"batch_size": settings.batch_size}
    if not settings.drop_last and count % settings.batch_size:
        sizes[f"the last batch of {count} images"] = count % settings.batch_size
    for what, size in sizes.items():
        if size // settings.accumulate < 2:
            raise FastnoisyError(
                f"{what} has {size} samples, cut by accumulate={settings.accumulate} into less than two each",
                "Lower accumulate, choose another batch_size or set drop_last=true",
            )


def build_method(settings: Config, num_classes: int, num_samples: int, restored: bool = False) -> Method:
    """The method with weights drawn from the run's seed, on the CPU, in the run's dtype. For `restored` see `prepare`."""
    dtype = getattr(torch, settings.dtype)
    context = Context(settings.model, num_classes, num_samples, memory_dtype=dtype, restored=restored)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keyed_random.key(settings.seed, keyed_random.name_value("weights")) & 0x7FFFFFFF)
        return methods.build(settings.method, context).to(dtype)


def build_view(settings: Config, program: str, name: str) -> View:
    """A view of the configuration, drawing random numbers under `name`."""
    data = settings.data
    return parse_view(settings.views.program(program)).build(name, mean=data.mean, std=data.std)


def test_split(settings: Config, store: Store) -> str:
    """The split a run is evaluated on: what the configuration names; `val` where that is `test` and there is none."""
    own = settings.data.test_split
    return "val" if own == "test" and own not in store.splits and "val" in store.splits else own


def eval_sets(settings: Config, store: Store, class_names: list[str]) -> list[EvalSet]:
    """The store's own test split (or val, where it has no test), and the sets named under `eval`.

    Raises:
        FastnoisyError: a store or split is missing, or has other classes than the run.
    """
    sets = []
    own = test_split(settings, store)
    if own in store.splits:
        sets.append(EvalSet(own, store.split(own)))
    elif own != "test":
        store.split(own)  # says which there are
    for name, text in settings.eval.items():
        path = Path(text)
        whole = path.is_dir()
        other = _open(settings, path.parent if not whole and any(path.parent.glob("*.beton")) else path)
        if whole:
            known = [part for part in ("test", "val") if part in other.splits] or list(other.splits)[:1]
            if known == ["train"] and len(other.splits) > 1:
                raise FastnoisyError(f"eval.{name}={text} has neither test nor val", "Name the split: STORE/SPLIT")
            split = other.split(known[0])
        else:
            split = other.split(path.name)
        if split.class_names != class_names:
            raise FastnoisyError(f"eval.{name}={text} has other classes than the run's {len(class_names)}")
        sets.append(EvalSet(name, split))
    return sets


def prediction_resize(split: Split) -> str:
    """How a file of any size becomes an image like the store's: the conversion's own resize; where there was none, the
    size that all images have (CIFAR), or whatever fits the canvas.
    """
    resize = str(split.info["options"]["resize"])
    if resize != "none":
        return resize
    height, width = split.canvas
    if height == width and bool((split.sizes == split.canvas).all()):
        return f"square={height}"
    return f"max={min(height, width)}"
