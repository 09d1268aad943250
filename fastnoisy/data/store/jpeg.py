"""JPEGs as a store holds them: which kinds every decoder reads alike, and their pixels."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import JpegImagePlugin


def decode_jpeg(data: bytes) -> np.ndarray:
    """uint8 (height, width, 3) RGB pixels of a stored JPEG.

    Raises:
        OSError, SyntaxError, ValueError: whatever Pillow raises on bytes that are not a whole JPEG.
    """
    # Not Image.open: its look for multi-picture files may warn, which is not safe to silence in threads.
    with JpegImagePlugin.JpegImageFile(BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def is_portable_jpeg(data: bytes) -> bool:
    """Whether these bytes are an 8-bit grey or YCbCr JPEG, baseline or progressive with Huffman codes, by its header.

    Other kinds (CMYK, YCCK, RGB, arithmetic-coded, lossless, 12-bit) are decoded differently, or to garbage, by others.
    """
    if data[:3] != b"\xff\xd8\xff":
        return False
    position, jfif, adobe = 2, False, -1
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame's header
            frame = data[position + 4 : position + 19]
            if marker > 0xC2 or len(frame) < 9 or frame[0] != 8:
                return False
            components = frame[6::3][: frame[5]]
            ycbcr = jfif or adobe == 1 or (adobe < 0 and tuple(components) == (1, 2, 3))
            return frame[5] == 1 or (frame[5] == 3 and ycbcr)
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position + 4 : position + 2 + length]
        if marker == 0xE0 and segment[:5] == b"JFIF\0":
            jfif = True
        if marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe = segment[11]
        if marker == 0xDA or length < 2:  # pixels before a frame's header
            return False
        position += 2 + length
    return False
