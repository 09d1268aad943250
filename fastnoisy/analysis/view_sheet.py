"""A sheet of views: images, and beside each what the network is given of it, with what was done to it, epoch by epoch.

A row is an image of the training split. Its first picture is the image as stored; then come, for each of a few epochs,
the views of it that the method's streams ask for, drawn from the same keys as in training. A view is shown as the
network sees it, after its last step, with `normalize` undone; beneath it stands what each step did to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fastnoisy import keyed_random, methods, pipelines
from fastnoisy.analysis.drawing import (
    FAINT,
    INK,
    LINE,
    MAX_PIXELS,
    PAPER,
    enlarge,
    font,
    shorten_line,
    shrink,
    text_width,
    wrap,
)
from fastnoisy.analysis.text import printable
from fastnoisy.augment import View
from fastnoisy.augment.steps import Normalize
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Context, Stream
from fastnoisy.noise import NoiseSpec
from fastnoisy.training.labels import Labels
from fastnoisy.training.settings import Settings
from fastnoisy.training.setup import build_view

_GAP, _MARGIN = 8, 14
_SMALL = 64  # pictures up to this many pixels are enlarged to about _SIDE, larger ones are shown as they are
_SIDE = 96
_THUMBNAIL = 128  # of a photograph as stored
_TEXT_ROOM = 132  # least width of a column, so that what is written beneath a picture can be read
_NOTE, _NOTE_LINE = 11, 14
_USUAL_LINES, _MOST_LINES = 8, 24


@dataclass(frozen=True)
class Picture:
    """A view of an image.

    Attributes:
        pixels: uint8 (height, width, 3).
        notes: what each step did, in order; steps that did nothing are left out.
    """

    pixels: np.ndarray
    notes: list[str]


@dataclass(frozen=True)
class Shown:
    """A row of the sheet.

    Attributes:
        row: of the training split.
        class_name: as the store has it, before noise.
        trained_on: False for a row that the configuration holds out or leaves out.
        image: as stored, uint8 (height, width, 3).
        pictures: per epoch, in the order of `view_names`.
    """

    row: int
    class_name: str
    trained_on: bool
    image: np.ndarray
    pictures: list[list[Picture]]


def streams(settings: Settings) -> dict[str, Stream]:
    """The streams of a configuration's method. Its networks are made without weights, on torch's meta device.

    Raises:
        FastnoisyError: the method cannot be built with its options.
    """
    with torch.device("meta"):
        method = methods.build(
            settings.method, Context(settings.config.model, num_classes=2, num_samples=1, restored=True)
        )
    return dict(method.streams)


def build_views(settings: Settings) -> dict[str, View]:
    """The views of the method's streams by name, in the method's order, as training builds them.

    A view's draws depend on its name, not on its stream: one of the same name and program in another stream is the
    same.
    """
    found: dict[str, View] = {}
    for stream in streams(settings).values():
        for name, program in stream.views.items():
            view = build_view(settings, program, name, executor="reference")  # a few images: nothing is compiled
            if name in found and found[name].program != view.program:
                name = f"{name}, {stream.population}"
            found.setdefault(name, view)
    return found


def training_rows(settings: Settings, split: Split) -> np.ndarray:
    """The rows that a run trains on, int64, ascending: without what it holds out or leaves out."""
    return Labels.draw(replace(settings, noise=NoiseSpec("none")), split).train


def choose(split: Split, rows: np.ndarray, count: int, seed: int) -> list[int]:
    """Up to `count` of `rows`, drawn at random, but one of every class before a second of any.

    A larger count adds to a smaller one's choice.
    """
    order = np.argsort(keyed_random.key(seed, keyed_random.name_value("view_sheet"), rows), kind="stable")
    drawn = rows[order]
    labels = split.given_labels[drawn]
    by_class = np.argsort(labels, kind="stable")
    nth = np.empty(len(drawn), np.int64)  # how many of its class were drawn before it
    nth[by_class] = np.arange(len(drawn)) - np.searchsorted(labels[by_class], labels[by_class])
    chosen: list[int] = drawn[np.argsort(nth, kind="stable")][:count].tolist()
    return chosen


def check_rows(split: Split, rows: Sequence[int]) -> None:
    """Whether the split has these rows.

    Raises:
        FastnoisyError: one that it has not.
    """
    for row in rows:
        if not 0 <= row < split.num_samples:
            raise FastnoisyError(
                f"there is no row {row} in the {split.name} split of {split.beton_path.parent}",
                f"it has the rows 0 to {split.num_samples - 1}",
            )


def _check_size(split: Split, views: Sequence[View], num_rows: int, num_epochs: int) -> None:
    """Before any view is made: a sheet of so many rows, with usual notes, must not be larger than can be opened."""
    sides = [max(view.program.output_size(split.canvas)) for view in views]
    columns = num_epochs * sum(max(_TEXT_ROOM, side) for side in sides)
    most = max(1, MAX_PIXELS // (columns * (max([_SIDE, *sides]) + _USUAL_LINES * _NOTE_LINE)))
    if num_rows > most:
        raise FastnoisyError(f"a sheet of {num_rows:,} images is too large to be opened", f"show at most {most:,}")


def seen_pixels(view: View, images: Tensor) -> Tensor:
    """A view's result, float (B, 3, h, w), as uint8 pixels: with its `normalize` undone."""
    normalize = next(module for module in view.modules() if isinstance(module, Normalize))
    mean, std = normalize.mean[:, None, None], normalize.std[:, None, None]
    return (images * std + mean).round().clamp(0, 255).to(torch.uint8)


def _picture(view: View, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int) -> Picture:
    """The view of a batch of one."""
    pixels = seen_pixels(view, view(images, sizes, indices, key))[0].permute(1, 2, 0).numpy()
    return Picture(pixels, [note for note in view.describe(images, sizes, indices, key)[0] if note])


def collect(settings: Settings, split: Split, rows: Sequence[int], epochs: Sequence[int]) -> Iterator[Shown]:
    """Each of the rows with its views, one image after another, so that many photographs take no more memory than one.

    Raises:
        FastnoisyError: they would not fit on a sheet of 150 million pixels, or a damaged record.
    """
    views = build_views(settings)
    _check_size(split, list(views.values()), len(rows), len(epochs))
    trained = set(training_rows(settings, split).tolist())
    with pipelines.open_pipeline("torch-loader", split, split.given_labels, torch.device("cpu")) as pipeline:
        for batch in pipeline.iterate(np.array([row]) for row in rows):
            (row,) = batch.indices.tolist()
            height, width = split.sizes[row].tolist()
            arguments = (batch.images, batch.sizes, batch.indices)
            pictures = []
            for epoch in epochs:
                key = keyed_random.key(settings.config.seed, epoch)
                pictures.append([_picture(view, *arguments, key) for view in views.values()])
            image = batch.images[0, :, :height, :width].permute(1, 2, 0).contiguous().numpy()
            class_name = split.class_names[int(split.given_labels[row])]
            yield Shown(row, class_name, row in trained, image, pictures)


@dataclass(frozen=True)
class Layout:
    """Where everything lies, in pixels.

    Attributes:
        views: pictures per epoch.
        epochs: how many.
        first_width: of the column of images as stored.
        width: of a view's column.
        head: height of what stands above the first row.
        heights: of each row.
    """

    views: int
    epochs: int
    first_width: int
    width: int
    head: int
    heights: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        return self.column(self.epochs, 0) - _GAP + _MARGIN, self.head + sum(self.heights) + _MARGIN

    def column(self, epoch: int, view: int) -> int:
        """Left of a view's column, the epoch counted from 0."""
        return (
            _MARGIN
            + self.first_width
            + 2 * _GAP
            + epoch * (self.views * (self.width + _GAP) + _GAP)
            + view * (self.width + _GAP)
        )

    def top(self, number: int) -> int:
        """Top of the pictures of a row of the sheet."""
        return self.head + sum(self.heights[:number]) + _GAP


def draw(
    title: str,
    subtitle: Sequence[str],
    view_names: Sequence[str],
    epochs: Sequence[int],
    canvas: tuple[int, int],
    shown: Sequence[Shown],
) -> tuple[Image.Image, Layout]:
    """Draw the sheet.

    Args:
        title, subtitle: what stands at the top; each of `subtitle` begins a line.
        view_names: of the pictures of an epoch.
        epochs: of the pictures of a row.
        canvas: (height, width) that no image exceeds.
        shown: the rows.
    """
    originals = [_stored(row.image, canvas) for row in shown]
    pictures = [[[_fit(view.pixels) for view in epoch] for epoch in row.pictures] for row in shown]
    flat = [picture for row in pictures for epoch in row for picture in epoch]
    width = max([_TEXT_ROOM, *(picture.width for picture in flat)])
    first_width = max([_TEXT_ROOM - 2 * _GAP, *(picture.width for picture in originals)])
    notes = [[[_lines(view.notes, width) for view in epoch] for epoch in row.pictures] for row in shown]
    sized = any(row.image.shape[:2] != canvas for row in shown)
    captions = [_caption(row, first_width, sized) for row in shown]
    heights = []
    for number in range(len(shown)):
        cells = [(originals[number].height, len(captions[number]))]
        for epoch, texts in zip(pictures[number], notes[number], strict=True):
            cells += [(picture.height, len(lines)) for picture, lines in zip(epoch, texts, strict=True)]
        heights.append(max(height + _NOTE_LINE * lines for height, lines in cells) + 3 * _GAP)
    layout = Layout(len(view_names), len(epochs), first_width, width, 0, tuple(heights))
    room = layout.size[0] - 2 * _MARGIN
    lines = [line for text in subtitle for line in wrap(printable(text), 13, room)]
    layout = Layout(**{**vars(layout), "head": _MARGIN + 34 + 18 * len(lines) + 54})
    sheet = Image.new("RGB", layout.size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), shorten_line(printable(title), 22, room), INK, font(22))
    for number, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN + 32 + 18 * number), line, FAINT, font(13))
    _draw_head(pen, layout, view_names, epochs)
    for number, original in enumerate(originals):
        top = layout.top(number)
        pen.line((_MARGIN, top - _GAP, layout.size[0] - _MARGIN, top - _GAP), LINE)
        _put(sheet, pen, original, _MARGIN, top)
        _draw_lines(pen, _MARGIN, top + original.height, captions[number])
        for place, (row, texts) in enumerate(zip(pictures[number], notes[number], strict=True)):
            for view, (picture, text) in enumerate(zip(row, texts, strict=True)):
                left = layout.column(place, view)
                _put(sheet, pen, picture, left, top)
                _draw_lines(pen, left, top + picture.height, text)
    return sheet, layout


def _draw_head(pen: ImageDraw.ImageDraw, layout: Layout, view_names: Sequence[str], epochs: Sequence[int]) -> None:
    top = layout.head - 42
    pen.text((_MARGIN, top + 18), "as stored", INK, font(14))
    for number, epoch in enumerate(epochs):
        left = layout.column(number, 0)
        pen.text((left, top), f"epoch {epoch}", FAINT, font(13))
        pen.line((left - _GAP, top, left - _GAP, layout.size[1] - _MARGIN), LINE)
        for view, name in enumerate(view_names):
            text = shorten_line(printable(name), 14, layout.width)
            pen.text((layout.column(number, view), top + 18), text, INK, font(14))


def _put(sheet: Image.Image, pen: ImageDraw.ImageDraw, picture: Image.Image, left: int, top: int) -> None:
    """With a hairline around it, so that a white picture ends somewhere."""
    pen.rectangle((left - 1, top - 1, left + picture.width, top + picture.height), outline=LINE)
    sheet.paste(picture, (left, top))


def _draw_lines(pen: ImageDraw.ImageDraw, left: int, top: int, lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        pen.text((left, top + 4 + _NOTE_LINE * number), line, INK, font(_NOTE))


def _caption(shown: Shown, room: int, sized: bool) -> list[str]:
    height, width = shown.image.shape[:2]
    lines = [f"row {shown.row}", *wrap(printable(shown.class_name), _NOTE, room)]
    lines += [f"{width} x {height}"] * sized
    return lines if shown.trained_on else [*lines, "not trained on"]


def _lines(notes: Sequence[str], room: int) -> list[str]:
    """What was done, wrapped: a step begins a line, what does not fit on it is indented, an operation keeps its
    value.
    """
    lines = []
    for note in (part for whole in notes for part in _parts(whole)):
        items = printable(note).split(", ")
        bound = [item.replace(" ", "\u00a0") if text_width(item, _NOTE) < room - 16 else item for item in items]
        first, *more = wrap(", ".join(bound), _NOTE, room)
        lines += [first, *(f"  {line}" for line in wrap(" ".join(more), _NOTE, room - 8) if line)]
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "…"]


def _parts(note: str) -> list[str]:
    """A mixture's note, "invert / color 1.2, rotate 3 | 0.6 0.3 0.1", as a line for the image and for each chain."""
    text, bar, numbers = note.partition(" | ")
    chains, weights = ["image", *text.split(" / ")], numbers.split()
    if not bar or len(chains) != len(weights):
        return [note]
    return [f"{100 * float(weight):.0f} % {chain}" for weight, chain in zip(weights, chains, strict=True)]


def _times(side: int) -> int:
    """How many times a picture of this longer side is enlarged."""
    return max(1, round(_SIDE / side)) if side <= _SMALL else 1


def _stored(image: np.ndarray, canvas: tuple[int, int]) -> Image.Image:
    return enlarge(image, _times(max(canvas))) if max(canvas) <= _SMALL else shrink(image, _THUMBNAIL)


def _fit(image: np.ndarray) -> Image.Image:
    return enlarge(image, _times(max(image.shape[:2])))
