"""What sheets of pictures share: colours, a font with accents, text cut and wrapped to a width, pictures made to
fit.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageFont

from fastnoisy.analysis.text import shorten
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import replacing

INK, FAINT, PAPER, LINE = (20, 20, 20), (110, 110, 110), (255, 255, 255), (222, 222, 222)
WRONG = (214, 30, 30)
MAX_PIXELS = 150_000_000  # of a sheet; viewers and Pillow itself balk at more


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which comes with matplotlib: Pillow's own font has no accents, no Greek and no Cyrillic."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), size) if path.is_file() else ImageFont.load_default(size)


def text_width(text: str, size: int) -> int:
    """Pixels that a line takes."""
    return int(np.ceil(font(size).getlength(text)))


def shorten_line(text: str, size: int, room: int) -> str:
    """The text, or as much of its beginning and end as `room` pixels hold."""
    return shorten(text, lambda shorter: text_width(shorter, size) <= room)


def wrap(text: str, size: int, room: int) -> list[str]:
    """The text in lines of up to `room` pixels, broken at blanks but not at no-break spaces; a wider word is
    shortened.
    """
    lines = [""]
    for word in filter(None, text.split(" ")):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return [shorten_line(line, size, room) for line in lines]


def enlarge(image: np.ndarray, times: int) -> Image.Image:
    """The image, uint8 (height, width, 3), with each pixel as a square of `times` x `times`."""
    picture = Image.fromarray(image)
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def shrink(image: np.ndarray, side: int) -> Image.Image:
    """The image, uint8 (height, width, 3), its longer side at most `side`, its shape kept."""
    picture = Image.fromarray(image)
    longest = max(picture.size)
    if longest <= side:
        return picture
    width, height = (max(1, round(pixels * side / longest)) for pixels in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def save(sheet: Image.Image, path: Path) -> None:
    """Write the sheet as PNG, whole or not at all; a file of that name is replaced.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as partial:
        sheet.save(partial, format="PNG")


def check_png(out: Path) -> None:
    """Refuse a sheet that cannot be written, before any work is done on it.

    Raises:
        FastnoisyError: no .png, a folder, in no folder, or no permission.
    """
    if out.suffix.lower() != ".png":
        raise FastnoisyError(f"the sheet {out} is not a .png file", "give it a name that ends in .png")
    if out.is_dir():
        raise FastnoisyError(f"the sheet {out} is a folder", "give the name of a file")
    if not out.parent.is_dir():
        raise FastnoisyError(f"the folder {out.parent} of the sheet does not exist", "make it, or name another")
    if not os.access(out.parent, os.W_OK | os.X_OK) or (out.exists() and not os.access(out, os.W_OK)):
        raise FastnoisyError(f"the sheet {out} cannot be written: permission denied", "give another name")
