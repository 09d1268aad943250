"""A view on a GPU: a batch through one launch of the fused kernel, an operator of torch's."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import triton
from torch import Tensor
from torch.library import triton_op, wrap_triton
from triton.runtime.interpreter import InterpretedFunction

from fastnoisy.augment.executors import codes
from fastnoisy.augment.executors.cuda import constants, kernel
from fastnoisy.augment.executors.fast import FastView, bits
from fastnoisy.augment.executors.programs import UnsupportedError
from fastnoisy.augment.registry import Step
from fastnoisy.errors import FastnoisyError

if TYPE_CHECKING:
    from fastnoisy.augment.program import ViewProgram

_ON_CHIP_WARPS, _SCRATCH_WARPS = 8, 16
_SCRATCH_PIXELS = 2048  # that are worked on at once
_SCRATCH_BYTES = 2 << 30  # of scratch memory at most, if it holds one image
_MOST_STEPS = 60 // constants.KIND_BITS
_MOVING = (
    codes.RANDOM_CROP, codes.CENTER_CROP, codes.RANDOM_RESIZED_CROP, codes.RESIZE, codes.RESIZE_SHORTER,
)  # fmt: skip
_MIXTURES = codes.AUGMIX, codes.GOOGLE_AUGMIX
INTERPRETED = isinstance(kernel.view, InterpretedFunction)
"""Whether Triton's interpreter runs the kernels, on a CPU (TRITON_INTERPRET=1 when this is imported)."""


class Layout(NamedTuple):
    """What of a launch depends on the program and the canvas; see `kernel.view`.

    Attributes:
        steps, uint8_steps, kinds, ops, width, from_batch, on_chip, pixels: constants of the compiled kernel.
        warps: of one image.
        room, narrow, tables: of its scratch memory.
        scratch: int32 numbers of it.
    """

    steps: int
    uint8_steps: int
    kinds: int
    ops: int
    width: int
    from_batch: bool
    on_chip: bool
    pixels: int
    warps: int
    room: int
    narrow: int
    tables: int
    scratch: int


def layout(kinds: list[int], uint8_steps: int, ops: int, chains: int, side: int, pixels: int, made: int) -> Layout:
    """Of a program.

    Args:
        kinds: of its steps.
        uint8_steps: how many stand before `normalize`.
        ops: a bit for each operation that may be drawn.
        chains: of mixtures, 0 for none.
        side, pixels: the longest side and the most pixels of an image on its way.
        made: the longest side that a step makes, or 0.
    """
    on_chip = side <= constants.ON_CHIP_SIDE
    number = sum(kind << (constants.KIND_BITS * position) for position, kind in enumerate(kinds))
    width = triton.next_power_of_2(chains + 1) if chains else 1
    if on_chip:
        return Layout(
            len(kinds), uint8_steps, number, ops, width, False, True, max(16, triton.next_power_of_2(side) ** 2),
            _ON_CHIP_WARPS, 0, 0, 0, 0,
        )  # fmt: skip
    narrow = max(pixels, side * made)
    tables = 4 * side + 6 * made + 64  # two of `made` outputs, each with 2 * longest / outputs + 1 coefficients
    scratch = 2 * pixels + narrow + (3 * pixels if chains else 0) + tables
    return Layout(
        len(kinds), uint8_steps, number, ops, width, bool(kinds) and kinds[0] in _MOVING, False, _SCRATCH_PIXELS,
        _SCRATCH_WARPS, pixels, narrow, tables, scratch,
    )  # fmt: skip


def _room(images: Tensor, lookup: Tensor, canvas: list[int], channels_last: bool, normalized: bool) -> Tensor:
    """For the result."""
    memory = torch.channels_last if channels_last else torch.contiguous_format
    dtype = lookup.dtype if normalized else torch.uint8
    return torch.empty((images.shape[0], 3, *canvas), dtype=dtype, device=images.device, memory_format=memory)


def _launch(
    images: Tensor,
    sizes: Tensor | None,
    indices: Tensor,
    key: Tensor,
    rows: Tensor,
    integers: Tensor,
    floats: Tensor,
    lookup: Tensor,
    fills: Tensor,
    canvas: list[int],
    channels_last: bool,
    normalized: bool,
    plan: list[int],
) -> Tensor:
    """Make the result and start the kernel; `plan` is a `Layout`, the others are as for `kernel.view`."""
    fused = kernel.view if INTERPRETED else wrap_triton(kernel.view)
    made = Layout(*plan)  # type: ignore[arg-type]  # of an operator's arguments, booleans as integers
    B, _, H, W = images.shape
    out = _room(images, lookup, canvas, channels_last, normalized)
    count = max(1, min(B, _SCRATCH_BYTES // max(4 * made.scratch, 1)))  # of images that one launch makes
    scratch = torch.empty(max(count * made.scratch, 1), dtype=torch.int32, device=images.device)
    # Triton launches on the current device, which need not be the images'
    with torch.cuda.device(images.device) if images.is_cuda and torch.cuda.is_initialized() else nullcontext():
        for first in range(0, B, count):  # one after another on the stream, so they may share the scratch memory
            fused[(min(count, B - first),)](
                images, indices if sizes is None else sizes, indices, key, rows, integers, floats, lookup, fills, out,
                scratch, made.room, made.narrow, made.tables, first,
                H, W, images.stride(2), images.stride(3), images.stride(1), images.stride(0),
                canvas[0], canvas[1], out.stride(2), out.stride(3), out.stride(1), 0, integers.numel() - 1,
                STEPS=made.steps if normalized else made.uint8_steps, UINT8_STEPS=made.uint8_steps, KINDS=made.kinds,
                OPS=made.ops, WIDTH=made.width, HAS_SIZES=sizes is not None, NORMALIZED=normalized,
                FROM_BATCH=bool(made.from_batch), ON_CHIP=bool(made.on_chip), N=made.pixels,
                VERSION=constants.VERSION, num_warps=made.warps,
            )  # fmt: skip
    return out


_view: Any = triton_op("fastnoisy::view", _launch, mutates_args=())


@_view.register_fake
def _(
    images: Tensor, sizes: Tensor | None, indices: Tensor, key: Tensor, rows: Tensor, integers: Tensor, floats: Tensor,
    lookup: Tensor, fills: Tensor, canvas: list[int], channels_last: bool, normalized: bool, plan: list[int],
) -> Tensor:  # fmt: skip
    return _room(images, lookup, canvas, channels_last, normalized)


class CudaView(FastView):
    """A view that one fused kernel makes; see `FastView`."""

    executor = "cuda"
    _rows: Tensor
    _integers: Tensor
    _floats: Tensor
    _lookup: Tensor
    _fills: Tensor

    def __init__(
        self, program: ViewProgram, name: str, steps: list[Step], dtype: torch.dtype, channels_last: bool
    ) -> None:
        super().__init__(program, name, steps, dtype, channels_last)
        encoded = self._encoded
        self._kinds = encoded.rows[:, codes.KIND].tolist()
        if len(self._kinds) > _MOST_STEPS:
            raise UnsupportedError(f"programs of more than {_MOST_STEPS} steps beside normalize")
        if len(encoded.fills) > constants.BOXES:
            raise UnsupportedError(f"more than {constants.BOXES} boxes after normalize")
        self._chains = max(
            (row[codes.COUNT] for row in encoded.rows.tolist() if row[codes.KIND] in _MIXTURES), default=0
        )
        self._launched: set[tuple[int, ...]] = set()
        some_row = encoded.rows if len(encoded.rows) else np.zeros((1, codes.COLUMNS), np.int64)
        for place, table in (
            ("_rows", torch.from_numpy(some_row)),
            ("_integers", torch.from_numpy(np.append(encoded.integers, self._name_value))),
            ("_floats", torch.from_numpy(encoded.floats)),
            ("_lookup", self._table),
            ("_fills", F.pad(self._filled, (0, constants.BOXES - len(encoded.fills)))),
        ):
            self.register_buffer(place, bits(table), persistent=False)  # which `Module.to` of a dtype leaves alone

    def _takes(self, device: torch.device) -> bool:
        return device.type == "cuda" or (INTERPRETED and device.type == "cpu")

    def plan(self, canvas: tuple[int, int]) -> Layout:
        """How this program is launched for images on such a canvas."""
        pixels, side, made = self._largest(canvas)
        ops = sum(1 << code for code in self._encoded.drawn)
        return layout(self._kinds, self._encoded.uint8_rows, ops, self._chains, side, pixels, made)

    def _make(
        self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor, normalized: bool
    ) -> Tensor:
        if isinstance(key, int):  # made on the device: a copy from the host would synchronise
            key = torch.full((), key, dtype=torch.int64, device=images.device)
        canvas = images.shape[2], images.shape[3]
        plan = tuple(map(int, self.plan(canvas)))
        sizes = None if sizes is None else sizes.contiguous()
        run = _launch if images.device.type == "cpu" else _view
        given = (
            images, sizes, indices.contiguous(), key.to(images.device), self._rows, self._integers,
            self._floats.view(torch.float64), self._lookup.view(self.dtype), self._fills.view(self.dtype),
            list(self.program.output_size(canvas)), normalized and self.memory_format == torch.channels_last,
            normalized, list(plan),
        )  # fmt: skip
        if plan in self._launched or torch.compiler.is_compiling():
            made: Tensor = run(*given)
            return made
        try:
            made = run(*given)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of Triton's, of its assembler's, of the compiler of its launcher
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise FastnoisyError(
                f"Triton cannot compile the view {self.name!r} here: {line}", "Set views.executor=reference"
            ) from error
        self._launched.add(plan)
        return made
