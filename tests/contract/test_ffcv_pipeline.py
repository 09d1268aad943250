"""What FFCV's Loader leaves undone and the ffcv pipeline does: zeros, warnings of libjpeg-turbo, threads that die."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastnoisy import pipelines
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import Split, open_store
from fastnoisy.errors import FastnoisyError

pytest.importorskip("ffcv")
CPU = torch.device("cpu")


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Twelve JPEGs of sizes from 65x90 down; the sixth has bytes that belong to nothing before its end."""
    folder = tmp_path / "source" / "train" / "a"
    folder.mkdir(parents=True)
    (tmp_path / "source" / "train" / "b").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
        path = folder.parent / "ab"[number % 2] / f"{number:02d}.jpg"
        Image.fromarray(pixels).resize((65 + (number * 7) % 25, 90 - (number * 5) % 25)).save(path)
        if number == 5:
            data = path.read_bytes()
            path.write_bytes(data[:-2] + b"\x11\x22\x33\x44" + data[-2:])
    options = ConvertOptions(resize="max=96")
    convert(f"folder:{tmp_path / 'source' / 'train'}", tmp_path / "store", options=options, progress=None)
    return open_store(tmp_path / "store").split("train")


def test_beyond_an_image_all_is_zero_whatever_the_slot_held_before(split: Split) -> None:
    rows = np.random.default_rng(0).integers(0, 12, (40, 4))
    with pipelines.open_pipeline("ffcv", split, split.given_labels, CPU, 1) as pipeline:
        for batch in pipeline.iterate(rows):
            for image, (height, width) in zip(batch.images, batch.sizes.tolist(), strict=True):
                assert not image[:, height:].any()
                assert not image[:, :, width:].any()
                assert image[:, :height, :width].any()


def test_a_record_with_a_warning_of_the_decoder_is_decoded_by_the_checked_way(split: Split) -> None:
    row = next(i for i in range(12) if split.sources[i].endswith("05.jpg"))
    assert b"\x11\x22\x33\x44\xff\xd9" in split.read_bytes(row), "the JPEG was stored as it is"
    with pipelines.open_pipeline("ffcv", split, split.given_labels, CPU, 1) as pipeline:
        (batch,) = pipeline.iterate([np.array([0, row, 1])])
        height, width = split.sizes[row]
        np.testing.assert_array_equal(batch.images[1, :, :height, :width].permute(1, 2, 0), split.read_image(row))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loading_thread_that_dies_is_an_error_and_no_wait_for_ever(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ffcv.loader.epoch_iterator import EpochIterator

    def fail(*_: object) -> None:
        raise RuntimeError("as if memory had run out")

    threads = threading.active_count()
    with pipelines.open_pipeline("ffcv", split, split.given_labels, CPU, 1) as pipeline:
        monkeypatch.setattr(EpochIterator, "run_pipeline", fail)
        with pytest.raises(FastnoisyError, match="thread ended"):
            list(pipeline.iterate([np.arange(4)]))
    assert threading.active_count() == threads


def test_random_state_is_left_alone(split: Split) -> None:
    """FFCV draws a seed from numpy's global generator where it is not given one."""
    np.random.seed(1)
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    with pipelines.open_pipeline("ffcv", split, split.given_labels, CPU, 1) as pipeline:
        assert len(list(pipeline.iterate([np.arange(4)]))) == 1
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]


def test_numba_threads_that_cannot_be_shared_are_not_used(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba's own layer, `workqueue`, ends the process when two threads of Python use it."""
    import numba

    from fastnoisy.pipelines import ffcv

    monkeypatch.setattr(numba, "threading_layer", lambda: "workqueue")
    with pipelines.open_pipeline("ffcv", split, split.given_labels, CPU, 2) as pipeline:
        assert isinstance(pipeline, ffcv.FfcvPipeline)
        assert pipeline._loader.num_workers == 1
        assert len(list(pipeline.iterate([np.arange(4)]))) == 1
    monkeypatch.setattr(numba, "threading_layer", lambda: "omp")
    assert ffcv._parallel_is_safe()
