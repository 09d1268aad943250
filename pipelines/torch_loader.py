"""A plain torch DataLoader over the store: the reference that every other pipeline is held against."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate
from torch.utils.data._utils import signal_handling

from fastnoisy.batch import Batch
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import cores, mebibytes
from fastnoisy.pipelines.base import Pipeline

_SHARED = Path("/dev/shm")
_WANT = (  # what torch and the kernel say where processes, memory, shared memory or descriptors are wanting
    "DataLoader worker (pid",
    "Pin memory thread exited",
    "No space left on device",
    "annot allocate memory",
    "can't allocate memory",
    "</torch_",  # the name of a file of shared memory
    "Too many open files",
    "Resource temporarily unavailable",
)


class _Images(Dataset["Tensor | FastnoisyError"]):
    """Row number to uint8 (H, W, 3) on the canvas."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return self.split.num_samples

    def __getitem__(self, row: int) -> Tensor | FastnoisyError:
        try:
            image = self.split.read_image(row)
        except FastnoisyError as error:  # a worker's exception would reach the user as a stack: handed over as a value
            return error
        canvas = np.zeros((*self.split.canvas, 3), np.uint8)
        canvas[: image.shape[0], : image.shape[1]] = image
        return torch.from_numpy(canvas)


def _collate(samples: list[Tensor | FastnoisyError]) -> Tensor | FastnoisyError:
    """Images (B, H, W, 3). In a worker torch's own function puts them into shared memory at once: were it left to the
    queue's thread, a full /dev/shm would be an error of that thread, and the batch would be waited for in vain.
    """
    for sample in samples:
        if isinstance(sample, FastnoisyError):
            return sample
    images: Tensor = default_collate(samples)
    return images


def _begin_worker(number: int) -> None:
    """Ctrl-C goes to every process of the terminal; the parent ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Rows(Sampler[list[int]]):
    """The rows of an epoch's batches, set anew for each epoch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Loader:
    """A DataLoader that runs one epoch at a time, and its processes, which live until `end`."""

    def __init__(self, split: Split, workers: int, pinned: bool) -> None:
        self._rows = _Rows()
        self._iterator: Any = None
        self._loader: DataLoader[Any] = DataLoader(
            _Images(split),
            batch_sampler=self._rows,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pinned,
            collate_fn=_collate,
            worker_init_fn=_begin_worker,
        )

    def epoch(self, batches: list[np.ndarray]) -> Iterator[Tensor | FastnoisyError]:
        """Begin an epoch; what an earlier one has left is dropped."""
        self._rows.batches = [rows.tolist() for rows in batches]
        self._iterator = iter(self._loader)
        if getattr(self._iterator, "_worker_pids_set", False):
            # torch's handler of SIGCHLD would raise the death of a worker wherever the main thread happens to be.
            # Without it the death is found where the batch is asked for, five seconds later.
            signal_handling._remove_worker_pids(id(self._iterator))
            self._iterator._worker_pids_set = False
        epoch: Iterator[Tensor | FastnoisyError] = self._iterator
        return epoch

    def end(self) -> None:
        """End and join the processes and the threads that serve them, whatever they are at."""
        iterator, self._iterator = self._iterator, None
        if not hasattr(iterator, "_shutdown_workers"):  # none was started, or images are decoded in this process
            return
        feeders = [getattr(queue, "_thread", None) for queue in iterator._index_queues]
        iterator._shutdown_workers()
        for worker in iterator._workers:
            worker.join()
        for feeder in feeders:  # they are told to end, but not waited for
            if feeder is not None:
                feeder.join(5.0)  # one that was writing to a process that was killed has no reader


class TorchLoaderPipeline(Pipeline):
    """See the module and `Pipeline`. `workers` processes decode ahead; 0 decodes in this process.

    The processes live until the pipeline is closed: starting them costs a quarter of a second (two, measured), which
    every evaluation would pay again. Two epochs that run at once have loaders of their own.

    Raises:
        FastnoisyError: a process was killed, or there is no room for the batches on their way.
    """

    auto_rank = 90  # it goes anywhere

    def __init__(
        self, split: Split, labels: np.ndarray, device: torch.device, workers: int = 0, options: Any = None
    ) -> None:
        super().__init__(split, labels, device, workers, options)
        self._idle: list[_Loader] = []
        self._running: list[_Loader] = []
        self._closed = False

    @classmethod
    def default_workers(cls) -> int:
        """A process per core of this rank."""
        return cores()

    @classmethod
    def bytes_needed(cls, split: Split) -> int:
        """Nothing is kept."""
        return 0

    def iterate(self, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        """See `Pipeline.iterate`."""
        if self._closed:
            raise RuntimeError("the pipeline is closed")
        work = [np.array(rows, np.int64) for rows in batches]
        on_gpu = self.device.type == "cuda"
        loader = self._idle.pop() if self._idle else _Loader(self.split, self.workers, on_gpu)
        self._running.append(loader)
        whole = True
        try:
            for rows, found in zip(work, loader.epoch(work), strict=True):
                if isinstance(found, FastnoisyError):
                    raise found
                images = found.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
                indices = torch.from_numpy(rows)
                yield self._label(
                    images, indices.pin_memory().to(self.device, non_blocking=True) if on_gpu else indices
                )
                if self._closed:
                    raise _ClosedError("the torch-loader pipeline was closed in the middle of an iteration")
        except (RuntimeError, OSError) as error:
            whole = isinstance(error, _ClosedError)
            if fault := _fault(error, self.workers):
                raise fault from None
            raise
        finally:
            if loader in self._running:  # it has not been closed meanwhile
                self._running.remove(loader)
                if whole:
                    self._idle.append(loader)
                else:
                    loader.end()

    def close(self) -> None:
        """End the processes, those of an epoch that still runs, too."""
        self._closed = True
        for loader in (*self._idle, *self._running):
            loader.end()
        self._idle.clear()
        self._running.clear()


class _ClosedError(RuntimeError):
    """The consumer has closed the pipeline and asks on."""


def _fault(error: Exception, workers: int) -> FastnoisyError | None:
    """What a user is told where the machine, not the program, is at fault with the workers; None where it is not."""
    text = str(error)
    if not workers or not any(want in text for want in _WANT):
        return None
    room = f", {mebibytes(shutil.disk_usage(_SHARED).free)} of which are free" if _SHARED.is_dir() else ""
    return FastnoisyError(
        f"the worker processes of the torch-loader pipeline failed: {text.strip().splitlines()[-1]}",
        f"They may have run out of main memory or of shared memory ({_SHARED}{room}; docker's --shm-size): "
        f"try data.workers={workers // 2}, or a smaller batch_size",
    )


PIPELINE = TorchLoaderPipeline
