"""The header of a JPEG: size, whether all decoders read it alike, whether it is upright for certain."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from fastnoisy.data.store.jpeg import Header, read_header


def saved(mode: str = "RGB", **options: object) -> bytes:
    file = BytesIO()
    Image.effect_noise((60, 41), 60).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = 6
    return tags


def test_headers() -> None:
    assert read_header(saved()) == Header(41, 60, grey=False, portable=True, plain=True)
    assert read_header(saved("L", progressive=True)) == Header(41, 60, grey=True, portable=True, plain=True)
    assert read_header(saved("CMYK")) == Header(41, 60, grey=False, portable=False, plain=False)
    assert read_header(saved(keep_rgb=True)) == Header(41, 60, grey=False, portable=False, plain=False)
    for more in ({"exif": exif()}, {"xmp": b"<x/>"}):
        assert read_header(saved(**more)) == Header(41, 60, grey=False, portable=True, plain=False)
    for nothing in (b"", b"\xff\xd8\xff", b"\x89PNG", saved()[:100]):
        assert read_header(nothing) is None


def test_fill_bytes_are_no_plain_header() -> None:
    data = saved()
    place = data.index(b"\xff\xdb")
    filled = read_header(data[:place] + b"\xff\xff" + data[place:])
    assert filled == Header(41, 60, grey=False, portable=True, plain=False)
    assert read_header(data[:place] + b"junk" + data[place:]) is None


@pytest.mark.parametrize("end", range(0, 640, 5))
def test_a_header_cut_off_is_none(end: int) -> None:
    data = saved()
    assert data.index(b"\xff\xda") > 600
    assert read_header(data[: min(end, data.index(b"\xff\xda"))]) is None
