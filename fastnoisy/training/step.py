"""One optimisation step: views, forward and loss, backward, optimiser, moving averages. Eager or compiled.

Eager is the reference; compiled equals it to rounding. Nothing here synchronises the host on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch

from fastnoisy import keyed_random
from fastnoisy.augment.views import View
from fastnoisy.batch import Batch
from fastnoisy.compiler import missing_packages
from fastnoisy.config import Config
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Method, Progress, Record, StepBatch

ViewTable = Mapping[str, Mapping[str, View]]
"""stream -> name of a view in the stream -> the built view."""


class Stepper:
    """Turns a global batch of each stream into one optimisation step.

    Args:
        method: in train mode, on the device.
        views: see `ViewTable`.
        observe: called with each micro-batch's record and with its share of the global batch (for metrics).
    """

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        views: ViewTable,
        config: Config,
        device: torch.device,
        observe: Callable[[Record, float], None],
    ) -> None:
        self.method, self.optimizer, self.views, self.observe = method, optimizer, views, observe
        self.seed, self.accumulate, self.device = config.seed, config.accumulate, device
        self.amp = amp_dtype(config, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp == torch.float16)
        self.forward: Callable[[Mapping[str, StepBatch], Progress], Record] = method.step
        if config.compile:
            _check_compiler(device)
            # dynamic=False: a run has at most two batch sizes, and static shapes give the faster code
            self.forward = torch.compile(method.step, dynamic=False)

    def __call__(self, batches: Mapping[str, Batch], progress: Progress, epoch: int) -> None:
        """Do the step. `batches` holds one global batch per stream of the pass."""
        total = {name: len(batch.indices) for name, batch in batches.items()}
        micro = {name: batch.split(self.accumulate) for name, batch in batches.items()}
        first = next(iter(batches))
        for number, lead in enumerate(micro[first]):
            share = len(lead.indices) / total[first]
            pieces = {name: self._views(name, parts[number], epoch) for name, parts in micro.items()}
            with self._autocast():
                record = self.forward(pieces, progress)
            self.scaler.scale(record.loss * share).backward()
            self.observe(record, share)
        self.scaler.unscale_(self.optimizer)
        self.method.after_backward(progress)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(progress)

    def _views(self, stream: str, batch: Batch, epoch: int) -> StepBatch:
        key = keyed_random.key(self.seed, epoch)
        made = {name: view(batch.images, batch.sizes, batch.indices, key) for name, view in self.views[stream].items()}
        return StepBatch(made, batch.labels, batch.indices)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.amp is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.amp)


def _check_compiler(device: torch.device) -> None:
    """torch.compile builds C++ on a CPU; without a compiler its own message is a stack."""
    lacking = missing_packages() if device.type == "cpu" else ""
    if lacking:
        raise FastnoisyError(
            "compile=true needs a C++ compiler and Python's headers on a CPU", f"Run: apt install {lacking}"
        )


def amp_dtype(config: Config, device: torch.device) -> torch.dtype | None:
    """The dtype to autocast to, or None. `auto`: bf16 on a GPU; off on a CPU, where it was not measured faster."""
    if config.dtype == "float64" or config.amp == "off" or (config.amp == "auto" and device.type == "cpu"):
        return None
    return torch.float16 if config.amp == "fp16" else torch.bfloat16


def memory_format(config: Config, device: torch.device) -> torch.memory_format:
    """Channels-last on a GPU unless switched off; contiguous on a CPU unless switched on."""
    on = config.channels_last == "on" or (config.channels_last == "auto" and device.type == "cuda")
    return torch.channels_last if on else torch.contiguous_format
