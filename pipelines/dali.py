"""NVIDIA DALI: JPEGs are decoded on the GPU by nvJPEG and its hardware decoder, elsewhere by DALI's threads.

The order stays ours: a thread reads the bytes of the batches to come (each record's checksum is checked: 2 of the 5
microseconds that reading a 13 kB record takes), and DALI's `external_source` takes them from it. Raw records go through
the same decoder, with the header of a PPM file before them (140,000 CIFAR images a second on two cores).

Pixels. On the CPU DALI decodes with libjpeg-turbo and its accurate inverse DCT: 300 photographs gave Pillow's pixels on
every value (`use_fast_idct=True`, which is left off, gave a mean difference of 0.8 levels, at most 5). On a GPU
`jpeg_fancy_upsampling=True` makes nvJPEG interpolate the colours as libjpeg-turbo does, but its inverse DCT and its
hardware decoder round differently. EXIF orientation is ignored: what a store holds is upright.

On the CPU images are copied from DALI's buffers into one canvas that is used again. The same by `fn.pad` wrote every
byte of a new canvas per image and took three times the processor time of decoding (550 against 190 microseconds for
photographs of 280x220 on a canvas of 512x512, batches of 128). On a GPU `fn.pad` pads.
"""

from __future__ import annotations

import io
import itertools
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from fastnoisy import extras
from fastnoisy.batch import Batch
from fastnoisy.config import Table
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import cores
from fastnoisy.pipelines.base import Pipeline

HW_DECODER_LOAD = 0.65  # DALI's default, from an A100; its own benchmark on a Hopper with 70 threads uses 0.12
_DEPTH = 2  # batches that DALI works on ahead of the one handed on
_PIECES = 4  # parts in which a batch is read on a GPU machine, each by a thread of its own

_REMEDY = "Use pipeline=torch-loader; 'fastnoisy doctor' says what is installed"

Source = Callable[[], list[np.ndarray]]


class _DaliError(Exception):
    """DALI's pipeline failed and cannot be used any more; the text is DALI's, on one line."""


class _Decoder:
    """One DALI pipeline with its threads, and the canvas that it fills on the CPU.

    Args:
        canvas: (height, width) that no image exceeds.
        batch_size: of the largest batch.
        threads: of DALI's.
        device: where batches are wanted.
        hw_decoder_load: share of the JPEGs for the hardware decoder.
    """

    def __init__(
        self, canvas: tuple[int, int], batch_size: int, threads: int, device: torch.device, hw_decoder_load: float
    ) -> None:
        dali = extras.load("dali")
        fn, types = dali.fn, dali.types
        self.batch_size, self.device = batch_size, device
        self.source: Source = _exhausted
        gpu = device.type == "cuda"
        self._pipe = dali.Pipeline(
            batch_size=batch_size,
            num_threads=threads,
            device_id=_device_number(device) if gpu else None,
            prefetch_queue_depth=_DEPTH,
            exec_dynamic=True,
        )
        with self._pipe:
            # no_copy: the arrays are views of bytes that this process holds until their batch is handed on.
            data = fn.external_source(
                source=lambda: self.source(), batch=True, no_copy=True, device="cpu", dtype=types.UINT8, ndim=1
            )
            # On a GPU affine=False: pinned to cores, the decoding threads of two ranks would share the first ones.
            options = (
                {"affine": False, "hw_decoder_load": hw_decoder_load, "jpeg_fancy_upsampling": True} if gpu else {}
            )
            images = fn.decoders.image(
                data,
                device="mixed" if gpu else "cpu",
                output_type=types.RGB,
                adjust_orientation=False,
                use_fast_idct=False,
                **options,
            )
            if gpu:
                images = fn.pad(images, axes=(0, 1), shape=canvas, fill_value=0)
            self._pipe.set_outputs(images)
        self._slot = None if gpu else np.zeros((batch_size, *canvas, 3), np.uint8)
        self._held: deque[tuple[torch.cuda.Event, Any]] = deque()
        self._call("build")

    def next(self) -> Tensor | None:
        """The next batch that the source gave, uint8 (B, H, W, 3) on the device; a view of the canvas on the CPU.

        Returns:
            The images; None after the last batch.

        Raises:
            _DaliError: DALI failed.
        """
        if self._slot is not None:
            if (outputs := self._call("run")) is None:
                return None
            images = outputs[0]
            for place in range(len(images)):
                image = np.from_dlpack(images[place])
                self._slot[place, : image.shape[0], : image.shape[1]] = image
            return torch.from_numpy(self._slot[: len(images)])
        # DALI binds its output to the consumer's stream, on which the copy is made; the buffer goes back to DALI only
        # after the copy. A copy within the GPU is some 30 microseconds for 100 MB, and the tensor is then torch's own.
        while self._held and (len(self._held) > 1 or self._held[0][0].query()):
            self._held.popleft()[0].synchronize()
        with torch.cuda.device(self.device):
            stream = torch.cuda.current_stream()
            if (outputs := self._call("run", stream)) is None:
                return None
            decoded = torch.from_dlpack(outputs[0].as_tensor())
            copied = torch.empty_like(decoded).copy_(decoded, non_blocking=True)
            event = torch.cuda.Event()
            event.record(stream)
        self._held.append((event, outputs))
        return copied

    def rewind(self) -> None:
        """Make ready for another source: batches under way are decoded to the end and dropped.

        Raises:
            _DaliError: DALI failed.
        """
        self.source = _exhausted
        while self._call("run") is not None:
            pass
        self._call("reset")

    def close(self) -> None:
        """End DALI's threads, whatever they are at."""
        while self._held:
            self._held.popleft()[0].synchronize()
        self._pipe = None  # the destructor joins the threads; measured 3 ms with batches under way

    def _call(self, method: str, *arguments: Any) -> Any:
        """A method of DALI's pipeline; None where it says that there is nothing more."""
        try:
            return getattr(self._pipe, method)(*arguments)
        except StopIteration:
            return None
        except Exception as error:  # DALI maps the errors of its C++ part to a dozen Python types
            problem = _one_line(error)
        # Not "from" DALI's error: its frames would keep the pipeline and its threads alive as long as this one is held.
        raise _DaliError(problem)


class DaliPipeline(Pipeline):
    """See the module and `Pipeline`. `workers` threads decode; 0: the cores of this process, shared by the local ranks.

    Raises:
        FastnoisyError: DALI is not installed, or the split is not known to be whole: nvJPEG must not meet damaged
            files.
    """

    class Options(Table):
        """Options of DALI."""

        hw_decoder_load: float = Field(
            HW_DECODER_LOAD,
            ge=0,
            le=1,
            description="share of the JPEGs that a GPU's hardware decoder is given; the others are decoded by its "
            "cores with"
            " help of the threads; what is best depends on both: measure it",
        )

    extra = "dali"
    needs_verified = True
    auto_rank = 10
    auto_devices = ("cuda",)
    slots = _DEPTH + 3  # what DALI works on, its last output, and the copy that was handed on

    options: Options

    def __init__(
        self, split: Split, labels: np.ndarray, device: torch.device, workers: int = 0, options: Any = None
    ) -> None:
        extras.load("dali")
        if not split.verified:
            raise FastnoisyError(
                f"{split.beton_path} has no stamp that says that all its records are whole, which the dali pipeline "
                "needs",
                f"Run: fastnoisy verify {split.beton_path.parent}",
            )
        super().__init__(split, labels, device, workers, options)
        self.exact_jpeg = device.type == "cpu"
        self.threads = workers or cores()
        self._idle: list[_Decoder] = []
        self._running: list[Iterator[Tensor]] = []
        self._closed = False
        self._pieces = _PIECES if device.type == "cuda" else 1
        self._readers = ThreadPoolExecutor(self._pieces, "fastnoisy-dali-read")

    @classmethod
    def bytes_needed(cls, split: Split) -> int:
        """Nothing is kept but nvJPEG's working memory, about 16 MiB a thread, and the batches under way."""
        return 0

    def iterate(self, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        """See `Pipeline.iterate`. A pipeline of DALI's that fails is built anew once, with a warning, and then
        reported.
        """
        work = [np.ascontiguousarray(rows, np.int64) for rows in batches]
        done, restarted = 0, -1
        while done < len(work):
            try:
                with closing(self._decode(work[done:])) as decoded:  # type: ignore[type-var]
                    self._running.append(decoded)
                    try:
                        for images in decoded:
                            yield self._label(images.permute(0, 3, 1, 2), self._indices(work[done]))
                            done += 1
                        if done < len(work):
                            raise RuntimeError("the dali pipeline was closed in the middle of an iteration")
                    finally:
                        self._running.remove(decoded)
            except _DaliError as error:
                self._blame(work[done])
                if restarted == done:
                    raise FastnoisyError(
                        f"the dali pipeline failed twice at one batch, whose records are whole: {error}",
                        _REMEDY,
                    ) from error
                restarted = done
                warnings.warn(f"DALI's pipeline failed and is built anew: {error}", RuntimeWarning, stacklevel=2)

    def close(self) -> None:
        """See `Pipeline.close`. Ends iterations that were left without being closed, too."""
        self._closed = True
        for decoded in list(self._running):
            decoded.close()  # type: ignore[attr-defined]
        self._readers.shutdown()
        for decoder in self._idle:
            decoder.close()
        self._idle.clear()

    def _decode(self, work: Sequence[np.ndarray] | np.ndarray) -> Iterator[Tensor]:
        """The images of each of these batches; leaves no work behind, whichever way it is left."""
        decoder = self._take(max(map(len, work)))
        coming = iter(work)
        reading: deque[list[Future[list[np.ndarray]]]] = deque()
        kept: deque[list[np.ndarray]] = deque(maxlen=_DEPTH + 3)  # DALI reads these bytes where they are
        damage: list[FastnoisyError] = []

        def read_on() -> None:
            if (rows := next(coming, None)) is not None:
                parts = [part for part in np.array_split(rows, self._pieces) if len(part)]
                reading.append([self._readers.submit(self._read, part) for part in parts])

        def source() -> list[np.ndarray]:
            if not reading:
                raise StopIteration
            parts = reading.popleft()
            read_on()
            try:
                kept.append([record for part in parts for record in part.result()])
            except FastnoisyError as error:  # what was read before it is handed on first
                damage.append(error.with_traceback(None))  # its frames would keep DALI's pipeline alive
                raise StopIteration from None
            return kept[-1]

        reusable = True
        try:
            read_on()
            decoder.source = source
            for _ in work:
                if (images := decoder.next()) is None:
                    raise damage[0] if damage else _DaliError("it handed on fewer batches than it was given")
                yield images
        except _DaliError:
            reusable = False
            raise
        finally:
            for future in itertools.chain(*reading):
                future.cancel()
            self._put_back(decoder, reusable)

    def _take(self, batch_size: int) -> _Decoder:
        """A decoder that is not in use and large enough, or a new one in place of a smaller one."""
        if self._idle:
            decoder = self._idle.pop()
            if decoder.batch_size >= batch_size:
                return decoder
            decoder.close()
        return self._build(batch_size)

    def _build(self, batch_size: int) -> _Decoder:
        """A new decoder.

        Raises:
            FastnoisyError: DALI cannot build one, whatever the records: a driver that is too old, no memory.
        """
        try:
            return _Decoder(self.canvas, batch_size, self.threads, self.device, self.options.hw_decoder_load)
        except Exception as error:  # graph and constructor, too, raise whatever DALI's C++ part does
            problem = str(error) if isinstance(error, _DaliError) else _one_line(error)
        raise FastnoisyError(f"DALI's pipeline cannot be built: {problem}", _REMEDY)  # not "from": see `_Decoder._call`

    def _put_back(self, decoder: _Decoder, reusable: bool) -> None:
        """Keep a decoder for the next iteration, as training ends each without asking for more than its last batch.

        Building one per iteration left 500 MB more in the allocator's arenas after fifty of them.
        """
        try:
            if reusable and not self._closed:
                decoder.rewind()
                self._idle.append(decoder)
                return
        except _DaliError as error:
            warnings.warn(f"DALI's pipeline failed after its iteration: {error}", RuntimeWarning, stacklevel=2)
        decoder.close()

    def _read(self, rows: np.ndarray) -> list[np.ndarray]:
        return [self._record(row) for row in rows.tolist()]

    def _record(self, row: int) -> np.ndarray:
        data = self.split.read_bytes(row)
        if self.split.mode(row) == "raw":
            height, width = self.split.sizes[row].tolist()
            data = b"P6\n%d %d\n255\n" % (width, height) + data
        return np.frombuffer(data, np.uint8)

    def _blame(self, rows: np.ndarray) -> None:
        """Find the record of a failed batch that is at fault, decoding each by itself, first by Pillow and then by
        DALI.

        Raises:
            FastnoisyError: there is one; names file, record and source. Or DALI cannot decode anything at the moment.
        """
        for row in rows.tolist():
            self.split.read_image(row)
        with closing(self._decode(rows.reshape(-1, 1))) as decoded:  # type: ignore[type-var]
            for row in rows.tolist():
                try:
                    next(decoded)
                except _DaliError as own:
                    self._decode_made_image()
                    raise FastnoisyError(
                        f"{self.split.beton_path}: record {row} ({self.split.sources[row]}) cannot be decoded by DALI: "
                        f"{own}",
                        "Use pipeline=torch-loader, which decodes it, or convert with --store raw",
                    ) from None

    def _decode_made_image(self) -> None:
        """Decode an image that is whole for certain and as large as any, so that DALI's own troubles blame no record.

        Raises:
            FastnoisyError: DALI fails on it, too.
        """
        height, width = self.canvas
        file = io.BytesIO()
        Image.linear_gradient("L").resize((width, height)).convert("RGB").save(file, "JPEG")
        coming = iter([[np.frombuffer(file.getvalue(), np.uint8)]])
        decoder = self._build(1)
        decoder.source = lambda: next(coming)  # its end is the source's
        try:
            decoder.next()
        except _DaliError as error:
            raise FastnoisyError(f"DALI fails on any image, one made in memory included: {error}", _REMEDY) from None
        finally:
            decoder.close()

    def _indices(self, rows: np.ndarray) -> Tensor:
        indices = torch.from_numpy(rows)
        return indices.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else indices


def _exhausted() -> list[np.ndarray]:
    raise StopIteration


def _device_number(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _one_line(error: Exception) -> str:
    """DALI's text without the frames of its definition: what follows the last "encountered:", on one line."""
    text = str(error).rpartition("encountered:")[2].replace("Current pipeline object is no longer valid.", "")
    return " ".join(text.split())[:300] or type(error).__name__


PIPELINE = DaliPipeline
