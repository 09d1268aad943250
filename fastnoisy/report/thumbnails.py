"""Small JPEGs of a store's images, for pages."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

from PIL import Image

from fastnoisy.data.store import Split

SIDE = 128  # pixels, the longer side
_QUALITY, _QUALITY_TINY = 70, 90
_TINY = 64  # up to this side an image, as of CIFAR, keeps its size, and shows every blot of a strong compression


def thumbnail(split: Split, row: int, side: int = SIDE) -> bytes:
    """An image as a JPEG of at most `side` pixels along its longer side; never enlarged.

    Raises:
        FastnoisyError: the record is damaged.
    """
    height, width = (int(pixels) for pixels in split.sizes[row])
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(split.read_reduced(row, size[1], size[0]))
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    tiny = max(height, width) <= _TINY
    out = BytesIO()
    image.save(out, "JPEG", quality=_QUALITY_TINY if tiny else _QUALITY, subsampling=0 if tiny else 2)
    return out.getvalue()


def thumbnails(
    places: Sequence[tuple[Split, int]],
    *,
    threads: int,
    poll: Callable[[int], object] = lambda done: None,
) -> list[str]:
    """The thumbnails of many images in base64, in their order; Pillow lets threads decode side by side.

    Args:
        places: split and row of each.
        threads: how many.
        poll: told how many are done; may raise, to stop.

    Raises:
        FastnoisyError: a record is damaged.
    """
    pool = ThreadPoolExecutor(max_workers=threads)
    found: list[str] = []
    try:
        for data in pool.map(lambda place: thumbnail(*place), places):
            found.append(b64encode(data).decode("ascii"))
            poll(len(found))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return found
