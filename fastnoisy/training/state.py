"""The state of a run: all that a checkpoint, a preemption and a warm-up must hold, put together in this one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Method
from fastnoisy.order import Population
from fastnoisy.training import optim
from fastnoisy.training.meter import Meter
from fastnoisy.training.selection import Selection


@dataclass(frozen=True)
class Position:
    """Where in a run a state belongs: the next step to do is `step` of pass `pass_number` of `epoch` (all 0-based)."""

    epoch: int = 0
    pass_number: int = 0
    step: int = 0

    @property
    def name(self) -> str:
        """The name of this position's checkpoint."""
        return f"epoch-{self.epoch:04d}-pass-{self.pass_number}-step-{self.step:06d}"


@dataclass
class TrainState:
    """What changes while a run trains.

    Attributes:
        method: networks, averages, per-sample memories.
        optimizer, scaler: momenta; the loss scale of fp16.
        meter: the sums of the epoch under way.
        selection: the best epoch so far, where the run reports one.
        populations: name -> the rows that a stream runs over. `train` is a pure function of the epoch and is not kept.
        position: the next step.
    """

    method: Method
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    meter: Meter
    selection: Selection
    populations: dict[str, Population] = field(default_factory=dict)
    position: Position = Position()

    def snapshot(self, copy: bool = True) -> dict[str, Any]:
        """The state as plain values and tensors on the host.

        Args:
            copy: later steps leave it as it is. Without, tensors that are on the host already are shared with the
                state: enough for writing them at once, and a memory of the size of the data set is not held twice.
        """
        taken: dict[str, Any] = _on_host(
            {
                "method": self.method.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "meter": self.meter.state(),
                "selection": self.selection.state(),
                "populations": {
                    name: torch.from_numpy(rows.indices) for name, rows in self.populations.items() if name != "train"
                },
                "position": asdict(self.position),
            },
            copy,
        )
        return taken

    def restore(self, snapshot: Mapping[str, Any], origin: str) -> None:
        """Go on from a snapshot, in place.

        Args:
            origin: where the snapshot comes from, for messages.

        Raises:
            FastnoisyError: names or shapes differ: another model, method or number of classes.
        """
        load_method(self.method, snapshot["method"], origin)
        optim.load(self.optimizer, snapshot["optimizer"])
        if snapshot["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(snapshot["scaler"])
        self.meter.load(snapshot["meter"])
        self.selection.load(snapshot["selection"])
        for name, rows in snapshot["populations"].items():
            self.populations[name] = Population(name, rows.numpy())
        self.position = Position(**snapshot["position"])


def _on_host(value: Any, copy: bool) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=copy).contiguous()
    if isinstance(value, Mapping):
        return {key: _on_host(item, copy) for key, item in value.items()}
    if isinstance(value, list):
        return [_on_host(item, copy) for item in value]
    return value


def load_method(method: Method, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Put a snapshot's tensors into a method. For `origin` and what is raised see `TrainState.restore`."""
    own = method.state_dict()
    for name, tensor in own.items():
        if name in tensors and tensors[name].shape != tensor.shape:
            raise FastnoisyError(
                f"{origin} does not fit: {name} has shape {tuple(tensors[name].shape)}, "
                f"this run needs {tuple(tensor.shape)}",
                "Use the data set, number of classes and model that the run was trained with",
            )
    if missing := sorted(set(own) ^ set(tensors)):
        raise FastnoisyError(f"{origin} does not fit: {missing[0]} is in only one of the two")
    with torch.no_grad():
        method.load_state_dict(dict(tensors))
