"""Which picture of a file stands for it: not a reduced one or a mask, and what beside it is not read."""

from __future__ import annotations

import zlib

from PIL import Image

from fastnoisy.errors import FastnoisyError

_SUBFILE_TYPE = 0x00FE  # of TIFF: bit 0 says that a page is a reduced picture of another, bit 2 that it is a mask
_OLD_SUBFILE_TYPE, _OLD_REDUCED = 0x00FF, 2
_MAX_PAGES = 64
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_ANCILLARY = frozenset((b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"))
MAX_TEXT_BYTES = 1 << 20  # what Pillow reads of one; longer ones have it refuse the picture


def to_full_page(image: Image.Image) -> str:
    """Turn a TIFF to its first page that is no reduced picture or mask of another; a note where that is not the first.

    Raises:
        FastnoisyError: all of its pages are.
    """
    if image.format != "TIFF" or not _is_reduced(image):
        return ""
    for page in range(1, min(getattr(image, "n_frames", 1), _MAX_PAGES)):
        image.seek(page)
        if not _is_reduced(image):
            return f"page {page + 1}: those before it are reduced pictures or masks"
    raise FastnoisyError(
        "all its pages are reduced pictures or masks of one that Pillow does not find; save it as JPEG or PNG"
    )


def _is_reduced(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    value = tags.get(_SUBFILE_TYPE, 0)
    return (isinstance(value, int) and bool(value & 5)) or tags.get(_OLD_SUBFILE_TYPE) == _OLD_REDUCED


def picture_of(data: bytes) -> bytes:
    """A PNG without what is no part of the picture, for Pillow refuses files for it: texts, profiles, sizes in metres,
    what its makers have added. An orientation stays. Any other file as it is.

    Raises:
        FastnoisyError: a part of the picture has another checksum than it should, which Pillow does not look at.
    """
    if not data.startswith(_SIGNATURE):
        return data
    kept, position, start = [], len(_SIGNATURE), 0
    while data[position + 4 : position + 8] != b"IEND":
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):  # where that was a part of the picture, Pillow says so
            break
        sound = zlib.crc32(memoryview(data)[position + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")
        critical = not kind[:1].islower()
        if critical and not sound:
            raise FastnoisyError(f"a damaged PNG: the checksum of its {kind.decode('latin-1')!r} is wrong")
        if not critical and not (sound and _is_of_the_picture(kind, data[position + 8 : end - 4])):
            kept.append(data[start:position])
            start = end
        position = end
    if data[position : position + 12] != _END:
        kept += [data[start:position], _END]
        start = len(data)
    return b"".join([*kept, data[start:]]) if kept else data


def _is_of_the_picture(kind: bytes, content: bytes) -> bool:
    """Whether a chunk that a reader may skip says something of the pixels: transparency, orientation, later frames."""
    if kind == b"iTXt":  # XMP, in which an orientation may stand; not packed, as it has to be
        return content.startswith(b"XML:com.adobe.xmp\0\0") and len(content) < MAX_TEXT_BYTES
    return kind in _ANCILLARY
