"""Pipelines: how decoded images reach the device, one file each, behind the interface of `base.py`.

This folder stands at the top of the checkout and is imported as `fastnoisy.pipelines`. What `auto` may take, and when,
each pipeline says itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fastnoisy import config, discovery, extras
from fastnoisy.config import Table
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.machine import available_host, mebibytes
from fastnoisy.pipelines.base import Pipeline, thread_counts_kept

AUTO = "auto"


def names() -> list[str]:
    """All pipelines, sorted."""
    return discovery.names(__name__)


def find(name: str) -> type[Pipeline]:
    """The class of a pipeline.

    Raises:
        FastnoisyError: unknown name; near misses and all names are listed.
    """
    if name not in names():
        raise unknown_name("pipeline", name, [AUTO, *names()])
    found: type[Pipeline] = discovery.load(__name__, "pipeline", name).PIPELINE
    return found


@dataclass(frozen=True)
class Request:
    """What a run asks for: a pipeline or `auto`, and validated options.

    Attributes:
        options: of each pipeline that they may be for, by its name: of the one that is named; for `auto`, of each that
            declares an option that was given.
    """

    name: str
    options: Mapping[str, Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """A pipeline, one line on why it was taken, and its options."""

    name: str
    why: str
    options: Table


def _options(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "name"}


def _owners(table: Mapping[str, Any]) -> list[str]:
    """The pipelines that a table's options may be for."""
    if table["name"] != AUTO:
        return [str(table["name"])]
    return [name for name in names() if set(find(name).Options.model_fields) & set(_options(table))]


def problems(table: Mapping[str, Any]) -> list[str]:
    """What is wrong with a configuration's `pipeline` table, one line each."""
    given = _options(table)
    try:
        if table["name"] != AUTO:
            return config.validate(find(str(table["name"])).Options, given, "pipeline.")[1]
    except FastnoisyError as error:
        return [error.message]
    fields = {name: find(name).Options for name in names()}
    known = sorted({key for options in fields.values() for key in options.model_fields})
    found = [
        str(unknown_name("key", f"pipeline.{key}", [f"pipeline.{k}" for k in known]))
        for key in given
        if key not in known
    ]
    for options in fields.values():
        own = {key: value for key, value in given.items() if key in options.model_fields}
        found += config.validate(options, own, "pipeline.")[1] if own else []
    return list(dict.fromkeys(found))


def parse(table: Mapping[str, Any]) -> Request:
    """A valid `pipeline` table.

    Raises:
        FastnoisyError: all problems of the table in one message.
    """
    if found := problems(table):
        raise config.problems_error(found, "the pipeline's options")
    owners = {name: find(name).Options for name in _owners(table)}
    given = _options(table)
    own = {name: {key: given[key] for key in given if key in options.model_fields} for name, options in owners.items()}
    return Request(str(table["name"]), {name: owners[name](**own[name]) for name in owners})


def complete(table: Mapping[str, Any]) -> dict[str, Any]:
    """A valid table with every option of a named pipeline written down; of `auto`, those that were given."""
    request = parse(table)
    if request.name == AUTO:
        return dict(table)
    return {"name": request.name, **request.options[request.name].model_dump()}


def choose(request: Request, splits: Sequence[Split], device: torch.device, available_bytes: int) -> Choice:
    """What is asked for; for `auto` the first by `Pipeline.auto_rank` that may be taken.

    It must be made for the device, hold its images in half of what is available, be installed, and find all splits
    verified where it trusts its files.

    Args:
        available_bytes: free memory of the device.

    Raises:
        FastnoisyError: unknown name.
    """
    if request.name != AUTO:
        return Choice(request.name, "asked for", request.options.get(request.name, find(request.name).Options()))
    reasons: list[str] = []
    candidates = {name: find(name) for name in names()}
    ranked = [(cls.auto_rank, name) for name, cls in candidates.items() if cls.auto_rank is not None]
    for _, name in sorted(ranked):
        cls = candidates[name]
        if device.type not in cls.auto_devices:
            continue
        need = sum(cls.bytes_needed(split) for split in splits)
        if need:
            where = "GPU" if device.type == "cuda" else "main"
            reasons.append(
                f"the decoded images take {mebibytes(need)} of {mebibytes(available_bytes)} free {where} memory"
            )
        if need > available_bytes / 2:
            reasons += _large_files(splits)
            continue
        unverified = [split for split in splits if not split.verified] if cls.needs_verified else []
        if unverified:
            reasons.append(f"not {name}: {unverified[0].beton_path} is not verified (fastnoisy verify)")
        elif cls.extra and (problem := _import_problem(cls.extra)):
            reasons.append(f"not {name}: {problem} ({extras.EXTRAS[cls.extra].install})")
        else:
            unused = [other for other in request.options if other != name]
            reasons += (
                [f"the options given are those of pipeline={' or '.join(unused)} and have no effect"] if unused else []
            )
            return Choice(name, "; ".join(reasons), request.options.get(name, cls.Options()))
    raise FastnoisyError(
        f"no pipeline can be chosen: {'; '.join(reasons)}", "Name one, for example pipeline=torch-loader"
    )


def _large_files(splits: Sequence[Split]) -> list[str]:
    stored, free = sum(split.num_bytes for split in splits), available_host()
    if stored <= free:
        return []
    return [f"the files take {mebibytes(stored)} of {mebibytes(free)}: data.order=blocked reads them piece by piece"]


def _import_problem(extra: str) -> str:
    """Why an extra cannot be imported; empty where it can. Tried in earnest, for a package may lack what it links."""
    with thread_counts_kept():
        try:
            extras.load(extra)
        except FastnoisyError as error:
            return error.message
    return ""


def open_pipeline(
    choice: Choice | str, split: Split, labels: np.ndarray, device: torch.device, workers: int | None = 0
) -> Pipeline:
    """Open a pipeline. See `Pipeline` for the other arguments.

    Args:
        choice: what `choose` gave, or a name or call such as `dali(hw_decoder_load=0.5)`.
        workers: None: what the pipeline takes where nobody says how many.

    Raises:
        FastnoisyError: unknown name or option, or what the pipeline refuses.
    """
    if isinstance(choice, str):
        request = parse(config.parse_call(choice))
        choice = Choice(request.name, "asked for", request.options[request.name])
    cls = find(choice.name)
    return cls(split, labels, device, cls.default_workers() if workers is None else workers, choice.options)
