"""What is no image is named by its first bytes, with what can be done about it."""

from __future__ import annotations

import gzip
from io import BytesIO

import pytest
from PIL import Image

from fastnoisy.data.conversion.encode import Plan, Resize, encode
from fastnoisy.data.conversion.first_bytes import what_it_is
from fastnoisy.data.conversion.outcome import Rejected

PLAN = Plan(Resize("max", 64), (64, 64), "jpg", 90, 1 << 21)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
SVG = b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- Inkscape -->\n<svg xmlns="http://www.w3.org/2000/svg"></svg>'
FILES = {
    "git-lfs pointer": LFS,
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(range(256)),
    "HEIC image": b"\0\0\0\x24ftypmif1\0\0\0\0mif1heic" + bytes(range(256)),
    "JPEG XL": b"\xff\x0a\xfa\x1f\x41\x91" + bytes(range(256)),
    "a JPEG XL": b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a\0\0\0\x14ftypjxl ",
    "SVG": SVG,
    "an SVG drawing": b"  <svg width='3'/>",
    "web page": b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>",
    "web page, perhaps": b"\xef\xbb\xbf\n<HTML><BODY>denied",
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "JSON": b'{"error": "rate limited"}',
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
    "Photoshop": b"8BPS\0\1" + bytes(20),
    "camera's raw": b"FUJIFILMCCD-RAW 0201",
    "raw file": b"\0\0\0\x18ftypcrx \0\0\0\1",
    "video": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2",
    "a video": b"\x1aE\xdf\xa3\x01\0\0",
    "zip": b"PK\x03\x04\x14\0",
    "gzip": gzip.compress(b"x"),
    "empty file": b"",
    "zero bytes": bytes(5000),
    "a text": b"photo of a cat, taken in Lyon\n",
    "icon": b"\0\0\1\0\1\0",
}


@pytest.mark.parametrize("words", FILES)
def test_it_is_named(words: str) -> None:
    assert words in what_it_is(FILES[words])
    result = encode(lambda: FILES[words], PLAN)
    assert isinstance(result, Rejected)
    assert words in result.reason or words == "empty file"


def test_what_is_not_known_is_not_guessed() -> None:
    assert what_it_is(bytes(range(7, 250)) * 3) == ""
    for form in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        file = BytesIO()
        Image.new("RGB", (8, 8)).save(file, form)
        assert what_it_is(file.getvalue()) == "", form
    assert isinstance(encode(lambda: b"\x89PNG\r\n\x1a\n" + bytes(50), PLAN), Rejected)


@pytest.mark.parametrize("text", [b"<!---->", b"<?xml?>", b"<!-- -->\n", b"<!DOCTYPE svg>", b" ", b"[", b"<?xml "])
def test_hostile_texts_are_named_at_once(text: bytes) -> None:
    """Comments on end took a regular expression longer than any time limit."""
    assert what_it_is(text * 2000)


def test_a_drawing_is_found_behind_comments() -> None:
    prologue = b'<?xml version="1.0"?>\n<!-- a -->\n<!-- b --><!DOCTYPE SVG PUBLIC "x">\n'
    assert what_it_is(prologue + b"<svg>").startswith("an SVG drawing")
    assert what_it_is(prologue + b"<plist>").startswith("an XML file")
    assert what_it_is(b"<!-- made by hand -->\n<html>").startswith("a web page")
