"""What an epoch's steps add up to: losses, logs, accuracies, and whether a loss went wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from fastnoisy.distributed import Group
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Record


class Meter:
    """Sums over an epoch, kept on the device so that a step never waits for them.

    A sum is a 0-dimensional float64 tensor that is made when its name first comes and written in place from then on,
    over all epochs: a step that is replayed finds it where it was.

    It holds the clean labels, where they are known: they serve these numbers and reach no method.

    Args:
        clean: int64 (N,) on the device, or None.
    """

    def __init__(self, clean: Tensor | None, device: torch.device) -> None:
        self.clean, self.device = clean, device
        self.sums: dict[str, Tensor] = {}
        self.bad_step = torch.zeros((), dtype=torch.int64, device=device)
        self.reset()

    def reset(self) -> None:
        """Start an epoch."""
        self._met: set[str] = set()  # names of this epoch: of two passes or epochs they may differ
        for name in ("loss", "steps", "samples", "right_given", "right_clean", "wrong", "memorised"):
            self._sum(name)
        for total in self.sums.values():
            total.zero_()
        self.bad_step.fill_(-1)

    @torch.no_grad()
    def observe(self, record: Record, fraction: float) -> None:
        """Add one micro-batch, which is this fraction of the global batch."""
        self._sum("loss").add_(record.loss.detach().double() * fraction)
        self._sum("steps").add_(fraction)
        for name, value in record.logs.items():
            self._sum(f"log/{name}").add_(value.detach().double() * fraction)
        for forward in record.forwards:
            predicted = forward.logits.detach().argmax(dim=1)
            given_right = predicted == forward.labels
            self._sum("samples").add_(len(predicted))
            self._sum("right_given").add_(given_right.sum())
            if self.clean is not None:
                clean = self.clean.index_select(0, forward.indices)
                wrong = clean != forward.labels
                self._sum("right_clean").add_((predicted == clean).sum())
                self._sum("wrong").add_(wrong.sum())
                self._sum("memorised").add_((wrong & given_right).sum())

    @torch.no_grad()
    def note(self, sound: Tensor, step: Tensor) -> None:
        """Keep the number of the epoch's first step that was not sound.

        Args:
            sound: 0-dimensional bool, whether the step's loss and gradients and all earlier ones were finite.
            step: 0-dimensional int64, the step's number within the pass.
        """
        self.bad_step.copy_(torch.where(sound | (self.bad_step >= 0), self.bad_step, step))

    def _sum(self, name: str) -> Tensor:
        self._met.add(name)
        if name not in self.sums:
            self.sums[name] = torch.zeros((), dtype=torch.float64, device=self.device)
        return self.sums[name]

    def summary(self) -> dict[str, float]:
        """Means of the epoch so far, as plain numbers (this waits for the device)."""
        s = {name: value.item() for name, value in self.state().items()}
        result = {"loss": s["loss"] / max(s["steps"], 1e-12), "accuracy_given": s["right_given"] / max(s["samples"], 1)}
        if self.clean is not None:
            result["accuracy_clean"] = s["right_clean"] / max(s["samples"], 1)
            if s["wrong"]:
                result["memorised"] = s["memorised"] / s["wrong"]
        for name, value in s.items():
            if name.startswith("log/"):
                result[name.removeprefix("log/")] = value / max(s["steps"], 1e-12)
        return result

    def check_finite(self, epoch: int, steps: int, last_checkpoint: str) -> None:
        """Stop the run where the loss or its gradient became NaN or infinite (this waits for the device).

        Raises:
            FastnoisyError: names epoch, step and the last good checkpoint.
        """
        bad = int(self.bad_step.item())
        if bad >= 0:
            raise FastnoisyError(
                f"the loss or its gradient became NaN or infinite at epoch {epoch}, step {bad} of {steps}",
                f"Lower optim.lr or switch amp off; the last good checkpoint is {last_checkpoint or 'none'}",
            )

    @torch.no_grad()
    def merge(self, group: Group) -> None:
        """Add up the ranks' sums of the epoch so far on rank 0, and begin from nothing on the others."""
        if group.size > 1:
            sums = [self.sums[name] for name in sorted(self._met)]
            for own, total in zip(sums, group.sum(torch.stack(sums)), strict=True):
                own.copy_(total if group.leads else torch.zeros_like(total))

    def clear(self) -> None:
        """Forget the sums: rank 0 has them."""
        for total in self.sums.values():
            total.zero_()

    def state(self) -> dict[str, Tensor]:
        """This epoch's sums and `bad_step`, for a checkpoint."""
        return {**{name: total for name, total in self.sums.items() if name in self._met}, "bad_step": self.bad_step}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from `state()`, in place."""
        self.reset()
        for name, value in state.items():
            (self.bad_step if name == "bad_step" else self._sum(name)).copy_(value)
