"""Copies of images, found by features and confirmed by pixels; and images that are no picture."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import open_store
from fastnoisy.label_audit import duplicates, oddities
from fastnoisy.label_audit.duplicates import COPY, MIN_CORRELATION, SAME, SIMILAR, _Thumbnails, correlation, find


def scene(seed: int, width: int = 240, height: int = 180) -> Image.Image:
    """Blurred noise with a few shapes: as different from one another as photographs are."""
    draw = np.random.default_rng(seed)
    noise = draw.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(8):
        x, y, r = draw.integers(0, width), draw.integers(0, height), draw.integers(8, 50)
        pen.ellipse((x, y, x + r, y + 2 * r), fill=tuple(int(v) for v in draw.integers(0, 256, 3)))
    return image.filter(ImageFilter.GaussianBlur(1))


def compressed(image: Image.Image) -> Image.Image:
    held = BytesIO()
    image.save(held, "jpeg", quality=30)
    return Image.open(held).convert("RGB")


def cropped(image: Image.Image, share: float, left: float, top: float) -> Image.Image:
    width, height = image.size
    kept = round(width * share), round(height * share)
    x, y = round((width - kept[0]) * left), round((height - kept[1]) * top)
    return image.crop((x, y, x + kept[0], y + kept[1]))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "compressed": compressed,
    "half": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "cropped": lambda image: cropped(image, 0.9, 0.3, 0.8),
    "cropped more": lambda image: cropped(image, 0.82, 1.0, 0.1),
    "mirrored and cropped": lambda image: cropped(ImageOps.mirror(image), 0.9, 0.0, 0.5),
    "one side cut": lambda image: image.crop((0, 12, image.width, image.height)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "brighter": lambda image: image.point(lambda v: min(255, int(v * 1.15) + 5)),
}


@pytest.mark.parametrize("name", list(COPIES))
def test_pixels_confirm_a_copy(name: str) -> None:
    for seed in range(6):
        image = scene(seed)
        assert correlation(_Thumbnails(image), _Thumbnails(COPIES[name](image))) >= MIN_CORRELATION
        assert correlation(_Thumbnails(COPIES[name](image)), _Thumbnails(image)) >= MIN_CORRELATION


def test_other_scenes_are_no_copies() -> None:
    shown = [_Thumbnails(scene(seed)) for seed in range(20)]
    worst = max(correlation(a, b) for i, a in enumerate(shown) for b in shown[:i])
    assert worst < MIN_CORRELATION - 0.1


def test_a_blank_image_is_nobodys_copy() -> None:
    blank, other = _Thumbnails(Image.new("RGB", (50, 40), "white")), _Thumbnails(scene(1))
    assert correlation(blank, other) < 0.5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes in train, and in test the first five again: one as it is, the others changed; and one more."""
    folder = tmp_path_factory.mktemp("copies")
    changes = [lambda image: image, *(COPIES[name] for name in ("mirrored", "half", "cropped", "grey"))]
    for seed in range(12):
        place = folder / "photos" / "train" / "ab"[seed % 2]
        place.mkdir(parents=True, exist_ok=True)
        scene(seed).save(place / f"{seed:02}.png")
    for seed in range(6):
        place = folder / "photos" / "test" / "ab"[seed % 2]
        place.mkdir(parents=True, exist_ok=True)
        (changes[seed](scene(seed)) if seed < 5 else scene(99)).save(place / f"{seed:02}.png")
    convert(str(folder / "photos"), folder / "store", options=ConvertOptions(resize="none"), workers=1)
    return folder / "store"


def features_of(groups: list[list[int]], count: int, seed: int = 0) -> np.ndarray:
    """Random directions, those of a group nearly the same."""
    draw = np.random.default_rng(seed)
    found = draw.normal(0, 1, (count, 64))
    for group in groups:
        found[group] = found[group[0]] + draw.normal(0, 0.2, (len(group), 64))
    return found.astype(np.float32)


def found_in(store: Path, features: np.ndarray) -> list[tuple[str, set[str]]]:
    with open_store(store) as opened:
        splits = list(opened.splits.values())
        names = [f"{split.name}/{path.rpartition('/')[2]}" for split in splits for path in split.sources]
        groups = find(splits, features, say=print, poll=lambda: None)
        return [(group.kind, {names[i] for i in group.members}) for group in groups]


def numbers(store: Path) -> dict[str, int]:
    with open_store(store) as opened:
        splits = list(opened.splits.values())
        names = [f"{split.name}/{path.rpartition('/')[2]}" for split in splits for path in split.sources]
    return {name: i for i, name in enumerate(names)}


def test_copies_across_splits(store: Path) -> None:
    at = numbers(store)
    pairs = [[at[f"train/{i:02}.png"], at[f"test/{i:02}.png"]] for i in range(5)]
    found = found_in(store, features_of([*pairs, [at["train/10.png"], at["test/05.png"]]], 18))
    assert (SAME, {"train/00.png", "test/00.png"}) in found
    for i in range(1, 5):
        assert (COPY, {f"train/{i:02}.png", f"test/{i:02}.png"}) in found
    assert found[-1] == (SIMILAR, {"train/10.png", "test/05.png"})  # alike in features, not in pixels
    assert len(found) == 6


def test_features_alone_make_no_copy_and_pixels_alone_are_not_looked_for(store: Path) -> None:
    found = found_in(store, features_of([], 18))
    assert found == [(SAME, {"train/00.png", "test/00.png"})]


def test_a_set_too_large_to_be_compared_is_said(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_IMAGES", 10)
    lines: list[str] = []
    with open_store(store) as opened:
        groups = find(list(opened.splits.values()), features_of([], 18), say=lines.append, poll=lambda: None)
    assert [group.kind for group in groups] == [SAME]
    assert lines == ["copies that are not the same bytes were not looked for: 17 images are more than 10"]


def page(width: int, height: int, size: int, paper: int, ink: int) -> np.ndarray:
    image = Image.new("RGB", (width, height), (paper,) * 3)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    y = size
    for line in textwrap.wrap("we the people of this page write words in lines " * 60, int(1.7 * width / size)):
        if y > height - 2 * size:
            break
        pen.text((size, y), line, fill=(ink,) * 3, font=font)
        y += round(1.4 * size)
    return np.asarray(compressed(image))


@pytest.mark.parametrize(("width", "height", "size"), [(512, 700, 12), (300, 400, 10), (512, 380, 16), (200, 280, 8)])
@pytest.mark.parametrize(("paper", "ink"), [(255, 10), (40, 230), (225, 60)])
def test_pages_of_text(width: int, height: int, size: int, paper: int, ink: int) -> None:
    assert oddities.kind_of(page(width, height, size, paper, ink)) == oddities.TEXT


def test_pictures_that_are_none() -> None:
    assert oddities.kind_of(np.zeros((20, 30, 3), np.uint8)) == oddities.BLACK
    assert oddities.kind_of(np.full((20, 30, 3), (200, 10, 30), np.uint8)) == oddities.BLANK
    fine = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert oddities.kind_of(np.repeat(fine[..., None], 3, axis=2)) == ""
    assert all(oddities.kind_of(np.asarray(scene(seed))) == "" for seed in range(20))


def test_outliers_are_like_no_class() -> None:
    draw = np.random.default_rng(0)
    given = np.arange(300) % 3
    features = draw.normal(0, 1, (3, 50))[given] * 2 + draw.normal(0, 1, (300, 50))
    features[7] = draw.normal(0, 3, 50)
    found = oddities.outliers(features.astype(np.float32), given, np.ones(300, bool))
    assert 7 in found
    assert len(found) <= 10
