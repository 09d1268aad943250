"""Reads the published CIFAR pickles without trusting them: nothing a pickle names is ever called.

A pickle is a program. Python's loader runs whatever it names; this one knows four names, those that a dictionary of
lists, texts and uint8 arrays needs, and puts harmless stand-ins of ours in their place, so not even numpy's own
unpickling code sees the bytes.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from fastnoisy.errors import FastnoisyError

_REMEDY = "get the data set again from its publisher and compare its checksum"


def load_batch(data: bytes, place: str) -> dict[str, Any]:
    """The dictionary in a CIFAR pickle.

    Args:
        data: the pickle, protocol 2 as published (Python 2), or written so by Python 3.
        place: what to call it in errors.

    Returns:
        The dictionary with text keys; arrays are uint8 numpy arrays, texts inside are bytes as in the file.

    Raises:
        FastnoisyError: the pickle names anything else, is cut off or damaged, or holds no dictionary.
    """
    try:
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        result = {_text(name): value.array() if isinstance(value, _Array) else value for name, value in content.items()}
    except FastnoisyError as refused:
        raise FastnoisyError(f"{place}: {refused.message}", _REMEDY) from None
    except Exception as error:  # a damaged pickle makes Python's loader raise almost anything
        problem = f"is damaged or no CIFAR pickle ({type(error).__name__}: {error})"
        raise FastnoisyError(f"{place} {problem}", _REMEDY) from None
    return result


class _Array:
    """Stands for numpy.ndarray: holds what its pickle says."""

    def __init__(self) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        _, shape, dtype, fortran_order, data = self.state
        if not isinstance(dtype, _Dtype) or dtype.name not in ("u1", "|u1"):
            raise FastnoisyError("an array is not of uint8")
        return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran_order else "C")


class _Dtype:
    """Stands for numpy.dtype: only the name counts, and only uint8 is accepted."""

    def __init__(self, name: Any = "", *_: Any) -> None:
        self.name = _text(name)

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like: nothing to keep for uint8."""


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in protocol 2: latin-1 text, and no other encoding."""
    if _text(encoding) not in ("latin1", "latin-1"):
        raise FastnoisyError(f"the encoding {encoding!r} does not belong in a CIFAR pickle")
    return text.encode("latin-1")


# The loader written in Python, for the one in C reserves as much memory as the pickle says: one changed byte in a file
# of 3 kB took 1.6 GB and five seconds (measured). 60,000 labels load in a blink either way.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Functions made anew each time, for a pickle may set attributes on what it is given.
        found = {
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): lambda text, encoding: _encode(text, encoding),
        }.get((module, name))
        if found is None:
            raise FastnoisyError(f"the pickle names {module}.{name}, which no CIFAR file needs; nothing was run")
        return found


def _text(name: Any) -> str:
    return name.decode("latin-1") if isinstance(name, bytes) else str(name)
