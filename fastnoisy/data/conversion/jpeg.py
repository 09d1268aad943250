"""Whether a JPEG is whole, by libjpeg's own judgement: what it only warns of counts, too.

libjpeg decodes almost anything: a file that was cut short gives its first part and grey, with a warning that Pillow
does not pass on. simplejpeg with `strict=True` makes errors of the warnings. A decode at an eighth of the size reads
every code of every block, so it finds what is cut off or no code at all.
"""

from __future__ import annotations

import re
from io import BytesIO

import numpy as np
import simplejpeg
from PIL import Image

from fastnoisy.errors import FastnoisyError

MAX_EXTRA_BYTES = 16  # before the end marker: padding that some cameras and editors write
_REDUCED = {"min_height": 1, "min_width": 1, "min_factor": 8}  # libjpeg's least scale
_EXACT = {"fastdct": False, "fastupsample": False}  # as Pillow decodes: the same pixels
_EXTRA = re.compile(r"([0-9]+) extraneous bytes before marker 0x([0-9a-f]{2})")
_PROFILE = "bad ICC marker"
_SUBSAMPLING = "Could not determine subsampling"
_ALONE = frozenset((0x01, *range(0xD0, 0xDA)))  # markers that head no segment


def decode(data: bytes, *, grey: bool) -> np.ndarray | None:
    """uint8 pixels of a sound grey or YCbCr JPEG, (height, width) where `grey`, else (height, width, 3) RGB; the same
    as Pillow's. None where libjpeg errs or warns.
    """
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", strict=True, **_EXACT)
    except ValueError as error:
        _refuse_no_memory(error)
        return None
    return pixels[:, :, 0] if grey else pixels


def decode_rgbx(data: bytes, memory: np.ndarray) -> np.ndarray | None:
    """As `decode`, of a YCbCr JPEG into memory of at least four bytes a pixel: uint8 (height * width * 4,), RGB and one
    more.
    """
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGBX", strict=True, buffer=memory, **_EXACT)
    except ValueError as error:
        _refuse_no_memory(error)
        return None
    return pixels.reshape(-1)


def is_sound(data: bytes) -> bool:
    """Whether libjpeg decodes a grey or YCbCr JPEG to its end without a warning."""
    return not _problem(data)


def flaw(data: bytes) -> str:
    """What must be known of a JPEG that is to be encoded anew; empty where nothing is wrong with it.

    Raises:
        FastnoisyError: it is not whole, in libjpeg's words.
    """
    problem = _problem(data)
    if not problem:
        kind = simplejpeg.decode_jpeg_header(data)[2]
        return f"{kind} colours, encoded anew" if kind in ("CMYK", "YCCK") else ""
    if _SUBSAMPLING in problem:
        if not _reads_to_the_end(data):
            raise FastnoisyError("an unusual JPEG that is cut off, or broken")
        return "an unusual subsampling of colours, encoded anew"
    if _in_header(data):
        rest = _problem(_without_flaws(data))
        if rest and not _is_padding(rest):
            raise FastnoisyError(f"a damaged JPEG: {rest}")
        stray = _EXTRA.search(problem)
        what = "a damaged colour profile" if _PROFILE in problem else "stray bytes in its header" if stray else problem
        return f"{what}, encoded anew without"
    if _is_padding(problem):
        return "stray bytes before its end marker, encoded anew without"
    raise FastnoisyError(f"a damaged JPEG: {problem}")


def _is_padding(problem: str) -> bool:
    found = _EXTRA.search(problem)
    return found is not None and found[2] == "d9" and int(found[1]) <= MAX_EXTRA_BYTES


def _problem(data: bytes) -> str:
    """libjpeg's first warning or error in header and pixels; empty where there is none."""
    try:
        kind = simplejpeg.decode_jpeg_header(data, strict=True)[2]
        simplejpeg.decode_jpeg(data, "RGB" if kind == "RGB" else "GRAY", strict=True, **_EXACT, **_REDUCED)
    except ValueError as error:
        _refuse_no_memory(error)
        return " ".join(str(error).split())[:200]
    return ""


def _refuse_no_memory(error: ValueError) -> None:
    """Raise MemoryError where libjpeg got no memory, which says nothing of the file."""
    if "memory" in str(error).lower():
        raise MemoryError(str(error)) from None


def _in_header(data: bytes) -> bool:
    """Whether libjpeg's first warning comes before the pixels."""
    try:
        simplejpeg.decode_jpeg_header(data, strict=True)
    except ValueError:
        return True
    return False


def _without_flaws(data: bytes) -> bytes:
    """The file without what in its header is no part of the picture: bytes between segments, applications' segments.

    libjpeg keeps its first warning only and stops at it, so what is wrong further on is seen once these are gone.
    """
    kept, position = [data[:2]], 2
    while position + 4 <= len(data):
        marker = data[position + 1]
        if data[position] != 0xFF or marker in (0x00, 0xFF):  # as libjpeg looks for the next marker
            position += 1
            continue
        if marker == 0xDA:
            return b"".join([*kept, data[position:]])
        end = position + 2 + (0 if marker in _ALONE else max(2, data[position + 2] << 8 | data[position + 3]))
        if marker not in _ALONE and not 0xE0 <= marker <= 0xEF:
            kept.append(data[position:end])
        position = end
    return data


def _reads_to_the_end(data: bytes) -> bool:
    """Whether a JPEG that turbojpeg cannot decode has codes for all of its blocks, by Pillow's decoder.

    That one tells nothing of a scan that ends too early, and fills it up. So more codes are put behind each scan: where
    they change a pixel, some were missing. Behind a scan that is whole they are skipped.
    """
    more = np.random.default_rng(0).integers(0, 255, 4096, np.uint8).tobytes()  # without 255, which heads markers
    first = data.find(b"\xff\xda")
    if first < 0:
        return False
    scans = re.sub(rb"(?<=[^\xff])(?=\xff[^\x00\xff\xd0-\xd7])", lambda found: more, data[first + 2 :])
    try:
        pixels = [_pillow(version) for version in (data, data[: first + 2] + scans)]
    except Exception:  # on hostile bytes a decoder raises anything
        return False
    return pixels[0] == pixels[1]


def _pillow(data: bytes) -> bytes:
    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        return image.tobytes()
