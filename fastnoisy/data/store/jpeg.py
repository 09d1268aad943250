"""JPEGs as a store holds them: which kinds every decoder reads alike, and their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import JpegImagePlugin


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the pixels of a JPEG.

    Attributes:
        height, width: as the pixels lie.
        grey: whether it has one component.
        portable: whether it is 8-bit grey or YCbCr, baseline or progressive, with Huffman codes. Other kinds (CMYK,
            YCCK, RGB, arithmetic-coded, lossless, 12-bit) are decoded differently, or to garbage, by others.
        plain: whether nothing in it could mean more than its frame: no EXIF, XMP, Photoshop or multi-picture segments,
            no bytes that belong to no segment, every length right. Such a picture is upright, and one.
    """

    height: int
    width: int
    grey: bool
    portable: bool
    plain: bool


def read_header(data: bytes) -> Header | None:
    """The header of a JPEG; None for what is no JPEG, or has none that ends."""
    if data[:2] != b"\xff\xd8":
        return None
    position, jfif, adobe, plain = 2, False, -1, True
    frame: tuple[int, int, int, bool, bytes] | None = None  # height, width, components, may be portable, their ids
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position, plain = position + 1, False
            continue
        start, end = position + 4, position + 2 + (data[position + 2] << 8 | data[position + 3])
        if end < start or end > len(data):
            return None
        if marker == 0xDA:  # the pixels
            if frame is None:
                return None
            height, width, count, portable, ids = frame
            ycbcr = jfif or adobe == 1 or (adobe < 0 and ids == b"\1\2\3")
            portable = portable and (count == 1 or (count == 3 and ycbcr))
            return Header(height, width, count == 1, portable, plain and portable and bool(height and width))
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if frame is not None or end - start < 6:
                return None
            count = data[start + 5]
            height, width = data[start + 1] << 8 | data[start + 2], data[start + 3] << 8 | data[start + 4]
            plain = plain and end - start == 6 + 3 * count
            frame = height, width, count, marker <= 0xC2 and data[start] == 8, data[start + 6 : end : 3]
        elif marker == 0xE0 and end - start >= 14 and data[start : start + 5] == b"JFIF\0":
            jfif = True
        elif marker == 0xEE and end - start >= 12 and data[start : start + 5] == b"Adobe":
            adobe = data[start + 11]
        elif marker == 0xDB:
            plain = plain and _are_tables(data, start, end)
        elif marker == 0xE2:
            plain = plain and end - start >= 14 and data[start : start + 12] == b"ICC_PROFILE\0"
        elif marker not in (0xC4, 0xDD, 0xFE):  # Huffman tables, restart interval, comment
            plain = False
        position = end
    return None


def decode_jpeg(data: bytes, at_least: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 (height, width, 3) RGB pixels of a stored JPEG.

    Args:
        data: its bytes.
        at_least: height and width that suffice: decoded is a half, a quarter or an eighth that has as many.

    Raises:
        OSError, SyntaxError, ValueError: whatever Pillow raises on bytes that are not a whole JPEG.
    """
    # Not Image.open: its look for multi-picture files may warn, which is not safe to silence in threads.
    with JpegImagePlugin.JpegImageFile(BytesIO(data)) as image:
        if at_least is not None:
            image.draft(None, (at_least[1], at_least[0]))
        return np.array(image.convert("RGB"))


def _are_tables(data: bytes, start: int, end: int) -> bool:
    """Whether quantisation tables fill a segment: a byte each, then 64 values of one byte, or of two."""
    while start < end:
        start += 65 if data[start] < 16 else 129
    return start == end
