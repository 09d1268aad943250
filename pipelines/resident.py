"""The whole split decoded as uint8 on the device: an epoch costs no decoding, no copies and no workers.

CIFAR is 154 MB this way. Images of one size lie in one array and a batch is one gather; images of differing size lie in
one flat buffer with offsets, and a line of zeros at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastnoisy import progress
from fastnoisy.batch import Batch
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import available_device, cores, mebibytes
from fastnoisy.pipelines.base import Pipeline

_STAGING = 1 << 28  # bytes decoded at a time on their way to a GPU
_CHUNK = 32  # images a thread takes at a time


class ResidentPipeline(Pipeline):
    """See the module and `Pipeline`. Every record's checksum is checked while loading; `workers` threads decode.

    Raises:
        FastnoisyError: the images do not fit into what is free of the device's memory.
    """

    auto_rank = 0  # an epoch then costs no decoding at all

    def __init__(
        self, split: Split, labels: np.ndarray, device: torch.device, workers: int = 0, options: Any = None
    ) -> None:
        super().__init__(split, labels, device, workers, options)
        need, free = self.bytes_needed(split), available_device(device)
        if need > free:
            where = "GPU" if device.type == "cuda" else "main"
            raise FastnoisyError(
                f"the decoded images of {split.beton_path} take {mebibytes(need)}, {mebibytes(free)} of {where} memory "
                "are free",
                "Use pipeline=torch-loader, or convert with a smaller --resize",
            )
        self.pixels, self.offsets = self._load()

    @classmethod
    def bytes_needed(cls, split: Split) -> int:
        """Three bytes a valid pixel. A line of zeros is not worth counting."""
        return int(3 * split.sizes.astype(np.int64).prod(axis=1).sum())

    def _load(self) -> tuple[Tensor, Tensor]:
        ends = np.cumsum(3 * self.split.sizes.astype(np.int64).prod(axis=1))
        starts = np.concatenate([[0], ends])
        offsets = torch.from_numpy(starts[:-1]).to(self.device)
        whole = self.split.read_all_raw() if self.sizes is None and ends[-1] <= 4 * _STAGING else None
        if whole is not None:
            return torch.from_numpy(whole.reshape(-1)).to(self.device), offsets
        line = 0 if self.sizes is None else 3 * self.canvas[1]  # of zeros at the end, see `_gather_lines`
        pixels = torch.empty(int(ends[-1]) + line, dtype=torch.uint8, device=self.device)
        pixels[int(ends[-1]) :] = 0
        with progress.bar(f"loading {self.split.beton_path}", self.split.num_samples) as advance:
            first = 0
            while first < self.split.num_samples:
                room = starts[first] + (ends[-1] if self.device.type == "cpu" else _STAGING)
                last = max(first + 1, int(np.searchsorted(ends, room, side="right")))
                part = pixels[int(starts[first]) : int(starts[last])]
                if self.device.type == "cpu":
                    self._decode(range(first, last), starts, part.numpy(), advance)
                else:
                    staged = np.empty(len(part), np.uint8)
                    self._decode(range(first, last), starts, staged, advance)
                    part.copy_(torch.from_numpy(staged))
                first = last
        return pixels, offsets

    def _decode(self, rows: range, starts: np.ndarray, flat: np.ndarray, advance: progress.Advance) -> None:
        """Decode `rows` in threads into `flat`, which begins with the first of them."""
        base = starts[rows.start]

        def decode(chunk: range) -> int:
            for row in chunk:
                flat[starts[row] - base : starts[row + 1] - base] = self.split.read_image(row).reshape(-1)
            return len(chunk)

        chunks = [range(i, min(i + _CHUNK, rows.stop)) for i in range(rows.start, rows.stop, _CHUNK)]
        with ThreadPoolExecutor(self.workers or cores()) as pool:
            try:
                for done in pool.map(decode, chunks):
                    advance(done)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def gather(self, rows: Tensor, out: Tensor) -> Tensor:
        """Write the images of `rows` (B,) int64 into `out`, uint8 (B, H, W, 3): a pure function of tensors, without
        host synchronisation on a GPU, so that it can be captured. Pixels beyond an image's size become 0.
        """
        height, width = self.canvas
        if self.sizes is None:
            images = self.pixels.view(-1, height * width * 3)
            return torch.index_select(images, 0, rows, out=out.view(len(rows), -1)).view(out.shape)
        if self.device.type == "cpu":  # a copy per image takes a twelfth of the time on a CPU
            self._copy(rows.numpy(), out.zero_().numpy(), np.zeros((len(rows), 2), np.int64))
            return out
        return self._gather_lines(rows, out)

    def _gather_lines(self, rows: Tensor, out: Tensor) -> Tensor:
        """`gather` of images of differing size by tensor operations alone. For every line of a canvas a window as wide
        as the canvas is copied from where the line begins in the flat buffer, or from the zeros at its end where the
        image has ended; what a window shows of the next line is made 0. Temporaries have one number a line: 3 MB for
        256 canvases of 512x512, where an index for every pixel would take 2 GB.
        """
        width = self.canvas[1]
        zeros = len(self.pixels) // 3 - width  # where they begin, in pixels of three bytes each
        assert self.sizes is not None, "images of one size are gathered whole"
        sizes = self.sizes.index_select(0, rows).long()
        h, w = sizes[:, :1], sizes[:, 1:]
        y, x = (torch.arange(side, device=self.pixels.device) for side in self.canvas)
        begin = self.offsets.index_select(0, rows).view(-1, 1) // 3 + y * w
        begin.masked_fill_(y >= h, zeros)  # torch.where would copy the number to the GPU and wait
        windows = self.pixels.as_strided((zeros + 1, 3 * width), (3, 1))
        torch.index_select(windows, 0, begin.view(-1), out=out.view(-1, 3 * width))
        return out.masked_fill_((x >= w).view(-1, 1, width, 1), 0)

    def _copy(self, rows: np.ndarray, out: np.ndarray, covered: np.ndarray) -> None:
        """Copy images into `out` (B, H, W, 3), of which `covered` (B, 2) pixels at the top left may differ from 0."""
        flat = self.pixels.numpy()
        for slot, start in enumerate(self.offsets.numpy()[rows].tolist()):
            height, width = self.split.sizes[rows[slot]].tolist()
            was_high, was_wide = covered[slot].tolist()
            out[slot, :height, :width] = flat[start : start + 3 * height * width].reshape(height, width, 3)
            out[slot, :height, width:was_wide] = 0
            out[slot, height:was_high, :was_wide] = 0
            covered[slot] = height, width

    def iterate(self, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        """See `Pipeline.iterate`. On a CPU all batches share one slot: fresh pages cost more than the copy into
        them.
        """
        if self.device.type == "cpu":
            yield from self._iterate_cpu(batches)
            return
        for rows in batches:
            indices = torch.from_numpy(np.array(rows, np.int64))
            if self.device.type == "cuda":
                indices = indices.pin_memory().to(self.device, non_blocking=True)
            out = torch.empty(len(rows), *self.canvas, 3, dtype=torch.uint8, device=self.device)
            yield self._label(self.gather(indices, out).permute(0, 3, 1, 2), indices)

    def _iterate_cpu(self, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        slot = torch.zeros(0, *self.canvas, 3, dtype=torch.uint8)
        covered = np.zeros((0, 2), np.int64)
        for rows in batches:
            indices = torch.from_numpy(np.array(rows, np.int64))
            if len(rows) > len(slot):
                slot = torch.from_numpy(np.zeros((len(rows), *self.canvas, 3), np.uint8))
                covered = np.zeros((len(rows), 2), np.int64)
            out = slot[: len(rows)]
            if self.sizes is None:
                self.gather(indices, out)
            else:
                self._copy(indices.numpy(), out.numpy(), covered)
            yield self._label(out.permute(0, 3, 1, 2), indices)


PIPELINE = ResidentPipeline
