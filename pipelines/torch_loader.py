"""A plain torch DataLoader over the store: the reference that every other pipeline is held against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastnoisy.batch import Batch
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.pipelines.base import Pipeline


class _Images(Dataset["tuple[Tensor, int] | FastnoisyError"]):
    """Row number to (uint8 (H, W, 3) on the canvas, row number)."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return self.split.num_samples

    def __getitem__(self, row: int) -> tuple[Tensor, int] | FastnoisyError:
        try:
            image = self.split.read_image(row)
        except FastnoisyError as error:  # a worker's exception would reach the user as a stack: handed over as a value
            return error
        canvas = np.zeros((*self.split.canvas, 3), np.uint8)
        canvas[: image.shape[0], : image.shape[1]] = image
        return torch.from_numpy(canvas), row


def _collate(samples: list[tuple[Tensor, int] | FastnoisyError]) -> tuple[Tensor, Tensor] | FastnoisyError:
    good = []
    for sample in samples:
        if isinstance(sample, FastnoisyError):
            return sample
        good.append(sample)
    return torch.stack([image for image, _ in good]), torch.tensor([row for _, row in good], dtype=torch.int64)


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
            collate_fn=_collate,
        )
        for found in loader:
            if isinstance(found, FastnoisyError):
                raise found
            images, rows = found
            moved = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
            yield self._label(moved, rows.to(self.device, non_blocking=True))


PIPELINE = TorchLoaderPipeline
