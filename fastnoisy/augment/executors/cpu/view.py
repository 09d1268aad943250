"""A view on the CPU: batches of torch tensors through the compiled interpreter, over as many threads as torch has."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fastnoisy.augment.executors.cpu import interpreter
from fastnoisy.augment.executors.cpu.sources import is_kept
from fastnoisy.augment.executors.fast import FastView, bits
from fastnoisy.augment.registry import Step
from fastnoisy.augment.views import View

if TYPE_CHECKING:
    from fastnoisy.augment.program import ViewProgram

_PARTS = 4  # of a batch per thread, so that one that has the slower images does not keep the others waiting
_PART_BYTES = 1 << 18  # of uint8 images: they stay in a core's cache until they are normalised
_KEPT = 4  # rooms of a thread
_MASK = (1 << 64) - 1


class CpuView(FastView):
    """A view that numba makes; see `FastView`."""

    executor = "cpu"

    def __init__(
        self, program: ViewProgram, name: str, steps: list[Step], dtype: torch.dtype, channels_last: bool
    ) -> None:
        super().__init__(program, name, steps, dtype, channels_last)
        self._lookup, self._fills = bits(self._table).numpy(), bits(self._filled).numpy()

    def _takes(self, device: torch.device) -> bool:
        return device.type == "cpu" and not torch.compiler.is_compiling()

    def _make(
        self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor, normalized: bool
    ) -> Tensor:
        B, _, H, W = images.shape
        shape, dtype = (B, 3, *self.program.output_size((H, W))), self.dtype if normalized else torch.uint8
        memory_format = self.memory_format if normalized else torch.contiguous_format
        out = torch.empty(shape, dtype=dtype, memory_format=memory_format)
        if B == 0:
            return out
        encoded, canvas = self._encoded, np.array(out.shape[2:], np.int64)
        pixels, strides = _flat(images)
        areas = np.full((B, 2), (H, W), np.int64)
        if sizes is not None:  # what lies outside an array numba would read, and write
            areas = np.ascontiguousarray(sizes.numpy().clip(1, (H, W)), np.int64)
        samples = np.ascontiguousarray(indices.numpy(), np.int64)
        keys = np.uint64(int(key) & _MASK), np.uint64(self._name_value & _MASK)
        result, out_strides = _flat(bits(out))
        rows, boxes = encoded.rows[: encoded.uint8_rows], 0
        if normalized:
            rows, boxes = encoded.rows, len(encoded.fills)
        room, length = (*self._largest((H, W)), encoded.operations), 3 * int(canvas.prod())

        def make(first: int, last: int) -> None:
            work, count = _OWN.get(*room), last - first
            filled = np.empty((count, boxes, 4), np.int64)
            made = np.empty((count, length), np.uint8) if normalized else result.reshape(B, length)[first:last]
            interpreter.run(
                pixels, strides, areas, samples, *keys, rows, encoded.integers, encoded.floats, first, canvas, made,
                filled, work,
            )  # fmt: skip
            if normalized:
                interpreter.normalize(made, filled, canvas, self._lookup, self._fills, result, out_strides, first)

        over_threads(make, B, max(1, _PART_BYTES // length))
        return out


class _Own(threading.local):
    """What a thread works in, by the room that was asked for; views of the same room share it."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, ...], interpreter.Scratch] = {}

    def get(self, *room: int) -> interpreter.Scratch:
        """See `interpreter.scratch`."""
        if room not in self.kept:
            while len(self.kept) >= _KEPT:
                del self.kept[next(iter(self.kept))]
            self.kept[room] = interpreter.scratch(*room)
        return self.kept[room]


_OWN = _Own()


def _flat(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The memory of (B, 3, H, W) as one row, and the strides of image, row, column and channel, int64 (4,)."""
    _, channels, height, width = images.shape
    if images.is_contiguous(memory_format=torch.channels_last):
        flat, strides = images.permute(0, 2, 3, 1).reshape(-1), (channels * width, channels, 1)
    else:
        flat, strides = images.contiguous().reshape(-1), (width, 1, height * width)
    return flat.numpy(), np.array([channels * height * width, *strides], np.int64)


class _Pool:
    """Threads that are kept; made anew in a process that was forked, which has none."""

    def __init__(self) -> None:
        self._lock, self._threads = threading.Lock(), 0
        self._pool: ThreadPoolExecutor | None = None
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock, self._pool = threading.Lock(), None

    def get(self, threads: int) -> ThreadPoolExecutor:
        """At least so many."""
        with self._lock:
            if self._pool is None or self._threads < threads:
                self._pool, self._threads = ThreadPoolExecutor(threads, thread_name_prefix="fastnoisy-views"), threads
            return self._pool


_POOL = _Pool()


def over_threads(make: Callable[[int, int], None], count: int, most: int) -> None:
    """`make(first, last)` for parts of `count` images, over torch's number of threads, this one among them.

    Args:
        most: images of a part.
    """
    threads = min(torch.get_num_threads(), count)
    parts = max(-(-count // most), min(count, threads * _PARTS) if threads > 1 else 1)
    bounds = iter([(count * part // parts, count * (part + 1) // parts) for part in range(parts)])

    def work() -> None:
        for first, last in bounds:  # of a list's iterator each thread gets other items
            make(first, last)

    others = [_POOL.get(threads - 1).submit(work) for _ in range(threads - 1)] if threads > 1 else []
    work()
    for other in others:
        other.result()


def compile_kernels(views: Iterable[View], say: Callable[[str], object]) -> None:
    """Compile what views here run by, or read it from the disk (benchmarks/imports.py).

    Args:
        say: told a line before it takes long.
    """
    if not is_kept():
        say("compiling the views for this processor, once: about half a minute")
    for view in views:
        view(torch.zeros((1, 3, 1, 1), dtype=torch.uint8), None, torch.zeros(1, dtype=torch.int64), 0)
