"""From what a source holds (a file's bytes, or pixels) to the record that is stored: pure functions, one image each.

A JPEG is kept byte for byte only if every decoder reads it alike: 8-bit grey or YCbCr, baseline or progressive,
upright, of the wanted size, and whole. Everything else is decoded, turned upright, brought to 8-bit RGB, resized
(antialiased bilinear, as torchvision does with Pillow images) and stored as JPEG (4:2:0, or 4:4:4 where that would
change it too much) or as raw pixels. What cannot be decoded is rejected with the reason; a broken image never ends a
conversion.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from fastnoisy.data.conversion import jpeg
from fastnoisy.data.conversion.first_bytes import what_it_is
from fastnoisy.data.conversion.outcome import Outcome, Rejected, Stored
from fastnoisy.data.conversion.pages import picture_of, to_full_page
from fastnoisy.data.conversion.shrink import Shrink
from fastnoisy.data.store.beton import JPG, RAW
from fastnoisy.data.store.jpeg import read_header
from fastnoisy.errors import FastnoisyError

MAX_PIXELS = 89_478_485  # Pillow's own warning limit: more is a decompression bomb or a map, not a training image
MAX_SIDE = 4096  # of a canvas: 4096 x 4096 x 3 bytes is a page of 64 MiB
MAX_OWN_SIDE = 2048  # of images whose size is kept, so that one huge image cannot set the canvas for all
FAITHFUL_QUALITY = 90  # from here on, images of their own size keep within
MAX_MEAN_ERROR = 2.0  # levels of 255
# Named, so that Pillow's other readers stay shut: EPS, for one, would start Ghostscript on the file.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # the EXIF tag
_TIFF_WIDTH, _TIFF_HEIGHT = 0x0100, 0x0101  # as the pixels lie, however they are to be shown
_TO_8_BITS = [(value * 255 + 32767) // 65535 for value in range(65536)]
SEVERAL_FRAMES = "the first of several frames"
_NO_MEMORY = re.compile(r"(?i)insufficient memory|out of memory|cannot allocate|memory allocation|zlib error -4")
_AVIF_FAILED = "Failed to decode frame"  # its library says no more, also where it gets no memory
_AVIF_BYTES, _AVIF_BASE = 16, 64 << 20  # of memory that it may take: a pixel, and in all


@dataclass(frozen=True, slots=True)
class Resize:
    """How an image's size is chosen: `none`, or `max`, `shorter` or `square` with a number of pixels."""

    kind: str
    side: int = 0

    @classmethod
    def parse(cls, text: str) -> Resize:
        """Read `max=512`, `shorter=256`, `square=64` or `none`.

        Raises:
            FastnoisyError: anything else, or a side outside 1 to 4096 (2048 for `shorter`, whose longer side is 2N).
        """
        match = re.fullmatch(r"(max|shorter|square)=(-?[0-9]{1,1000})", text)
        if text != "none" and not match:
            raise FastnoisyError(
                f"resize {text!r} is not known", "use max=N (as in max=512), shorter=N, square=N or none"
            )
        if not match:
            return cls("none")
        kind, side = match[1], int(match[2])
        limit = MAX_SIDE // 2 if kind == "shorter" else MAX_SIDE
        if not 1 <= side <= limit:
            raise FastnoisyError(f"resize {text!r}: the side must be from 1 to {limit} pixels")
        return cls(kind, side)

    def canvas(self) -> tuple[int, int] | None:
        """(height, width) that holds every image so resized; None for `none`, where the images decide."""
        side = self.side * 2 if self.kind == "shorter" else self.side
        return (side, side) if side else None

    def apply(self, height: int, width: int) -> tuple[int, int]:
        """The new (height, width). `max` and `shorter` keep the shape and never enlarge; `square` does neither."""
        if self.kind == "none":
            return height, width
        if self.kind == "square":
            return self.side, self.side
        scale = self.side / max(height, width)
        if self.kind == "shorter":
            scale = min(self.side / min(height, width), 2 * self.side / max(height, width))
        if scale >= 1:
            return height, width
        return max(1, round(height * scale)), max(1, round(width * scale))

    def __str__(self) -> str:
        return f"{self.kind}={self.side}" if self.side else self.kind


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything `encode` needs to know: the options of a conversion, with nothing left open.

    Attributes:
        resize: what to do to the size.
        canvas: (height, width) no image may exceed.
        store: "raw" or "jpg".
        quality: of JPEGs made here, 1 to 100.
        page_size: bytes; no record may be longer.
    """

    resize: Resize
    canvas: tuple[int, int]
    store: str
    quality: int
    page_size: int


def encode(read: Callable[[], bytes | np.ndarray], plan: Plan, shrink: Shrink | None = None) -> Outcome:
    """One image of a source as a record.

    Args:
        read: gives a file's bytes, or uint8 pixels of shape (height, width, 3), RGB.
        plan: the resolved options.
        shrink: what makes images smaller; Pillow where None. The pixels are the same.

    Returns:
        The record, or why there is none: unreadable, empty, no image, broken, a bomb, or larger than the canvas.
    """
    shrink = shrink or Shrink()
    try:
        content = read()
        if isinstance(content, np.ndarray):
            return _store(Image.fromarray(content), plan, shrink)
        record = _encode_plain(content, plan, shrink)
        if record is not None:
            return record
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            return _encode_file(content, plan, shrink, warned)
    except FastnoisyError as refused:
        return Rejected(_one_line(str(refused)))
    except UnidentifiedImageError:  # its text holds an address, which would differ from run to run
        known = what_it_is(content) if isinstance(content, bytes) else ""
        return Rejected(known or "not an image that Pillow can open, or broken in its header")
    except MemoryError:  # says nothing of the image
        raise
    except Exception as error:  # on hostile bytes a decoder raises anything, and one image must not end the run
        if _NO_MEMORY.search(str(error)) and getattr(error, "errno", None) is None:
            raise MemoryError(str(error)) from None
        if _AVIF_FAILED in str(error):
            _need_memory(content)
        return Rejected(_one_line(f"{type(error).__name__}: {error}"))


def upright_size(content: bytes | np.ndarray) -> tuple[int, int] | None:
    """(height, width) as shown, from the header alone; None for what is no image."""
    if isinstance(content, np.ndarray):
        return content.shape[0], content.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _open(picture_of(content)) as image:
                to_full_page(image)
                return _shown_size(image, _orientation(image))
        except MemoryError:
            raise
        except Exception:  # as in encode, which will say why
            return None


def _encode_plain(data: bytes, plan: Plan, shrink: Shrink) -> Stored | None:
    """What `_encode_file` would give for a plain JPEG that is sound, in less time; None for every other file.

    Opening and loading with Pillow's reader costs half as much again as the reduced decode itself (of 300x200
    photographs: 50 us beside 110): it tries plugins, makes objects of every segment and reads in blocks.
    """
    header = read_header(data)
    if header is None or not header.plain or header.height * header.width > MAX_PIXELS:
        return None
    size = plan.resize.apply(header.height, header.width)
    if size[0] > plan.canvas[0] or size[1] > plan.canvas[1]:
        return None
    if plan.store == "jpg" and len(data) <= plan.page_size and size == (header.height, header.width):
        return Stored(data, JPG, *size) if jpeg.is_sound(data) else None
    if not header.grey and size != (header.height, header.width):
        rgb = shrink.jpeg(data, header.height, header.width, *size)
        if rgb is not None:
            return _record(rgb, plan, own_size=False)
    pixels = jpeg.decode(data, grey=header.grey)
    return None if pixels is None else _store(Image.fromarray(pixels).convert("RGB"), plan, shrink)


def _encode_file(data: bytes, plan: Plan, shrink: Shrink, warned: list[warnings.WarningMessage]) -> Stored:
    if not data:
        raise FastnoisyError("empty file")
    with _open(picture_of(data)) as image:
        note = jpeg.flaw(data) if image.format in ("JPEG", "MPO") else to_full_page(image)
        if image.format == "PNG":
            image.load()  # asked for its orientation it would load, and what is wrong with its pixels were lost
        orientation = _orientation(image)
        height, width = image.height, image.width
        # What Pillow warns about on opening is made anew, so that no reader of the store has to warn again.
        kept = plan.store == "jpg" and image.format == "JPEG" and len(data) <= plan.page_size and orientation == 1
        kept = kept and not note and not any(issubclass(warning.category, UserWarning) for warning in warned)
        if kept and plan.resize.apply(height, width) == (height, width):
            header = read_header(data)
            if header is not None and header.portable:
                _check_canvas(height, width, plan)
                return Stored(data, JPG, height, width)
        image.load()
        # Pillow turns TIFFs itself as it loads them, and drops the tag.
        still_turned = _orientation(image) == orientation
        rgb = _to_rgb(image)
        if still_turned and orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
        record = _store(rgb, plan, shrink)
        return replace(record, note=note or (SEVERAL_FRAMES if _has_more_frames(image) else ""))


def _store(rgb: Image.Image, plan: Plan, shrink: Shrink) -> Stored:
    """Resize an upright 8-bit RGB image and make its record."""
    height, width = plan.resize.apply(rgb.height, rgb.width)
    _check_canvas(height, width, plan)
    own_size = (height, width) == (rgb.height, rgb.width)
    if not own_size:
        rgb = shrink(rgb, height, width)
    return _record(rgb, plan, own_size)


def _record(rgb: Image.Image, plan: Plan, own_size: bool) -> Stored:
    """The record of an RGB or RGBX image of the size that it is stored in."""
    if plan.store == "jpg":
        data = _jpeg(rgb, plan.quality, own_size)
        if len(data) <= plan.page_size:
            return Stored(data, JPG, rgb.height, rgb.width)
    return Stored(rgb.tobytes("raw", "RGB"), RAW, rgb.height, rgb.width)


def _jpeg(rgb: Image.Image, quality: int, own_size: bool) -> bytes:
    """The image as JPEG of that quality, or better where it would change too much.

    At its own size and a quality of 90 or more, an image is meant to be kept as it is; then at most 2 levels of mean
    error are let pass. Of Caltech's photographs 1.5 % need more for that; drawings, palettes and strong colours often
    do.
    """
    rgb.info = {}  # Pillow would carry a comment or a profile of the original over into the file
    data = b""
    for options in ({"quality": quality}, {"quality": quality, "subsampling": 0}, {"quality": 98, "subsampling": 0}):
        target = BytesIO()
        rgb.save(target, "JPEG", **options)
        data = target.getvalue()
        if quality < FAITHFUL_QUALITY or not own_size or _mean_error(rgb, data) <= MAX_MEAN_ERROR:
            break
    return data


def _mean_error(rgb: Image.Image, data: bytes) -> float:
    """Levels between an image and its JPEG, on average."""
    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        return float(np.asarray(ImageChops.difference(rgb, image.convert("RGB"))).mean())


def _check_canvas(height: int, width: int, plan: Plan) -> None:
    if height <= plan.canvas[0] and width <= plan.canvas[1]:
        return
    size = f"{width}x{height} pixels are"
    if plan.resize.kind == "none" and max(height, width) > MAX_OWN_SIDE:
        kept = f"the {MAX_OWN_SIDE} a side that --resize none keeps"
        raise FastnoisyError(f"{size} more than {kept}; --resize max=N makes it smaller")
    raise FastnoisyError(f"{size} larger than the canvas of {plan.canvas[1]}x{plan.canvas[0]}")


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _open(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data), formats=_formats())
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise FastnoisyError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS:,}")
    return image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) where there is none, or none that can be read, as every viewer does."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow's EXIF reader raises a dozen kinds on damaged tags
        return 1
    return value if value in _UPRIGHT else 1


def _shown_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """(height, width) once upright. Of a TIFF Pillow tells it itself, unless the orientation stands in its XMP only."""
    tags = getattr(image, "tag_v2", {})
    height, width = tags.get(_TIFF_HEIGHT, image.height), tags.get(_TIFF_WIDTH, image.width)
    return (width, height) if orientation >= 5 else (height, width)


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; 16-bit values are scaled, where Pillow's own conversion would clip them to white.

    Of the largest images that are accepted a plane takes 0.1 to 0.4 GB, so no copy is made without need.
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        wide = image if image.mode == "I" else image.convert("I")
        extrema: Any = wide.getextrema()
        low, high = extrema
        if low < 0 or high > 65535:
            raise FastnoisyError(f"integer pixels from {low} to {high}, where 0 to 65535 can be scaled")
        image = wide.point(_TO_8_BITS, "L")
    if image.mode == "F":
        raise FastnoisyError("floating-point pixels have no defined black and white")
    return image if image.mode == "RGB" else image.convert("RGB")


def _has_more_frames(image: Image.Image) -> bool:
    """Asked when the pixels are there, for it may read on in the file; that is not needed for the first frame."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the later frames may be broken
        return False


def _need_memory(content: bytes | np.ndarray) -> None:
    """Raise MemoryError where an image's decoder may not have had what it needs."""
    height, width = upright_size(content) or (1, 1)
    np.empty(height * width * _AVIF_BYTES + _AVIF_BASE, np.uint8)  # not touched, so it costs nothing


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
