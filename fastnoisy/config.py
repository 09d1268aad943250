"""The typed configuration of a run: layers of TOML, then key=value overrides; all problems in one message.

A run is described by plain nested tables. Layers are merged in order (later wins), overrides such as `optim.lr=0.1` come
last, and the result is validated once. `to_toml` writes what `from_tables` reads.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.noise import NoiseSpec

Triple = tuple[float, float, float]
_SIZE = r"\bsize\b(?!\s*=)"
_WORD = re.compile(r"(?!(?:True|False|None)\b)[A-Za-z_]")  # of a value: begins like a name, so it is no literal
_OUTER = r"\bouter\b(?!\s*=)"
_CROP_SHARE = 0.875  # of ImageNet's usual evaluation: 224 of 256
VIEW_NAMES = ("student", "teacher", "weak", "eval")


class Table(BaseModel):
    """A table of the configuration: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class DataConfig(Table):
    """What is trained on."""

    store: str = Field("", description="folder of the converted data set (--data)")
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
        description="blocked: in windows of pages, for files larger than memory or on a slow disk; within one it is random",
    )
    window: int = Field(
        256, ge=1, description="pages (2 MiB each, more for large canvases) of a window of the blocked order"
    )
    stage: str = Field("", description="folder of a local disk to copy the stores to first, once per machine")
    workers: int | None = Field(
        None,
        ge=0,
        description="processes of the torch-loader pipeline, threads of the others; default, or auto: one per core of this"
        " rank; 0: torch-loader decodes in the run's own process",
    )
    hw_decoder_load: float = Field(
        0.65, ge=0, le=1, description="share of the JPEGs that the dali pipeline gives to a GPU's hardware decoder"
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

    def program(self, name: str) -> str:
        """The text of a view's program, names of other views resolved."""
        text = str(getattr(self, name))
        return self.expand(str(getattr(self, text)) if text in VIEW_NAMES else text, self.size)

    @model_validator(mode="after")
    def _size_is_used(self) -> ViewsConfig:
        if self.size != 32 and not self.mention_size(self.model_dump()):
            raise ValueError(
                f"size={self.size} has no effect: no program of this run uses the word size. Write it into a program, for "
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
    """SGD with a step schedule."""

    lr: float = Field(gt=0, description="initial learning rate")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = Field(False)
    weight_decay: float = Field(0.0, ge=0)
    milestones: list[int] = Field(
        default_factory=list, description="epochs (0-based) at which lr is multiplied by gamma"
    )
    gamma: float = Field(0.1, gt=0)
    decay: float = Field(1.0, gt=0, le=1, description="lr is multiplied by this after every epoch too")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> OptimConfig:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=true needs a momentum above 0; set nesterov=false for plain SGD")
        return self

    def factor(self, epoch: int) -> float:
        """What lr is multiplied by during an epoch."""
        return float(self.gamma ** sum(epoch >= m for m in self.milestones)) * self.decay**epoch


class CheckpointConfig(Table):
    """When the state is written, and how much of it is kept."""

    every: int = Field(1, ge=1, description="epochs between checkpoints")
    keep: int = Field(2, ge=1, description="newest checkpoints kept")


class Config(Table):
    """A run. See `docs/configuration.md` for what belongs where."""

    recipe: str = Field("", description="what this configuration was composed from")
    suite: str = Field("", description="which paper's set-up: nrd or alasca")
    row: str = Field("", description="where lr, weight decay and the method's options come from")
    seed: int = Field(1, ge=0, le=2**31 - 1)
    noise: str = Field("none", description="label noise, for example symmetric:0.4; see the list below")
    noise_seed: int | None = Field(None, ge=0, le=2**31 - 1, description="default: seed")
    method: dict[str, Any] = Field(description="name and the method's own options")
    model: dict[str, Any] = Field(description="name and the network's own options")
    epochs: int = Field(ge=1)
    batch_size: int = Field(128, ge=1, description="the global batch")
    accumulate: int = Field(1, ge=1, description="micro-batches that one global batch is cut into")
    drop_last: bool = Field(False)
    pipeline: str = Field(
        "auto", description="how images reach the device: auto, resident, ffcv, dali, torch-loader, synthetic"
    )
    device: str = Field("auto", description="auto, cpu, cuda")
    amp: Literal["auto", "off", "bf16", "fp16"] = Field("auto", description="auto: bf16 on a GPU, off on a CPU")
    dtype: Literal["float32", "float64"] = Field("float32", description="float64 is for verification")
    channels_last: Literal["auto", "on", "off"] = Field("auto", description="auto: on on a GPU")
    compile: bool = Field(False, description="compile the method's step with torch.compile")
    threads: int = Field(0, ge=0, description="CPU threads; 0: all that this process may use")
    eval_every: int = Field(1, ge=1, description="epochs between evaluations; the last epoch always is evaluated")
    eval_batch_size: int | None = Field(
        None, ge=1, description="images of a batch of evaluation; default: batch_size, at least 256"
    )
    log_every: int = Field(50, ge=1, description="steps between checks for NaN and updates of the display")
    select: str = Field(
        "",
        description="report the epoch that is best on this set of clean or held-out images (val, holdout), instead of the last",
    )
    eval: dict[str, str] = Field(default_factory=dict, description="further evaluation sets: name = STORE[/SPLIT]")
    data: DataConfig = DataConfig()
    views: ViewsConfig
    optim: OptimConfig
    checkpoint: CheckpointConfig = CheckpointConfig()

    @field_validator("noise", mode="before")
    @classmethod
    def _noise_parses(cls, text: Any) -> str:
        if not isinstance(text, str):
            raise ValueError("must be a text such as symmetric:0.4")
        try:
            return str(NoiseSpec.parse(text))
        except FastnoisyError as error:
            raise ValueError(str(error)) from None

    @field_validator("method", "model")
    @classmethod
    def _has_name(cls, table: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(table.get("name"), str):
            raise ValueError("needs a name")
        return table

    @model_validator(mode="after")
    def _batches_fit(self) -> Config:
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate={self.accumulate} exceeds batch_size={self.batch_size}")
        return self


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested tables, later layers winning key by key.

    A later `method`, `base` or `model` table that names another one starts afresh: options belong to the name they were
    set for.
    """
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                renamed = key in ("method", "base", "model") and value.get("name", old.get("name")) != old.get("name")
                result[key] = merge(value) if renamed else merge(old, value)
            else:
                result[key] = merge(value) if isinstance(value, Mapping) else value
    return result


def flat_keys(tables: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys of nested tables."""
    keys: list[str] = []
    for key, value in tables.items():
        keys += flat_keys(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return keys


def parse_value(text: str) -> Any:
    """A TOML value (`0.1`, `true`, `[40, 80]`, `"text"`), or the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_call(text: str) -> dict[str, Any]:
    """`alasca` or `alasca(base="gce", lam=2.0)` as a table with `name` and the options; literals and bare words only.

    Raises:
        FastnoisyError: the text is neither.
    """
    problem = FastnoisyError(f"{text!r} is neither a name nor a call such as alasca(base=ce, lam=2.0)")
    if "(" not in text:
        return {"name": text.strip()}
    name, _, rest = text.partition("(")
    try:
        whole = f"f({rest}"
        call = ast.parse(whole, mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise problem
        options: dict[str, Any] = {}
        for keyword in call.keywords:
            node = keyword.value
            if isinstance(node, ast.Name) and node.id in ("true", "false"):  # as TOML writes them
                options[str(keyword.arg)] = node.id == "true"
            elif _WORD.match(
                ast.get_source_segment(whole, node) or ""
            ):  # a word, or a call: base=nce-rce, base=gce(q=0.5)
                options[str(keyword.arg)] = ast.get_source_segment(whole, node)
            else:
                options[str(keyword.arg)] = ast.literal_eval(node)
    except (SyntaxError, ValueError):
        raise problem from None
    return {"name": name.strip(), **options}


def call_table(value: Any) -> dict[str, Any]:
    """A name, a call such as `gce(q=0.5)`, or a table with `name`, as a table.

    Raises:
        FastnoisyError: it names no method.
    """
    table = parse_call(value) if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
    if not isinstance(table.get("name"), str):
        raise FastnoisyError(
            f"{value!r} names no method", "Write for example base=gce, base=gce(q=0.5), or method.base.name=gce with it"
        )
    return table


def parse_overrides(words: Iterable[str]) -> dict[str, Any]:
    """`key=value` words as nested tables: `optim.lr=0.1`, `method=nrd`, `method.weights=[0.2,0.6,0.2]`.

    Raises:
        FastnoisyError: a word without `=`.
    """
    tables: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals or not path:
            raise FastnoisyError(f"{word!r} is not of the form key=value", "Write for example seed=1 or optim.lr=0.1")
        keys = path.strip().split(".")
        value = parse_value(text.strip())
        if keys in (["method"], ["model"], ["method", "base"]) and isinstance(value, str):
            value = parse_call(value)
        for key in reversed(keys):
            value = {key: value}
        tables = merge(tables, value)
    return tables


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        FastnoisyError: the file is missing or is not TOML; the message has the line.
    """
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise FastnoisyError(f"configuration file {path} does not exist") from None
    except IsADirectoryError:
        inside = f"Name the file {path / 'config.toml'}" if (path / "config.toml").is_file() else "Name a .toml file"
        raise FastnoisyError(f"{path} is a folder, not a configuration file", inside) from None
    except OSError as error:
        raise FastnoisyError(f"configuration file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FastnoisyError(f"configuration file {path} is not valid TOML: {error}") from error


def validate(model: type[BaseModel], tables: Mapping[str, Any], prefix: str = "") -> tuple[Any, list[str]]:
    """Validate tables against a pydantic model.

    Returns:
        (the validated object or None, all problems: one line each with the key, the value and what was allowed).
    """
    try:
        return model.model_validate(dict(tables)), []
    except ValidationError as error:
        return None, [_problem(model, item, prefix) for item in error.errors()]


def _problem(model: type[BaseModel], item: Any, prefix: str) -> str:
    place = [str(part) for part in item["loc"]]
    key = prefix + ".".join(place)
    if item["type"] == "extra_forbidden":
        owner: Any = model
        for part in place[:-1]:
            owner = owner.model_fields[part].annotation if part in owner.model_fields else owner
        known = [prefix + ".".join([*place[:-1], name]) for name in getattr(owner, "model_fields", {})]
        return str(unknown_name("key", key, known))
    if item["type"] == "missing" and place[-1].isdigit():
        return f"{prefix}{'.'.join(place[:-1])}: too few numbers (got {item['input']!r})"
    if item["type"] == "missing":
        return f"missing key {key!r}"
    if item["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return f"{key} is a table: set one of its keys, {key}.NAME=VALUE (got {item['input']!r})"
    message = item["msg"].removeprefix("Value error, ")
    return f"{key or 'configuration'}: {message} (got {item['input']!r})" if key else message


def problems_error(problems: list[str], where: str = "the configuration") -> FastnoisyError:
    """One error for a list of problems."""
    if len(problems) == 1:
        return FastnoisyError(problems[0])
    return FastnoisyError(f"{len(problems)} problems in {where}:\n  " + "\n  ".join(problems))


def to_toml(tables: Mapping[str, Any], prefix: str = "") -> str:
    """Nested tables of strings, numbers, booleans, lists and tables as TOML text; None values are left out."""
    plain = [(k, v) for k, v in tables.items() if not isinstance(v, Mapping) and v is not None]
    nested = [(k, v) for k, v in tables.items() if isinstance(v, Mapping)]
    lines = [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in plain]
    for name, value in nested:
        key = _toml_key(name)
        body = to_toml(value, f"{prefix}{key}.")
        lines += ["", f"[{prefix}{key}]", body.rstrip("\n")]
    return "\n".join(lines) + "\n"


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's basic strings are JSON's
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    return repr(value)


_MAY_CHANGE = (
    "epochs", "optim.", "checkpoint.", "eval.", "eval_every", "eval_batch_size", "log_every", "data.store", "data.stage",
    "data.workers", "pipeline", "data.hw_decoder_load", "device", "threads", "compile", "channels_last", "amp",
)  # fmt: skip


def may_change(key: str) -> bool:
    """Whether a run that goes on may change a dotted key."""
    return key.startswith(_MAY_CHANGE)


def changeable() -> tuple[str, ...]:
    """The keys that may change in a run that goes on."""
    return _MAY_CHANGE


def changed(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """What differs between two configurations: dotted key -> (old, new)."""
    old, new = _flat(before.model_dump()), _flat(after.model_dump())
    return {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found
