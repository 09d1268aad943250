"""Whether a plain baseline JPEG decodes to its end, by a compiled walk over its codes that computes no pixel.

Pillow's decode at an eighth of the size is what else tells (see plain_jpeg.py). It reads the same codes, and makes
pixels of
them: of 300x200 photographs it takes 110 us, where the walk takes 37 (one core of an AMD EPYC).

The walk says yes only where nothing is out of the ordinary: one scan of 8-bit grey, or of three components of which the
first alone may be sampled more finely; every table defined before it and valid; every code one that encoders write; no
block of more than 64 coefficients; restart markers in sequence; and the end marker right behind the last code. libjpeg,
which Pillow decodes with, lets many more files pass, and none fewer. Where the walk says no, the decoder is asked.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from fastnoisy.compiler import Compiled

WORTH_IMAGES = 6000  # below, importing numba and loading what it has compiled (0.45 s) takes longer than it saves
_PROBES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("RGB", {"quality": 90}),
    ("RGB", {"quality": 30, "subsampling": 0, "restart_marker_blocks": 3}),
    ("RGB", {"quality": 100, "subsampling": 1, "optimize": True}),
    ("L", {"quality": 75}),
)


class Scan(Compiled):
    """Tells of JPEGs that they are whole; of none until it is prepared. Not for several threads at once."""

    def _load(self) -> None:
        from fastnoisy.data.conversion import jpeg_scan_passes as passes  # numba takes a sixth of a second to import

        sizes = (
            (passes.TABLES * passes.KEY, np.uint8),
            (passes.TABLES * passes.PAIR, np.uint16),
            (passes.NOTES, np.int64),
        )
        self._tables = tuple(np.zeros(size, kind) for size, kind in sizes)
        self._walk = passes.scan

    def _is_right(self) -> bool:
        """Whether it tells JPEGs that Pillow makes here, and the same without their ends, apart."""
        random = np.random.default_rng(0)
        for mode, options in _PROBES:
            image = Image.fromarray(random.integers(0, 256, (5, 7, 3), np.uint8)).resize((61, 43)).convert(mode)
            file = BytesIO()
            image.save(file, "JPEG", **options)
            data = file.getvalue()
            if not self(data, 43, 61) or self(data[:-20] + data[-2:], 43, 61):
                return False
        return True

    def __call__(self, data: bytes, height: int, width: int) -> bool:
        """Whether a file whose header `plain_jpeg` has read, with that size, is whole for certain."""
        if not self.compiled or type(data) is not bytes:  # it is compiled for bytes that cannot be written
            return False
        return self._walk(np.frombuffer(data, np.uint8), height, width, *self._tables)
