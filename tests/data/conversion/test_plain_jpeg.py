"""The short way for plain JPEGs: never another result than Pillow's own reader gives."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastnoisy.data.conversion import encode as encode_module
from fastnoisy.data.conversion.encode import Plan, Resize, encode
from fastnoisy.data.conversion.outcome import Rejected, Stored
from fastnoisy.data.conversion.plain_jpeg import Header, decode, is_whole, read_header

KEPT = Plan(Resize("max", 512), (512, 512), "jpg", 90, 1 << 21)
SMALLER = Plan(Resize("max", 24), (24, 24), "jpg", 90, 1 << 21)
AS_PIXELS = Plan(Resize("max", 512), (512, 512), "raw", 90, 1 << 21)


def saved(height: int = 41, width: int = 60, mode: str = "RGB", **options: object) -> bytes:
    pixels = np.random.default_rng(height * width).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).resize((width, height)).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


FILES = [
    saved(),
    saved(mode="L"),
    saved(progressive=True),
    saved(restart_marker_blocks=3, subsampling=0),
    saved(comment=b"words", dpi=(72, 72)),
    saved(icc_profile=b"profile" * 30, optimize=True),
    saved(7, 90),
    saved(1, 1),
]


def both_ways(data: bytes, plan: Plan) -> tuple[Stored | Rejected, Stored | Rejected]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_module.plain_jpeg, "read_header", lambda data: None)
        slow = encode(lambda: data, plan)
    return encode(lambda: data, plan), slow


@pytest.mark.parametrize("data", FILES)
@pytest.mark.parametrize("plan", [KEPT, SMALLER, AS_PIXELS])
def test_whole_files_give_what_pillows_reader_gives(data: bytes, plan: Plan) -> None:
    fast, slow = both_ways(data, plan)
    assert isinstance(fast, Stored)
    assert fast == slow


@pytest.mark.parametrize("plan", [KEPT, SMALLER])
@settings(deadline=None, max_examples=300)
@given(data=st.sampled_from(FILES), place=st.floats(0, 1), changed=st.binary(max_size=3), cut=st.booleans())
def test_broken_files_give_what_pillows_reader_gives(
    plan: Plan, data: bytes, place: float, changed: bytes, cut: bool
) -> None:
    position = int(place * len(data))
    broken = data[:position] + changed + (b"" if cut else data[position + len(changed) :])
    fast, slow = both_ways(broken, plan)
    assert fast == slow


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_what_is_cut_off_anywhere_is_not_whole(mode: str, options: dict[str, object]) -> None:
    data = saved(64, 64, mode, **options)
    header = read_header(data)
    assert header is not None
    assert is_whole(data, header)
    first = data.index(b"\xff\xda") + 14
    for end in range(first, len(data) - 40, 7):
        assert not is_whole(data[:end], header), end
        assert decode(data[:end], header) is None


def test_headers() -> None:
    assert read_header(saved()) == Header(41, 60, False)
    assert read_header(saved(mode="L", progressive=True)) == Header(41, 60, True)
    assert read_header(saved(mode="CMYK")) is None
    assert read_header(saved(keep_rgb=True)) is None
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_header(saved(exif=exif)) is None
    assert read_header(saved(xmp=b"<x/>")) is None
    assert read_header(b"") is None
    assert read_header(b"\xff\xd8\xff") is None


@pytest.mark.parametrize("end", range(0, 640, 5))
def test_a_header_cut_off_is_none(end: int) -> None:
    data = saved()
    assert data.index(b"\xff\xda") > 600
    assert read_header(data[: min(end, data.index(b"\xff\xda"))]) is None
