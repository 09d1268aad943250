"""Checkpoints: a folder each, written whole or not at all, checked before it is trusted.

`checkpoints/epoch-0007-step-000012/` holds `model.safetensors` (the primary network alone, with what is needed to use it in
its metadata), `state.pt` (everything else that training needs: rest of the method, optimiser, scaler, sums of the epoch;
loads with `weights_only=True`) and `manifest.json` (size and CRC of each file, position, machine).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fastnoisy import __version__
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Method


@dataclass(frozen=True)
class Position:
    """Where in a run a state belongs: the next step to do is `step` of pass `pass_number` of `epoch` (all 0-based)."""

    epoch: int = 0
    pass_number: int = 0
    step: int = 0

    @property
    def folder(self) -> str:
        """The name of this position's checkpoint."""
        return f"epoch-{self.epoch:04d}-pass-{self.pass_number}-step-{self.step:06d}"


@dataclass
class Checkpoint:
    """A loaded checkpoint. `model` are the primary network's tensors, `state` everything else."""

    path: Path
    position: Position
    model: dict[str, Tensor]
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
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def prefix(method: Method) -> str:
    """Under which prefix the primary network's entries stand in the method's state dict."""
    primary = method.primary_network()
    return next(name for name, module in method.named_modules() if module is primary) + "."


def save(
    folder: Path,
    position: Position,
    method: Method,
    metadata: dict[str, str],
    state: dict[str, Any],
    device: torch.device,
    keep: int,
) -> Path:
    """Write the checkpoint of a position and remove all but the newest `keep`.

    Everything is written under a temporary name, flushed to disk and renamed, so that a checkpoint with a final name is
    whole. Raises FastnoisyError where the disk refuses; nothing is left behind then, and older checkpoints stay.
    """
    final = write(folder / position.folder, position, method, metadata, state, device)
    found = listing(folder)
    done = found.index(final) + 1
    for old in [*found[: max(0, done - keep)], *found[done:]]:  # later ones were damaged, or this would not be earlier
        shutil.rmtree(old, ignore_errors=True)
    return final


def write(
    final: Path,
    position: Position,
    method: Method,
    metadata: dict[str, str],
    state: dict[str, Any],
    device: torch.device,
) -> Path:
    """Write one checkpoint under a name of its own, whole or not at all; see `save`."""
    folder = final.parent
    partial = folder / f".{final.name}.partial"
    start = prefix(method)
    tensors = {k: v.detach().cpu().contiguous() for k, v in method.state_dict().items()}
    model = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    rest = {k: v for k, v in tensors.items() if not k.startswith(start)}
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(model, partial / "model.safetensors", metadata)
        torch.save({"method": rest, **state}, partial / "state.pt")
        files = {name: _fingerprint(partial / name) for name in ("model.safetensors", "state.pt")}
        manifest = {"position": vars(position), "files": files, "machine": machine(device)}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
        for path in [*partial.iterdir(), partial]:
            _flush(path)
        if final.exists():  # moved aside, so that a whole checkpoint stands at every moment
            os.rename(final, folder / f".{final.name}.partial-old")
        os.rename(partial, final)
        _flush(folder)
        sweep(folder)
    except (OSError, SafetensorError, RuntimeError) as error:  # a full disk is each of these, by who meets it
        shutil.rmtree(partial, ignore_errors=True)
        raise FastnoisyError(
            f"the checkpoint {final} could not be written: {error}", "Free disk space and go on with --resume"
        ) from error
    return final


def sweep(folder: Path) -> None:
    """Remove what an interrupted write left behind."""
    for left in folder.glob(".*.partial*"):
        shutil.rmtree(left, ignore_errors=True)


def _fingerprint(path: Path) -> dict[str, int]:
    crc, size = 0, 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc, size = zlib.crc32(block, crc), size + len(block)
    return {"bytes": size, "crc32": crc}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def listing(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted((p for p in folder.glob("epoch-*-pass-*-step-*") if p.is_dir()), key=_place)


def _place(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.name.split("-")[1::2])


# What readers of JSON, safetensors and torch files raise on damaged bytes.
_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, SafetensorError, RuntimeError, UnpicklingError,
)  # fmt: skip


def load(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        FastnoisyError: a file is missing, truncated or altered; says which and how.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        for name, expected in manifest["files"].items():
            found = _fingerprint(path / name)
            if found != expected:
                how = (
                    f"has {found['bytes']} bytes, {expected['bytes']} were written"
                    if found["bytes"] != expected["bytes"]
                    else "has another checksum than what was written"
                )
                raise FastnoisyError(f"checkpoint {path} is damaged: {name} {how}")
        model = load_file(path / "model.safetensors")
        with safe_open(path / "model.safetensors", "pt") as file:
            metadata = file.metadata() or {}
        state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
        return Checkpoint(path, Position(**manifest["position"]), model, metadata, state, manifest["machine"])
    except FastnoisyError:
        raise
    except _UNREADABLE as error:
        raise FastnoisyError(f"checkpoint {path} is damaged: {str(error).splitlines()[0]}") from error


BEST = "best"


def load_reported(folder: Path, select: str, say: Any = None) -> Checkpoint:
    """The checkpoint whose numbers a run reports: the newest, or the best so far where the run selects one.

    Args:
        select: the configuration's `select`.

    Raises:
        FastnoisyError: as `load_newest`, or the best one is damaged.
    """
    if select and (folder / BEST).is_dir():
        return load(folder / BEST)
    return load_newest(folder, say)


def load_newest(folder: Path, say: Any = None) -> Checkpoint:
    """The newest whole checkpoint; a damaged one is refused with a line (through `say`) and the previous one used.

    Raises:
        FastnoisyError: there is none, or none is whole.
    """
    problems = []
    for path in reversed(listing(folder)):
        try:
            return load(path)
        except FastnoisyError as error:
            problems.append(str(error))
            if say is not None:
                say(f"{error}; trying the one before")
    if problems:
        raise FastnoisyError(f"no whole checkpoint in {folder}: {problems[0]}", "Start the run again in another folder")
    raise FastnoisyError(f"{folder} holds no checkpoint", "The run has not reached its first one; start it again")


def restore(method: Method, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's tensors into a method.

    Raises:
        FastnoisyError: names or shapes differ (another model, method or number of classes).
    """
    start = prefix(method)
    tensors = {**{start + k: v for k, v in checkpoint.model.items()}, **checkpoint.state["method"]}
    own = method.state_dict()
    for name, tensor in own.items():
        if name in tensors and tensors[name].shape != tensor.shape:
            raise FastnoisyError(
                f"checkpoint {checkpoint.path} does not fit: {name} has shape {tuple(tensors[name].shape)}, "
                f"this run needs {tuple(tensor.shape)}",
                "Use the data set, number of classes and model that the run was trained with",
            )
    if missing := sorted(set(own) ^ set(tensors)):
        raise FastnoisyError(f"checkpoint {checkpoint.path} does not fit: {missing[0]} is in only one of the two")
    with torch.no_grad():
        method.load_state_dict(tensors)


def warn_if_other_machine(checkpoint: Checkpoint, device: torch.device) -> str:
    """One line where the run goes on under other versions, threads or processors, so not bit for bit; else ''."""
    now = machine(device)
    changed = [f"{k} {v} -> {now.get(k)}" for k, v in checkpoint.machine.items() if now.get(k) != v]
    return f"not bit-exact with the run so far: {', '.join(changed)}" if changed else ""
