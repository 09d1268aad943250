"""What a file is that no image reader takes, told by its first bytes, and what can be done about it."""

from __future__ import annotations

import re

_RAW_CAMERA = "a camera's raw file: develop it to JPEG"
_VIDEO = "a video"
_SVG = "an SVG drawing: save it as PNG"
# Tried in order; patterns fit at the start.
_TABLE: tuple[tuple[bytes, str], ...] = (
    (rb"version https://git-lfs", "a git-lfs pointer and not the file itself: run git lfs pull"),
    (rb"....ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", "a HEIC image: save it as JPEG, for example by pillow-heif"),
    (rb"....ftypavi[fs]", "a damaged AVIF image"),
    (rb"....ftyp(?:crx )", _RAW_CAMERA),
    (rb"....ftyp", _VIDEO),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a", "a JPEG XL image: save it as JPEG or PNG"),
    (rb"8BPS", "a Photoshop file: save it as JPEG or PNG"),
    (rb"%PDF-", "a PDF"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file"),
    (rb"FUJIFILMCCD-RAW|IIRO|MMOR|IIU\x00|II\x2a\x00\x10\x00\x00\x00CR", _RAW_CAMERA),
    (rb"\x00\x00\x01\x00|\x00\x00\x02\x00", "an icon of Windows: save it as PNG"),
    (rb"\x1aE\xdf\xa3|RIFF....AVI |\x00\x00\x01\xba|\x00\x00\x01\xb3|FLV\x01|OggS|\x30\x26\xb2\x75", _VIDEO),
    (rb"RIFF....WAVE|ID3|fLaC", "a sound file"),
    (rb"gimp xcf", "a GIMP file: save it as PNG"),
    (rb"DDS |\x76\x2f\x31\x01|#\?RADIANCE|#\?RGBE", "a texture or an image of high dynamic range: save it as PNG"),
    (rb"PK\x03\x04|PK\x05\x06", "a zip archive, or an office document"),
    (rb"\x1f\x8b", "a gzip archive: unpack it"),
    (rb"Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|BZh|\xfd7zXZ\x00|\x28\xb5\x2f\xfd", "a packed archive: unpack it"),
    (rb"SQLite format 3\x00", "a database"),
    (rb"\x89HDF\r\n|\x93NUMPY", "an array file"),
    (rb"PAR1", "a Parquet file"),
    (rb"\x7fELF|MZ|\xca\xfe\xba\xbe|\xcf\xfa\xed\xfe", "a program"),
    (rb"<\?php|#!", "a script"),
    (rb"\x00\x05\x16\x07", "a resource fork that macOS has left"),
)
_TEXTS: tuple[tuple[bytes, str], ...] = (
    (rb"(?i)<svg", _SVG),
    (rb"(?is)<!DOCTYPE html|<html|<head|<body|<title", "a web page, perhaps the error that a download got"),
    (rb"(?is)<\?xml|<Error>|<rss", "an XML file, perhaps the error that a download got"),
    (rb"\s*[\[{]\s*(?:[\"\[{\]}0-9]|$)", "a JSON file, perhaps the error that a download got"),
)
_LOOKED_AT = 4096


def what_it_is(data: bytes) -> str:
    """A few words for a file's kind, with a remedy where there is one; empty where it is not known.

    Args:
        data: the whole file, or its beginning.
    """
    start = data[:_LOOKED_AT]
    if not start:
        return "an empty file"
    if not any(data):
        return f"{len(data):,} zero bytes: a download that was broken off, or a file that was never written"
    for pattern, words in _TABLE:
        if re.match(pattern, start, re.DOTALL):
            return words
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    for shown in (_without_prologue(text), text):
        for pattern, words in _TEXTS:
            if re.match(pattern, shown):
                return words
    if b"\0" not in start and all(byte >= 32 or byte in b"\t\r\n\f\x1b" for byte in start):
        try:
            start[: start.rfind(b"\n") if len(start) == _LOOKED_AT and b"\n" in start else None].decode("utf-8")
        except UnicodeDecodeError:
            return ""
        return "a text"
    return ""


def _without_prologue(text: bytes) -> bytes:
    """What comes after XML's declaration, comments and the type of an SVG; no regular expression, for those of such
    texts may take for ever.
    """
    while True:
        for begin, end in ((b"<?xml", b"?>"), (b"<!--", b"-->"), (b"<!doctype svg", b">")):
            if text[: len(begin)].lower() == begin and end in text:
                text = text.partition(end)[2].lstrip()
                break
        else:
            return text
