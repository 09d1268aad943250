"""The fields of a run's configuration: type, default, bounds, meaning, and whether a run that goes on may have another
value.

A field that is marked with `_RESUME` may change in a run that goes on: it neither changes shapes nor which sample is
seen when.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from fastnoisy.config.tables import NAMED, flatten

ESTIMATE = "estimate"


def _rate(value: Any) -> Any:
    if value is None or value == ESTIMATE:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"must be a number from 0 to below 1, or {ESTIMATE}")
    return float(value)


Triple = tuple[float, float, float]
NoiseRate = Annotated[float | str | None, BeforeValidator(_rate)]
"""What share of the labels is wrong: a number, `estimate`, or None, as far as that is known."""

_SIZE = r"\bsize\b(?!\s*=)"
_OUTER = r"\bouter\b(?!\s*=)"
_CROP_SHARE = 0.875  # of ImageNet's usual evaluation: 224 of 256
VIEW_NAMES = ("student", "teacher", "weak", "eval")
_RESUME: Any = {"resume": True}
_FIXED: Any = {"resume": False}  # within a table that may change
_MAX_LR = 1e4  # a network that learns has lr below 100; float32 weights overflow within a few steps beyond this


class Table(BaseModel):
    """A table of the configuration: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class DataConfig(Table):
    """What is trained on."""

    store: str = Field("", description="folder of the converted data set (--data)", json_schema_extra=_RESUME)
    subset: int | None = Field(None, ge=1, description="train on this many images, stratified by class")
    holdout: float = Field(
        0.0, ge=0, lt=1, description="share of each class held out; noise is drawn over either part by itself"
    )
    mean: Triple = Field((0.5, 0.5, 0.5), description="per channel, of images in [0, 1]")
    std: Triple = Field((0.25, 0.25, 0.25), description="per channel, of images in [0, 1]")
    test_split: str = Field("test", description="split of the store that is evaluated on")
    draw: int = Field(
        0, ge=0, description="train every epoch on a fresh draw of so many images, as many of each class; 0: on all"
    )
    order: Literal["random", "blocked"] = Field(
        "random",
        description="blocked: in windows of pages, for files larger than memory or on a slow disk; within one it is "
        "random",
    )
    window: int = Field(
        256, ge=1, description="pages (2 MiB each, more for large canvases) of a window of the blocked order"
    )
    stage: str = Field(
        "",
        description="folder of a local disk to copy the stores to first, once per machine",
        json_schema_extra=_RESUME,
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=1024,
        description="threads or processes that decode; default, or auto: one per core of this rank; 0: the pipeline's"
        " own choice",
        json_schema_extra=_RESUME,
    )

    @field_validator("workers", mode="before")
    @classmethod
    def _one_per_core(cls, value: Any) -> Any:
        return None if value == "auto" else value

    @field_validator("std")
    @classmethod
    def _std_is_positive(cls, std: Triple) -> Triple:
        if min(std) <= 0:
            raise ValueError("must be above 0")
        return std


class ViewsConfig(Table):
    """View programs, see `fastnoisy.augment.program`. A value that is another view's name stands for its program."""

    size: int = Field(
        32,
        ge=1,
        le=4096,
        description="side in pixels that the word `size` in a program stands for; `outer` is size / 0.875: 256 for 224",
    )
    student: str = Field(description="what the network trains on")
    teacher: str = Field(description="what an EMA teacher sees")
    weak: str = Field("", description="crop and flip alone")
    eval: str = Field("normalize", description="evaluation and prediction")
    executor: Literal["auto", "reference", "cpu", "cuda"] = Field(
        "auto",
        description="who makes the views, to the same bit: reference: torch and kornia, on any device; cpu: numba; "
        "cuda: a fused Triton kernel; auto: cpu on a CPU, cuda on an NVIDIA GPU",
        json_schema_extra=_RESUME,
    )

    def program(self, name: str) -> str:
        """The text of a view's program, names of other views resolved."""
        text = str(getattr(self, name))
        return self.expand(str(getattr(self, text)) if text in VIEW_NAMES else text, self.size)

    @model_validator(mode="after")
    def _size_is_used(self) -> ViewsConfig:
        if self.size != 32 and not self.mention_size(self.model_dump()):
            raise ValueError(
                f"size={self.size} has no effect: no program of this run uses the word size. Write it into a program, "
                "for "
                'example views.student="random_resized_crop(size) | hflip | normalize"'
            )
        return self

    @staticmethod
    def mention_size(views: Mapping[str, Any]) -> bool:
        """Whether a program of a table of views uses the word `size`."""
        return any(re.search(f"{_SIZE}|{_OUTER}", str(views.get(name, ""))) for name in VIEW_NAMES)

    @staticmethod
    def expand(text: str, size: int) -> str:
        """A program with its `size` and `outer` written out."""
        return re.sub(_OUTER, str(round(size / _CROP_SHARE)), re.sub(_SIZE, str(size), text))


class OptimConfig(Table):
    """The optimiser, and how its learning rate goes."""

    name: Literal["sgd", "adamw"] = Field(
        "sgd",
        description="adamw: weight decay on all but biases and norms, as for fine-tuning",
        json_schema_extra=_FIXED,
    )
    lr: float = Field(gt=0, le=_MAX_LR, description="initial learning rate")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = Field(False)
    weight_decay: float = Field(0.0, ge=0, le=_MAX_LR)
    milestones: list[int] = Field(
        default_factory=list, description="epochs (0-based) at which lr is multiplied by gamma"
    )
    gamma: float = Field(0.1, gt=0)
    decay: float = Field(1.0, gt=0, le=1, description="lr is multiplied by this after every epoch too")
    schedule: Literal["step", "cosine"] = Field(
        "step", description="step: milestones and decay; cosine: down to 0 at the end, step by step"
    )
    warmup: float = Field(0.0, ge=0, description="epochs of a linear rise of lr before the cosine")
    head_lr: float = Field(
        1.0,
        gt=0,
        le=_MAX_LR,
        description="lr of what starts fresh, in units of lr: sub-classifiers, and the classifier where it does not "
        "start from a regression",
        json_schema_extra=_FIXED,
    )

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> OptimConfig:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=true needs a momentum above 0; set nesterov=false for plain SGD")
        return self

    @model_validator(mode="after")
    def _schedules_do_not_mix(self) -> OptimConfig:
        if self.schedule == "cosine" and (self.milestones or self.decay != 1):
            raise ValueError("schedule=cosine goes without milestones and decay; leave them out (milestones=[])")
        if self.schedule == "step" and self.warmup:
            raise ValueError(f"warmup={self.warmup:g} is of schedule=cosine; set warmup=0 or schedule=cosine")
        return self

    @model_validator(mode="after")
    def _lr_stays_in_bounds(self) -> OptimConfig:
        """By logarithms: gamma to the power of many milestones may be more than a float holds."""
        if math.log10(self.lr) + len(self.milestones) * max(0.0, math.log10(self.gamma)) > math.log10(_MAX_LR):
            raise ValueError(
                f"gamma={self.gamma:g} at each of {len(self.milestones)} milestones takes lr above {_MAX_LR:g}; "
                "a gamma below 1 lowers it"
            )
        return self

    def factor(self, epoch: int) -> float:
        """What lr is multiplied by during an epoch of the step schedule."""
        return float(self.gamma ** sum(epoch >= m for m in self.milestones)) * self.decay**epoch


class CheckpointConfig(Table):
    """When the state is written, and how much of it is kept."""

    every: int = Field(1, ge=1, description="epochs between checkpoints")
    keep: int = Field(2, ge=1, description="newest checkpoints kept")


class DistributedConfig(Table):
    """How several processes train one model; see docs/many_gpus.md."""

    backend: Literal["auto", "gloo", "nccl"] = Field(
        "auto",
        description="what the processes talk by; auto: nccl between GPUs, gloo between CPUs",
        json_schema_extra=_RESUME,
    )
    sync_batchnorm: bool = Field(
        False, description="batch statistics of the global batch instead of each process's own part"
    )
    timeout: float = Field(
        600.0,
        gt=0,
        description="seconds that a step waits for another process before the run ends with an error",
        json_schema_extra=_RESUME,
    )
    compress: Literal["none", "bf16"] = Field(
        "none",
        description="what gradients travel as; bf16: half the bytes, not the same numbers",
        json_schema_extra=_RESUME,
    )


class Config(Table):
    """A run. See `docs/configuration.md` for what belongs where."""

    recipe: str = Field("", description="what this configuration was composed from")
    suite: str = Field("", description="which paper's set-up: nrd or alasca")
    row: str = Field("", description="where lr, weight decay and the method's options come from")
    seed: int = Field(1, ge=0, le=2**31 - 1)
    noise: str = Field("none", description="label noise, for example symmetric:0.4; see the list below")
    labels: str = Field(
        "",
        description="a file of corrections: rows by path or index, a label or `drop` each, for every split that it "
        "names; see docs/labels.md",
    )
    labels_as: Literal["", "index", "name"] = Field(
        "",
        description="what numbers in a label file mean, where one is the name of one class and the index of another",
    )
    labels_columns: str = Field(
        "", description="which column of a label file is what, path=NAME,label=NAME, where their names are not known"
    )
    noise_seed: int | None = Field(None, ge=0, le=2**31 - 1, description="default: seed")
    method: dict[str, Any] = Field(description="name and the method's own options")
    model: dict[str, Any] = Field(description="name and the network's own options")
    epochs: int = Field(ge=1, le=1_000_000, json_schema_extra=_RESUME)
    batch_size: int = Field(128, ge=1, le=1_000_000, description="the global batch")
    accumulate: int = Field(1, ge=1, description="micro-batches that one global batch is cut into")
    drop_last: bool = Field(False)
    pipeline: dict[str, Any] = Field(
        {"name": "auto"},
        description="how images reach the device: name and the pipeline's own options; auto takes one and says why",
        json_schema_extra=_RESUME,
    )
    device: str = Field("auto", description="auto, cpu, cuda", json_schema_extra=_RESUME)
    amp: Literal["auto", "off", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the device computes with it natively", json_schema_extra=_RESUME
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="float64 is for verification")
    channels_last: Literal["auto", "on", "off"] = Field(
        "auto", description="auto: on, but for float64 on a CPU", json_schema_extra=_RESUME
    )
    compile: bool = Field(False, description="compile the method's step with torch.compile", json_schema_extra=_RESUME)
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="CPU threads, at most 1024; 0: OMP_NUM_THREADS, or on a CPU as many as cores are free of other "
        "work when the run starts, which is then kept",
        json_schema_extra=_RESUME,
    )
    eval_batch_size: int | None = Field(
        None,
        ge=1,
        description="images of a batch of evaluation; default: batch_size, at least 256",
        json_schema_extra=_RESUME,
    )
    eval_every: int = Field(
        1,
        ge=1,
        description="epochs between evaluations; the last epoch always is evaluated",
        json_schema_extra=_RESUME,
    )
    log_every: int = Field(
        50, ge=1, description="steps between checks for NaN and updates of the display", json_schema_extra=_RESUME
    )
    select: str = Field(
        "",
        description="report the epoch that is best on this set of clean or held-out images (val, holdout), instead of "
        "the last",
    )
    eval: dict[str, str] = Field(
        default_factory=dict,
        description="further evaluation sets: name = STORE[/SPLIT]",
        json_schema_extra=_RESUME,
    )
    data: DataConfig = DataConfig()
    views: ViewsConfig
    optim: OptimConfig = Field(json_schema_extra=_RESUME)
    checkpoint: CheckpointConfig = Field(CheckpointConfig(), json_schema_extra=_RESUME)
    distributed: DistributedConfig = DistributedConfig()

    @field_validator(*NAMED)
    @classmethod
    def _has_name(cls, table: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(table.get("name"), str):
            raise ValueError("needs a name")
        return table

    @model_validator(mode="after")
    def _batches_fit(self) -> Config:
        """Batch statistics need two images in every micro-batch."""
        if self.batch_size < 2 * self.accumulate:
            raise ValueError(
                f"batch_size={self.batch_size} cut by accumulate={self.accumulate} leaves less than two images a "
                "micro-batch, "
                f"which batch statistics need: set batch_size to {2 * self.accumulate} or more"
                + (", or lower accumulate" if self.accumulate > 1 else "")
            )
        return self


def changed(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """The values that differ between two resolved configurations: dotted key -> (before, after), None where one has no
    such key. Spellings of one value (1 and 1.0, a list and a tuple, a default left out and written) are no difference.
    """

    def plain(value: Any) -> Any:
        return tuple(map(plain, value)) if isinstance(value, (list, tuple)) else value

    old, new = flatten(before.model_dump()), flatten(after.model_dump())
    pairs = {key: (old.get(key), new.get(key)) for key in [*old, *(key for key in new if key not in old)]}
    return {key: pair for key, pair in pairs.items() if plain(pair[0]) != plain(pair[1])}


def _resumable(model: type[BaseModel], prefix: str = "") -> list[tuple[str, bool]]:
    """The dotted keys that may change in a run that goes on, each with whether it is a table, in the order of the
    types.
    """
    found: list[tuple[str, bool]] = []
    for name, info in model.model_fields.items():
        kind: Any = info.annotation
        is_table = isinstance(kind, type) and issubclass(kind, BaseModel)
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("resume"):
            found.append((prefix + name, is_table or getattr(kind, "__origin__", None) is dict))
        elif is_table:
            found += _resumable(kind, f"{prefix}{name}.")
    return found


def _fixed() -> set[str]:
    """The dotted keys that may not change although their table may."""
    return {
        f"optim.{name}"
        for name, info in OptimConfig.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("resume") is False
    }


def may_change(key: str) -> bool:
    """Whether a run that goes on may have another value of a dotted key."""
    tables = _resumable(Config)
    named = any(key == name or (is_table and key.startswith(f"{name}.")) for name, is_table in tables)
    return named and key not in _fixed()


def changeable() -> tuple[str, ...]:
    """What may change in a run that goes on, for people: dotted keys, a table as `optim.*`."""
    return tuple(f"{name}.*" if is_table else name for name, is_table in _resumable(Config))
