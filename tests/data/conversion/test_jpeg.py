"""JPEGs judged by libjpeg: what is stored as it is, what is encoded anew with a note, what is rejected in its words."""

from __future__ import annotations

import random
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastnoisy.data.conversion import encode as encode_module
from fastnoisy.data.conversion import jpeg
from fastnoisy.data.conversion.encode import Plan, Resize, encode
from fastnoisy.data.conversion.outcome import Rejected, Stored
from fastnoisy.data.store.jpeg import decode_jpeg
from fastnoisy.errors import FastnoisyError

KEPT = Plan(Resize("max", 512), (512, 512), "jpg", 90, 1 << 21)
SMALLER = Plan(Resize("max", 24), (24, 24), "jpg", 90, 1 << 21)
AS_PIXELS = Plan(Resize("max", 512), (512, 512), "raw", 90, 1 << 21)
EARLY = "premature end of data segment"


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


def with_factors(factors: list[int], blocks: int) -> bytes:
    """A baseline JPEG of 64x64 pixels with components of these sampling factors (16 * horizontal + vertical), and so
    many blocks, each of one value.
    """
    grey = saved(8, 8, "L")
    tables = b"".join(re.findall(rb"\xff\xdb\x00\x43.{65}|\xff\xc4.{2}[\x00\x10].*?(?=\xff)", grey, re.DOTALL))
    parts = [bytes((i + 1, factor, 0)) for i, factor in enumerate(factors)]
    count = len(parts)
    frame = (
        b"\xff\xc0" + (8 + 3 * count).to_bytes(2, "big") + b"\x08\x00\x40\x00\x40" + bytes([count]) + b"".join(parts)
    )
    scan = b"\xff\xda" + (6 + 2 * count).to_bytes(2, "big") + bytes([count])
    scan += b"".join(bytes((i + 1, 0)) for i in range(count)) + b"\x00\x3f\x00"
    draw, bits = random.Random(0), ""
    for _ in range(blocks):
        size = draw.randrange(1, 5)  # of the difference from the block before; then the end of the block
        bits += ("010", "011", "100", "101")[size - 1] + format(draw.randrange(1 << size), f"0{size}b") + "1010"
    bits += "1" * (-len(bits) % 8)
    codes = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\x00")
    return b"\xff\xd8" + tables + frame + scan + codes + b"\xff\xd9"


def both_ways(data: bytes, plan: Plan) -> tuple[Stored | Rejected, Stored | Rejected]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_module, "_encode_plain", lambda *arguments: None)
        slow = encode(lambda: data, plan)
    return encode(lambda: data, plan), slow


@pytest.mark.parametrize("data", FILES)
@pytest.mark.parametrize("plan", [KEPT, SMALLER, AS_PIXELS])
def test_the_short_way_gives_what_pillows_reader_gives(data: bytes, plan: Plan) -> None:
    fast, slow = both_ways(data, plan)
    assert isinstance(fast, Stored)
    assert fast == slow


@pytest.mark.parametrize("plan", [KEPT, SMALLER])
@settings(deadline=None, max_examples=300)
@given(data=st.sampled_from(FILES), place=st.floats(0, 1), changed=st.binary(max_size=3), cut=st.booleans())
def test_broken_files_have_one_result_too(plan: Plan, data: bytes, place: float, changed: bytes, cut: bool) -> None:
    position = int(place * len(data))
    broken = data[:position] + changed + (b"" if cut else data[position + len(changed) :])
    fast, slow = both_ways(broken, plan)
    assert fast == slow


@pytest.mark.parametrize("data", [*FILES[:4], FILES[5], saved(90, 100, "CMYK"), saved(90, 100, keep_rgb=True)])
@pytest.mark.parametrize("plan", [KEPT, SMALLER, AS_PIXELS])
def test_what_is_cut_and_closed_is_never_stored_as_sound(data: bytes, plan: Plan) -> None:
    first = data.index(b"\xff\xda") + 16
    for end in range(first, len(data) - 30, max(1, (len(data) - first) // 12)):
        result = encode(lambda end=end: data[:end].rstrip(b"\xff") + b"\xff\xd9", plan)
        if b"\xff\xda" in data[first:]:  # progressive: a cut between two scans leaves a whole picture, less fine
            assert isinstance(result, Rejected) or result.data != data
        else:
            assert isinstance(result, Rejected), end
            assert result.reason == f"a damaged JPEG: Corrupt JPEG data: {EARLY}"
        assert isinstance(encode(lambda end=end: data[:end], plan), Rejected)


def test_a_turned_photograph_is_judged_alike() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = saved(exif=exif)
    assert isinstance(encode(lambda: whole, KEPT), Stored)
    for plan in (KEPT, SMALLER):
        result = encode(lambda: whole[: len(whole) * 3 // 4] + b"\xff\xd9", plan)
        assert isinstance(result, Rejected)
        assert EARLY in result.reason


def noted(data: bytes) -> str:
    result = encode(lambda: data, KEPT)
    assert isinstance(result, Stored)
    assert result.data != data
    assert isinstance(encode(lambda: result.data, KEPT), Stored)
    return result.note


def test_what_libjpeg_warns_of_before_the_pixels_is_encoded_anew() -> None:
    data = saved(icc_profile=b"profile" * 30)
    place = data.index(b"\xff\xdb")
    junk = data[:place] + b"junk" + data[place:]
    assert noted(junk) == "stray bytes in its header, encoded anew without"
    profile = data.index(b"ICC_PROFILE\0") + 12
    damaged = data[:profile] + b"\x07" + data[profile + 1 :]  # part 7 of 1
    assert noted(damaged) == "a damaged colour profile, encoded anew without"
    revision = data.index(b"JFIF\0") + 5
    assert "JFIF revision" in noted(data[:revision] + b"\x09" + data[revision + 1 :])
    for flawed in (junk, damaged):  # libjpeg tells its first warning only: the second must not hide behind it
        result = encode(lambda flawed=flawed: flawed[: len(flawed) * 3 // 4] + b"\xff\xd9", KEPT)
        assert isinstance(result, Rejected)
        assert EARLY in result.reason


def test_a_few_bytes_before_the_end_marker_are_let_go_and_many_are_not() -> None:
    data = saved()
    assert noted(data[:-2] + bytes(16) + data[-2:]) == "stray bytes before its end marker, encoded anew without"
    result = encode(lambda: data[:-2] + bytes(40) + data[-2:], KEPT)
    assert isinstance(result, Rejected)
    assert re.search(r"[34][0-9] extraneous bytes before marker 0xd9", result.reason)


@pytest.mark.parametrize("data", [saved(mode="CMYK"), saved(mode="CMYK", subsampling=0)])
def test_colours_that_decoders_read_unlike_are_encoded_anew(data: bytes) -> None:
    assert re.fullmatch("(CMYK|YCCK) colours, encoded anew", noted(data))


@pytest.mark.parametrize("factors", [[0x22, 0x21, 0x11], [0x22, 0x11, 0x12]])
def test_an_unusual_subsampling_is_encoded_anew_where_all_blocks_are_there(factors: list[int]) -> None:
    """16 units of 16x16 pixels: a component sampled HxV has H * V blocks in each."""
    blocks = 16 * 7
    data = with_factors(factors, blocks)
    with pytest.raises(ValueError, match="subsampling"):
        jpeg.simplejpeg.decode_jpeg_header(data)
    assert noted(data) == "an unusual subsampling of colours, encoded anew"
    for less in (1, 8, blocks // 2, blocks - 1):
        result = encode(lambda less=less: with_factors(factors, blocks - less), KEPT)
        assert isinstance(result, Rejected), less
        assert result.reason == "an unusual JPEG that is cut off, or broken"


def test_pixels_are_pillows() -> None:
    for data in FILES:
        grey = Image.open(BytesIO(data)).mode == "L"
        pixels = jpeg.decode(data, grey=grey)
        assert pixels is not None
        assert np.array_equal(np.array(Image.fromarray(pixels).convert("RGB")), decode_jpeg(data))
    assert jpeg.decode(FILES[0][:-100], grey=False) is None
    with pytest.raises(FastnoisyError, match="damaged JPEG"):
        jpeg.flaw(FILES[0][:-100])


@pytest.mark.data
def test_photographs(real_data: Path) -> None:
    """All are stored as they are, with Pillow's pixels; forty cut in their second half are not, and are named."""
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, real_data / "unpack.py", folder, "caltech101"], check=True, capture_output=True)
        files = [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))]
    assert len(files) == 2103
    for data in files:
        result = encode(lambda data=data: data, KEPT)
        assert isinstance(result, Stored)
        assert result.data == data
    draw = random.Random(7)
    for data in draw.sample(files, 40):
        pixels = jpeg.decode(data, grey=Image.open(BytesIO(data)).mode == "L")
        assert np.array_equal(np.array(Image.fromarray(pixels).convert("RGB")), decode_jpeg(data))
        cut = data[: draw.randrange(len(data) // 2, len(data) - 2)] + b"\xff\xd9"
        result = encode(lambda cut=cut: cut, KEPT)
        assert isinstance(result, Rejected)
        assert EARLY in result.reason
