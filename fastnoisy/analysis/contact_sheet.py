"""A contact sheet: one row per class with its name, its counts and some of its images; wrong labels have a red frame.

A row shows images of that *given* class. Where clean labels are known and differ, the picture has a red frame and
its clean class beneath it. Which images are shown is a pure function of the seed and their row in the data set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from fastnoisy import keyed_random
from fastnoisy.analysis.drawing import (
    FAINT,
    INK,
    LINE,
    MAX_PIXELS,
    PAPER,
    WRONG,
    enlarge,
    font,
    shorten_line,
    shrink,
    text_width,
    wrap,
)
from fastnoisy.analysis.text import printable
from fastnoisy.errors import FastnoisyError

_FRAME, _GAP, _MARGIN = 4, 6, 14
_SMALL, _ENLARGED, _THUMBNAIL = (
    64,
    64,
    96,
)  # a canvas up to 64 pixels is enlarged to about 64, a larger one shrunk to 96
_MAX_NAME_WIDTH = 190
_COMFORTABLE = 40_000_000  # pixels of a sheet that nobody gave a number of pictures for
_TALLEST = 2.6  # height by width from which the rows are set in one more column
_DEFAULT_PER_CLASS = 10


@dataclass(frozen=True)
class Layout:
    """Where everything lies, in pixels.

    Attributes:
        num_rows: classes, a row each, set in `columns` columns of equal length.
        per_class: pictures per row.
        side: of the square that a picture is centred in.
        name_width: of the text left of the pictures.
        caption: height kept beneath each picture for a clean class's name; 0 where no label is wrong.
        title: height of the lines at the top.
    """

    num_rows: int
    per_class: int
    columns: int
    side: int
    name_width: int
    caption: int
    title: int

    @property
    def row_height(self) -> int:
        """From one row to the next."""
        return max(self.side + 2 * _FRAME + self.caption, 52) + _GAP

    @property
    def column_width(self) -> int:
        """From one column to the next."""
        return self.name_width + self.per_class * (self.side + 2 * _FRAME + _GAP) + 2 * _GAP

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        lines = -(-self.num_rows // self.columns)
        return 2 * _MARGIN + self.columns * self.column_width, 2 * _MARGIN + self.title + lines * self.row_height

    def row(self, number: int) -> tuple[int, int]:
        """Left and top of a class's row."""
        lines = -(-self.num_rows // self.columns)
        column, line = divmod(number, lines)
        return _MARGIN + column * self.column_width, _MARGIN + self.title + line * self.row_height

    def cell(self, number: int, place: int) -> tuple[int, int]:
        """Left and top of the square, frame not counted, of picture `place` in a class's row."""
        left, top = self.row(number)
        left += self.name_width + place * (self.side + 2 * _FRAME + _GAP)
        return left + _FRAME, top + _FRAME


def choose(given: np.ndarray, num_classes: int, per_class: int, seed: int) -> list[np.ndarray]:
    """For each class up to `per_class` rows drawn from those with that given label.

    Args:
        given: int64 (N,).

    Returns:
        int64 rows per class, in the order drawn: a larger `per_class` adds to the smaller one's choice.
    """
    draws = keyed_random.key(seed, keyed_random.name_value("contact_sheet"), np.arange(len(given)))
    order = np.argsort(draws, kind="stable")
    order = order[np.argsort(given[order], kind="stable")]
    ends = np.cumsum(np.bincount(given, minlength=num_classes))
    starts = np.concatenate([[0], ends[:-1]])
    return [order[start : min(end, start + per_class)] for start, end in zip(starts, ends, strict=True)]


def draw(
    title: str,
    subtitle: str,
    class_names: Sequence[str],
    given: np.ndarray,
    clean: np.ndarray | None,
    read: Callable[[int], np.ndarray],
    canvas: tuple[int, int],
    per_class: int | None = None,
    seed: int = 1,
) -> tuple[Image.Image, Layout]:
    """Draw the sheet.

    Args:
        title, subtitle: the lines at the top.
        given, clean: int64 (N,); `clean` is None where it is not known.
        read: gives the image of a row as uint8 (height, width, 3), RGB.
        canvas: (height, width) that no image exceeds; decides whether pictures are enlarged or shrunk.
        per_class: pictures per class; None: 10, or fewer where the sheet would become very large.
        seed: of the choice.

    Raises:
        FastnoisyError: the sheet would have more than 150 million pixels.
    """
    layout = plan(class_names, given, clean, canvas, per_class)
    lines = wrap(printable(subtitle), 14, layout.size[0] - 2 * _MARGIN)
    layout = Layout(**{**vars(layout), "title": 34 + 20 * len(lines) + _GAP})
    sheet = Image.new("RGB", layout.size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), shorten_line(printable(title), 22, layout.size[0] - 2 * _MARGIN), INK, font(22))
    for number, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN + 32 + 20 * number), line, FAINT, font(14))
    wrong = np.zeros(len(given), bool) if clean is None else given != clean
    counts = np.bincount(given, minlength=len(class_names))
    wrongs = np.bincount(given[wrong], minlength=len(class_names))
    for number, rows in enumerate(choose(given, len(class_names), layout.per_class, seed)):
        _draw_name(pen, layout, number, class_names[number], int(counts[number]), int(wrongs[number]))
        for place, row in enumerate(rows.tolist()):
            left, top = layout.cell(number, place)
            picture = _fit(read(row), layout.side, max(canvas) <= _SMALL)
            x, y = left + (layout.side - picture.width) // 2, top + (layout.side - picture.height) // 2
            if clean is not None and wrong[row]:
                box = (x - _FRAME, y - _FRAME, x + picture.width + _FRAME - 1, y + picture.height + _FRAME - 1)
                pen.rectangle(box, fill=WRONG)
                _draw_caption(pen, layout, left, y + picture.height + _FRAME, class_names[clean[row]])
            sheet.paste(picture, (x, y))
    return sheet, layout


def plan(
    class_names: Sequence[str],
    given: np.ndarray,
    clean: np.ndarray | None,
    canvas: tuple[int, int],
    per_class: int | None,
) -> Layout:
    """The layout, its title not yet counted: as many columns of rows as keep the sheet from becoming a strip.

    Raises:
        FastnoisyError: it would have more than 150 million pixels.
    """
    side = max(canvas) * max(1, round(_ENLARGED / max(canvas))) if max(canvas) <= _SMALL else _THUMBNAIL
    widest = max(text_width(printable(name), 15) for name in class_names)
    wrong = clean is not None and bool((given != clean).any())
    counts = np.bincount(given, minlength=len(class_names))
    full = max(1, int(counts.max(initial=1)))  # more pictures than the largest class has would be blank
    name_width = min(max(widest, text_width(_count_lines(len(given), len(given))[-1], 12)), _MAX_NAME_WIDTH) + 3 * _GAP

    def lay_out(pictures: int) -> Layout:
        for columns in range(1, len(class_names) + 1):
            layout = Layout(len(class_names), pictures, columns, side, name_width, 17 * wrong, 0)
            if layout.size[1] <= _TALLEST * layout.size[0]:
                break
        return layout

    if per_class is not None:
        per_class = min(per_class, full)
        layout = lay_out(per_class)
        if layout.size[0] * layout.size[1] <= MAX_PIXELS:
            return layout
        fitting = [n for n in range(1, per_class) if np.prod(lay_out(n).size) <= MAX_PIXELS]
        raise FastnoisyError(
            f"a contact sheet of {per_class} pictures for each of {len(class_names):,} classes would have "
            f"{layout.size[0]:,} x {layout.size[1]:,} pixels",
            f"use --per-class {fitting[-1]}" if fitting else "there are too many classes for one sheet",
        )
    for pictures in range(min(_DEFAULT_PER_CLASS, full), 0, -1):
        layout = lay_out(pictures)
        if layout.size[0] * layout.size[1] <= _COMFORTABLE:
            return layout
    return plan(class_names, given, clean, canvas, 1)


def _count_lines(count: int, wrong: int) -> list[str]:
    lines = ["1 image" if count == 1 else f"{count:,} images"]
    return [*lines, f"{wrong:,} wrong ({100 * wrong / count:.1f} %)"] if wrong else lines


def _draw_name(pen: ImageDraw.ImageDraw, layout: Layout, number: int, name: str, count: int, wrong: int) -> None:
    left, top = layout.row(number)
    pen.line((left, top - _GAP // 2, left + layout.column_width - 3 * _GAP, top - _GAP // 2), LINE)
    room = layout.name_width - 2 * _GAP
    top += _FRAME
    pen.text((left, top), shorten_line(printable(name), 15, room), INK, font(15))
    for place, line in enumerate(_count_lines(count, wrong)):
        pen.text((left, top + 20 + 15 * place), shorten_line(line, 12, room), WRONG if place else FAINT, font(12))


def _draw_caption(pen: ImageDraw.ImageDraw, layout: Layout, left: int, bottom: int, name: str) -> None:
    """The clean class beneath a picture, in the largest of three sizes in which it fits, centred."""
    room = layout.side + 2 * _FRAME + _GAP - 3
    text = printable(name)
    size = next((size for size in (12, 11, 10) if text_width(text, size) <= room), 10)
    text = shorten_line(text, size, room)
    pen.text((left + layout.side / 2, bottom + 8), text, WRONG, font(size), anchor="mm")


def _fit(image: np.ndarray, side: int, enlarged: bool) -> Image.Image:
    """The image within a square: enlarged by a whole number with its pixels kept square, or shrunk with its shape
    kept.
    """
    return enlarge(image, max(1, side // max(image.shape[:2]))) if enlarged else shrink(image, side)
