"""What pipelines are timed against: a plain DataLoader with Pillow, and FFCV and DALI used by hand for the same
work.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import torch
from _epochs import Epoch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastnoisy.data.store import Split


def importable(module: str) -> bool:
    """Whether a library is installed."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


class PillowImages(Dataset[tuple[Tensor, int, int]]):
    """What one writes by hand: JPEG bytes from memory, Pillow, the canvas as a tensor, label and index."""

    def __init__(self, split: Split) -> None:
        self.canvas, self.labels = split.canvas, split.given_labels
        self.files = [split.read_bytes(row) for row in range(split.num_samples)]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        image = np.asarray(Image.open(BytesIO(self.files[row])).convert("RGB"))
        canvas = np.zeros((*self.canvas, 3), np.uint8)
        canvas[: image.shape[0], : image.shape[1]] = image
        return torch.from_numpy(canvas).permute(2, 0, 1), int(self.labels[row]), row


def data_loader(images: PillowImages, batch_size: int, workers: int, device: torch.device) -> Epoch:
    """A shuffling DataLoader with persistent workers."""
    loader = DataLoader(
        images,
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )

    def epoch() -> Iterator[int]:
        for pixels, _, rows in loader:
            pixels.to(device, non_blocking=True)
            yield len(rows)

    return epoch


def bare_ffcv(split: Split, batch_size: int, threads: int, own: bool) -> Epoch:
    """FFCV's Loader in its own random order, with a decoder onto the canvas.

    Args:
        own: decode by FFCV's function (fast DCT, tight rows), then copy onto the canvas, as its own decoders do; else
            by libjpeg-turbo's, at the canvas's pitch: the decoding that the pipeline does.
    """
    from ffcv import libffcv
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.pipeline.allocation_query import AllocationQuery
    from ffcv.pipeline.compiler import Compiler

    height, width = split.canvas
    shape, dtype = (height, width, 3), np.dtype("u1")
    create, destroy, decompress = libffcv.lib.tjInitDecompress, libffcv.lib.tjDestroy, libffcv.lib.tjDecompress2
    create.argtypes, create.restype = [], ctypes.c_void_p
    destroy.argtypes = [ctypes.c_void_p]
    decompress.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, *[ctypes.c_int] * 5]

    class Decoder(SimpleRGBImageDecoder):  # type: ignore[misc]
        def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, Any]:
            memory = AllocationQuery(shape, dtype), AllocationQuery((3 * height * width,), dtype)
            return replace(previous_state, jit_mode=True, shape=shape, dtype=dtype), memory

        def generate_code(self) -> Callable[..., Any]:
            read, numbers = self.memory_read, Compiler.get_iterator()
            imdecode = Compiler.compile(libffcv.imdecode)

            def by_ffcv(rows, memory, metadata, storage):  # type: ignore[no-untyped-def]
                images, tight = memory
                for slot in numbers(len(rows)):
                    field = metadata[rows[slot]]
                    data = read(field["data_ptr"], storage)
                    h, w = np.uint32(field["height"]), np.uint32(field["width"])
                    imdecode(data, tight[slot], h, w, h, w, 0, 0, 1, 1, False, False)
                    images[slot, :h, :w] = tight[slot][: 3 * np.int64(h) * np.int64(w)].reshape(h, w, 3)
                    images[slot, :h, w:] = 0
                    images[slot, h:] = 0
                return images[: len(rows)]

            def by_libjpeg(rows, memory, metadata, storage):  # type: ignore[no-untyped-def]
                images, _ = memory
                for slot in numbers(len(rows)):
                    field = metadata[rows[slot]]
                    data = read(field["data_ptr"], storage)
                    h, w = np.int64(field["height"]), np.int64(field["width"])
                    handle = create()
                    decompress(handle, data.ctypes.data, data.size, images[slot].ctypes.data, w, 3 * width, h, 0, 0)
                    destroy(handle)
                    images[slot, :h, w:] = 0
                    images[slot, h:] = 0
                return images[: len(rows)]

            code = by_ffcv if own else by_libjpeg
            code.is_parallel = True  # type: ignore[attr-defined]
            return code

    counts = torch.get_num_threads()
    loader = Loader(
        str(split.beton_path), batch_size=batch_size, num_workers=threads, os_cache=True, order=OrderOption.RANDOM,
        seed=1, drop_last=False, pipelines={"image": [Decoder()], "label": None, "index": None},
    )  # fmt: skip
    torch.set_num_threads(counts)

    def epoch() -> Iterator[int]:
        for (images,) in loader:
            yield len(images)
        torch.set_num_threads(counts)

    return epoch


def bare_dali(split: Split, batch_size: int, threads: int, device: torch.device) -> Epoch:
    """A DALI pipeline fed with JPEG bytes: its decoder, and padding to the canvas. Full batches only, as DALI likes
    it.
    """
    from nvidia.dali import fn, pipeline_def, types

    files = [np.frombuffer(split.read_bytes(row), np.uint8) for row in range(split.num_samples)]
    gpu = device.type == "cuda"
    given: list[list[np.ndarray]] = []

    @pipeline_def(  # type: ignore[misc]
        batch_size=batch_size, num_threads=threads, device_id=device.index or 0 if gpu else None, prefetch_queue_depth=2
    )
    def graph() -> Any:
        data = fn.external_source(source=lambda: given.pop(), batch=True, dtype=types.UINT8)
        images = fn.decoders.image(data, device="mixed" if gpu else "cpu", output_type=types.RGB)
        return fn.pad(images, axes=(0, 1), shape=split.canvas, fill_value=0)

    made = graph(exec_dynamic=False)
    rng, batches = np.random.default_rng(1), len(files) // batch_size
    ready = False

    def epoch() -> Iterator[int]:
        nonlocal ready
        rows = rng.permutation(len(files))[: batches * batch_size].reshape(batches, batch_size)
        given[:0] = [[files[row] for row in part] for part in rows]
        if not ready:  # the queue is filled before the first run, and stays so many batches ahead
            given[:0] = [[files[row] for row in part] for part in rows[:4]]
            made.build()
            ready = True
        for _ in range(batches):
            made.run()
            yield batch_size

    return epoch
