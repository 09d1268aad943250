"""From what the user typed to what the loop needs: the resolved configuration, then the objects it describes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fastnoisy import config, keyed_random, methods, models, order, pipelines, recipes
from fastnoisy.augment import View, ViewProgram, executors, parse_view
from fastnoisy.config import Config
from fastnoisy.data.store import Split, Store
from fastnoisy.distributed import ONE, Group
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import sha256_of
from fastnoisy.label_files import columns
from fastnoisy.machine import available_host, mebibytes
from fastnoisy.methods.base import Context, Method, NoiseFacts
from fastnoisy.models import batchnorm, weights
from fastnoisy.noise import NoiseSpec, dataset_of
from fastnoisy.order import Population, Rows
from fastnoisy.training import automatic, batch_sizes, estimate
from fastnoisy.training.device import choose_device, set_threads, threads_at_start
from fastnoisy.training.eval_sets import EvalSet, eval_sets, open_staged
from fastnoisy.training.head_start import start_heads
from fastnoisy.training.labels import Labels, training_population
from fastnoisy.training.logs import Observer, notes
from fastnoisy.training.precision import memory_format
from fastnoisy.training.settings import Settings

_CPU = torch.device("cpu")


def resolve(recipe: str, words: Sequence[str], store: str = "") -> Settings:
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
        return _checked(recipes.change(recipes.from_file(Path(recipe)), overrides, recipe))
    data, method = recipes.split_name(recipe, methods.names())
    chosen = overrides.get("method", {})
    if not isinstance(chosen, Mapping):
        raise FastnoisyError(f"method={chosen!r} is not a method; known: {', '.join(methods.names())}")
    method = str(chosen.get("name", method))
    suite = str(overrides.get("suite") or methods.find(method).suite)
    base = methods.wrapped({"name": method, **chosen})
    if base is not None and "base" in chosen:
        overrides = config.merge(overrides, {"method": {"base": base}})
    return _checked(recipes.compose(data, method, suite, overrides, None if base is None else base["name"]))


def _checked(tables: Mapping[str, Any]) -> Settings:
    tables, told = automatic.filled(tables)
    return replace(check(tables), told=told)


def run_name(settings: Settings, stem: str) -> str:
    """A run folder's default name: recipe (or `stem`), wrapped method, whether corrected, noise and seed."""
    base, noise = settings.method.base, settings.noise
    parts = [settings.config.recipe or stem]
    parts += [base.name] if base is not None and base.name != "ce" else []
    parts += ["labels"] if settings.config.labels else []
    parts += [noise.kind, f"{noise.rate:g}" if noise.rate else "", "" if noise.path else noise.option]
    return "-".join([part for part in parts if part] + [f"seed{settings.config.seed}"])


def check(tables: Mapping[str, Any]) -> Settings:
    """Validate a composed configuration and parse all of its texts: types, the options of method, network and pipeline,
    view programs, noise, names. `noise` may be parsed already.

    Raises:
        FastnoisyError: all problems at once.
    """
    tables = config.call_tables(tables)
    found = config.text_problems(tables)
    if found:
        raise config.problems_error(found)
    if isinstance(tables.get("pipeline"), Mapping):  # options alone are for whichever pipeline is chosen
        tables["pipeline"] = {"name": pipelines.AUTO, **tables["pipeline"]}
    noise: Any = tables.get("noise", "none")
    try:
        if isinstance(noise, str):
            noise = NoiseSpec.parse(noise)
        if not isinstance(noise, NoiseSpec):
            found.append(f"noise: must be a text such as symmetric:0.4 (got {noise!r})")
    except FastnoisyError as error:
        found.append(f"noise: {error}")
    result, problems = config.validate(Config, {**tables, "noise": str(noise)})
    found += problems
    rooms = (("method", methods.problems), ("model", models.problems), ("pipeline", pipelines.problems))
    for key, problems_of in rooms:
        table = tables.get(key)
        if isinstance(table, Mapping) and isinstance(table.get("name"), str):
            found += problems_of(dict(table))
    programs, wrong = _parse_views(tables.get("views"))
    found += wrong
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(tables.get("device", "auto"))):
        found.append(f"device: must be auto, cpu or cuda (or cuda:NUMBER), got {tables['device']!r}")
    data, extra = tables.get("data"), tables.get("eval")
    own = str(data.get("test_split", "test")) if isinstance(data, Mapping) else "test"
    for name in dict.fromkeys(("holdout", "train", own, str(tables.get("select") or own))):
        if isinstance(extra, Mapping) and name in extra:
            found.append(f"eval.{name}: the name is taken by the run's own data; choose another")
    if isinstance(result, Config):
        found += _selection_problems(result)
        found += _label_problems(result)
    if found or not isinstance(result, Config):
        raise config.problems_error(found)
    noise = noise.absolute()
    written = _spelled_out(result, noise)
    if found := config.text_problems(written.model_dump()):  # of the current folder
        raise config.problems_error(found)
    return Settings(written, noise, programs, methods.parse(written.method), pipelines.parse(written.pipeline))


def _parse_views(views: Any) -> tuple[dict[str, ViewProgram], list[str]]:
    """The programs of a `views` table by name, for its size, and what is wrong with them. A name that stands for
    another view has that one's program; an empty text is no view.
    """
    texts = {**_VIEW_DEFAULTS, **views} if isinstance(views, Mapping) else {}
    size = texts.get("size")
    if not isinstance(size, int):  # said at validation
        size = _VIEW_DEFAULTS["size"]
    programs, found = {}, []
    for name in config.VIEW_NAMES:
        text = texts.get(name)
        if not text or not isinstance(text, str):
            continue
        try:
            programs[name] = parse_view(config.ViewsConfig.expand(str(texts.get(text, text)), size))
        except FastnoisyError as error:
            found.append(f"views.{name}: {error}")
    return programs, found


_VIEW_DEFAULTS = {key: info.default for key, info in config.ViewsConfig.model_fields.items() if not info.is_required()}


def _selection_problems(result: Config) -> list[str]:
    """Choosing an epoch on test images, or on images trained on, would make its number worthless."""
    select = result.select
    if select in ("train", "test"):
        return [
            f"select={select}: an epoch may be chosen on clean or held-out images that are not the test's: val, holdout"
        ]
    if select == result.data.test_split:
        return [f"select={select} is what the run is tested on (data.test_split); choose on another split, or on none"]
    if select == "holdout" and not result.data.holdout:
        return ["select=holdout needs images held out, for example data.holdout=0.1"]
    return []


def _label_problems(result: Config) -> list[str]:
    """What says how a label file is read must be well formed, and needs one."""
    has_file = bool(result.labels) or result.noise.startswith("file:")
    found = [
        f"{name}={value}: there is no label file that it could be about; name one with labels=FILE"
        for name, value in (("labels_as", result.labels_as), ("labels_columns", result.labels_columns))
        if value and not has_file
    ]
    try:
        columns.parse(result.labels_columns)
    except FastnoisyError as error:
        found.append(f"labels_columns: {error}")
    return found


def _spelled_out(result: Config, noise: NoiseSpec) -> Config:
    """With every option of method, model and pipeline written down and every path absolute, so that config.toml says it
    all.
    """
    model = {**models.defaults(result.model["name"]), **result.model}
    if model.get("weights"):
        model |= {"weights": os.path.abspath(str(model["weights"])), "pretrained": True}
    here = {
        "method": methods.complete(result.method),
        "model": {"name": result.model["name"], **{k: v for k, v in model.items() if k != "name"}},
        "pipeline": pipelines.complete(result.pipeline),
        "noise": str(noise),
        "labels": result.labels and os.path.abspath(result.labels),
        "data": result.data.model_copy(
            update={
                key: value and os.path.abspath(value)
                for key, value in (("store", result.data.store), ("stage", result.data.stage))
            }
        ),
        "eval": {name: os.path.abspath(path) for name, path in result.eval.items()},
    }
    return result.model_copy(update=here)


@dataclass
class Setup:
    """Everything a run consists of, before the first step."""

    settings: Settings
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

    @property
    def config(self) -> Config:
        """The plain values."""
        return self.settings.config

    def order(self, population: Population, stream: str, epoch: int) -> Rows:
        """A population's rows in the order in which a stream visits them in an epoch."""
        data, seed = self.config.data, self.config.seed
        if data.order == "blocked":
            return order.blocked(population, self.split.pages, data.window, stream, seed, epoch)
        return order.order(population, stream, seed, epoch)


def prepare(
    settings: Settings,
    labels: Labels | None = None,
    restored: bool = False,
    observe: Observer = lambda event: None,
    trial: bool = False,
    group: Group = ONE,
) -> Setup:
    """Open the data, draw the labels, build the method and the views.

    Of several ranks the first draws the labels and starts the networks, and the others take over what it has; views are
    compiled once on each machine.

    Args:
        labels: of a run that goes on; None draws them.
        restored: a checkpoint will be put into the method, so files it would start from are not needed.
        observe: told how far it is with the features of a pretrained network, where the run needs them.
        trial: write nothing, and leave out what changes only numbers.
        group: the ranks.

    Raises:
        FastnoisyError: whatever is missing or does not fit.
    """
    c = settings.config
    if not c.data.store:
        raise FastnoisyError("no data set named", "Add --data STORE, the folder that 'fastnoisy convert' wrote")
    device = choose_device(c.device, group, c.distributed.backend)
    view_executor(c, device)  # refuses early
    threads, why = threads_at_start(c.threads, device)
    set_threads(threads)
    settings = replace(settings, config=c.model_copy(update={"threads": threads}))  # also when the run goes on
    c = settings.config
    store = group.first_here(lambda: open_staged(c, Path(c.data.store)))
    split = store.split("train")
    meant, there = recipes.table_of(c.recipe), dataset_of(split.class_names)
    if meant.startswith("cifar") and there and there != meant and c.recipe.startswith(meant):
        raise FastnoisyError(
            f"recipe {c.recipe} is for {meant}, but {c.data.store} holds {there}",
            f"Use {there}-{settings.method.name}, or name a store of {meant} with --data",
        )
    if split.num_samples == 0:
        raise FastnoisyError(f"the training split of {c.data.store} is empty")
    num_classes = len(split.class_names)
    if num_classes < 2:
        raise FastnoisyError(f"{c.data.store} has {num_classes} class, training needs at least two")
    labels = group.from_first(lambda: Labels.draw(settings, split)) if labels is None else labels
    note = labels.origin.check(split) if labels.origin else ""
    if len(labels.train) == 0:
        raise FastnoisyError(
            "no training images are left", "Raise data.subset, lower data.holdout, or drop fewer rows in labels="
        )
    population = training_population(c, labels, 0)
    if len(population) < c.batch_size and c.drop_last:
        raise FastnoisyError(
            f"{len(population)} training images do not fill one batch of {c.batch_size}",
            "Lower batch_size or set drop_last=false",
        )
    told = [settings.told] if settings.told and not restored else []
    told += [why] if why else []
    if labels.estimate is None and estimate.wanted(settings.method):
        drawn = labels
        labels.estimate = group.from_first(lambda: estimate.rate(split, drawn, device, c.seed, observe, keep=not trial))
        told.append(f"{labels.estimate:.1%} of the training labels are wrong by estimate, which the method goes by")
    facts = labels.facts(settings.noise)
    method = build_method(settings, num_classes, split.num_samples, facts, restored, group)
    batch_sizes.check(c, len(population), method, group)
    if c.accumulate > 1 and "accumulate" in method.unsupported:
        raise FastnoisyError(
            f"accumulate={c.accumulate} does not work with method {settings.method}: "
            f"{method.unsupported['accumulate']}",
            "Set accumulate=1; a smaller batch_size or model needs less memory",
        )
    if not restored:
        settings = _with_digest(settings)
    method.to(device=device)
    method.to(memory_format=memory_format(c, device))
    if not restored and group.leads:
        start_heads(settings, split, labels, method, observe, told.append, trial)
    if not restored:
        group.take_over([*method.parameters(), *method.buffers()])
    if c.distributed.sync_batchnorm:
        batchnorm.synchronise(method, group, device)
    views = {
        stream: {name: build_view(settings, program, name, device) for name, program in spec.views.items()}
        for stream, spec in method.streams.items()
    }
    evaluated = build_view(settings, "eval", "eval", device)
    all_views = [view for made in views.values() for view in made.values()]
    told += group.first_here(lambda: executors.prepare([*all_views, evaluated], notes(observe)))
    return Setup(
        settings,
        device,
        store,
        split,
        labels,
        eval_sets(c, store, split.class_names, labels),
        {"train": population},
        method,
        views,
        evaluated,
        [*([note] if note else []), *labels.notes, *told],
    )


def _with_digest(settings: Settings) -> Settings:
    """With the sha256 of the file of weights that the networks were built from, where they started from one."""
    model = settings.config.model
    if not model.get("pretrained"):
        return settings
    found = sha256_of(weights.located(str(model["name"]), str(model.get("weights", ""))).path)
    return replace(settings, config=settings.config.model_copy(update={"model": {**model, "sha256": found}}))


def build_method(
    settings: Settings,
    num_classes: int,
    num_samples: int,
    noise: NoiseFacts,
    restored: bool = False,
    group: Group = ONE,
) -> Method:
    """The method with weights drawn from the run's seed, on the CPU, in the run's dtype. For `restored` see
    `prepare`.
    """
    c = settings.config
    dtype = getattr(torch, c.dtype)
    context = Context(
        c.model, num_classes, num_samples, memory_dtype=dtype, restored=restored, batch_size=c.batch_size,
        seed=c.seed, noise=noise, group=group,
    )  # fmt: skip
    _check_memory(settings, context)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keyed_random.key(c.seed, keyed_random.name_value("weights")) & 0x7FFFFFFF)
        return methods.build(settings.method, context).to(dtype)


def _check_memory(settings: Settings, context: Context) -> None:
    """Refuse weights that no memory of this machine holds, such as those of `model.width=1000000`.

    They are built without any memory first, on torch's meta device (20 to 70 ms): an allocation that fails is a
    traceback, and one that does not may have the process killed.
    """
    what = f"model {settings.config.model['name']} of method {settings.method}"
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            tensors = methods.build(settings.method, replace(context, restored=True)).state_dict().values()
    except RuntimeError as error:  # a size beyond 64 bits
        line = str(error).partition("\n")[0]
        raise FastnoisyError(f"{what} cannot be built: {line}", "Make it smaller, for example by model.width") from None
    need, free = sum(tensor.numel() * tensor.element_size() for tensor in tensors), available_host()
    if need > free:
        raise FastnoisyError(
            f"{what} takes {mebibytes(need)}, {mebibytes(free)} of main memory are free", "Choose a smaller model"
        )


def build_view(
    settings: Settings, program: str, name: str, device: torch.device = _CPU, executor: str | None = None
) -> View:
    """A view of the configuration on a device, drawing random numbers under `name`, in the dtype and memory order of a
    run; by the run's own executor if none is named.
    """
    c = settings.config
    view = settings.views[program].build(
        name,
        mean=c.data.mean,
        std=c.data.std,
        dtype=getattr(torch, c.dtype),
        channels_last=memory_format(c, device) == torch.channels_last,
        executor=executor or view_executor(c, device),
    )
    return view.to(device)


def view_executor(c: Config, device: torch.device) -> str:
    """Who makes a run's views on a device.

    Raises:
        FastnoisyError: that of another device is asked for.
    """
    asked = c.views.executor
    if asked == "auto":
        return executors.automatic(device)
    if asked != "reference" and asked != device.type:
        where = "a CPU" if asked == "cpu" else "an NVIDIA GPU"
        raise FastnoisyError(
            f"views.executor={asked} on device {device}", f"It makes views on {where}: set views.executor=auto"
        )
    return asked


def network_metadata(setup: Setup, method: Method) -> dict[str, str]:
    """What is needed to use the primary network's weights alone, for their file's header: every value as JSON text."""
    split, c = setup.split, setup.config
    return {
        key: json.dumps(value)
        for key, value in {
            "format": "fastnoisy-1",
            "model": c.model,
            "taps": method.primary_network().taps,
            "class_names": split.class_names,
            "canvas": split.canvas,
            "resize": prediction_resize(split),
            "mean": c.data.mean,
            "std": c.data.std,
            "view": c.views.program("eval"),
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
