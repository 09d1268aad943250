"""FFCV's Loader over the store's .beton: its threads decode whole images once, straight onto the canvas.

What FFCV leaves to its users is done here (FFCV 1.0.2, each seen in its source and tried):

* its decoder takes images of one size only and discards decoding errors. Ours calls libjpeg-turbo, with which FFCV is
  linked, so that it writes rows at the canvas's pitch and reports what it met. With the accurate DCT the pixels are
  Pillow's own; FFCV's fast DCT is off by 0.8 levels on average and by 6 at most, and no faster (2,103 photographs);
* it maps the file and trusts its tables, so that damage is a crash: only a verified split is opened;
* its buffers are recycled: a batch is the consumer's until it asks for the next one, as `Pipeline` says;
* it sets the thread counts of torch and numba, and its epoch's thread outlives an epoch that is left early: the counts
  are put back and the thread is joined;
* a thread of it that dies leaves its consumer waiting for ever: it is looked after;
* its memory manager lists the pages of every record in Python, though a mapped file needs none of that.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastnoisy import extras
from fastnoisy.batch import Batch
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import cores
from fastnoisy.pipelines.base import Pipeline, thread_counts_kept

BATCHES_AHEAD = 2  # decoded and waiting, beside the one that is decoded and the one that is used
_IMPORT = threading.Lock()


class FfcvPipeline(Pipeline):
    """See the module and `Pipeline`. `workers` threads decode; 0: one per core that this rank may use.

    Raises:
        FastnoisyError: ffcv is not installed, or the split has not been verified.
    """

    extra = "ffcv"
    needs_verified = True
    auto_rank = 20
    slots = BATCHES_AHEAD + 2  # FFCV's own count

    def __init__(
        self, split: Split, labels: np.ndarray, device: torch.device, workers: int = 0, options: Any = None
    ) -> None:
        super().__init__(split, labels, device, workers, options)
        if not split.verified:
            raise FastnoisyError(
                f"{split.beton_path} has not been verified, and ffcv trusts what it reads",
                f"Run: fastnoisy verify {split.beton_path.parent}",
            )
        self._epochs: list[Any] = []
        # One for all epochs: torch keeps what was freed on a stream for that stream, and hands out 32 of them in turn.
        # With a priority it is none of those that FFCV takes, which wait for the consumer.
        self._copies = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        with thread_counts_kept():
            self._loader: Any = _open_loader(split, workers or cores())

    @classmethod
    def bytes_needed(cls, split: Split) -> int:
        """Nothing is kept on the device; the file is mapped, and the kernel's page cache holds what is read."""
        return 0

    def iterate(self, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        """See `Pipeline.iterate`. Takes all of `batches` at once, for FFCV plans an epoch as a whole."""
        decoded = self._decode([np.array(rows, np.int64) for rows in batches])
        return self._on_gpu(decoded) if self.device.type == "cuda" else self._on_cpu(decoded)

    def close(self) -> None:
        """End the epochs that still run, join their threads and give the map of the file back."""
        while self._epochs:
            _stop(self._epochs.pop())
        if self._loader is not None:
            self._loader.memory_manager.context.mmap = None
            self._loader = None

    def _decode(self, cut: list[np.ndarray]) -> Iterator[tuple[Tensor, np.ndarray]]:
        """Images (B, H, W, 3) in FFCV's own buffer, valid until the next is asked for, with their rows."""
        if not cut:
            return
        self._check_length()
        size = max(map(len, cut))
        # FFCV cuts an order into batches of one size: a shorter one that is not the last is filled up by repetition.
        full = [np.resize(rows, size) for rows in cut[:-1]]
        with thread_counts_kept() as put_back:
            epoch = _start(self._loader, np.concatenate([*full, cut[-1]]), size)
            self._epochs.append(epoch)
            try:
                for number, rows in enumerate(cut):
                    images, notes = _next(epoch)
                    if number == 0:
                        put_back()  # FFCV's thread has set them once more when it started
                    for slot in np.flatnonzero(notes[: len(rows), 0]):
                        self._repair(images[slot], int(rows[slot]))
                    yield torch.from_numpy(images[: len(rows)]), rows
            finally:
                _stop(epoch)
                if epoch in self._epochs:
                    self._epochs.remove(epoch)

    def _check_length(self) -> None:
        """A map beyond a file's end kills the process when it is read."""
        path = self.split.beton_path
        found = path.stat().st_size if path.exists() else 0
        if found != self.split.num_bytes:
            raise FastnoisyError(
                f"{path} has {found} bytes, where it had {self.split.num_bytes} when it was opened",
                "Copy the store again from where it is whole",
            )

    def _repair(self, canvas: np.ndarray, row: int) -> None:
        """libjpeg-turbo failed or warned: decode the record by the checked way, which raises if it is damaged."""
        image = self.split.read_image(row)
        canvas[:] = 0
        canvas[: image.shape[0], : image.shape[1]] = image

    def _on_cpu(self, decoded: Iterator[tuple[Tensor, np.ndarray]]) -> Iterator[Batch]:
        for images, rows in decoded:
            yield self._label(images.permute(0, 3, 1, 2), torch.from_numpy(rows))

    def _on_gpu(self, decoded: Iterator[tuple[Tensor, np.ndarray]]) -> Iterator[Batch]:
        """Copies run one batch ahead on a stream of their own; FFCV's buffer goes back once its copy has ended."""
        stream = self._copies
        assert stream is not None
        ready: tuple[Tensor, Tensor, torch.cuda.Event] | None = None
        for images, rows in decoded:
            with torch.cuda.stream(stream):
                moved = images.to(self.device, non_blocking=True)
                # Pinned: from other memory the host would wait for the copy, and so for that of the images before it.
                indices = torch.from_numpy(rows).pin_memory().to(self.device, non_blocking=True)
                event = stream.record_event()
            if ready is not None:
                yield self._hand_over(*ready)
            event.synchronize()
            ready = moved, indices, event
        if ready is not None:
            yield self._hand_over(*ready)

    def _hand_over(self, images: Tensor, indices: Tensor, event: torch.cuda.Event) -> Batch:
        consumer = torch.cuda.current_stream(self.device)
        consumer.wait_event(event)
        images.record_stream(consumer)
        indices.record_stream(consumer)
        return self._label(images.permute(0, 3, 1, 2), indices)


# -- FFCV's loader ----------------------------------------------------------------------------------------------------


def _open_loader(split: Split, threads: int) -> Any:
    """A Loader whose only field is the image; its order is set by `_start`."""
    import numba

    module: Any = extras.load("ffcv", "ffcv.loader.loader")
    traversal_order: Any = extras.load("ffcv", "ffcv.traversal_order.base").TraversalOrder

    class Rows(traversal_order):  # type: ignore[misc]
        """Our order. FFCV calls what it is given with the loader and wants a traversal order back."""

        def __init__(self) -> None:  # FFCV's own wants the loader, which is not there yet
            self.rows = np.zeros(1, np.int64)

        def __call__(self, loader: object) -> Rows:
            return self

        def sample_order(self, epoch: int) -> np.ndarray:
            return self.rows

    decoder, manager = _decoder(split.canvas), _mapped_file()
    threads = min(threads, numba.config.NUMBA_NUM_THREADS) if _parallel_is_safe() else 1  # type: ignore[attr-defined]
    with _IMPORT:  # the name is put back before anyone else looks
        original, module.OSCacheManager = module.OSCacheManager, manager
        try:
            loader = module.Loader(
                str(split.beton_path),
                batch_size=1,
                num_workers=threads,
                os_cache=True,
                order=Rows(),
                seed=0,  # without one it draws from numpy's global generator
                drop_last=False,
                batches_ahead=BATCHES_AHEAD,
                pipelines=_pipelines(module, split, decoder),
            )
        finally:
            module.OSCacheManager = original
    loader.graph.allocate_memory = functools.partial(_allocate, loader.graph)
    (node,) = loader.graph.nodes
    loader.code = [(_stage(node, threads > 1), [node.id])], [node.id]
    return loader


def _stage(node: Any, parallel: bool) -> Callable[..., Any]:
    """What FFCV's thread calls for each batch. FFCV would compile the decoder anew for each loader, for 0.9 seconds."""
    decode, column, memory = _compiled(parallel), f"f{node.f_ix}", f"memory_{node.id}"

    def stage(batch_indices: np.ndarray, metadata: np.ndarray, storage_state: Any, **memories: Any) -> Any:
        images, notes = memories[memory]
        try:
            decode(batch_indices, images, notes, metadata[column], *storage_state)
        except OSError:  # numba could not keep what it has compiled, on a full disk; it has it all the same
            decode(batch_indices, images, notes, metadata[column], *storage_state)
        return ((images, notes),)

    return stage


def _allocate(graph: Any, batch_size: int, slots: int) -> dict[str, dict[int, Any]]:
    """Memory for an epoch as FFCV wants it, but all 0: its own is whatever torch finds, pinned by a copy."""
    wanted, _ = graph.collect_requirements()
    pin = torch.cuda.is_available()

    def zeros(query: Any) -> np.ndarray:
        shape = (slots, batch_size, *query.shape)
        if not pin:
            return np.zeros(shape, query.dtype)
        made: np.ndarray = torch.zeros(shape, dtype=getattr(torch, query.dtype.name), pin_memory=True).numpy()
        return made

    operations = {node: tuple(map(zeros, queries)) for node, queries in wanted["operation"].items()}
    return {"operation": operations, "shared": dict.fromkeys(operations)}


def _pipelines(module: Any, split: Split, decoder: object) -> dict[str, list[object] | None]:
    """The decoder for the image field, whatever it is called in a file of foreign origin, and nothing for the
    others.
    """
    from ffcv.fields import RGBImageField

    handlers = module.Reader(str(split.beton_path)).handlers
    return {name: [decoder] if isinstance(field, RGBImageField) else None for name, field in handlers.items()}


def _start(loader: Any, rows: np.ndarray, batch_size: int) -> Any:
    """Begin an epoch over `rows`, in batches of `batch_size`."""
    if loader is None:
        raise RuntimeError("the pipeline is closed")
    loader.batch_size = batch_size
    loader.traversal_order.rows = loader.first_traversal_order = rows
    return iter(loader)


def _next(epoch: Any) -> tuple[np.ndarray, np.ndarray]:
    """The next batch. Not FFCV's own `next`, which would wait for ever if its thread has died."""
    while True:
        try:
            found = epoch.output_queue.get(timeout=1.0)
            break
        except queue.Empty:
            if not epoch.is_alive() and epoch.output_queue.empty():
                found = None
                break
    if found is None:
        raise FastnoisyError("ffcv's loading thread ended before its epoch did", "Its own error stands above")
    _, ((images, notes),) = found
    return images, notes


def _stop(epoch: Any) -> None:
    """Join the epoch's thread: no further batch is begun, and the queue is emptied so that it never waits for room."""
    epoch.iter_ixes = iter(())
    epoch.terminate_event.set()
    while epoch.is_alive():
        try:
            epoch.output_queue.get(timeout=0.005)
        except queue.Empty:
            epoch.join(0.005)
    epoch.close()


# -- what is compiled -------------------------------------------------------------------------------------------------


def _decoder(canvas: tuple[int, int]) -> object:
    """An FFCV operation that decodes whole images onto canvases and hands on (images, notes).

    Notes are int32 (B, 3): libjpeg-turbo's status (0: all is well), and the height and width that the slot's image
    covers.
    They stay with the slot, so that only what the image before it covered has to be made 0 again: clearing a canvas of
    512x512 takes 36 microseconds, and a photograph of 300x200 costs 165 in all.
    """
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder  # only its subclasses are accepted as decoders
    from ffcv.pipeline.allocation_query import AllocationQuery

    class CanvasDecoder(SimpleRGBImageDecoder):
        def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, Any]:
            shape = (*canvas, 3)
            memory = AllocationQuery(shape, np.dtype("u1")), AllocationQuery((3,), np.dtype("i4"))
            return replace(previous_state, jit_mode=True, shape=shape, dtype=np.dtype("u1")), memory

        def generate_code(self) -> Callable[..., Any]:
            return _open_loader  # FFCV wants some function; `_stage` is called in its place

    return CanvasDecoder()


@functools.cache
def _compiled(parallel: bool) -> Callable[..., None]:
    """The decoding loop, which numba keeps on disk."""
    from ffcv import libffcv

    from fastnoisy.pipelines import _ffcv_decode as loops

    loops.link(libffcv.lib)  # it links libjpeg-turbo, so these are the very functions that FFCV calls
    compiled: Callable[..., None] = loops.decode_parallel if parallel else loops.decode_alone
    return compiled


def _mapped_file() -> type:
    """FFCV's manager of a mapped file without its lists in Python, which no mapped file uses, and without its reader.

    Our decoder reads the map itself. And to compile that reader FFCV marks the one type that numba has for a row of
    bytes as read-only, for the whole process: compiled functions that fill such a row are lost (KeyError).
    """
    from ffcv.memory_managers.os_cache import OSCacheContext, OSCacheManager

    class MappedFile(OSCacheManager):
        def __init__(self, reader: Any) -> None:
            order = np.argsort(reader.alloc_table["ptr"], kind="stable")
            self.reader = reader
            self.ptrs, self.sizes = reader.alloc_table["ptr"][order], reader.alloc_table["size"][order]
            self.context = OSCacheContext(self)

        def compile_reader(self) -> None:
            pass

    return MappedFile


def _parallel_is_safe() -> bool:
    """Whether numba's threads may be used from two threads of Python at once: its own `workqueue` aborts the
    process.
    """
    import numba

    try:
        return numba.threading_layer() != "workqueue"
    except ValueError:  # nothing has run in parallel yet: what would be loaded?
        for layer in ("tbbpool", "omppool"):
            try:
                __import__(f"numba.np.ufunc.{layer}")
                return True
            except ImportError:
                continue
    return False


PIPELINE = FfcvPipeline
