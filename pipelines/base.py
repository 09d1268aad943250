"""The pipeline interface: batches of rows in, decoded batches on the device out, in exactly that order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import torch

from fastnoisy.batch import Batch
from fastnoisy.config import Table
from fastnoisy.data.store import Split


@contextmanager
def thread_counts_kept() -> Iterator[Callable[[], None]]:
    """Puts the thread counts of torch and numba back at the end, and whenever what it yields is called."""
    import numba

    torch_threads, numba_threads = torch.get_num_threads(), numba.get_num_threads()

    def put_back() -> None:
        if torch.get_num_threads() != torch_threads:
            torch.set_num_threads(torch_threads)
        numba.set_num_threads(numba_threads)

    try:
        yield put_back
    finally:
        put_back()


class Pipeline(ABC):
    """Delivers a split's images.

    A pipeline does not choose an order, drop samples or augment: it is handed the rows of each batch and hands back a
    `Batch` with these rows in this order. Images are decoded once; every view of a batch is made from the same pixels.
    The consumer owns a batch until it asks for the next one.

    Attributes:
        exact_jpeg: whether JPEGs decode to Pillow's pixels. Where not, the mean error is at most 1 level and 99.9 % of
            the values are within 8; raw records are exact everywhere.
        slots: batches of canvases that lie in memory at once.
        synthetic: whether the pixels are none of the split's.
        sizes: int32 (N, 2) on the device, valid (height, width) of all rows; None where all images fill the canvas.
        extra: the extra of setup.py that it needs; empty: none.
        needs_verified: whether it trusts what it reads, so that only a verified split may be opened.
        auto_rank: `pipeline=auto` takes the lowest that may be taken (see `pipelines.choose`); None: never.
        auto_devices: types of device for which `auto` may take it.

    Args:
        split: an open split of a store.
        labels: int64 (N,), the given labels (with the run's noise) of all rows of the split.
        device: where batches are wanted.
        workers: processes or threads that may decode; 0: the pipeline's own choice.
        options: of the class's own `Options`; None: the defaults.

    Raises:
        FastnoisyError: a damaged record, naming file, record and source.
    """

    exact_jpeg = True
    slots = 2
    synthetic = False

    extra: ClassVar[str] = ""
    needs_verified: ClassVar[bool] = False
    auto_rank: ClassVar[int | None] = None
    auto_devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    class Options(Table):
        """No options."""

    def __init__(
        self, split: Split, labels: np.ndarray, device: torch.device, workers: int = 0, options: Any = None
    ) -> None:
        self.options = self.Options() if options is None else options
        self.split, self.device, self.workers = split, device, workers
        self.canvas = split.canvas
        self.labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
        uniform = bool((np.asarray(split.sizes) == split.canvas).all())  # then nobody has to mask anything
        self.sizes = None if uniform else torch.as_tensor(split.sizes, dtype=torch.int32).to(device)

    @classmethod
    @abstractmethod
    def bytes_needed(cls, split: Split) -> int:
        """Bytes of device memory that the pipeline holds for good, batches aside."""

    @classmethod
    def default_workers(cls) -> int:
        """How many workers it gets where nobody says; 0: it chooses itself when it is opened."""
        return 0

    @abstractmethod
    def iterate(self, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        """One `Batch` per int64 vector of rows. Leaving the iteration early is allowed."""

    def close(self) -> None:  # noqa: B027, a pipeline without threads and files has nothing to do
        """Join every thread and process, release every file. May be called twice."""

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _label(self, images: torch.Tensor, rows: torch.Tensor) -> Batch:
        """A batch of images (B, 3, H, W) on the device with what belongs to their rows (B,) int64."""
        sizes = None if self.sizes is None else self.sizes.index_select(0, rows)
        return Batch(images, sizes, self.labels.index_select(0, rows), rows)
