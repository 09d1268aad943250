"""A plain torch DataLoader over the store: the reference that every other pipeline is held against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastnoisy.batch import Batch
from fastnoisy.data.store import Split
from fastnoisy.pipelines.base import Pipeline


class _Images(Dataset[tuple[Tensor, int]]):
    """Row number to (uint8 (H, W, 3) on the canvas, row number)."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return self.split.num_samples

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        image = self.split.read_image(row)
        canvas = np.zeros((*self.split.canvas, 3), np.uint8)
        canvas[: image.shape[0], : image.shape[1]] = image
        return torch.from_numpy(canvas), row


class TorchLoaderPipeline(Pipeline):
    """See the module and `Pipeline`. `workers` processes decode ahead; 0 decodes in this process."""

    @classmethod
    def bytes_needed(cls, split: Split) -> int:
        """Nothing is kept."""
        return 0

    def iterate(self, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        """See `Pipeline.iterate`."""
        loader = DataLoader(
            _Images(self.split),
            batch_sampler=[rows.tolist() for rows in batches],  # type: ignore[arg-type]
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )
        for images, rows in loader:
            moved = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
            yield self._label(moved, rows.to(self.device, non_blocking=True))


PIPELINE = TorchLoaderPipeline
