"""Images that are stored turned, with a tag that says how they are to be shown: each is turned upright, once."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.conversion.encode import Plan, Resize, encode, upright_size
from fastnoisy.data.conversion.outcome import Stored
from fastnoisy.data.store import open_store

TAG = 0x0112
# Where the shown pixels lie in the file, by the EXIF standard: 6, for one, has the shown top row at its left, upwards.
LAID = {
    1: lambda shown: shown,
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: shown.transpose(1, 0, 2),
    6: lambda shown: np.rot90(shown, 1),
    7: lambda shown: shown[::-1, ::-1].transpose(1, 0, 2),
    8: lambda shown: np.rot90(shown, -1),
}
# Format, how it is saved, and the mean error that its own coding may bring.
KINDS = {
    "jpeg": ("JPEG", {"quality": 95}, 2.5),
    "mpo": ("MPO", {"quality": 95, "save_all": True}, 2.5),
    "png": ("PNG", {}, 0.0),
    "webp": ("WEBP", {"lossless": True}, 0.0),
    "avif": ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 2.5),
    "tiff": ("TIFF", {}, 0.0),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}, 0.0),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg", "quality": 95}, 2.5),
    "tiff-frames": ("TIFF", {"save_all": True, "append_images": [Image.new("RGB", (9, 7))]}, 0.0),
}
UNTAGGED = {"gif": "GIF", "bmp": "BMP", "ppm": "PPM", "jpeg2000": "JPEG2000"}  # Pillow writes no orientation into these


def photograph(height: int = 40, width: int = 64) -> np.ndarray:
    """Smooth, and no turn of it looks like another."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * rows / height, 255 * columns / width, 100 + 50 * (columns > 2 * rows)], axis=2)
    return pixels.astype(np.uint8)


def turned(shown: np.ndarray, orientation: int, kind: str) -> bytes:
    """A file whose tag has it shown as `shown`."""
    form, options, _ = KINDS[kind]
    exif = Image.Exif()
    exif[TAG] = orientation
    file = BytesIO()
    laid = Image.fromarray(np.ascontiguousarray(LAID[orientation](shown)))
    laid.save(file, form, exif=exif, **options)
    return file.getvalue()


def pixels(record: Stored) -> np.ndarray:
    if len(record.data) == 3 * record.height * record.width:
        return np.frombuffer(record.data, np.uint8).reshape(record.height, record.width, 3)
    with Image.open(BytesIO(record.data)) as image:
        return np.asarray(image.convert("RGB"))


def error(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b).mean())


def test_the_turns_are_told_apart() -> None:
    shown = photograph(40, 40)
    for one in LAID:
        for other in range(1, one):
            assert error(LAID[one](shown), LAID[other](shown)) > 15


@pytest.mark.parametrize("store", ["raw", "jpg"])
@pytest.mark.parametrize("orientation", LAID)
@pytest.mark.parametrize("kind", KINDS)
def test_a_turned_image_is_stored_upright(kind: str, orientation: int, store: str) -> None:
    shown = photograph()
    data = turned(shown, orientation, kind)
    with Image.open(BytesIO(data)) as image:
        assert image.getexif().get(TAG, 1) == orientation
    assert upright_size(data) == shown.shape[:2]
    allowed = KINDS[kind][2] + (4 if store == "jpg" else 0)  # another turn is 15 levels away
    for resize, size in (("none", (40, 64)), ("max=32", (20, 32))):
        record = encode(lambda: data, Plan(Resize.parse(resize), size, store, 90, 1 << 21))
        assert isinstance(record, Stored), record
        truth = Image.fromarray(shown).resize(size[::-1], Image.Resampling.BILINEAR)
        assert error(pixels(record), np.asarray(truth)) <= allowed


@pytest.mark.parametrize("orientation", LAID)
@pytest.mark.parametrize("kind", UNTAGGED)
def test_a_format_without_a_tag_is_stored_as_it_lies(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[TAG] = orientation
    laid = np.ascontiguousarray(LAID[orientation](photograph() // 51 * 51))  # few enough colours for a GIF
    file = BytesIO()
    Image.fromarray(laid).save(file, UNTAGGED[kind], exif=exif)
    data = file.getvalue()
    assert upright_size(data) == laid.shape[:2]
    record = encode(lambda: data, Plan(Resize("none"), (64, 64), "raw", 90, 1 << 21))
    assert isinstance(record, Stored)
    assert np.array_equal(pixels(record), laid)


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("kind", ["png", "tiff", "tiff-lzw"])
def test_an_orientation_in_xmp_alone_counts(kind: str, orientation: int) -> None:
    """Pillow reads it there, too; of a TIFF it then tells the size as it lies until it has loaded it."""
    shown = photograph()
    form, options, _ = KINDS[kind]
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="{orientation}"/></x:xmpmeta>'
    file = BytesIO()
    laid = Image.fromarray(np.ascontiguousarray(LAID[orientation](shown)))
    if form == "TIFF":
        laid.save(file, form, tiffinfo={700: xmp.encode()}, **options)
    else:
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp)
        laid.save(file, form, pnginfo=info, **options)
    data = file.getvalue()
    assert upright_size(data) == shown.shape[:2]
    record = encode(lambda: data, Plan(Resize("none"), (40, 64), "raw", 90, 1 << 21))
    assert isinstance(record, Stored), record
    assert np.array_equal(pixels(record), shown)


@pytest.mark.parametrize("resize", ["none", "max=50"])
def test_a_canvas_fits_what_is_stored(resize: str, tmp_path: Path) -> None:
    shown = photograph(48, 96)
    for orientation in LAID:
        for kind in ("png", "tiff", "tiff-lzw"):
            path = tmp_path / f"photos/a/{kind}-{orientation}.{KINDS[kind][0].lower()}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(turned(shown, orientation, kind))
    out = tmp_path / "out"
    summary = convert(str(tmp_path / "photos"), out, options=ConvertOptions(resize=resize, store="raw"), workers=1)
    size = (48, 96) if resize == "none" else (25, 50)
    assert summary.splits[0].rejected == 0
    assert summary.splits[0].canvas == (size if resize == "none" else (50, 50))
    truth = np.asarray(Image.fromarray(shown).resize(size[::-1], Image.Resampling.BILINEAR))
    with open_store(out) as store:
        split = store.split("train")
        assert split.num_samples == 24
        for i in range(24):
            assert np.array_equal(split.read_image(i), truth), split.sources[i]
