"""Making images smaller by compiled passes: Pillow's pixels, every one."""

from __future__ import annotations

import pickle
import sys
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastnoisy.data.conversion import shrink as shrink_module
from fastnoisy.data.conversion.encode import Plan, Resize, encode
from fastnoisy.data.conversion.outcome import Rejected
from fastnoisy.data.conversion.shrink import Shrink


@pytest.fixture(scope="module")
def shrink() -> Shrink:
    return Shrink.prepared()


def noise(random: np.random.Generator, height: int, width: int) -> Image.Image:
    return Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))


def by_pillow(image: Image.Image, height: int, width: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BILINEAR)


def test_this_pillow_is_equalled(shrink: Shrink) -> None:
    assert shrink.compiled


@pytest.mark.parametrize("seed", range(4))
def test_every_pixel_is_pillows(shrink: Shrink, seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(150):
        height, width = (int(side) for side in random.integers(1, 300, 2))
        share = random.uniform(0.01, 1)
        size = max(1, round(height * share)), max(1, round(width * share * random.uniform(0.8, 1)))
        image = noise(random, height, width)
        assert shrink(image, *size).tobytes() == by_pillow(image, *size).tobytes(), (image.size, size)


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_stay(shrink: Shrink, value: int) -> None:
    image = Image.new("RGB", (500, 333), (value, value, value))
    assert set(shrink(image, 149, 224).tobytes()) == {value}


@pytest.mark.parametrize(
    ("height", "width", "new_height", "new_width"),
    [(900, 30, 300, 10), (40, 30, 80, 60), (40, 30, 20, 60), (300, 200, 30, 199), (40, 30, 40, 30), (9000, 9, 1000, 1)],
)
def test_shapes_that_are_left_to_pillow_and_sides_that_stay(
    shrink: Shrink, height: int, width: int, new_height: int, new_width: int
) -> None:
    image = noise(np.random.default_rng(0), height, width)
    assert shrink(image, new_height, new_width).tobytes() == by_pillow(image, new_height, new_width).tobytes()


def test_a_pillow_that_rounds_otherwise_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Image.Image.resize

    def other(image: Image.Image, *words: object) -> Image.Image:
        return original(image, *words).point(lambda value: value ^ 1)

    monkeypatch.setattr(Image.Image, "resize", other)
    shrink = Shrink.prepared()
    assert not shrink.compiled
    image = noise(np.random.default_rng(0), 50, 60)
    assert shrink(image, 25, 30).tobytes() == by_pillow(image, 25, 30).tobytes()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ImportError("numba")])
def test_what_cannot_be_compiled_or_kept_is_done_by_pillow(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Passes:
        """In the place of the compiled module."""

        def __getattr__(self, name: str) -> Any:
            if isinstance(error, ImportError):
                raise ImportError("numba")
            return self.fail

        def fail(self, *arguments: object) -> None:
            raise error

    import fastnoisy

    monkeypatch.setitem(sys.modules, "fastnoisy.resample_passes", None if isinstance(error, ImportError) else Passes())  # type: ignore[arg-type]
    monkeypatch.delattr(fastnoisy, "resample_passes", raising=False)
    prepared = Shrink.prepared()
    assert not prepared.compiled
    image = Image.fromarray(np.arange(40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3))
    assert prepared(image, 20, 25).tobytes() == image.resize((25, 20), Image.Resampling.BILINEAR).tobytes()


def test_it_goes_to_other_processes_as_it_is(shrink: Shrink) -> None:
    assert pickle.loads(pickle.dumps(shrink)).compiled
    assert not pickle.loads(pickle.dumps(Shrink())).compiled


def test_weights_add_up() -> None:
    for length, size in ((300, 224), (500, 3), (7, 7), (4096, 1)):
        index, weights = shrink_module._weights(length, size)
        assert index.min() == 0
        assert index.max() == length - 1
        assert abs(weights.sum(1).astype(int) - (1 << 22)).max() <= weights.shape[1]


def test_a_jpeg_made_smaller_has_the_bytes_that_pillow_gives() -> None:
    """Large after small and small after large: memory is used again."""
    compiled, plan = Shrink(), Plan(Resize("max", 40), (40, 40), "jpg", 90, 1 << 21)
    compiled.prepare()
    assert compiled.compiled
    random = np.random.default_rng(1)
    for height, width in ((90, 70), (200, 300), (50, 41), (123, 57), (41, 300)):
        for options in ({}, {"progressive": True}, {"subsampling": 0}):
            file = BytesIO()
            Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(file, "JPEG", **options)
            data = file.getvalue()
            assert encode(lambda data=data: data, plan, compiled) == encode(lambda data=data: data, plan)
            cut = data[: len(data) * 2 // 3] + b"\xff\xd9"
            assert isinstance(encode(lambda cut=cut: cut, plan, compiled), Rejected)
