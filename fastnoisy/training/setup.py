"""From what the user typed to what the loop needs: the resolved configuration, then the objects it describes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastnoisy import config, keyed_random, methods, models, order, pipelines, recipes
from fastnoisy.augment import View, parse_view
from fastnoisy.config import Config
from fastnoisy.data.stage import stage
from fastnoisy.data.store import Split, Store, open_store
from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.methods.base import Context, Method, NoiseFacts
from fastnoisy.noise import NoiseSpec, dataset_of
from fastnoisy.order import Population
from fastnoisy.training.labels import Labels, training_population
from fastnoisy.training.step import memory_format

_CPU = torch.device("cpu")


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
        if name != "size" and text not in ["", *programs]:
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
    for name in dict.fromkeys(("holdout", "train", own, str(tables.get("select") or own))):
        if isinstance(extra, Mapping) and name in extra:
            found.append(f"eval.{name}: the name is taken by the run's own data; choose another")
    if isinstance(result, Config):
        found += _selection_problems(result)
    if found or not isinstance(result, Config):
        raise config.problems_error(found)
    return _spelled_out(result)


def _selection_problems(settings: Config) -> list[str]:
    """Choosing an epoch on test images, or on images trained on, would make its number worthless."""
    select = settings.select
    if select in ("train", "test"):
        return [
            f"select={select}: an epoch may be chosen on clean or held-out images that are not the test's: val, holdout"
        ]
    if select == settings.data.test_split:
        return [f"select={select} is what the run is tested on (data.test_split); choose on another split, or on none"]
    if select == "holdout" and not settings.data.holdout:
        return ["select=holdout needs images held out, for example data.holdout=0.1"]
    return []


def _spelled_out(settings: Config) -> Config:
    """With every option of method and model written down and every path absolute, so that config.toml says it all."""
    model = {**models.defaults(settings.model["name"]), **settings.model}
    if model.get("weights"):
        model["weights"] = os.path.abspath(str(model["weights"]))
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
    """`auto` is the GPU where there is one. A GPU named by its number becomes torch's current one: pinned memory, streams
    that libraries make and FFCV's own copies go to the current device, whatever the tensors' is.

    Raises:
        FastnoisyError: a GPU is asked for and there is none.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise FastnoisyError(f"device {name} is not there: torch {torch.__version__} sees no GPU", "Use device=cpu")
    device = torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu" if name == "auto" else name)
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise FastnoisyError(f"device {name} is not there: this machine has {torch.cuda.device_count()} GPUs")
    if device.index is not None:
        torch.cuda.set_device(device)
    return device


def set_threads(threads: int) -> None:
    """Use `threads` CPU threads; 0: as many as this process may run on."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


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
    notes: list[str] = field(default_factory=list)

    def order(self, population: Population, stream: str, epoch: int) -> np.ndarray:
        """A population's rows, int64, in the order in which a stream visits them in an epoch."""
        data, seed = self.config.data, self.config.seed
        if data.order == "blocked":
            return order.blocked(population, self.split.pages, data.window, stream, seed, epoch)
        return order.order(population, stream, seed, epoch)


def prepare(settings: Config, labels: Labels | None = None, restored: bool = False) -> Setup:
    """Open the data, draw the labels, build the method and the views.

    Args:
        labels: of a run that goes on; None draws them.
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
    labels = Labels.draw(settings, split) if labels is None else labels
    note = labels.origin.check(split) if labels.origin else ""
    if len(labels.train) == 0:
        raise FastnoisyError("no training images are left", "Raise data.subset or lower data.holdout")
    population = training_population(settings, labels, 0)
    if len(population) < settings.batch_size and settings.drop_last:
        raise FastnoisyError(
            f"{len(population)} training images do not fill one batch of {settings.batch_size}",
            "Lower batch_size or set drop_last=false",
        )
    _check_batches(settings, len(population))
    method = build_method(settings, num_classes, split.num_samples, labels.facts(settings.noise), restored=restored)
    if settings.accumulate > 1 and "accumulate" in method.unsupported:
        raise FastnoisyError(
            f"accumulate={settings.accumulate} does not work with method {methods.title(settings.method)}: "
            f"{method.unsupported['accumulate']}",
            "Set accumulate=1; a smaller batch_size or model needs less memory",
        )
    method.to(device=device)
    method.to(memory_format=memory_format(settings, device))
    views = {
        stream: {name: build_view(settings, program, name, device) for name, program in spec.views.items()}
        for stream, spec in method.streams.items()
    }
    return Setup(
        settings,
        device,
        store,
        split,
        labels,
        eval_sets(settings, store, split.class_names),
        {"train": population},
        method,
        views,
        build_view(settings, "eval", "eval", device),
        [note] if note else [],
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


def build_method(
    settings: Config, num_classes: int, num_samples: int, noise: NoiseFacts, restored: bool = False
) -> Method:
    """The method with weights drawn from the run's seed, on the CPU, in the run's dtype. For `restored` see `prepare`."""
    dtype = getattr(torch, settings.dtype)
    context = Context(
        settings.model, num_classes, num_samples, memory_dtype=dtype, restored=restored, batch_size=settings.batch_size,
        seed=settings.seed, noise=noise,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keyed_random.key(settings.seed, keyed_random.name_value("weights")) & 0x7FFFFFFF)
        return methods.build(settings.method, context).to(dtype)


def build_view(settings: Config, program: str, name: str, device: torch.device = _CPU) -> View:
    """A view of the configuration on a device, drawing random numbers under `name`, in the dtype and memory order of a run."""
    data = settings.data
    view = parse_view(settings.views.program(program)).build(
        name,
        mean=data.mean,
        std=data.std,
        dtype=getattr(torch, settings.dtype),
        channels_last=memory_format(settings, device) == torch.channels_last,
    )
    return view.to(device)


def test_split(settings: Config, store: Store) -> str:
    """The split a run is evaluated on: what the configuration names; `val` where that is `test` and there is none."""
    own = settings.data.test_split
    return "val" if own == "test" and own not in store.splits and "val" in store.splits else own


def eval_sets(settings: Config, store: Store, class_names: list[str]) -> list[EvalSet]:
    """The store's own test split (or val, where it has no test), and the sets named under `eval`.

    Raises:
        FastnoisyError: a store or split is missing, or has other classes than the run; or one of `eval` has the name of the
            run's own.
    """
    sets: list[EvalSet] = []
    own = test_split(settings, store)
    if own in store.splits:
        sets.append(EvalSet(own, store.split(own)))
    elif own != "test":
        store.split(own)  # says which there are
    if settings.select not in ("", "holdout", own):
        if settings.select not in store.splits:
            raise FastnoisyError(
                f"select={settings.select}: {store.path} has no such split to choose on, only {', '.join(store.splits)}",
                'Convert the data set with it, or set select="" to report the last epoch',
            )
        sets.append(EvalSet(settings.select, store.split(settings.select)))
    for name, text in settings.eval.items():
        if any(name == taken.name for taken in sets):  # `test_split` may have fallen back to it
            raise FastnoisyError(
                f"eval.{name}: the name is taken by the run's own data",
                f"Choose another, for example eval.{name}2={text}",
            )
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
        check_classes(f"eval.{name}={text}", split.class_names, class_names)
        sets.append(EvalSet(name, split))
    return sets


def check_classes(what: str, there: Sequence[str], ours: Sequence[str]) -> None:
    """Labels mean the same only where the class lists are equal.

    Raises:
        FastnoisyError: another number of classes, or other names; says where they differ first.
    """
    if list(there) == list(ours):
        return
    if len(there) != len(ours):
        problem, remedy = f"has {len(there)} classes, the run {len(ours)}", ""
        if {len(there), len(ours)} == {50, 1000}:
            remedy = (
                "Convert with the -mini kinds: webvision-mini:PATH and imagenet-val-mini:PATH have the same 50 classes"
            )
    else:
        number = next(i for i, pair in enumerate(zip(there, ours, strict=True)) if pair[0] != pair[1])
        problem = f"has other classes than the run: class {number} is {there[number]!r} there, {ours[number]!r} here"
        remedy = ""
    raise FastnoisyError(
        f"{what} {problem}", remedy or "Evaluate on a data set with the run's own classes, in its order"
    )


def network_metadata(setup: Setup, method: Method) -> dict[str, str]:
    """What is needed to use the primary network's weights alone, for their file's header: every value as JSON text."""
    split, settings = setup.split, setup.config
    return {
        key: json.dumps(value)
        for key, value in {
            "format": "fastnoisy-1",
            "model": settings.model,
            "taps": method.primary_network().taps,
            "class_names": split.class_names,
            "canvas": split.canvas,
            "resize": prediction_resize(split),
            "mean": settings.data.mean,
            "std": settings.data.std,
            "view": settings.views.program("eval"),
        }.items()
    }


def prediction_resize(split: Split) -> str:
    """How a file of any size becomes an image like the store's: the conversion's own resize; where there was none, the
    size that all images have (CIFAR), or whatever fits the canvas.
    """
    resize = str(split.info["options"].get("resize", "none"))  # of a store that was adopted nothing is known
    if resize != "none":
        return resize
    height, width = split.canvas
    if height == width and bool((split.sizes == split.canvas).all()):
        return f"square={height}"
    return f"max={min(height, width)}"
