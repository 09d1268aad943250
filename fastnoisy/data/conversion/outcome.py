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
        stamp: of the file that it was read from, see `SourceSplit.stamp`.
    """

    data: bytes
    mode: int
    height: int
    width: int
    note: str = ""
    stamp: int = 0
    checksum: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checksum", zlib.crc32(self.data))


@dataclass(frozen=True, slots=True)
class Rejected:
    """An image that is not stored.

    Attributes:
        reason: why, on one line.
        retry: whether another time might bring it: a file that is not there, a worker that died of it each time.
        stamp: as in `Stored`.
    """

    reason: str
    retry: bool = False
    stamp: int = 0


Outcome = Stored | Rejected
