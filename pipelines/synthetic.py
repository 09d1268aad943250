"""No data cost: one made batch per shape, with the split's own labels, sizes and rows. The yardstick for stalls.

A run on it shows how fast everything but the data is; what a real pipeline lacks of that, it costs. It learns nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastnoisy import keyed_random
from fastnoisy.batch import Batch
from fastnoisy.data.store import Split
from fastnoisy.pipelines.base import Pipeline


class SyntheticPipeline(Pipeline):
    """See the module and `Pipeline`: all is as promised except the pixels, which belong to no image.

    Every batch of a size is the same tensor, on the device from its first use on; slot i always shows the same noise.
    """

    synthetic = True

    def __init__(
        self, split: Split, labels: np.ndarray, device: torch.device, workers: int = 0, options: Any = None
    ) -> None:
        super().__init__(split, labels, device, workers, options)
        self._made: dict[int, Tensor] = {}

    @classmethod
    def bytes_needed(cls, split: Split) -> int:
        """Nothing beside the batch."""
        return 0

    def iterate(self, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        """See `Pipeline.iterate`."""
        for rows in batches:
            indices = torch.from_numpy(np.array(rows, np.int64))
            if self.device.type == "cuda":
                indices = indices.pin_memory().to(self.device, non_blocking=True)
            yield self._label(self._images(len(rows)), indices)

    def _images(self, count: int) -> Tensor:
        """uint8 (count, 3, H, W): squares of 4x4 pixels, their values keyed by slot and place."""
        if count not in self._made:
            height, width = self.canvas
            slots, across = np.arange(count, dtype=np.int64)[:, None], -(-width // 4) * 3
            key = keyed_random.fold(keyed_random.key(0, keyed_random.name_value("synthetic")), slots)
            coarse = keyed_random.fold(key, np.arange(-(-height // 4) * across, dtype=np.int64)[None]) & 255
            squares = torch.from_numpy(coarse.astype(np.uint8)).view(count, -1, across // 3, 3).to(self.device)
            pixels = squares.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)[:, :height, :width]
            self._made[count] = pixels.contiguous().permute(0, 3, 1, 2)
        return self._made[count]


PIPELINE = SyntheticPipeline
