"""Small pictures for the examples of sources: one file each, told apart by label and number."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw


def picture(label: int, number: int) -> bytes:
    """A JPEG of about 80x70 pixels; the larger half is coloured by the label, a square moves with the number."""
    width, height = 70 + 3 * (number % 7), 72 + 5 * (number % 3)
    image = Image.new("RGB", (width, height), (37 * label % 256, 90 + 61 * label % 160, 255 - 53 * label % 256))
    left = 4 + 5 * (number % 9)
    ImageDraw.Draw(image).rectangle((left, 10, left + 16, 26), fill=(255, 40 * number % 256, 0))
    target = BytesIO()
    image.save(target, "JPEG", quality=90)
    return target.getvalue()


def write_picture(path: Path, label: int, number: int) -> None:
    """Write `picture` as a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(label, number))
