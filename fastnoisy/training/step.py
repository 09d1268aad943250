"""One optimisation step: views, forward and loss, backward, optimiser, moving averages. Eager or compiled.

Eager is the reference; compiled equals it to rounding. Nothing here synchronises the host on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fastnoisy import keyed_random
from fastnoisy.augment.views import View
from fastnoisy.batch import Batch
from fastnoisy.compiler import missing_packages
from fastnoisy.config import Config
from fastnoisy.distributed import ONE, Group, Ranks
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Method, Progress, Record, StepBatch
from fastnoisy.order import micro_batches, pieces
from fastnoisy.sample_memory import SampleMemory
from fastnoisy.training.gradients import GradientSum
from fastnoisy.training.meter import Meter
from fastnoisy.training.precision import amp_dtype, autocast, training_autocast

ViewTable = Mapping[str, Mapping[str, View]]
"""stream -> name of a view in the stream -> the built view."""


class Stepper:
    """Turns a global batch of each stream into one optimisation step.

    A step writes into tensors that stay where they are: weights, momenta, memories, sums. From the first step on whose
    loss or gradient is not finite it moves none of them, except the meter's sums; the host learns of it when it next
    asks the meter. With fp16 an infinite gradient is the scaler's to skip, and no error; a loss that is not finite is
    one.

    Args:
        method: in train mode, on the device.
        views: see `ViewTable`.
        meter: is shown each micro-batch's record, and which step was the first that was not sound.
        group: the ranks.

    Attributes:
        sound: 0-dimensional bool on the device, whether all losses and gradients so far were finite.
    """

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        views: ViewTable,
        config: Config,
        device: torch.device,
        meter: Meter,
        group: Group = ONE,
    ) -> None:
        self.method, self.optimizer, self.views, self.meter, self.group = method, optimizer, views, meter, group
        self.accumulate, self.device = config.accumulate, device
        keys = [keyed_random.key(config.seed, epoch) for epoch in range(config.epochs)]
        self.epoch_keys = torch.tensor(keys, dtype=torch.int64, device=device)
        self.amp = amp_dtype(config, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp == torch.float16)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.gradients: GradientSum | None = None
        if isinstance(group, Ranks):
            compress = config.distributed.compress == "bf16"
            self.gradients = GradientSum(self.parameters, group, config.compile, compress)
        self.sound = torch.ones((), dtype=torch.bool, device=device)
        self.undo = Undo(method)
        self.forward: Callable[[Mapping[str, StepBatch], Progress], Record] = method.step
        self.autocast = training_autocast
        if config.compile:
            self.autocast = autocast  # Inductor traces no autograd function of ours
            _check_compiler(device)
            if isinstance(group, Ranks):
                group.outside_graphs()
            # dynamic=False: a run has at most two batch sizes, and static shapes give the faster code
            self.forward = torch.compile(method.step, dynamic=False)

    def __call__(
        self, batches: Mapping[str, Batch], progress: Progress, totals: Mapping[str, int] | None = None
    ) -> None:
        """Do the step.

        Args:
            batches: this rank's part of one global batch per stream of the pass, as `order.share` cuts it.
            progress: which step it is.
            totals: the rows of each global batch; of one process those of its batches.
        """
        totals = totals or {name: len(batch.indices) for name, batch in batches.items()}
        micro = {name: batch.split(self._counts(totals[name])) for name, batch in batches.items()}
        first = next(iter(batches))
        key = self.epoch_keys.take(progress.epoch)  # one launch; the hash itself would be many
        finite = torch.ones_like(self.sound)
        self.undo.keep([batch.indices for batch in batches.values()])
        for number, lead in enumerate(micro[first]):
            fraction = len(lead.indices) / totals[first]
            pieces = {name: self._views(name, parts[number], key) for name, parts in micro.items()}
            with self.autocast(self.device, self.amp):
                record = self.forward(pieces, progress)
            if self.gradients is not None and number + 1 == len(micro[first]):
                self.gradients.arm()
            self.scaler.scale(record.loss * fraction).backward()
            self.meter.observe(record, fraction)
            finite = finite & record.loss.detach().isfinite()
        if self.gradients is not None:
            self.gradients.finish()
        self._optimise(finite, progress)
        self.undo.settle(self.sound)
        self._exchange([batch.indices for batch in batches.values()])
        self.method.after_step(progress, self.sound)
        self.meter.note(self.sound, progress.step)

    def _optimise(self, finite: Tensor, progress: Progress) -> None:
        """The optimiser's step, with `finite` the losses' part of the flag; writes `sound`."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not self.scaler.is_enabled():
            largest = torch.stack(torch._foreach_norm(gradients, math.inf))
            finite = finite & largest.isfinite().all()
        self.sound.logical_and_(self.group.agree(finite))
        if self.scaler.is_enabled():
            # One gradient that is NaN, and the scaler skips the step by itself; a factor of 1 changes no bit.
            gradients[0].mul_(torch.ones_like(finite, dtype=gradients[0].dtype).masked_fill(~self.sound, math.nan))
            self.scaler.unscale_(self.optimizer)
        self.method.after_backward(progress)
        # What torch's fused SGD skips a step by, on the device; GradScaler.step sets its own in place of it.
        self.optimizer.found_inf = (~self.sound).float()  # type: ignore[attr-defined]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _counts(self, total: int) -> list[int]:
        """This rank's rows of each micro-batch of a global batch."""
        return [pieces(size, self.group.size)[self.group.rank] for size in micro_batches(total, self.accumulate)]

    def _exchange(self, indices: list[Tensor]) -> None:
        """What the ranks have written into memories, to all of them. In every step, for a stream may come to a sample
        again within an epoch, on another rank; a fraction of what the gradients are.
        """
        if self.group.size > 1:
            for memory in self.undo.memories:
                memory.exchange(torch.cat(indices), self.group)

    def _views(self, stream: str, batch: Batch, key: Tensor) -> StepBatch:
        made = {name: view(batch.images, batch.sizes, batch.indices, key) for name, view in self.views[stream].items()}
        return StepBatch(made, batch.labels, batch.indices)


class Undo:
    """What a forward writes before its loss is known, and how it is put back: running statistics, rows of memories.

    `keep` before the step's forwards, `settle` after them; a step that was sound keeps what it wrote, bit for bit.
    """

    def __init__(self, method: Method) -> None:
        # By name, for timm has norms of its own that keep such statistics (EvoNorm's are no subclass of BatchNorm).
        names = ("running_mean", "running_var")
        buffers = [b for name, b in method.named_buffers() if name.rpartition(".")[2] in names]
        dtypes = dict.fromkeys(buffer.dtype for buffer in buffers)
        # Of each precision as one: a few launches, where a copy and a choice per buffer would be hundreds on a
        # ResNet-34.
        self.statistics = [[b for b in buffers if b.dtype == dtype] for dtype in dtypes]
        self.memories = [module for module in method.modules() if isinstance(module, SampleMemory)]
        self._statistics: list[Tensor] = []
        self._rows: list[tuple[SampleMemory, Tensor, Tensor]] = []

    @torch.no_grad()
    def keep(self, indices: Sequence[Tensor]) -> None:
        """Copy the statistics, and of every memory the rows of the step's samples, int64 (B,) per stream."""
        self._statistics = [torch.cat(buffers) for buffers in self.statistics]
        self._rows = [(memory, rows, memory.keep(rows)) for memory in self.memories for rows in indices]

    @torch.no_grad()
    def settle(self, sound: Tensor) -> None:
        """Put all of it back unless `sound`, a 0-dimensional bool on the device, is true."""
        for buffers, kept in zip(self.statistics, self._statistics, strict=True):
            chosen = torch.where(sound, torch.cat(buffers), kept)
            torch._foreach_copy_(buffers, chosen.split([len(buffer) for buffer in buffers]))
        for memory, rows, kept in self._rows:
            memory.put_back(rows, kept, sound)
        self._statistics, self._rows = [], []


def _check_compiler(device: torch.device) -> None:
    """torch.compile builds C++ on a CPU; without a compiler its own message is a stack."""
    lacking = missing_packages() if device.type == "cpu" else ""
    if lacking:
        raise FastnoisyError(
            "compile=true needs a C++ compiler and Python's headers on a CPU", f"Run: apt install {lacking}"
        )
