"""Checkpoints: a folder each, written whole or not at all, checked before it is trusted.

`checkpoints/epoch-0007-pass-0-step-000012/` holds `model.safetensors` (the primary network alone, with what is needed
to use it in its metadata), `state.pt` (all else of the run's state; loads with `weights_only=True`) and
`manifest.json`: size and SHA-256 of each file, the position, which must equal the folder's name, and what else of the
run the state belongs to. The manifest has a digest of its own.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fastnoisy import __version__
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import replacing, sha256_of
from fastnoisy.machine import has_bf16
from fastnoisy.methods.base import Method
from fastnoisy.training.state import Position

BEST = "best"
_FILES = ("model.safetensors", "state.pt")
_NAME = re.compile(r"epoch-(\d{4,})-pass-(\d+)-step-(\d{6,})")
_LEFT = re.compile(rf"\.partial-\d+-({_NAME.pattern}|{BEST})(-old)?")

# What readers of JSON, safetensors and torch files raise on damaged bytes.
_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, MemoryError, OverflowError,
    RecursionError, SafetensorError, RuntimeError, UnpicklingError,
)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """What a state belongs to, beside its position.

    Attributes:
        config: the resolved configuration it was trained under, as plain tables.
        labels: the digest of the labels trained on; see `training.labels`.
        metrics: bytes and SHA-256 of metrics.jsonl when the state was written.
        num_samples: rows of the data set, which memories are addressed by.
        order: the name of the order that the samples were visited in; see `order.name`.
    """

    config: dict[str, Any]
    labels: str
    metrics: dict[str, Any]
    num_samples: int
    order: str


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint. `state` is a `TrainState.snapshot`, of `best` its `method` and `selection` alone."""

    path: Path
    position: Position
    origin: Origin
    metadata: dict[str, str]
    state: dict[str, Any]
    machine: dict[str, Any]


def machine(device: torch.device) -> dict[str, Any]:
    """What exact reproduction depends on: versions, threads, processor features, device."""
    return {
        "fastnoisy": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "bf16": has_bf16(device),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def prefix(method: Method) -> str:
    """Under which prefix the primary network's entries stand in the method's state dict."""
    primary = method.primary_network()
    return next(name for name, module in method.named_modules() if module is primary) + "."


def write(
    final: Path,
    state: Mapping[str, Any],
    primary: str,
    metadata: dict[str, str],
    origin: Origin,
    device: torch.device,
) -> Path:
    """Write one checkpoint. The disk holds all of it before it gets its name.

    Args:
        final: the folder; one of that name is replaced.
        state: a `TrainState.snapshot`.
        primary: of `prefix`.

    Raises:
        FastnoisyError: the disk refuses; nothing is left behind then.
    """
    model = {k.removeprefix(primary): v for k, v in state["method"].items() if k.startswith(primary)}
    rest = {**state, "method": {k: v for k, v in state["method"].items() if not k.startswith(primary)}}
    manifest: dict[str, Any] = {
        "name": final.name, "position": state["position"], "primary": primary, "machine": machine(device),
        **asdict(origin),
    }  # fmt: skip
    try:
        final.parent.mkdir(exist_ok=True)
        with replacing(final, durable=True) as partial:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            save_file(model, partial / _FILES[0], metadata)
            torch.save(rest, partial / _FILES[1])
            manifest["files"] = {name: fingerprint(partial / name) for name in _FILES}
            manifest["digest"] = _digest(manifest)
            (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
    except (OSError, SafetensorError, RuntimeError) as error:  # a full disk is each of these, by who meets it
        raise FastnoisyError(
            f"the checkpoint {final} could not be written: {error}", "Free disk space and go on with --resume"
        ) from error
    return final


def sweep(folder: Path) -> None:
    """Remove what an interrupted write left behind, and nothing else."""
    for left in list(folder.iterdir()) if folder.is_dir() else []:
        if _LEFT.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True)


def fingerprint(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _digest(manifest: Mapping[str, Any]) -> str:
    """Of all of a manifest but its own digest, however it is laid out."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def listing(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first; what has another name, such as a copy of the user's, is none."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if (match := _NAME.fullmatch(path.name)) and path.is_dir():
            position = Position(*map(int, match.groups()))
            if position.name == path.name:
                found.append(((position.epoch, position.pass_number, position.step), path))
    return [path for _, path in sorted(found)]


def load(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        FastnoisyError: a file is missing, truncated or altered, or the folder was renamed; says which and how.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        if manifest["digest"] != _digest(manifest):
            raise FastnoisyError(f"checkpoint {path} is damaged: manifest.json has changed since it was written")
        position = Position(**manifest["position"])
        if manifest["name"] != path.name or path.name not in (position.name, BEST):
            raise FastnoisyError(
                f"checkpoint {path} was written as {manifest['name']}", f"Name it {manifest['name']} again"
            )
        for name in _FILES:
            expected = manifest["files"][name]
            found = fingerprint(path / name)
            if found != expected:
                how = (
                    f"has {found['bytes']} bytes, {expected['bytes']} were written"
                    if found["bytes"] != expected["bytes"]
                    else "has another checksum than what was written"
                )
                raise FastnoisyError(f"checkpoint {path} is damaged: {name} {how}")
        model = load_file(path / _FILES[0])
        with safe_open(path / _FILES[0], "pt") as file:
            metadata = file.metadata() or {}
        state = torch.load(path / _FILES[1], map_location="cpu", weights_only=True)
        whole: dict[str, Tensor] = {**{manifest["primary"] + k: v for k, v in model.items()}, **state["method"]}
        origin = Origin(**{name: manifest[name] for name in Origin.__dataclass_fields__})
        return Checkpoint(path, position, origin, metadata, {**state, "method": whole}, manifest["machine"])
    except FastnoisyError:
        raise
    except _UNREADABLE as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise FastnoisyError(f"checkpoint {path} is damaged: {said}") from error


def load_newest(folder: Path, say: Callable[[str], None] = lambda line: None) -> Checkpoint:
    """The newest whole checkpoint; a damaged one is refused with a line (through `say`) and the one before it used.

    Raises:
        FastnoisyError: there is none, or none is whole.
    """
    problems = []
    for path in reversed(listing(folder)):
        try:
            return load(path)
        except FastnoisyError as error:
            problems.append(str(error))
            say(f"{error}; trying the one before")
    if problems:
        raise FastnoisyError(f"no whole checkpoint in {folder}: {problems[0]}", "Start the run again in another folder")
    raise FastnoisyError(f"{folder} holds no checkpoint", "The run has not reached its first one; start it again")


def other_machine(checkpoint: Checkpoint, device: torch.device) -> str:
    """One line where the run goes on under other versions, threads or processors, so not bit for bit; else ''."""
    now = machine(device)
    changed = [f"{k} {v} -> {now.get(k)}" for k, v in checkpoint.machine.items() if now.get(k) != v]
    return f"not bit-exact with the run so far: {', '.join(changed)}" if changed else ""
