"""Which picture stands for a file: no reduced page, none refused for its texts; memory says nothing of it."""

from __future__ import annotations

import resource
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, features

from fastnoisy.data.conversion import encode as encode_module
from fastnoisy.data.conversion.encode import Plan, Resize, encode, upright_size
from fastnoisy.data.conversion.outcome import Rejected, Stored
from fastnoisy.data.conversion.pages import picture_of

ROOT = Path(__file__).resolve().parents[3]
RAW = Plan(Resize("none"), (64, 64), "raw", 90, 1 << 21)


def picture(number: int, height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8))


def tiff(*pages: tuple[Image.Image, int], tag: int = 254) -> bytes:
    """Pages with their NewSubfileType, or SubfileType (255)."""
    file = BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(file, True) as target:
        for image, kind in pages:
            tags = TiffImagePlugin.ImageFileDirectory_v2()
            tags[tag] = kind
            image.save(target, "TIFF", tiffinfo=tags)
            target.newFrame()
    return file.getvalue()


def test_a_reduced_first_page_does_not_stand_for_the_picture() -> None:
    small, large, other = picture(1, 8, 10), picture(2, 32, 40), picture(3, 20, 20)
    data = tiff((small, 1), (large, 0), (other, 0))
    result = encode(lambda: data, RAW)
    assert isinstance(result, Stored)
    assert (result.height, result.width, result.data) == (32, 40, large.tobytes())
    assert result.note == "page 2: those before it are reduced pictures or masks"
    assert upright_size(data) == (32, 40)
    result = encode(lambda: tiff((large, 0), (small, 1)), RAW)
    assert isinstance(result, Stored)
    assert (result.data, result.note) == (large.tobytes(), "the first of several frames")
    result = encode(lambda: tiff((small, 1), (small, 1)), RAW)
    assert isinstance(result, Rejected)
    assert result.reason.startswith("all its pages are reduced pictures or masks")


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


LARGE = b"x" * (3 << 20)
TEXTS = {
    "text": chunk(b"tEXt", b"Comment\0" + LARGE),
    "packed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LARGE)),
    "international": chunk(b"iTXt", b"Comment\0\0\0en\0Comment\0" + LARGE),
    "international, packed": chunk(b"iTXt", b"Comment\0\1\0en\0Comment\0" + zlib.compress(LARGE)),
    "profile": chunk(b"iCCP", b"ICC\0\0" + zlib.compress(LARGE)),
    "several": chunk(b"tEXt", b"a\0small")
    + chunk(b"tEXt", b"b\0" + LARGE)
    + chunk(b"zTXt", b"c\0\0" + zlib.compress(LARGE)),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind the pixels"])
def test_a_picture_is_not_refused_for_its_texts(name: str, behind: bool) -> None:
    file, image = BytesIO(), picture(4, 20, 30)
    image.save(file, "PNG")
    plain = file.getvalue()
    place = plain.index(b"IEND") - 4 if behind else plain.index(b"IDAT") - 4
    data = plain[:place] + TEXTS[name] + plain[place:]
    result = encode(lambda: data, RAW)
    assert isinstance(result, Stored)
    assert result.data == image.tobytes()
    assert upright_size(data) == (20, 30)
    assert picture_of(plain) is plain
    xmp = plain[:place] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>") + plain[place:]
    assert picture_of(xmp) is xmp


ODD = {
    "many texts": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1000000))) * 80,
    "checksum of a text": chunk(b"tEXt", b"a\0b")[:-1] + b"!",
    "profile without a name": chunk(b"iCCP", b"no end"),
    "size in metres": chunk(b"pHYs", b"12"),
    "method of packing": chunk(b"zTXt", b"a\0\5xx"),
    "orientation": chunk(b"eXIf", b"12"),
    "a maker's": chunk(b"juNk", LARGE),
}


@pytest.mark.parametrize("name", ODD)
def test_a_picture_is_not_refused_for_what_is_odd_beside_it(name: str) -> None:
    file, image = BytesIO(), picture(4, 20, 30)
    image.save(file, "PNG")
    data = file.getvalue().replace(chunk(b"IEND", b""), b"")
    place = data.index(b"IDAT") - 4
    result = encode(lambda: data[:place] + ODD[name] + data[place:] + chunk(b"IEND", b""), RAW)
    assert isinstance(result, Stored)
    assert result.data == image.tobytes()


@pytest.mark.parametrize("part", [b"IHDR", b"PLTE", b"IDAT"])
def test_a_png_with_a_wrong_checksum_is_rejected(part: bytes) -> None:
    """Pillow decodes what it can: a download that ends in zeros is grey in its lower half."""
    file, image = BytesIO(), picture(5, 50, 60).quantize(16)
    image.save(file, "PNG")
    data = bytearray(file.getvalue())
    assert isinstance(encode(lambda: bytes(data), RAW), Stored)
    data[data.index(part) + 8] ^= 4
    result = encode(lambda: bytes(data), RAW)
    assert isinstance(result, Rejected)
    assert result.reason == f"a damaged PNG: the checksum of its '{part.decode()}' is wrong"


def test_pixels_that_cannot_be_unpacked_are_not_made_up() -> None:
    """Asked for an orientation Pillow loads a PNG, and forgets what was wrong when it is asked again."""
    file = BytesIO()
    picture(6, 50, 60).save(file, "PNG")
    data = file.getvalue()
    place = data.index(b"IDAT") - 4
    content = bytearray(data[place + 8 : place + 8 + int.from_bytes(data[place : place + 4], "big")])
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    result = encode(lambda: data[:place] + chunk(b"IDAT", bytes(content)) + chunk(b"IEND", b""), RAW)
    assert isinstance(result, Rejected)
    assert "data stream" in result.reason


@pytest.mark.parametrize("error", [MemoryError(), ValueError("Insufficient memory (case 4)"), OSError("zlib error -4")])
def test_no_memory_is_no_reason_to_reject(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(encode_module, "_encode_file", fail)
    file = BytesIO()
    picture(5, 10, 10).save(file, "PNG")
    with pytest.raises(MemoryError):
        encode(file.getvalue, RAW)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_an_avif_for_which_there_is_no_memory_is_not_damaged(tmp_path: Path) -> None:
    """Its library calls both a failure."""
    picture(7, 8, 8).save(tmp_path / "small.avif")
    picture(7, 1200, 1500).save(tmp_path / "a.avif")
    whole = (tmp_path / "a.avif").read_bytes()
    (tmp_path / "b.avif").write_bytes(whole[: len(whole) // 2] + bytes(range(256)) * 99 + whole[len(whole) // 2 :])
    code = f"""
import resource
from pathlib import Path
from fastnoisy.data.conversion.encode import Plan, Resize, encode
plan = Plan(Resize("none"), (2048, 2048), "raw", 90, 1 << 25)
small, a, b = ((Path({str(tmp_path)!r}) / f"{{name}}.avif").read_bytes() for name in ("small", "a", "b"))
def tried(data):
    try:
        return type(encode(lambda: data, plan)).__name__
    except MemoryError:
        return "no memory"
print(tried(small))
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 20), -1))
print(tried(a))
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(tried(a), tried(b))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ["Stored", "no memory", "Stored Rejected"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
def test_a_sound_picture_is_never_rejected_for_want_of_memory(tmp_path: Path) -> None:
    """It stops, names the picture, and goes on from there with more."""
    for name in ("a", "b"):
        (tmp_path / f"in/{name}").mkdir(parents=True)
        picture(6, 30, 30).save(tmp_path / f"in/{name}/0.png")
    Image.new("RGB", (9000, 9000), "red").save(tmp_path / "in/b/1.png")
    command = [
        sys.executable,
        "-m",
        "fastnoisy",
        "convert",
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "--workers",
        "2",
    ]

    def run(limit: int | None) -> subprocess.CompletedProcess[str]:
        bound = None if limit is None else lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, preexec_fn=bound)

    done = run(380 << 20)
    assert done.returncode == 2, done.stderr
    assert "b/1.png: needs more memory to decode than this process may take (ulimit -v)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    done = run(None)
    assert done.returncode == 0, done.stderr
    assert "3 stored" in done.stdout
