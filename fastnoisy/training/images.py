"""What is to be predicted: files, folders and pixels, decoded as a conversion decodes them, in worker processes.

A file may be a pipe that nobody writes to, have 40 GiB of nothing, or take a decoder a minute: it is read as a
conversion's is, under the same limits of size, memory and time, and what cannot be read is named with the same words.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from fastnoisy.data.conversion.encode import Plan, encode
from fastnoisy.data.conversion.outcome import Outcome, Rejected
from fastnoisy.data.sources._walk import walk
from fastnoisy.data.sources.base import read_file
from fastnoisy.data.store.beton import RAW
from fastnoisy.errors import FastnoisyError
from fastnoisy.machine import num_workers
from fastnoisy.workers import Lost, ordered


@dataclass(frozen=True)
class Unread:
    """What lies in a folder and cannot be read: a dangling link, a pipe, a folder that may not be listed."""

    path: Path
    reason: str


Item = Path | np.ndarray | Unread


def items_of(images: Any, say: Callable[[str], object]) -> list[Item]:
    """What is to be predicted, one by one: paths of files, and pixels uint8 (h, w, 3).

    Args:
        say: told of what is passed over in folders, a line each.

    Raises:
        FastnoisyError: a path that does not exist, pixels of another type or shape, a folder that cannot be listed for
            a fault of the machine.
    """
    if isinstance(images, (str, Path)):
        path = Path(images)
        if path.is_dir():
            walked = walk(path)
            for line in walked.notes(str(path)):
                say(f"note: {line}")
            found: list[Item] = [path / name for name in walked.files]
            return found + [Unread(path / name, reason) for name, reason in walked.rejected]
        if not path.exists():
            raise FastnoisyError(f"{path} does not exist", "name files, or folders of them")
        return [path]
    if isinstance(images, (np.ndarray, Tensor)):
        pixels = np.asarray(images)
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
            raise FastnoisyError(
                f"pixels are uint8 (h, w, 3) or (n, h, w, 3), RGB; these are {pixels.dtype} {pixels.shape}"
            )
        return list(pixels[None] if pixels.ndim == 3 else pixels)
    return [item for part in images for item in items_of(part, say)]


def decoded(
    items: Sequence[Item], plan: Plan, workers: int | None, timeout: float
) -> Generator[np.ndarray | Rejected, None, None]:
    """The pixels of each item as a store would hold them, uint8 (h, w, 3), in order, or why there are none.

    Args:
        plan: how a store's images are made, as pixels.
        workers: processes that decode files; as many as there are cores and memory for where None.
        timeout: seconds for one file.
    """
    paths = [item for item in items if isinstance(item, Path)]
    count = min(num_workers(workers), len(paths))
    work = functools.partial(_decode, paths, plan)
    with closing(ordered(work, range(len(paths)), workers=count, lost=_lost, timeout=timeout)) as files:
        for item in items:
            if isinstance(item, Unread):
                yield Rejected(item.reason)
            else:
                yield _pixels(next(files) if isinstance(item, Path) else encode(functools.partial(_png, item), plan))


def _decode(paths: Sequence[Path], plan: Plan, i: int) -> Outcome:
    return encode(functools.partial(read_file, paths[i]), plan)


def _lost(lost: Lost) -> Rejected:
    return Rejected(lost.reason)


def _pixels(outcome: Outcome) -> np.ndarray | Rejected:
    if isinstance(outcome, Rejected):
        return outcome
    assert outcome.mode == RAW
    return np.frombuffer(bytearray(outcome.data), np.uint8).reshape(outcome.height, outcome.width, 3)


def _png(pixels: np.ndarray) -> bytes:
    """Pixels as a file, without loss, so that they are resized as files are."""
    held = BytesIO()
    Image.fromarray(pixels).save(held, "png", compress_level=0)
    return held.getvalue()
