"""What a view is, whoever executes it: a module that turns a uint8 batch into what a network trains on.

Between steps images are uint8, as with Pillow; floats appear first in `normalize`. What happens to a sample is a pure
function of (key of seed and epoch, sample index, name of the view, position of the step): the same in any batch, on any
device, eager or compiled. Each step's `draw` says what happens; an executor makes the pixels (`executors`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fastnoisy.errors import FastnoisyError
from fastnoisy.keyed_random import fold, fold_premixed, name_value, premix

if TYPE_CHECKING:
    from fastnoisy.augment.program import ViewProgram


class View(nn.Module):
    """A built program. Made by `ViewProgram.build`; holds no learned state and nothing in its `state_dict`.

    Attributes:
        program: what it does.
        name: under which it draws its numbers.
        dtype: of the result.
        memory_format: of the result, `torch.channels_last` or `torch.contiguous_format`.
        executor: who makes it, see `executors`.
        note: why it is not the executor that was asked for; "" where it is.
    """

    executor = "reference"
    note = ""
    _positions: Tensor

    def __init__(self, program: ViewProgram, name: str, dtype: torch.dtype, channels_last: bool) -> None:
        super().__init__()
        self.program, self.name, self.dtype = program, name, dtype
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._name_value = name_value(name)
        positions = torch.tensor([premix(position) for position in range(len(program.steps))])
        self.register_buffer("_positions", positions, persistent=False)

    def extra_repr(self) -> str:
        """The name and the program, for `print`."""
        return f"{self.name!r}: {self.program}"

    def step_keys(self, indices: Tensor, key: int | Tensor) -> tuple[Tensor, ...]:
        """The samples' own keys for each step, int64 (B,) each: fold(fold(fold(key, index), name), position)."""
        if isinstance(key, int):  # made on the device: a copy from the host would synchronise
            key = torch.full((), key, dtype=torch.int64, device=indices.device)
        keys = fold(fold(key, indices), self._name_value)
        return fold_premixed(keys[:, None], self._positions).unbind(1)

    @staticmethod
    def check(images: Tensor, sizes: Tensor | None, indices: Tensor) -> None:
        """Whether a view can be made of them.

        Raises:
            FastnoisyError: images are not uint8 (B, 3, H, W), or there are not as many sizes or indices.
        """
        B = len(images)
        for name, tensor, shape in (("sizes", sizes, (B, 2)), ("indices", indices, (B,))):
            if tensor is not None and tuple(tensor.shape) != shape:
                raise FastnoisyError(f"a view of {B} images takes {name} {shape}, got {tuple(tensor.shape)}")
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
            raise FastnoisyError(f"a view takes uint8 (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")

    def describe(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor) -> list[list[str]]:
        """What the view does to each image: for each sample the words of each step, "" where a step does nothing to it.

        Arguments as for calling the view, whose very draws it tells. Reads values, so a GPU is waited for.
        `normalize` says nothing.
        """
        raise NotImplementedError

    def uint8(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor) -> Tensor:
        """The images just before `normalize`, uint8; arguments as for calling the view."""
        raise NotImplementedError

    def forward(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor) -> Tensor:
        """Make the view.

        Args:
            images: uint8 (B, 3, H, W), in any memory order.
            sizes: valid (height, width), integer (B, 2), or None for the whole canvas.
            indices: int64 (B,), the samples' rows in the data set.
            key: `keyed_random.key(seed, epoch)`, an integer or a 0-dimensional int64 tensor (which a compiled view
                should get, lest it recompile).

        Returns:
            (B, 3, h, w) of the view's dtype and memory order, (h, w) being `program.output_size((H, W))`. Values are
            float32's, rounded once where the dtype is smaller.
        """
        raise NotImplementedError
