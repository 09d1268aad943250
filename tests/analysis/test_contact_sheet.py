"""The contact sheet: the right pictures in the right rows, wrong ones framed, the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy.analysis import contact_sheet, drawing
from fastnoisy.analysis.contact_sheet import Layout
from fastnoisy.analysis.drawing import WRONG
from fastnoisy.errors import FastnoisyError

NAMES = ["airplane", "automobile", "bird"]
GIVEN = np.array([0, 1, 2] * 8)
CLEAN = np.where(np.arange(24) % 4 == 0, (GIVEN + 1) % 3, GIVEN)


def patch(row: int, height: int = 32, width: int = 32) -> np.ndarray:
    """A picture of one colour that tells the row; none is the frame's red."""
    return np.full((height, width, 3), (row, 255 - row, 128), np.uint8)


def draw(**changes: object) -> tuple[Image.Image, Layout]:
    words: dict = {
        "title": "digits / train", "subtitle": "24 images", "class_names": NAMES, "given": GIVEN, "clean": CLEAN,
        "read": patch, "canvas": (32, 32), "per_class": 5, "seed": 1,
    }  # fmt: skip
    return contact_sheet.draw(**{**words, **changes})


@pytest.mark.parametrize("size", [(32, 32), (16, 16), (300, 200), (90, 400)])
def test_a_picture_lies_in_its_given_class_and_is_framed_where_the_label_is_wrong(size: tuple[int, int]) -> None:
    sheet, layout = draw(read=lambda row: patch(row, *size), canvas=size)
    pixels = np.asarray(sheet)
    chosen = contact_sheet.choose(GIVEN, 3, 5, seed=1)
    assert any((GIVEN[rows] != CLEAN[rows]).any() for rows in chosen)
    for number, rows in enumerate(chosen):
        assert (GIVEN[rows] == number).all()
        assert len(set(rows.tolist())) == 5
        for place, row in enumerate(rows.tolist()):
            left, top = layout.cell(number, place)
            middle = pixels[top + layout.side // 2, left + layout.side // 2]
            assert tuple(middle) == (row, 255 - row, 128)
            longest = max(size)
            shown = [round(s * layout.side / longest) for s in size]
            corner = pixels[top + (layout.side - shown[0]) // 2 - 2, left + layout.side // 2]
            assert (tuple(corner) == WRONG) == (GIVEN[row] != CLEAN[row])


def test_small_pictures_are_enlarged_with_square_pixels_and_photographs_shrunk() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    sheet, layout = draw(read=lambda row: noise, clean=None)
    left, top = layout.cell(0, 0)
    assert layout.side == 64
    assert (np.asarray(sheet)[top : top + 64, left : left + 64] == noise.repeat(2, 0).repeat(2, 1)).all()
    assert draw(canvas=(512, 512))[1].side == 96
    assert draw(canvas=(28, 28))[1].side == 56


def test_where_no_label_is_known_to_be_wrong_there_is_no_red() -> None:
    for clean in (None, GIVEN):
        sheet, _ = draw(clean=clean)
        assert not (np.asarray(sheet) == WRONG).all(axis=2).any()


def test_the_choice_is_the_seed_s_alone() -> None:
    assert draw()[0].tobytes() == draw()[0].tobytes()
    assert draw()[0].tobytes() != draw(seed=2)[0].tobytes()
    few, many = (contact_sheet.choose(GIVEN, 3, count, seed=3) for count in (2, 6))
    for short, long in zip(few, many, strict=True):
        assert (short == long[:2]).all()


def test_a_class_with_few_images_or_none() -> None:
    sheet, layout = draw(given=np.array([0, 0, 2]), clean=None, per_class=4)
    assert layout.per_class == 2  # more would be blank
    assert [len(rows) for rows in contact_sheet.choose(np.array([0, 0, 2]), 3, 4, 1)] == [2, 0, 1]
    left, top = layout.cell(1, 0)
    assert (np.asarray(sheet)[top : top + layout.side, left : left + layout.side] == 255).all()


@pytest.mark.parametrize(("num_classes", "columns"), [(10, 1), (100, 2)])
def test_many_classes_are_set_in_columns(num_classes: int, columns: int) -> None:
    names = [f"class {i}" for i in range(num_classes)]
    given = np.arange(20 * num_classes) % num_classes
    sheet, layout = draw(class_names=names, given=given, clean=None, per_class=10, read=lambda row: patch(row % 200))
    assert layout.columns == columns
    assert sheet.height <= 2.6 * sheet.width
    cells = [layout.row(number) for number in range(num_classes)]
    assert len(set(cells)) == num_classes
    assert all(x + layout.column_width <= sheet.width and y + layout.row_height <= sheet.height for x, y in cells)


def test_a_thousand_classes_of_photographs_get_fewer_pictures_and_too_many_are_refused() -> None:
    names = [f"n{i:08d}" for i in range(1000)]
    given = np.arange(50_000) % 1000
    layout = contact_sheet.plan(names, given, None, (512, 512), None)
    assert 1 <= layout.per_class < 10
    assert layout.size[0] * layout.size[1] <= 40_000_000
    with pytest.raises(FastnoisyError, match="use --per-class ") as caught:
        contact_sheet.plan(names, given, None, (512, 512), 40)
    fitting = int(caught.value.remedy.split()[-1])
    assert contact_sheet.plan(names, given, None, (512, 512), fitting).per_class == fitting


def test_odd_names_are_drawn() -> None:
    names = ["", "a\nb \udcff", "Äpfel, Ωμέγα, груша and a name that is far too long for its place"]
    sheet, layout = draw(class_names=names)
    assert sheet.width == layout.size[0]
    assert draw(class_names=["one"], given=np.zeros(1, int), clean=None)[0].width > 0


def test_saving_leaves_a_whole_file_or_none(tmp_path: Path) -> None:
    folder = tmp_path
    sheet, _ = draw()
    drawing.save(sheet, folder / "a.png")
    with Image.open(folder / "a.png") as read:
        assert read.size == sheet.size
    with pytest.raises(OSError, match="missing"):
        drawing.save(sheet, folder / "missing" / "a.png")
    assert [path.name for path in folder.iterdir()] == ["a.png"]
