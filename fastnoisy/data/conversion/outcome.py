"""What becomes of a row: it is stored, or rejected with the reason."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stored:
    """One image as stored.

    Attributes:
        data: the bytes of the record; `checksum`: their crc32.
        mode: beton.JPG or beton.RAW.
        height, width: in pixels.
        note: what should be known of it; empty where nothing should.
    """

    data: bytes
    mode: int
    height: int
    width: int
    note: str = ""
    checksum: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checksum", zlib.crc32(self.data))


@dataclass(frozen=True, slots=True)
class Rejected:
    """An image that is not stored.

    Attributes:
        reason: why, on one line.
        retry: whether another time might bring it: a file that is not there, a worker that died of it each time.
    """

    reason: str
    retry: bool = False


Outcome = Stored | Rejected
