"""A plain torch DataLoader over the store: the reference that every other pipeline is held against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from threading import Thread
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

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


def _feeders(loader: DataLoader[Any]) -> list[Thread]:
    """The threads that hand rows to the worker processes: a DataLoader tells them to end, but does not wait for it."""
    queues = getattr(loader._iterator, "_index_queues", [])
    return [thread for queue in queues if (thread := getattr(queue, "_thread", None)) is not None]


class _Rows(Sampler[list[int]]):
    """The rows of an epoch's batches, set anew for each epoch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class TorchLoaderPipeline(Pipeline):
    """See the module and `Pipeline`. `workers` processes decode ahead; 0 decodes in this process.

    The processes live until the pipeline is closed: starting them costs a quarter of a second (two, measured), which every
    evaluation would pay again. Two epochs that run at once have loaders of their own.
    """

    def __init__(self, split: Split, labels: np.ndarray, device: torch.device, workers: int = 0) -> None:
        super().__init__(split, labels, device, workers)
        self._idle: list[tuple[_Rows, DataLoader[Any]]] = []
        self._closed = False

    @classmethod
    def bytes_needed(cls, split: Split) -> int:
        """Nothing is kept."""
        return 0

    def iterate(self, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        """See `Pipeline.iterate`."""
        rows_of, loader = self._idle.pop() if self._idle else self._start()
        rows_of.batches = [rows.tolist() for rows in batches]
        try:
            for found in loader:
                if isinstance(found, FastnoisyError):
                    raise found
                images, rows = found
                moved = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
                yield self._label(moved, rows.to(self.device, non_blocking=True))
        finally:
            if not self._closed:
                self._idle.append((rows_of, loader))

    def close(self) -> None:
        """End the processes; those of an epoch that still runs end with it."""
        self._closed = True
        feeders = [thread for _, loader in self._idle for thread in _feeders(loader)]
        self._idle.clear()  # with its last reference a DataLoader ends its processes
        for thread in feeders:
            thread.join()

    def _start(self) -> tuple[_Rows, DataLoader[Any]]:
        rows_of = _Rows()
        return rows_of, DataLoader(
            _Images(self.split),
            batch_sampler=rows_of,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.device.type == "cuda",
            collate_fn=_collate,
        )


PIPELINE = TorchLoaderPipeline
