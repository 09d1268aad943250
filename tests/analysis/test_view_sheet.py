"""The sheet of views: training's own pictures at their places, the same every time, with legible notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastnoisy import keyed_random, methods, pipelines
from fastnoisy.analysis import view_sheet
from fastnoisy.analysis.view_sheet import Layout, Picture, Shown
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Context, NoiseFacts
from fastnoisy.training import setup
from fastnoisy.training.meter import Meter
from fastnoisy.training.settings import Settings
from fastnoisy.training.step import Stepper

SMALL = ["model=preact_small", "model.width=4", "model.blocks=1", "device=cpu", "threads=1"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("views") / "digits"
    convert("digits", out, options=ConvertOptions(), progress=None)
    return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of three classes and of unlike size on one canvas."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(12):
        place = folder / "source" / f"class {number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((70 + 9 * number, 150 - 7 * number)).save(place / f"{number}.png")
    convert(str(folder / "source"), folder / "store", options=ConvertOptions(resize="max=160"), progress=None)
    return folder / "store"


def collected(recipe: str, words: list[str], store: Path, rows: list[int], epochs: list[int]) -> list[Shown]:
    settings = setup.resolve(recipe, [*SMALL, *words], str(store))
    with open_store(store) as opened:
        return list(view_sheet.collect(settings, opened.split("train"), rows, epochs))


def trained(settings: Settings, rows: list[int], epoch: int) -> dict[str, torch.Tensor]:
    """What a training step is given of these rows, in one batch, by the trainer's own parts."""
    ready = setup.prepare(settings)
    ready.method.train()
    optimizer = torch.optim.SGD(ready.method.parameters(), lr=0.1)
    stepper = Stepper(ready.method, optimizer, ready.views, settings.config, ready.device, Meter(None, ready.device))
    with pipelines.open_pipeline("resident", ready.split, ready.labels.given, ready.device) as pipeline:
        batch = next(iter(pipeline.iterate([np.array(rows)])))
        views = stepper._views("train", batch, keyed_random.key(settings.config.seed, torch.tensor(epoch))).views
    ready.store.close()
    return views


@pytest.mark.parametrize(
    ("recipe", "words", "where"),
    [
        ("digits-nrd", [], "digits"),
        ("digits-gjs", ["method.views=3"], "digits"),
        ("digits-ce", ["suite=alasca"], "digits"),
        ("digits-alasca", ["method.base=nrd", "seed=7"], "digits"),
        ("folder-nrd", ["views.size=40", "method.teacher_views=2"], "photos"),
        ("folder-ce", ["views.student=augmix | random_crop(48) | normalize | cutout(9)"], "photos"),
    ],
)
def test_every_picture_is_what_a_training_step_sees(
    recipe: str, words: list[str], where: str, request: pytest.FixtureRequest
) -> None:
    store = request.getfixturevalue(where)
    settings = setup.resolve(recipe, [*SMALL, "batch_size=4", *words], str(store))
    rows, epochs = [5, 0, 3, 7], [0, 1, 17]
    shown = collected(recipe, ["batch_size=4", *words], store, rows, epochs)
    mean, std = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in (settings.config.data.mean, settings.config.data.std)
    )
    assert [row.row for row in shown] == rows
    for place, epoch in enumerate(epochs):
        views = trained(settings, rows, epoch)
        for number, row in enumerate(shown):
            assert len(row.pictures[place]) == len(views)
            for picture, images in zip(row.pictures[place], views.values(), strict=True):
                exact = (images[number].double() * std + mean) * 255
                found = torch.from_numpy(picture.pixels).permute(2, 0, 1)
                assert picture.pixels.dtype == np.uint8
                if (
                    "cutout" not in settings.config.views.student
                ):  # a hole is the mean, which need not be a whole number
                    assert (exact - exact.round()).abs().max() < 1e-3
                assert torch.equal(found, exact.round().to(torch.uint8))
    assert len({picture.pixels.tobytes() for row in shown for epoch in row.pictures for picture in epoch}) > 8


def test_before_a_float_step_the_pixels_are_those_of_the_uint8_view(digits: Path) -> None:
    settings = setup.resolve("digits-nrd", SMALL, str(digits))
    (shown,) = collected("digits-nrd", [], digits, [11], [4])
    with open_store(digits) as opened:
        image = torch.from_numpy(opened.split("train").read_image(11)).permute(2, 0, 1)[None]
        assert (shown.image == opened.split("train").read_image(11)).all()
    view = setup.build_view(settings, "teacher", "teacher")
    wanted = view.uint8(image, None, torch.tensor([11]), keyed_random.key(settings.config.seed, 4))
    assert (shown.pictures[0][1].pixels == wanted[0].permute(1, 2, 0).numpy()).all()


@pytest.mark.parametrize("name", methods.names())
def test_the_views_are_those_that_the_method_asks_for(name: str) -> None:
    settings = setup.resolve(f"digits-{name}", SMALL)
    method = methods.build(settings.method, Context(settings.config.model, 10, 20, noise=NoiseFacts(0.4)))
    assert view_sheet.streams(settings) == dict(method.streams)
    asked = [name for stream in method.streams.values() for name in stream.views]
    assert list(view_sheet.build_views(settings)) == list(dict.fromkeys(asked))


def test_networks_are_made_without_weights() -> None:
    settings = setup.resolve("cifar10-nrd", ["model=wrn_28_4", "method.teacher=frozen:is/not/there"])
    assert list(view_sheet.build_views(settings)) == ["student", "teacher"]


def test_rows_are_drawn_from_those_trained_on_and_from_every_class_first(digits: Path) -> None:
    settings = setup.resolve("digits-ce", ["data.holdout=0.5", "data.subset=200", *SMALL], str(digits))
    with open_store(digits) as opened:
        split = opened.split("train")
        rows = view_sheet.training_rows(settings, split)
        assert len(rows) == 100
        chosen = view_sheet.choose(split, rows, 25, seed=1)
        assert set(chosen) <= set(rows.tolist())
        assert len(set(chosen)) == 25
        for first in (0, 10):
            assert len(set(split.given_labels[chosen[first : first + 10]])) == 10
        assert view_sheet.choose(split, rows, 7, seed=1) == chosen[:7]
        assert view_sheet.choose(split, rows, 7, seed=2) != chosen[:7]
        assert len(view_sheet.choose(split, rows, 1000, seed=1)) == 100
        out = next(row for row in range(600) if row not in rows)
        shown = list(view_sheet.collect(settings, split, [chosen[0], out], [0]))
    assert [row.trained_on for row in shown] == [True, False]


def fake(
    sizes: list[tuple[int, int]], epochs: int = 2, notes: tuple[str, ...] = ("rotate -3.0", "flipped")
) -> list[Shown]:
    """Rows of plain pictures, each of a colour of its own, none of them white."""
    rng = np.random.default_rng(0)

    def plain(height: int, width: int) -> np.ndarray:
        return np.broadcast_to(rng.integers(0, 200, 3, dtype=np.uint8), (height, width, 3)).copy()

    def row(number: int, size: tuple[int, int]) -> Shown:
        pictures = [[Picture(plain(32, 32), list(notes)) for _ in range(2)] for _ in range(epochs)]
        return Shown(number, f"class {number}", True, plain(*size), pictures)

    return [row(number, size) for number, size in enumerate(sizes)]


def drawn(shown: list[Shown], **changes: Any) -> tuple[np.ndarray, Layout]:
    words: dict[str, Any] = {
        "title": "cifar10-nrd", "subtitle": ["student: normalize"], "view_names": ["student", "teacher"],
        "epochs": range(len(shown[0].pictures)), "canvas": (32, 32), "shown": shown,
    }  # fmt: skip
    sheet, layout = view_sheet.draw(**{**words, **changes})
    assert sheet.size == layout.size
    return np.asarray(sheet), layout


def test_pictures_lie_in_their_row_and_column_enlarged_with_square_pixels() -> None:
    shown = fake([(32, 32)] * 3)
    sheet, layout = drawn(shown)
    for number, row in enumerate(shown):
        top = layout.top(number)
        for epoch, pictures in enumerate(row.pictures):
            for view, picture in enumerate(pictures):
                left = layout.column(epoch, view)
                wanted = picture.pixels.repeat(3, 0).repeat(3, 1)
                assert (sheet[top : top + 96, left : left + 96] == wanted).all()
        colour = row.image[0, 0]
        assert ((sheet == colour).all(axis=2)).sum() == 96 * 96


def test_photographs_are_shrunk_and_their_views_shown_as_they_are() -> None:
    shown = fake([(300, 512), (512, 100)])
    sheet, _ = drawn(shown, canvas=(512, 512))
    for row, (height, width) in zip(shown, [(75, 128), (128, 25)], strict=True):
        assert (sheet == row.image[0, 0]).all(axis=2).sum() == height * width
    large = fake([(512, 512)], epochs=1)
    views = [Picture(np.repeat(picture.pixels, 7, 0).repeat(7, 1), []) for picture in large[0].pictures[0]]
    sheet, layout = drawn([Shown(0, "a", True, large[0].image, [views])], canvas=(512, 512))
    left, top = layout.column(0, 1), layout.top(0)
    assert (sheet[top : top + 224, left : left + 224] == views[1].pixels).all()


def test_long_notes_are_wrapped_within_their_column() -> None:
    long = "0.42 image + 0.31 (rotate -3.33, posterize 4, shear_x 0.07) + 0.27 (" + "verylongword" * 20 + ")"
    sheet, layout = drawn(fake([(32, 32)] * 2, notes=(long, "", "flipped")))
    few, _ = drawn(fake([(32, 32)] * 2))
    assert sheet.shape[0] > few.shape[0]
    for epoch in range(2):
        for view in range(2):
            right = layout.column(epoch, view) + layout.width
            below = sheet[layout.top(0) : layout.top(1) - 20, right + 1 : right + 6]
            assert (below == 255).all()
    endless, layout = drawn(fake([(32, 32)], notes=tuple(f"step {number}" for number in range(200))))
    assert endless.shape[0] < 800


def test_names_of_any_kind_are_drawn() -> None:
    shown = [Shown(0, name, False, np.zeros((16, 16, 3), np.uint8), [[]]) for name in ("", "a\nb \udcff", "Äpfel" * 30)]
    sheet, _ = drawn(shown, view_names=[], epochs=[0], canvas=(16, 16), title="x" * 500, subtitle=["y" * 500, ""])
    assert sheet.shape[1] < 400


def test_a_sheet_that_nobody_could_open_is_refused_before_any_view_is_made(digits: Path) -> None:
    with pytest.raises(FastnoisyError, match="too large to be opened") as caught:
        collected("digits-nrd", [], digits, [0] * 2000, [0, 1, 2])
    assert 500 < int(caught.value.remedy.split()[-1].replace(",", "")) < 2000


@pytest.mark.parametrize("rows", [[-1], [3, 600]])
def test_a_row_that_is_not_there(rows: list[int], digits: Path) -> None:
    with open_store(digits) as opened, pytest.raises(FastnoisyError, match=r"no row .*rows 0 to 599"):
        view_sheet.check_rows(opened.split("train"), rows)


def test_the_notes_are_those_of_the_view(digits: Path) -> None:
    settings = setup.resolve("digits-nrd", SMALL, str(digits))
    (shown,) = collected("digits-nrd", [], digits, [2], [3])
    with open_store(digits) as opened:
        image = torch.from_numpy(opened.split("train").read_image(2)).permute(2, 0, 1)[None]
    for name, picture in zip(("student", "teacher"), shown.pictures[0], strict=True):
        view, key = setup.build_view(settings, name, name), keyed_random.key(settings.config.seed, 3)
        assert picture.notes == [note for note in view.describe(image, None, torch.tensor([2]), key)[0] if note]
        assert len(picture.notes) > 1
    inverted = collected("digits-ce", ["views.student=invert | hflip(0.0) | normalize"], digits, [2], [0])[0]
    assert (inverted.pictures[0][0].pixels == 255 - inverted.image).all()
    assert inverted.pictures[0][0].notes == ["invert"]


def test_a_mixture_is_written_line_by_line(digits: Path) -> None:
    assert view_sheet._parts("invert / color 1.2, rotate 3 | 0.60 0.31 0.09") == [
        "60 % image", "31 % invert", "9 % color 1.2, rotate 3",
    ]  # fmt: skip
    assert view_sheet._parts("rotate 3") == ["rotate 3"]
    assert view_sheet._parts("a / b | 0.5 0.5") == ["a / b | 0.5 0.5"]
    shown = collected("digits-nrd", [], digits, [2, 3], [3])
    for row in shown:
        assert len(view_sheet._parts(row.pictures[0][1].notes[0])) == 4
