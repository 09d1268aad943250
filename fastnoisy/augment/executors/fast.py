"""What the fast executors have in common: a program as data, `normalize` as a table, the reference for all else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastnoisy.augment.executors.programs import encode
from fastnoisy.augment.executors.reference import ReferenceView
from fastnoisy.augment.geometry import MAX_CANVAS
from fastnoisy.augment.registry import Step
from fastnoisy.augment.steps import Normalize

if TYPE_CHECKING:
    from fastnoisy.augment.program import ViewProgram

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor: Tensor) -> Tensor:
    """A tensor's bits as integers of that size, in the same memory."""
    return tensor.view(_BITS[tensor.element_size()])


class FastView(ReferenceView):
    """The reference's view in all but speed. A subclass makes it where it `_takes` the images; else the reference does.

    Args:
        program, name, steps, dtype, channels_last: see `ReferenceView`.

    Raises:
        UnsupportedError: a step or an operation that the executor does not have.
    """

    def __init__(
        self, program: ViewProgram, name: str, steps: list[Step], dtype: torch.dtype, channels_last: bool
    ) -> None:
        super().__init__(program, name, steps, dtype, channels_last)
        self._encoded = encode(steps)
        (normalize,) = (step for step in steps if isinstance(step, Normalize))
        levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 256).expand(1, 3, 1, 256)
        self._table = normalize.apply(levels, None, ())[0].to(dtype).reshape(3, 256).contiguous()
        self._filled = torch.tensor(self._encoded.fills, dtype=torch.float32).to(dtype)

    def uint8(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor) -> Tensor:
        """See `View.uint8`."""
        if not self._runs_here(images):
            return super().uint8(images, sizes, indices, key)
        self.check(images, sizes, indices)
        return self._make(images, sizes, indices, key, normalized=False)

    def forward(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor) -> Tensor:
        """See `View.forward`."""
        if not self._runs_here(images):
            return super().forward(images, sizes, indices, key)
        self.check(images, sizes, indices)
        return self._make(images, sizes, indices, key, normalized=True)

    def _runs_here(self, images: Tensor) -> bool:
        """Others, and canvases that affine maps refuse, are the reference's."""
        return self._takes(images.device) and max(images.shape[2:], default=0) <= MAX_CANVAS

    def _takes(self, device: torch.device) -> bool:
        """Whether the executor makes views of images on a device."""
        raise NotImplementedError

    def _make(
        self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor, normalized: bool
    ) -> Tensor:
        """The view of images that `check` has looked at, or of `uint8` what comes before `normalize`."""
        raise NotImplementedError

    def _largest(self, canvas: tuple[int, int]) -> tuple[int, int, int]:
        """The most pixels and the longest side of an image on its way, and the longest side that a step makes, or 0."""
        made = max((call.kind.sides * call.keywords.get("size", 0) for call in self.program.steps), default=0)
        return max(canvas[0] * canvas[1], made * made), max(*canvas, made), made
