"""How resident gathers images of differing size on a GPU: plain tensor operations, so that a CPU can run them, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastnoisy import pipelines
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import Split, open_store
from fastnoisy.pipelines.resident import ResidentPipeline

SIZES = [(90, 65), (90, 96), (65, 96), (66, 70), (96, 65), (80, 80), (65, 66)]  # the last one stored is 80x80


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Split]:
    folder: Path = tmp_path_factory.mktemp("resident")
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        path = folder / "source" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(1, 255, (*size, 3), dtype=np.uint8)).save(path)
    convert(f"folder:{folder / 'source'}", folder / "store", options=ConvertOptions(resize="max=96"), progress=None)
    with open_store(folder / "store") as opened:
        yield opened.split("train")


def open_one(split: Split, device: str = "cpu") -> ResidentPipeline:
    pipeline = pipelines.open_pipeline("resident", split, split.given_labels, torch.device(device))
    assert isinstance(pipeline, ResidentPipeline)
    assert pipeline.sizes is not None
    return pipeline


def canvases(split: Split, rows: list[int]) -> Tensor:
    made = np.zeros((len(rows), *split.canvas, 3), np.uint8)
    for slot, row in enumerate(rows):
        image = split.read_image(row)
        made[slot, : image.shape[0], : image.shape[1]] = image
    return torch.from_numpy(made)


ORDERS = [[0], [6], [6, 6, 0, 1], [3, 1, 4, 2, 6, 5, 0], [2] * 40]


@pytest.mark.parametrize("rows", ORDERS)
def test_lines_make_the_canvases(rows: list[int], split: Split) -> None:
    expected = canvases(split, rows)
    pipeline = open_one(split)
    for gather in (pipeline._gather_lines, pipeline.gather):
        out = torch.full_like(expected, 255)
        assert torch.equal(gather(torch.tensor(rows), out), expected)
        assert torch.equal(out, expected)


class _Largest(TorchDispatchMode):
    """Bytes of the largest memory that an operation has taken."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.untyped_storage().data_ptr() not in self.known:
            self.bytes = max(self.bytes, found.untyped_storage().nbytes())
        return found


def test_temporaries_are_small(split: Split) -> None:
    pipeline = open_one(split)
    out = torch.empty(40, *split.canvas, 3, dtype=torch.uint8)
    with _Largest(out, pipeline.pixels) as seen:
        pipeline._gather_lines(torch.full((40,), 2), out)
    assert 0 < seen.bytes <= 8 * 40 * split.canvas[0]


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # which says that it may miss some
@pytest.mark.parametrize("rows", ORDERS)
def test_a_gpu_gathers_without_waiting(rows: list[int], split: Split) -> None:
    pipeline = open_one(split, "cuda")
    expected, asked = canvases(split, rows), torch.tensor(rows, device="cuda")
    out = torch.full(expected.shape, 255, dtype=torch.uint8, device="cuda")
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        pipeline.gather(asked, out)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert torch.equal(out.cpu(), expected)


@pytest.mark.gpu
def test_a_captured_gather_follows_its_rows(split: Split) -> None:
    pipeline = open_one(split, "cuda")
    asked = torch.arange(len(SIZES), device="cuda")
    out = torch.empty(len(SIZES), *split.canvas, 3, dtype=torch.uint8, device="cuda")
    pipeline.gather(asked, out)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        pipeline.gather(asked, out)
    for rows in ([6, 5, 4, 3, 2, 1, 0], [1] * 7):
        asked.copy_(torch.tensor(rows))
        graph.replay()
        assert torch.equal(out.cpu(), canvases(split, rows))


@pytest.mark.gpu
def test_a_large_batch_on_a_gpu_takes_little_beside_itself(split: Split) -> None:
    pipeline = open_one(split, "cuda")
    asked = torch.arange(len(SIZES), device="cuda").repeat(200)
    out = torch.empty(len(asked), *split.canvas, 3, dtype=torch.uint8, device="cuda")
    pipeline.gather(asked, out)
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    pipeline.gather(asked, out)
    assert torch.cuda.max_memory_allocated() - held < out.numel() / 4
    assert torch.equal(out[-len(SIZES) :].cpu(), canvases(split, list(range(len(SIZES)))))
