"""The reference executor: batched torch on any device, one step after another, but for one pair: of what
`resize_shorter` makes for a `center_crop`, only the pixels that this keeps are computed.

kornia's primitives wherever they give Pillow's pixels with the same bits in every batch and compiler, integer
operations of ours elsewhere. Any other executor gives these bits.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastnoisy.augment import geometry
from fastnoisy.augment.registry import Step
from fastnoisy.augment.rows import blank_outside
from fastnoisy.augment.steps import CenterCrop, ResizeShorter
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
        self._crops = {  # where a resize_shorter stands, its size and that of the crop which follows and is no larger
            place: (first.size, second.size)
            for place, (first, second) in enumerate(itertools.pairwise(steps))
            if isinstance(first, ResizeShorter) and isinstance(second, CenterCrop) and second.size <= first.size
        }
        self._first_float = [call.kind.stage for call in program.steps].index("normalize")

    def _run(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor, stop: int) -> Tensor:
        self.check(images, sizes, indices)
        images = blank_outside(images.contiguous(), sizes)
        place, all_keys = 0, self.step_keys(indices, key)
        while place < stop:
            if (crop := self._crops.get(place)) is not None:
                images, sizes = geometry.resize_shorter(images, sizes, *crop)
                place += 2
            else:
                images, sizes = self.steps[place](images, sizes, all_keys[place])
                place += 1
        return images

    @torch.no_grad()
    def describe(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor) -> list[list[str]]:
        """See `View.describe`."""
        self.check(images, sizes, indices)
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
