"""The JPEGs that most files are, read in one pass over their header and decoded without what Pillow does for all
others.

Opening and loading with Pillow's reader costs half as much again as the reduced decode itself (of 300x200 photographs:
50 us
beside 100): it tries plugins, makes objects of every segment and reads in blocks. Here a header is taken only where
nothing
in it could mean more than its frame: no EXIF, XMP, Photoshop or multi-picture segments, every length right. All else
gets None, and is for Pillow's reader to judge. The decoder is Pillow's own, by `Image.frombytes`, and gives the same
pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from fastnoisy.data.conversion.jpeg_scan import Scan

_SOF = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive with Huffman codes
_REDUCED = 8  # libjpeg's least scale: 1 / 8, where only the mean of each block is computed


@dataclass(frozen=True, slots=True)
class Header:
    """Of an 8-bit grey or YCbCr JPEG with Huffman codes, stored upright: its height and width, and whether it is
    grey.
    """

    height: int
    width: int
    grey: bool


def read_header(data: bytes) -> Header | None:
    """The header of a plain JPEG; None for every other file."""
    if data[:2] != b"\xff\xd8":
        return None
    position, jfif, adobe = 2, False, -1
    found: Header | None = None
    components: bytes = b""
    while data[position : position + 1] == b"\xff" and position + 4 <= len(data):
        marker = data[position + 1]
        start, end = position + 4, position + 2 + (data[position + 2] << 8 | data[position + 3])
        if end < start or end > len(data):
            return None
        if marker == 0xDA:  # the pixels
            ycbcr = jfif or adobe == 1 or (adobe < 0 and components == b"\1\2\3")
            return found if found is not None and (found.grey or ycbcr) else None
        if marker in _SOF:
            if found is not None or end - start < 6:
                return None
            precision, count = data[start], data[start + 5]
            height, width = data[start + 1] << 8 | data[start + 2], data[start + 3] << 8 | data[start + 4]
            if precision != 8 or count not in (1, 3) or end - start != 6 + 3 * count or not height or not width:
                return None
            found, components = Header(height, width, count == 1), data[start + 6 : end : 3]
        elif marker == 0xE0 and end - start >= 14 and data[start : start + 5] == b"JFIF\0":
            jfif = True
        elif marker == 0xEE and end - start >= 12 and data[start : start + 5] == b"Adobe":
            adobe = data[start + 11]
        elif marker == 0xDB:
            if not _are_tables(data, start, end):
                return None
        elif marker == 0xE2:
            if end - start < 14 or data[start : start + 12] != b"ICC_PROFILE\0":
                return None
        elif marker not in (0xC4, 0xDD, 0xFE):  # Huffman tables, restart interval, comment
            return None
        position = end
    return None


def is_whole(data: bytes, header: Header, scan: Scan | None = None) -> bool:
    """Whether a plain JPEG of at least 8x8 pixels decodes to its end, which is found by a decode at an eighth of its
    size.

    That reads every code of every block, and so finds what is cut off or no code at all. No for smaller ones. Where
    `scan` is certain, there is no need to decode.
    """
    if min(header.height, header.width) < _REDUCED:
        return False
    if scan is not None and scan(data, header.height, header.width):
        return True
    size = (-(-header.width // _REDUCED), -(-header.height // _REDUCED))
    return _decode(data, "L", size, _REDUCED) is not None


def decode(data: bytes, header: Header) -> Image.Image | None:
    """The pixels of a plain JPEG, 8-bit RGB; None where it does not decode to its end."""
    image = _decode(data, "L" if header.grey else "RGB", (header.width, header.height), 1)
    return image.convert("RGB") if image is not None and header.grey else image


def _decode(data: bytes, mode: str, size: tuple[int, int], scale: int) -> Image.Image | None:
    try:
        return Image.frombytes(mode, size, data, "jpeg", mode, "", scale, 0)
    except ValueError:  # cut off, or broken
        return None


def _are_tables(data: bytes, start: int, end: int) -> bool:
    """Whether quantisation tables fill a segment: a byte each, then 64 values of one byte, or of two."""
    while start < end:
        start += 65 if data[start] < 16 else 129
    return start == end
