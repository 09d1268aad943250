"""The compiled loop of `ffcv`, apart from it since it needs numba: a batch of records decoded onto their canvases.

libjpeg-turbo's functions are called by name and not by address, so that what is compiled can be kept on disk: a new
process loads it in far less time than it takes to compile. The names are made known by `link`, without which loading
ends the process.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
import numpy as np
from llvmlite import binding
from numba import types

from fastnoisy.compiler import kept

_RAW = 1  # FFCV's mode of a record of pixels; 0 is a JPEG
_POINTER: Any = types.intp
_INT: Any = types.intc
_create: Any = types.ExternalFunction("fastnoisy_tjInitDecompress", _POINTER())
_destroy: Any = types.ExternalFunction("fastnoisy_tjDestroy", _INT(_POINTER))
_decompress: Any = types.ExternalFunction(
    "fastnoisy_tjDecompress2", _INT(_POINTER, _POINTER, types.ulong, _POINTER, _INT, _INT, _INT, _INT, _INT)
)
_RGB, _ACCURATE = np.int32(0), np.int32(0)


def link(library: Any) -> None:
    """Make the functions of FFCV's library known to numba's linker; before any of the loops below is called."""
    for name in ("tjInitDecompress", "tjDestroy", "tjDecompress2"):
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        binding.add_symbol(f"fastnoisy_{name}", address)


def _decode(rows, images, notes, metadata, file, starts, lengths):  # type: ignore[no-untyped-def]
    """Decode the records `rows` (B,) int64 of a mapped file onto `images` (B, H, W, 3), with `notes` (B, 3); see
    `ffcv`.
    """
    for slot in numba.prange(len(rows)):
        record = metadata[rows[slot]]
        height, width, start = np.int64(record["height"]), np.int64(record["width"]), np.int64(record["data_ptr"])
        low, high = np.int64(0), np.int64(len(starts) - 1)
        while low < high:  # searchsorted takes four times as long to compile
            middle = (low + high) // 2
            if np.int64(starts[middle]) < start:
                low = middle + 1
            else:
                high = middle
        data = file[start : start + np.int64(lengths[low])]
        canvas, note = images[slot], notes[slot]
        if record["mode"] == _RAW:
            canvas[:height, :width] = data.reshape(height, width, 3)
            note[0] = 0
        else:
            handle = _create()  # costs less than a microsecond, and threads share nothing
            note[0] = _decompress(
                handle, data.ctypes.data, np.uint64(data.size), canvas.ctypes.data,
                np.int32(width), np.int32(3 * canvas.shape[1]), np.int32(height), _RGB, _ACCURATE,
            )  # fmt: skip
            _destroy(handle)
        was_high, was_wide = note[1], note[2]
        canvas[:height, width:was_wide] = 0
        canvas[height:was_high, :was_wide] = 0
        note[1], note[2] = height, width


def _named(name: str) -> Any:
    """The loop by another name, for numba tells what it has kept apart by name and types, and not by `parallel`."""
    function = FunctionType(_decode.__code__, _decode.__globals__, name)
    function.__qualname__ = name
    return function


decode_alone = kept(Path(__file__), nogil=True)(_named("decode_alone"))  # in the thread that calls it
decode_parallel = kept(Path(__file__), nogil=True, parallel=True)(_named("decode_parallel"))  # in numba's threads
