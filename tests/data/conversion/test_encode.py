"""Encoding one image: what is kept byte for byte, what is made anew and how, and what is rejected."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastnoisy.data.conversion.encode import Plan, Resize, encode
from fastnoisy.data.conversion.outcome import Rejected, Stored
from fastnoisy.data.store.beton import JPG, RAW
from fastnoisy.data.store.jpeg import decode_jpeg

PHOTO = Plan(Resize("max", 512), (512, 512), "jpg", 90, 1 << 21)


def picture(height: int = 40, width: int = 60, seed: int = 0) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 5 + seed, columns * 4, (rows + columns) * 2 + 30 * seed], axis=2)
    return Image.fromarray((pixels % 256).astype(np.uint8))


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def encoded(data: bytes, plan: Plan = PHOTO) -> Stored:
    result = encode(lambda: data, plan)
    assert isinstance(result, Stored), result
    return result


def rejected(data: bytes, plan: Plan = PHOTO) -> str:
    result = encode(lambda: data, plan)
    assert isinstance(result, Rejected)
    return result.reason


def raw(plan: Plan = PHOTO) -> Plan:
    return Plan(plan.resize, plan.canvas, "raw", plan.quality, plan.page_size)


def pixels(record: Stored) -> np.ndarray:
    if record.mode == JPG:
        return decode_jpeg(record.data)
    return np.frombuffer(record.data, np.uint8).reshape(record.height, record.width, 3)


# Which JPEGs are kept


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 30}, {"subsampling": 0}, {"restart_marker_rows": 1}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_sound_jpegs_are_kept_byte_for_byte(mode: str, options: dict[str, object]) -> None:
    data = saved(picture().convert(mode), **options)
    record = encoded(data)
    assert record == Stored(data, JPG, 40, 60)


def test_jpegs_of_just_the_canvas_are_kept() -> None:
    data = saved(picture(512, 300))
    assert encoded(data).data == data
    assert encoded(saved(picture(513, 300))).height == 512


def test_cmyk_and_rgb_jpegs_are_made_anew() -> None:
    cmyk = saved(picture().convert("CMYK"))
    record = encoded(cmyk)
    assert record.data != cmyk
    assert np.abs(pixels(record).astype(int) - np.asarray(picture())).mean() < 8
    rgb = saved(picture(), keep_rgb=True)
    record = encoded(rgb)
    assert record.data != rgb
    assert record.mode == JPG


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_jpegs_are_stored_upright(orientation: int) -> None:
    """The eight EXIF orientations, against where the corners of the shown image must come from."""
    image = Image.new("RGB", (60, 40))
    for x, y, colour in ((0, 0, "red"), (30, 0, "lime"), (0, 20, "blue"), (30, 20, "white")):
        image.paste(Image.new("RGB", (30, 20), colour), (x, y))
    exif = Image.Exif()
    exif[0x0112] = orientation
    record = encoded(saved(image, quality=95, exif=exif.tobytes()), raw())
    shown = pixels(record)
    names = {(254, 0, 0): "r", (255, 0, 0): "r", (0, 255, 1): "l", (0, 255, 0): "l", (0, 0, 254): "b", (0, 0, 255): "b"}
    corners = [shown[y, x] for y in (5, -5) for x in (5, -5)]
    letters = "".join(names.get(tuple(int(value) for value in corner), "w") for corner in corners)
    expected = {2: "lrwb", 3: "wblr", 4: "bwrl", 5: "rblw", 6: "brwl", 7: "wlbr", 8: "lwrb"}  # from the EXIF standard
    assert letters == expected[orientation]
    assert (record.height, record.width) == ((60, 40) if orientation >= 5 else (40, 60))


def test_upright_and_unreadable_orientations_change_nothing() -> None:
    for value in (1, 0, 9):
        exif = Image.Exif()
        exif[0x0112] = value
        data = saved(picture(), exif=exif.tobytes())
        assert encoded(data).data == data
    data = saved(picture(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert isinstance(encode(lambda: data, PHOTO), Stored)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.98])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_cut_off_jpegs_are_rejected(keep: float, options: dict[str, object]) -> None:
    data = saved(picture(200, 200), **options)
    assert rejected(data[: int(len(data) * keep)]) == "a damaged JPEG: Premature end of JPEG file"


def test_a_jpeg_longer_than_a_page_is_made_anew() -> None:
    data = saved(picture())
    long = data[:2] + b"\xff\xfe\xff\xff" + bytes(65533) + data[2:]  # a comment
    small_pages = Plan(PHOTO.resize, PHOTO.canvas, "jpg", 90, 60_000)
    assert encoded(long).data == long
    assert len(encoded(long, small_pages).data) < 5000


def test_a_jpeg_made_here_that_outgrows_a_page_is_stored_raw() -> None:
    tiny_pages = Plan(Resize("none"), (8, 8), "jpg", 90, 300)  # a JPEG's header alone has more
    record = encoded(saved(picture(8, 8), "PNG"), tiny_pages)
    assert (record.mode, len(record.data)) == (RAW, 192)


def test_made_jpegs_carry_nothing_over() -> None:
    data = saved(picture(600, 600), comment=b"private", icc_profile=b"profile", exif=Image.Exif().tobytes())
    made = encoded(data)
    assert b"private" not in made.data
    assert b"ICC_PROFILE" not in made.data


def test_quality_is_what_pillow_makes_of_it() -> None:
    image = picture(100, 100)
    for quality in (50, 89):
        plan = Plan(PHOTO.resize, PHOTO.canvas, "jpg", quality, 1 << 21)
        assert encoded(saved(image, "PNG"), plan).data == saved(image, quality=quality)


# What becomes of other pixels


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_other_formats_give_their_pixels(kind: str) -> None:
    image = picture().quantize(16).convert("RGB") if kind == "GIF" else picture()
    data = saved(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(pixels(encoded(data, raw())), np.asarray(image))


@pytest.mark.parametrize("mode", ["P", "L", "1", "RGBA", "LA"])
def test_other_modes_become_rgb_as_pillow_does_it(mode: str) -> None:
    image = picture().convert(mode)
    assert np.array_equal(pixels(encoded(saved(image, "PNG"), raw())), np.asarray(image.convert("RGB")))


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32768], [40000, 65278, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        shown = pixels(encoded(saved(Image.fromarray(values), kind), raw()))
        assert shown[:, :, 0].tolist() == [[0, 1, 128], [156, 254, 255]]
        assert (shown == shown[:, :, :1]).all()


def test_pixels_without_a_known_range_are_rejected() -> None:
    assert "floating-point" in rejected(saved(Image.new("F", (3, 3), 0.5), "TIFF"))
    assert "integer pixels from -5 to -5" in rejected(saved(Image.new("I", (3, 3), -5), "TIFF"))


def test_arrays_are_stored_as_they_are() -> None:
    array = np.asarray(picture(16, 16)).transpose(1, 0, 2)  # not contiguous, as CIFAR's are
    result = encode(lambda: array, Plan(Resize("none"), (16, 16), "raw", 90, 1 << 21))
    assert result == Stored(array.tobytes(), RAW, 16, 16)


def test_resizing_is_antialiased_bilinear() -> None:
    image = picture(600, 800)
    record = encoded(saved(image, "PNG"), raw())
    assert np.array_equal(pixels(record), np.asarray(image.resize((512, 384), Image.Resampling.BILINEAR)))


# What is rejected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello", "a text"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript file"),  # runs Ghostscript
        (b"\xff\xd8\xff", "not an image that Pillow can open"),
    ],
)
def test_files_that_are_no_images(data: bytes, reason: str) -> None:
    assert rejected(data).startswith(reason)


def test_bombs_are_rejected_by_their_header() -> None:
    def png(width: int, height: int) -> bytes:
        data = saved(Image.new("1", (1, 1)), "PNG")
        chunk = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]

    assert "pixels" in rejected(png(60_000, 60_000))
    assert "10000x9000 pixels are more than 89,478,485" in rejected(png(10_000, 9_000))


def test_images_beyond_the_canvas_are_rejected() -> None:
    plan = Plan(Resize("none"), (50, 100), "jpg", 90, 1 << 21)
    assert isinstance(encode(lambda: saved(picture(50, 100)), plan), Stored)
    for kind in ("JPEG", "PNG"):
        assert rejected(saved(picture(51, 20), kind), plan) == "20x51 pixels are larger than the canvas of 100x50"


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_images_too_large_to_be_kept_as_they_are_name_that_limit_and_not_the_canvas(kind: str) -> None:
    plan = Plan(Resize("none"), (80, 90), "jpg", 90, 1 << 21)
    for size, shown in (((2049, 30), "30x2049"), ((30, 3000), "3000x30")):
        reason = rejected(saved(picture(*size), kind), plan)
        assert reason == (
            f"{shown} pixels are more than the 2048 a side that --resize none keeps; --resize max=N makes it smaller"
        )
    assert rejected(saved(picture(2048, 30), kind), plan) == "30x2048 pixels are larger than the canvas of 90x80"
    of_fixed_size = Plan(Resize("none"), (2049, 30), "jpg", 90, 1 << 24)
    assert encoded(saved(picture(2049, 30), kind), of_fixed_size).height == 2049
    reason = rejected(saved(picture(2049, 30), kind), Plan(Resize("max", 4096), (80, 90), "jpg", 90, 1 << 21))
    assert reason == "30x2049 pixels are larger than the canvas of 90x80"


def test_reading_errors_are_reasons() -> None:
    def gone() -> bytes:
        raise FileNotFoundError(2, "No such file or directory", "a.jpg")

    result = encode(gone, PHOTO)
    assert isinstance(result, Rejected)
    assert "No such file" in result.reason


# Sizes


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("max=512", (1024, 768), (512, 384)),
        ("max=512", (300, 200), (300, 200)),
        ("max=512", (512, 512), (512, 512)),
        ("max=10", (10_000, 3), (10, 1)),
        ("shorter=256", (512, 768), (256, 384)),
        ("shorter=256", (1000, 4000), (128, 512)),  # the longer side is capped at 512
        ("shorter=256", (100, 600), (85, 512)),
        ("shorter=256", (200, 500), (200, 500)),
        ("square=64", (100, 30), (64, 64)),
        ("square=64", (8, 8), (64, 64)),
        ("none", (5, 7), (5, 7)),
    ],
)
def test_resize_rules(text: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert Resize.parse(text).apply(*size) == expected
    assert Resize.parse(text).apply(*size[::-1]) == expected[::-1]
    assert str(Resize.parse(text)) == text


@given(
    kind=st.sampled_from(["max", "shorter", "square"]),
    side=st.integers(1, 2048),
    height=st.integers(1, 20_000),
    width=st.integers(1, 20_000),
)
def test_no_size_leaves_the_canvas(kind: str, side: int, height: int, width: int) -> None:
    resize = Resize.parse(f"{kind}={side}")
    canvas = resize.canvas()
    assert canvas is not None
    new = resize.apply(height, width)
    assert all(1 <= length <= limit for length, limit in zip(new, canvas, strict=True))
    assert resize.apply(*new) == new  # so a JPEG once resized is kept when it is converted again


def test_an_image_of_its_own_size_is_changed_by_two_levels_at_most_from_quality_90_on() -> None:
    """Strong colours in single pixels: 4:2:0 would smear them, and quality 90 still changes them by more."""
    pixels = np.random.default_rng(0).integers(0, 2, (64, 64, 3), np.uint8) * 255
    errors = {}
    for quality, resize in ((90, "none"), (80, "none"), (90, "max=60")):
        plan = Plan(Resize.parse(resize), (64, 64), "jpg", quality, 1 << 21)
        record = encode(lambda: pixels, plan)
        assert isinstance(record, Stored)
        again = Image.open(BytesIO(record.data))
        assert (record.mode, again.size) == (JPG, (record.width, record.height))
        truth = Image.fromarray(pixels).resize(again.size, Image.Resampling.BILINEAR)
        errors[quality, resize] = np.abs(np.asarray(again).astype(int) - np.asarray(truth)).mean()
    assert errors[90, "none"] <= 2 < 20 < errors[80, "none"]
    assert errors[90, "max=60"] > 2  # what is made smaller has the stated quality
