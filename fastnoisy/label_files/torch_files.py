"""Reads .pt files without trusting them: nothing that their pickle names is ever run.

The files are pickles within torch's zip format. A pickle is a program; torch's restricted loader runs none, and the
three names of numpy that label files need stand for classes of ours, so numpy's own unpickling code sees no byte of
them.
"""

from __future__ import annotations

import re
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np


class RefusedError(Exception):
    """The pickle names something that no file of labels needs; the text is that name."""


def checked(path: Path, max_bytes: int) -> BytesIO:
    """A zip archive (.pt or .npz), made anew of members whose checksums are right: torch does not look at them.

    Raises:
        ValueError: it unpacks to more than so many bytes, or has a name twice.
        Exception: it is damaged; zipfile raises almost anything.
    """
    anew = BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(anew, "w") as copy:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > max_bytes:
            raise ValueError(f"it unpacks to {size / 1e9:.1f} GB, which no such file has")
        if len({member.filename for member in members}) != len(members):
            raise ValueError("a name is in it twice")
        for member in members:
            copy.writestr(member.filename, archive.read(member))
    anew.seek(0)
    return anew


def load(file: BytesIO) -> Any:
    """What a .pt file holds: texts, numbers, lists, dictionaries, tensors, and arrays of numpy as `HeldArray`.

    Args:
        file: as `checked` gives it.

    Raises:
        RefusedError: its pickle names anything else; nothing was run.
        Exception: it is damaged; torch raises almost anything.
    """
    import torch

    names: list[Any] = [
        (_reconstruct, "numpy.core.multiarray._reconstruct"),
        (_reconstruct, "numpy._core.multiarray._reconstruct"),
        (HeldArray, "numpy.ndarray"),
        (_Dtype, "numpy.dtype"),
    ]
    try:
        with torch.serialization.safe_globals(names):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise RefusedError(refused[1]) from None
        raise


class HeldArray:
    """Stands for numpy.ndarray: holds what its pickle says."""

    def __init__(self) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The array, of integers.

        Raises:
            Exception: the pickle has put something else there.
        """
        _, shape, dtype, _, data = self.state
        return np.frombuffer(data, dtype.integer()).reshape(shape)


class _Dtype:
    """Stands for numpy.dtype: an integer type with its byte order."""

    def __init__(self, name: str = "", *_: Any) -> None:
        self.name = name
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def integer(self) -> np.dtype:
        if not re.fullmatch(r"[<>|=][iu][1248]", f"{self.order}{self.name}"):
            raise TypeError(f"an array of {self.name!r} is no array of integers")
        return np.dtype(f"{self.order}{self.name}")


def _reconstruct(*_: Any) -> HeldArray:
    return HeldArray()
