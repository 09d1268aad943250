"""The reference executor: batched torch on any device, one step after another, nothing fused by hand.

kornia's primitives wherever they give Pillow's pixels with the same bits in every batch and compiler, integer
operations of ours elsewhere. Any other executor gives these bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastnoisy.augment.registry import Step
from fastnoisy.augment.rows import blank_outside
from fastnoisy.augment.views import View

if TYPE_CHECKING:
    from fastnoisy.augment.program import ViewProgram


class ReferenceView(View):
    """A view that runs its steps in turn.

    Args:
        program, name, dtype, channels_last: see `View`.
        steps: the program's, built.
    """

    def __init__(
        self, program: ViewProgram, name: str, steps: list[Step], dtype: torch.dtype, channels_last: bool
    ) -> None:
        super().__init__(program, name, dtype, channels_last)
        self.steps = nn.ModuleList(steps)
        self._first_float = [call.kind.stage for call in program.steps].index("normalize")

    def _run(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor, stop: int) -> Tensor:
        self.check(images)
        images = blank_outside(images.contiguous(), sizes)
        for step, keys in zip(self.steps[:stop], self.step_keys(indices, key)[:stop], strict=True):
            images, sizes = step(images, sizes, keys)
        return images

    @torch.no_grad()
    def describe(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor) -> list[list[str]]:
        """See `View.describe`."""
        self.check(images)
        images = blank_outside(images.contiguous(), sizes)
        columns: list[list[str]] = []
        step: Any
        for step, keys in zip(self.steps, self.step_keys(indices, key), strict=True):
            columns.append(step.describe(images, sizes, keys))
            images, sizes = step(images, sizes, keys)
        return [list(row) for row in zip(*columns, strict=True)]

    def uint8(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor) -> Tensor:
        """See `View.uint8`."""
        return self._run(images, sizes, indices, key, self._first_float)

    def forward(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor) -> Tensor:
        """See `View.forward`."""
        images = self._run(images, sizes, indices, key, len(self.steps))
        return images.to(self.dtype, memory_format=self.memory_format)
