"""What every pipeline owes the loop: run on each that is found, on raw records of one size and on JPEGs of many."""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastnoisy import extras, pipelines
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import Split, open_store
from fastnoisy.data.store.verify import verify
from fastnoisy.errors import FastnoisyError
from fastnoisy.order import Population, batches, order, share
from fastnoisy.pipelines.base import Pipeline

NAMES = pipelines.names()
CLASSES = {name: pipelines.find(name) for name in NAMES}
BACKENDS = {name: extras.EXTRAS[cls.extra].module for name, cls in CLASSES.items() if cls.extra}
TRUSTING = [name for name, cls in CLASSES.items() if cls.needs_verified]  # they start on a verified split only
CHECKING = [
    name for name, cls in CLASSES.items() if not cls.synthetic and name not in TRUSTING
]  # every record's checksum
CPU = torch.device("cpu")
AUTO = pipelines.Request("auto")
NUM = 37


def make_store(folder: Path, many_sizes: bool) -> Path:
    rng = np.random.default_rng(0)
    for number in range(NUM):
        height, width = (int(v) for v in rng.integers(65, 90, 2)) if many_sizes else (12, 12)
        pixels = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        path = folder / "train" / "ab"[number % 2] / f"{number:02d}.{'jpg' if many_sizes else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels).resize((width, height))
        image = image.convert("L") if many_sizes and number % 10 == 3 else image
        image.save(path, **({"progressive": number % 10 == 4, "subsampling": number % 3} if many_sizes else {}))
    out = folder / "store"
    options = ConvertOptions(resize="max=96" if many_sizes else None)
    convert(f"folder:{folder / 'train'}", out, options=options, progress=None)
    return out


@pytest.fixture(scope="module", params=["raw, one size", "jpeg, many sizes"])
def split(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Split]:
    store = open_store(make_store(tmp_path_factory.mktemp("source"), request.param.startswith("jpeg")))
    yield store.split("train")
    store.split("train").close()


@pytest.fixture
def jpegs(tmp_path: Path) -> Path:
    """A store of JPEGs of its own, to be damaged."""
    return make_store(tmp_path, many_sizes=True)


def open_one(name: str, split: Split, labels: np.ndarray | None = None, workers: int = 0) -> Pipeline:
    """A pipeline on the CPU; skips where the library behind it is not installed."""
    module = BACKENDS.get(name)
    if module and not importable(module):
        pytest.skip(f"pipeline {name} needs {module}, which is not installed")
    return pipelines.open_pipeline(name, split, split.given_labels if labels is None else labels, CPU, workers)


def importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def cut() -> list[np.ndarray]:
    rows = np.random.default_rng(1).permutation(NUM).astype(np.int64)
    return [rows[i : i + 8] for i in range(0, NUM, 8)]


def assert_shows(batch_images: torch.Tensor, slot: int, expected: np.ndarray, pipeline: Pipeline, mode: str) -> None:
    """The image in a slot is the expected one, exactly or as closely as the pipeline promises for JPEGs."""
    height, width, _ = expected.shape
    found = batch_images[slot, :, :height, :width].permute(1, 2, 0).numpy()
    if mode == "raw" or pipeline.exact_jpeg:
        np.testing.assert_array_equal(found, expected)
    else:
        off = np.abs(found.astype(np.int64) - expected)
        assert off.mean() <= 1
        assert (off <= 8).mean() >= 0.999


def test_every_file_of_the_folder_is_a_pipeline() -> None:
    assert {"resident", "torch-loader", "synthetic", "ffcv"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_batches_are_the_rows_asked_for(name: str, split: Split) -> None:
    labels = (split.given_labels + 1) % 2  # not the store's own: a run's noisy labels
    with open_one(name, split, labels) as pipeline:
        for rows, batch in zip(cut(), pipeline.iterate(cut()), strict=True):
            assert batch.images.dtype == torch.uint8
            assert batch.images.shape == (len(rows), 3, *split.canvas)
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
            assert batch.indices.tolist() == rows.tolist()
            assert batch.labels.tolist() == labels[rows].tolist()
            uniform = bool((split.sizes == split.canvas).all())
            assert (batch.sizes is None) == uniform
            sizes = torch.tensor([split.canvas] * len(rows), dtype=torch.int32) if uniform else batch.sizes
            assert sizes is not None
            assert sizes.dtype == torch.int32
            for slot, row in enumerate(rows):
                expected = split.read_image(int(row))
                assert tuple(sizes[slot].tolist()) == expected.shape[:2]
                if not pipeline.synthetic:
                    assert_shows(batch.images, slot, expected, pipeline, split.mode(int(row)))


@pytest.mark.parametrize("counts", [[5], [2, 2, 1], [1, 1, 1, 1, 1]], ids=str)
def test_a_batch_splits_into_its_rows(counts: list[int], split: Split) -> None:
    """Also where it has no sizes, as every image fills the canvas."""
    with open_one("resident", split) as pipeline:
        (batch,) = pipeline.iterate([np.array([3, 1, 7, 0, 2])])
        pieces = batch.split(counts)
        assert [len(piece.indices) for piece in pieces] == counts
        assert torch.equal(torch.cat([piece.images for piece in pieces]), batch.images)
        assert torch.cat([piece.indices for piece in pieces]).tolist() == [3, 1, 7, 0, 2]
        for piece in pieces:
            assert len(piece.images) == len(piece.labels) == len(piece.indices) > 0
            assert piece.sizes is None if batch.sizes is None else len(piece.sizes) == len(piece.indices)


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_any_lengths(name: str, split: Split) -> None:
    """Short ones between long ones, a row twice in a batch, and one row alone."""
    asked = [np.array(rows, np.int64) for rows in ([5], [1, 2, 3, 1], [7, 7], [0, 36, 8, 9, 4], [6])]
    with open_one(name, split) as pipeline:
        for rows, batch in zip(asked, pipeline.iterate(iter(asked)), strict=True):
            assert batch.indices.tolist() == rows.tolist()
            for slot, row in enumerate(rows):
                if not pipeline.synthetic:
                    assert_shows(batch.images, slot, split.read_image(int(row)), pipeline, split.mode(int(row)))


@pytest.mark.parametrize("name", NAMES)
def test_two_streams_at_once(name: str, split: Split) -> None:
    """DivideMix draws from two populations in every step; neither batch may overwrite the other."""
    with open_one(name, split) as pipeline:
        for forth, back in zip(pipeline.iterate(cut()), pipeline.iterate([r[::-1] for r in cut()]), strict=True):
            assert forth.indices.tolist() == back.indices.tolist()[::-1]
            if not pipeline.synthetic:
                for slot, row in enumerate(forth.indices.tolist()):
                    assert_shows(forth.images, slot, split.read_image(row), pipeline, split.mode(row))
                    other = len(forth.indices) - 1 - slot
                    assert_shows(back.images, other, split.read_image(row), pipeline, split.mode(row))


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_shows_each_sample_once_and_resumes_in_its_middle(name: str, split: Split) -> None:
    rows = order(Population("all", np.arange(NUM)), "train", 1, 4)
    with open_one(name, split) as pipeline:
        whole = [b.indices.tolist() for b in pipeline.iterate(batches(rows, 8, False))]
        assert sorted(row for rows_of_batch in whole for row in rows_of_batch) == list(range(NUM))
        assert [b.indices.tolist() for b in pipeline.iterate(batches(rows, 8, False, first=3))] == whole[3:]
        dropped = [b.indices.tolist() for b in pipeline.iterate(batches(rows, 8, True))]
        assert dropped == whole[:-1]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_ranks_are_disjoint_and_complete(name: str, world_size: int, split: Split) -> None:
    rows = order(Population("all", np.arange(NUM)), "train", 1, 0)
    whole = list(batches(rows, 8, False))
    seen: list[list[list[int]]] = []
    for rank in range(world_size):
        with open_one(name, split) as pipeline:
            seen.append([b.indices.tolist() for b in pipeline.iterate(share(b, rank, world_size) for b in whole)])
    for number, rows in enumerate(whole):
        assert [row for ranks in seen for row in ranks[number]] == rows.tolist()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_can_be_left_early_and_started_again(name: str, workers: int, split: Split) -> None:
    threads, torch_threads = threading.active_count(), torch.get_num_threads()
    pipeline = open_one(name, split, workers=workers)
    assert torch.get_num_threads() == torch_threads
    for _ in range(3):
        for batch in pipeline.iterate(cut()):
            assert len(batch.indices) == 8
            assert torch.get_num_threads() == torch_threads
            break
    first = [b.indices.tolist() for b in pipeline.iterate(cut())]
    assert first == [rows.tolist() for rows in cut()]
    assert list(pipeline.iterate([])) == []
    pipeline.close()
    pipeline.close()
    assert threading.active_count() == threads
    assert multiprocessing.active_children() == []
    assert torch.get_num_threads() == torch_threads


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", NAMES)
def test_closing_in_the_middle_of_an_epoch_joins_its_threads(name: str, workers: int, split: Split) -> None:
    """As when a run is stopped: the iterator lives on in a traceback."""
    threads = threading.active_count()
    pipeline = open_one(name, split, workers=workers)
    running = pipeline.iterate(cut() * 9)
    assert next(running).indices.tolist() == cut()[0].tolist()
    pipeline.close()
    assert threading.active_count() == threads
    assert multiprocessing.active_children() == []
    del running
    assert threading.active_count() == threads


def resident_set() -> int:
    """Bytes of main memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("name", NAMES)
def test_memory_does_not_grow_from_epoch_to_epoch(name: str, split: Split) -> None:
    epoch = [np.resize(np.arange(NUM), 64 * 8192 // split.canvas[0] ** 2 + 64)] * 6  # 12x12 pixels need large batches
    with open_one(name, split) as pipeline:
        held = []
        for _ in range(5):
            for batch in pipeline.iterate(epoch):
                assert len(batch.indices) == len(epoch[0])
            del batch
            held.append(resident_set())
    one_batch = len(epoch[0]) * 3 * split.canvas[0] * split.canvas[1]
    # 24 MiB: a bare DALI pipeline takes 12 to 15 MiB in its first twenty epochs, and no more in the next hundred.
    assert held[-1] - held[1] < max(3 * one_batch, 24 << 20), [h >> 20 for h in held]


# -- damage -----------------------------------------------------------------------------------------------------------


def overwrite(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


@pytest.mark.parametrize("damage", ["header", "sample table", "allocation table", "cut off", "longer", "empty"])
def test_a_damaged_file_is_refused_at_open(damage: str, jpegs: Path) -> None:
    path = jpegs / "train.beton"
    size = path.stat().st_size
    if damage == "header":
        overwrite(path, 8, b"\xff" * 8)
    elif damage == "sample table":
        overwrite(path, 24 + 3 * 1041 + 40, b"\xff" * 8)
    elif damage == "allocation table":
        overwrite(path, size - 60, b"\xff" * 8)
    elif damage == "longer":
        overwrite(path, size, b"\0" * 24)
    else:
        with path.open("r+b") as file:
            file.truncate(size - 24 if damage == "cut off" else 0)
    with pytest.raises(FastnoisyError, match=r"train\.beton"):
        open_store(jpegs)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "synthetic"])
def test_a_file_cut_off_after_it_was_opened_is_an_error(name: str, jpegs: Path) -> None:
    split = open_store(jpegs).split("train")
    pipeline = open_one(name, split) if name != "resident" else None
    with split.beton_path.open("r+b") as file:
        file.truncate(int(split.num_bytes) // 3)
    with pytest.raises(FastnoisyError, match=r"train\.beton"), pipeline or open_one(name, split) as opened:
        list(opened.iterate(cut()))
    split.close()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", CHECKING)
def test_a_damaged_record_is_found_and_named(name: str, workers: int, jpegs: Path) -> None:
    split = open_store(jpegs).split("train")
    at = int(split._reader.starts[20] + split._reader.lengths[20] // 2)
    overwrite(split.beton_path, at, bytes([split._reader.read_at(at, 1)[0] ^ 4]))
    with pytest.raises(FastnoisyError, match=rf"record 20 \({split.sources[20]}\) is damaged"):
        list(open_one(name, split, workers=workers).iterate(cut()))
    split.close()


@pytest.mark.parametrize("name", TRUSTING)
def test_a_record_that_cannot_be_decoded_is_named(name: str, jpegs: Path) -> None:
    """The stamp was right once; the disk went bad afterwards."""
    split = open_store(jpegs).split("train")
    overwrite(split.beton_path, int(split._reader.starts[20]), b"\0" * 300)
    with open_one(name, split) as pipeline, pytest.raises(FastnoisyError, match=rf"{split.sources[20]}"):
        list(pipeline.iterate(cut()))
    split.close()


@pytest.mark.parametrize("name", TRUSTING)
def test_a_split_that_was_not_verified_is_refused_with_the_command(name: str, jpegs: Path) -> None:
    split = open_store(jpegs).split("train")
    split.stamp(right=False)
    with pytest.raises(FastnoisyError, match="fastnoisy verify"):
        open_one(name, split)
    assert verify(jpegs) == []
    with open_one(name, split) as pipeline:
        assert len(list(pipeline.iterate(cut()))) == len(cut())
    split.close()


@pytest.mark.parametrize("name", [name for name in NAMES if name in BACKENDS])
def test_a_missing_library_is_named_with_the_line_that_installs_it(
    name: str, jpegs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = BACKENDS[name]
    for module in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    split = open_store(jpegs).split("train")
    with pytest.raises(FastnoisyError, match=rf"pip install 'fastnoisy\[{name}\]'"):
        pipelines.open_pipeline(name, split, split.given_labels, CPU)
    split.close()


# -- which one, and what it holds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_announced(name: str, split: Split) -> None:
    held = sum(split.read_image(row).nbytes for row in range(split.num_samples))
    assert pipelines.find(name).bytes_needed(split) == {"resident": held}.get(name, 0)


def test_auto_takes_what_fits_and_else_what_is_installed(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pipelines.choose(AUTO, [split], CPU, 2**30).name == "resident"
    assert pipelines.choose(pipelines.Request("torch-loader"), [split], CPU, 2**30).why == "asked for"
    there: set[str] = set()
    monkeypatch.setattr(pipelines, "_import_problem", lambda extra: "" if extra in there else f"no {extra}")
    choice = pipelines.choose(AUTO, [split], CPU, 1000)
    assert choice.name == "torch-loader"
    assert "MiB" in choice.why
    assert "no ffcv (pip install 'fastnoisy[ffcv]')" in choice.why
    there.add("ffcv")
    assert pipelines.choose(AUTO, [split], CPU, 1000).name == "ffcv"
    assert pipelines.choose(AUTO, [split], torch.device("cuda"), 1000).name == "ffcv"
    there.add("dali")
    assert pipelines.choose(AUTO, [split], CPU, 1000).name == "ffcv"
    if "dali" in NAMES:
        assert pipelines.choose(AUTO, [split], torch.device("cuda"), 1000).name == "dali"
    monkeypatch.setattr(pipelines, "available_host", lambda: 1000)
    assert "data.order=blocked" in pipelines.choose(AUTO, [split], CPU, 1000).why
    monkeypatch.setattr(Split, "verified", False)
    choice = pipelines.choose(AUTO, [split], CPU, 1000)
    assert choice.name == "torch-loader"
    assert "fastnoisy verify" in choice.why


def test_a_library_that_cannot_be_imported_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ffcv", None)
    assert "ffcv" in pipelines._import_problem("ffcv")
    assert pipelines._import_problem("parquet") == ""


def test_resident_refuses_what_does_not_fit(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnoisy.pipelines import resident

    monkeypatch.setattr(resident, "available_device", lambda device: 1000)
    with pytest.raises(FastnoisyError, match=r"take .* MiB, .* are free.*pipeline=torch-loader"):
        pipelines.open_pipeline("resident", split, split.given_labels, CPU)


def test_resident_loads_with_a_bar_on_a_terminal(
    split: Split, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(type(split), "read_all_raw", lambda self: None)  # which is done before a bar could be seen
    pipelines.open_pipeline("resident", split, split.given_labels, CPU).close()
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    pipelines.open_pipeline("resident", split, split.given_labels, CPU).close()
    assert f"loading {split.beton_path}" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_gets_the_same_batches(name: str, split: Split) -> None:
    open_one(name, split).close()  # skips where the library is missing
    gpu = torch.device("cuda")
    with pipelines.open_pipeline(name, split, split.given_labels, gpu) as pipeline:
        for _ in range(2):
            for rows, batch in zip(cut(), pipeline.iterate(cut()), strict=True):
                torch.cuda._sleep(10_000_000)  # a consumer that is behind: nothing may overwrite what it still reads
                images = batch.images.clone().cpu()
                assert batch.images.device.type == "cuda"
                assert batch.indices.tolist() == rows.tolist()
                assert batch.labels.tolist() == split.given_labels[rows].tolist()
                for slot, row in enumerate(rows):
                    if not pipeline.synthetic:
                        assert_shows(images, slot, split.read_image(int(row)), pipeline, split.mode(int(row)))


def test_torch_loader_with_a_worker_gives_the_same(split: Split) -> None:
    with pipelines.open_pipeline("torch-loader", split, split.given_labels, torch.device("cpu"), 1) as pipeline:
        alone = pipelines.open_pipeline("torch-loader", split, split.given_labels, torch.device("cpu"))
        for a, b in zip(pipeline.iterate(cut()), alone.iterate(cut()), strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.indices, b.indices)
