"""What is the dali pipeline's own: failures that name the sample, a new start, threads, its settings, nvJPEG's
pixels.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastnoisy import pipelines
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import Split, open_store
from fastnoisy.data.store.verify import verify
from fastnoisy.errors import FastnoisyError
from fastnoisy.training import loop, setup
from fastnoisy.training.run_folder import RunFolder

CPU = torch.device("cpu")
NUM = 30


def make_store(folder: Path, store: str) -> Path:
    """NUM smooth images of many sizes."""
    rng = np.random.default_rng(0)
    for number in range(NUM):
        height, width = (int(v) for v in rng.integers(65, 120, 2))
        pixels = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        path = folder / "source" / "ab"[number % 2] / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
    convert(
        f"folder:{folder / 'source'}",
        folder / "store",
        options=ConvertOptions(resize="max=128", store=store),
        progress=None,
    )
    return folder / "store"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed: pip install 'fastnoisy[dali]'")
    return make_store(tmp_path_factory.mktemp("dali"), "jpg")


@pytest.fixture
def split(store: Path) -> Iterator[Split]:
    with open_store(store) as opened:
        yield opened.split("train")


def batches(*sizes: int) -> list[np.ndarray]:
    order = np.random.default_rng(1).permutation(NUM).astype(np.int64)
    return np.split(order[: sum(sizes)], np.cumsum(sizes)[:-1])


def native_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def settle(count: int) -> int:
    """The number of this process's threads, once it is `count` or two seconds have passed."""
    deadline = time.monotonic() + 2
    while native_threads() > count and time.monotonic() < deadline:
        time.sleep(0.01)
    return native_threads()


def check_pixels(split: Split, rows: np.ndarray, images: torch.Tensor) -> None:
    for slot, row in enumerate(rows):
        expected = split.read_image(int(row))
        height, width, _ = expected.shape
        np.testing.assert_array_equal(images[slot, :, :height, :width].permute(1, 2, 0).numpy(), expected)


def test_batches_of_any_size_and_two_iterations_at_once(split: Split) -> None:
    small, large = batches(3, 8, 1, 5), batches(9, 9, 9, 3)
    with pipelines.open_pipeline("dali", split, split.given_labels, CPU) as pipeline:
        pairs = zip(small, pipeline.iterate(small), large, pipeline.iterate(large), strict=True)
        for rows, batch, other_rows, other in pairs:
            assert batch.indices.tolist() == rows.tolist()
            check_pixels(split, rows, batch.images)
            check_pixels(split, other_rows, other.images)


def test_raw_and_jpeg_records_in_one_store(split: Split, tmp_path: Path) -> None:
    """Raw records within a JPEG store are those too long for a page; here every third is given as one."""

    class Mixed:
        def __init__(self) -> None:
            self.canvas, self.sizes, self.verified, self.num_samples = split.canvas, split.sizes, True, NUM
            self.read_image = split.read_image

        def mode(self, i: int) -> str:
            return "jpg" if i % 3 else "raw"

        def read_bytes(self, i: int) -> bytes:
            return split.read_bytes(i) if i % 3 else split.read_image(i).tobytes()

    with pipelines.open_pipeline("dali", Mixed(), split.given_labels, CPU) as pipeline:  # type: ignore[arg-type]
        for rows, batch in zip(batches(8, 8, 8, 6), pipeline.iterate(batches(8, 8, 8, 6)), strict=True):
            check_pixels(split, rows, batch.images)


def test_what_dali_cannot_decode_is_named(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    before = native_threads()
    work = batches(8, 8, 8, 6)
    bad = int(work[2][5])
    pipeline = pipelines.open_pipeline("dali", split, split.given_labels, CPU)
    original = pipeline._record  # type: ignore[attr-defined]
    monkeypatch.setattr(pipeline, "_record", lambda row: original(row)[: 100 if row == bad else None])
    seen = []
    with pytest.raises(FastnoisyError, match=f"record {bad} .*cannot be decoded by DALI") as caught:
        seen.extend(batch.indices.tolist() for batch in pipeline.iterate(work))
    assert seen == [rows.tolist() for rows in work[:2]]
    assert split.sources[bad] in str(caught.value)
    assert "torch-loader" in caught.value.remedy
    monkeypatch.setattr(pipeline, "_record", original)
    assert [batch.indices.tolist() for batch in pipeline.iterate(work)] == [rows.tolist() for rows in work]
    pipeline.close()
    assert settle(before) == before  # while the error is still held


def test_a_changed_byte_is_named_after_the_batches_before_it(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    copy.mkdir()
    for path in sorted(store.rglob("*")):
        if path.is_file():
            target = copy / path.relative_to(store)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    work = batches(8, 8, 8, 6)
    bad = int(work[1][0])
    before = native_threads()
    with open_store(copy) as opened:
        split = opened.split("train")
        with open(split.beton_path, "r+b") as file:
            file.seek(int(split._reader.starts[bad]) + 300)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 255]))
        with pipelines.open_pipeline("dali", split, split.given_labels, CPU) as pipeline:
            seen = []
            with pytest.raises(FastnoisyError, match=f"record {bad} .*changed since") as caught:
                seen.extend(batch.indices.tolist() for batch in pipeline.iterate(work))
        assert seen == [work[0].tolist()]
        assert split.sources[bad] in str(caught.value)
    assert settle(before) == before
    assert verify(copy) != []
    with open_store(copy) as opened, pytest.raises(FastnoisyError, match="fastnoisy verify"):
        pipelines.open_pipeline("dali", opened.split("train"), opened.split("train").given_labels, CPU)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the calls of DALI's `outputs` with these numbers, from 1, fail as after a fault of the GPU."""
    from nvidia.dali import Pipeline

    original = Pipeline.outputs

    def start(*numbers: int) -> None:
        calls = itertools.count(1)

        def outputs(self: Pipeline, *arguments: object) -> object:
            if next(calls) in numbers:
                raise RuntimeError(
                    "CUDA error: unspecified launch failure\nCurrent pipeline object is no longer valid."
                )
            return original(self, *arguments)

        monkeypatch.setattr(Pipeline, "outputs", outputs)

    return start


def test_a_pipeline_that_fails_is_built_anew(split: Split, failing: Callable[..., None]) -> None:
    work, before = batches(8, 8, 8, 6), native_threads()
    failing(3)
    with pipelines.open_pipeline("dali", split, split.given_labels, CPU) as pipeline:
        with pytest.warns(RuntimeWarning, match=r"built anew: CUDA error: unspecified launch failure$"):
            seen = [(batch.indices.tolist(), batch.images.clone()) for batch in pipeline.iterate(work)]
        assert [indices for indices, _ in seen] == [rows.tolist() for rows in work]
        for rows, (_, images) in zip(work, seen, strict=True):
            check_pixels(split, rows, images)
    assert settle(before) == before


@pytest.mark.filterwarnings("ignore:DALI's pipeline failed:RuntimeWarning")
def test_a_pipeline_that_fails_again_is_reported(split: Split, failing: Callable[..., None]) -> None:
    work, before, seen = batches(8, 8, 8, 6), native_threads(), []
    failing(3, 3 + 8 + 1 + 1)  # the third batch; its eight records each by itself, and the end; the third batch anew
    pipeline = pipelines.open_pipeline("dali", split, split.given_labels, CPU)
    with pytest.raises(FastnoisyError, match=r"failed twice at one batch, .*: CUDA error"):
        seen.extend(batch.indices.tolist() for batch in pipeline.iterate(work))
    assert seen == [rows.tolist() for rows in work[:2]]
    assert len(list(pipeline.iterate(work))) == 4
    pipeline.close()
    assert settle(before) == before


def test_a_fault_of_dalis_own_blames_no_record(split: Split, failing: Callable[..., None]) -> None:
    """As where the GPU's memory is taken by others: every image fails, a whole one that is made in memory, too."""
    before = native_threads()
    failing(*range(3, 1000))
    with pipelines.open_pipeline("dali", split, split.given_labels, CPU) as pipeline:
        with pytest.raises(FastnoisyError, match=r"fails on any image, .*: CUDA error: unspecified") as caught:
            list(pipeline.iterate(batches(8, 8, 8, 6)))
        assert "record" not in str(caught.value)
        assert "pipeline=torch-loader" in caught.value.remedy
    assert settle(before) == before  # while the error is still held


@pytest.mark.parametrize("method", ["set_outputs", "build"])
def test_a_pipeline_that_cannot_be_built_is_said(method: str, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    from nvidia.dali import Pipeline

    def fail(self: Pipeline, *arguments: object, **options: object) -> None:
        raise RuntimeError("CUDA driver version is insufficient for CUDA runtime version")

    with pipelines.open_pipeline("dali", split, split.given_labels, CPU) as pipeline:
        with monkeypatch.context() as patched:
            patched.setattr(Pipeline, method, fail)
            with pytest.raises(FastnoisyError, match=r"cannot be built: CUDA driver version is insuff") as caught:
                next(pipeline.iterate(batches(8, 8)))
        assert "record" not in str(caught.value)
        assert "fastnoisy doctor" in caught.value.remedy
        assert len(list(pipeline.iterate(batches(8, 8)))) == 2


def test_no_thread_outlives_an_iteration_that_was_left_or_the_pipeline(split: Split) -> None:
    before = native_threads()
    pipeline = pipelines.open_pipeline("dali", split, split.given_labels, CPU, workers=3)
    for _ in range(3):
        for _ in pipeline.iterate(batches(8, 8, 8, 6)):
            break
    one = native_threads()
    for _ in range(10):
        for _ in pipeline.iterate(batches(8, 8, 8, 6)):
            break
    assert settle(one) == one
    left_open = pipeline.iterate(batches(8, 8, 8, 6))
    next(left_open)
    assert native_threads() >= before + 3
    pipeline.close()
    assert settle(before) == before
    with pytest.raises(RuntimeError, match="closed"):
        next(left_open)


def test_a_decoder_is_used_again(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnoisy.pipelines import dali

    built = []
    original = dali._Decoder.__init__
    monkeypatch.setattr(dali._Decoder, "__init__", lambda self, *a: (built.append(a[1]), original(self, *a))[1])
    with pipelines.open_pipeline("dali", split, split.given_labels, CPU) as pipeline:
        for sizes in ((8, 8, 5), (4, 4), (1,), (9, 2)):
            assert [len(batch.indices) for batch in pipeline.iterate(batches(*sizes))] == list(sizes)
        next(pipeline.iterate(batches(4, 4)))  # left early, as is every epoch of a training run
        next(pipeline.iterate(batches(4, 4)))
    assert built == [8, 9]


def test_without_the_package_the_error_has_the_line_that_installs_it(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(FastnoisyError, match=r"nvidia\.dali") as caught:
        pipelines.open_pipeline("dali", split, split.given_labels, CPU)
    assert "pip install 'fastnoisy[dali]'" in str(caught.value)
    assert "nvidia-dali-cuda120" in str(caught.value)


def test_a_run_trains_on_it_and_hands_its_settings_on(store: Path, tmp_path: Path) -> None:
    words = ["pipeline=dali(hw_decoder_load=0.25)", "data.workers=1", "device=cpu", "batch_size=8"]
    settings = setup.resolve("folder-ce", words, str(store))
    job = loop.Job.of(setup.prepare(settings), RunFolder(tmp_path / "run"), loop.silent)
    with loop.opened(job):
        assert isinstance(job.pipeline, pipelines.find("dali"))
        assert job.pipeline.options.hw_decoder_load == 0.25  # type: ignore[attr-defined]
        assert job.pipeline.threads == 1  # type: ignore[attr-defined]


# -- on a GPU ---------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["jpg", "raw"])
@pytest.mark.parametrize("hw_decoder_load", [0.0, 0.65, 1.0])
def test_the_gpu_gives_pillows_pixels(kind: str, hw_decoder_load: float, store: Path, tmp_path: Path) -> None:
    """Mean error at most 1 level and 99.9 % of the values within 8; raw records exactly; zeros beyond an image."""
    path = store if kind == "jpg" else make_store(tmp_path, "raw")
    work = batches(8, 8, 8, 6)
    with open_store(path) as opened:
        split = opened.split("train")
        device = torch.device("cuda")
        pipeline = pipelines.open_pipeline(
            f"dali(hw_decoder_load={hw_decoder_load})", split, split.given_labels, device
        )
        errors = []
        with pipeline:
            for _ in range(2):
                for rows, batch in zip(work, pipeline.iterate(work), strict=True):
                    assert batch.images.is_cuda
                    assert batch.images.is_contiguous(memory_format=torch.channels_last)
                    assert batch.indices.tolist() == rows.tolist()
                    for slot, row in enumerate(rows):
                        expected = split.read_image(int(row))
                        height, width, _ = expected.shape
                        found = batch.images[slot].permute(1, 2, 0).cpu().numpy()
                        errors.append(np.abs(found[:height, :width].astype(int) - expected).ravel())
                        assert not found[height:].any()
                        assert not found[:, width:].any()
        differences = np.concatenate(errors)
        assert differences.mean() <= (1 if kind == "jpg" else 0)
        assert (differences <= 8).mean() >= 0.999


@pytest.mark.gpu
def test_a_batch_stays_while_the_gpu_is_busy_with_it(store: Path) -> None:
    """The next batches are asked for while a slow kernel that reads this one is still queued on the consumer's
    stream.
    """
    work = batches(8, 8, 8, 6) * 4
    with open_store(store) as opened, torch.cuda.stream(torch.cuda.Stream()):
        split = opened.split("train")
        with pipelines.open_pipeline("dali", split, split.given_labels, torch.device("cuda")) as pipeline:
            calm = []
            for batch in pipeline.iterate(work):
                calm.append(batch.images.long().sum())
                torch.cuda.synchronize()
            busy = []
            for batch in pipeline.iterate(work):
                torch.cuda._sleep(20_000_000)
                busy.append(batch.images.long().sum())
            assert torch.stack(calm).tolist() == torch.stack(busy).tolist()


@pytest.mark.gpu
def test_a_broken_record_on_the_gpu_is_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(store) as opened:
        split = opened.split("train")
        work = batches(8, 8)
        bad = int(work[1][2])
        with pipelines.open_pipeline("dali", split, split.given_labels, torch.device("cuda")) as pipeline:
            original = pipeline._record  # type: ignore[attr-defined]
            monkeypatch.setattr(pipeline, "_record", lambda row: original(row)[: 100 if row == bad else None])
            with pytest.raises(FastnoisyError, match=f"record {bad} "):
                list(pipeline.iterate(work))
