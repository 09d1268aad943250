"""Which picture of a file stands for it: not a reduced one, and not one behind megabytes of text."""

from __future__ import annotations

import zlib

from PIL import Image

from fastnoisy.errors import FastnoisyError

_SUBFILE_TYPE = 0x00FE  # of TIFF: bit 0 says that a page is a reduced picture of another
_MAX_PAGES = 64
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
MAX_TEXT_BYTES = 1 << 20  # of a chunk, unpacked: what Pillow reads; longer ones have it refuse the picture


def to_full_page(image: Image.Image) -> str:
    """Turn a TIFF to its first page that is no reduced picture of another; a note where that is not the first page.

    Raises:
        FastnoisyError: all of its pages are.
    """
    if image.format != "TIFF" or not _is_reduced(image):
        return ""
    for page in range(1, min(getattr(image, "n_frames", 1), _MAX_PAGES)):
        image.seek(page)
        if not _is_reduced(image):
            return f"page {page + 1}: those before it are reduced pictures"
    raise FastnoisyError("all its pages are reduced pictures of one that Pillow does not find; save it as JPEG or PNG")


def _is_reduced(image: Image.Image) -> bool:
    value = getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE, 0)
    return isinstance(value, int) and bool(value & 1)


def without_oversized(data: bytes) -> bytes:
    """A PNG without its texts and colour profile that unpack to more than 1 MiB: they are no part of the picture, and
    Pillow refuses a file for them. Any other file as it is.
    """
    if not data.startswith(_SIGNATURE) or not any(kind in data for kind in _TEXTS):
        return data
    kept, position, start = [], len(_SIGNATURE), 0
    while position + 12 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        end = position + 12 + length
        if kind in _TEXTS and end <= len(data) and _is_oversized(kind, data[position + 8 : end - 4]):
            kept.append(data[start:position])
            start = end
        if kind == b"IEND":
            break
        position = end
    return b"".join([*kept, data[start:]]) if kept else data


def _is_oversized(kind: bytes, chunk: bytes) -> bool:
    if len(chunk) > MAX_TEXT_BYTES:
        return True
    _, _, rest = chunk.partition(b"\0")
    if kind == b"iTXt":  # whether and how packed, language, translated name, text
        packed, rest = rest[:1] == b"\1", rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        packed, rest = kind != b"tEXt", rest[1:]
    if not packed:
        return False
    unpack = zlib.decompressobj()
    try:
        return len(unpack.decompress(rest, MAX_TEXT_BYTES + 1)) > MAX_TEXT_BYTES
    except zlib.error:
        return False  # for Pillow to judge
