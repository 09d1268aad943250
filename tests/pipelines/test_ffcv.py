"""How the ffcv pipeline asks for copies to a GPU: seen on any machine, for tensors are stood in for; measured where
there is a GPU.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fastnoisy import pipelines
from fastnoisy.data.store import Split
from fastnoisy.pipelines import ffcv

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("ffcv")
GPU = torch.device("cuda")


def batches(count: int) -> list[np.ndarray]:
    return [np.arange(8 * number, 8 * number + 8) for number in range(count)]


class Stream:
    """Stands for a stream and for the events of it."""

    made = 0

    def __init__(self, device: torch.device, priority: int = 0) -> None:
        Stream.made += 1

    def record_event(self) -> Stream:
        return self

    def synchronize(self) -> None:
        pass

    def wait_event(self, event: Stream) -> None:
        pass


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.dtype, bool, bool]]:
    """A GPU whose memory is the main one. Lists what is copied to it: (type, whether from pinned memory, without
    waiting).
    """
    done: list[tuple[torch.dtype, bool, bool]] = []
    pinned: list[Tensor] = []

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor.clone())
        return pinned[-1]

    def to(tensor: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        assert device == GPU
        done.append((tensor.dtype, any(tensor is other for other in pinned), non_blocking))
        return tensor.clone()

    consumer = Stream(GPU)
    monkeypatch.setattr(Stream, "made", 0)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: consumer)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: None)
    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", to)
    return done


def test_all_epochs_copy_on_one_stream(split: Split, copies: list[tuple[torch.dtype, bool, bool]]) -> None:
    """torch keeps what was freed on a stream for that stream: a new one per epoch would hold up to 32 times as much."""
    with pipelines.open_pipeline("ffcv", split, split.given_labels, GPU, 1) as pipeline:
        for _ in range(3):
            shown = [batch.indices.tolist() for batch in pipeline.iterate(batches(4))]
            assert shown == [rows.tolist() for rows in batches(4)]
    assert Stream.made == 1


def test_numbas_own_types_stay_as_they_are(split: Split) -> None:
    """FFCV's manager marks the one type of a row of bytes as read-only, and what fills such a row is lost to numba."""
    import numba

    rows = numba.types.Array(numba.uint8, 1, "C")
    assert rows.mutable
    with pipelines.open_pipeline("ffcv", split, split.given_labels, torch.device("cpu"), 1) as pipeline:
        assert len(list(pipeline.iterate(batches(2)))) == 2
    assert rows.mutable


def test_no_copy_is_waited_for(split: Split, copies: list[tuple[torch.dtype, bool, bool]]) -> None:
    """FFCV's buffers are pinned by it; what else goes to the GPU must be, too, or `non_blocking` is a word."""
    with pipelines.open_pipeline("ffcv", split, split.given_labels, GPU, 1) as pipeline:
        copies.clear()  # labels and sizes, which go there once
        assert len(list(pipeline.iterate(batches(4)))) == 4
    assert copies == [(torch.uint8, False, True), (torch.int64, True, True)] * 4


@pytest.mark.slow
def test_what_is_compiled_is_kept_for_the_next_process(split: Split, tmp_path: Path) -> None:
    """In a process of its own each: (compiled, loaded) of the loop it used; the threaded one is not taken for the
    other.
    """
    code = (
        "import sys, numpy as np, torch\n"
        "from pathlib import Path\n"
        "from fastnoisy import pipelines\n"
        "from fastnoisy.data.store import open_store\n"
        "from fastnoisy.pipelines import _ffcv_decode as loops\n"
        "split = open_store(Path(sys.argv[1])).split('train')\n"
        "with pipelines.open_pipeline('ffcv', split, split.given_labels, torch.device('cpu'), 1) as pipeline:\n"
        "    (batch,) = pipeline.iterate([np.arange(4)])\n"
        "    height, width = split.sizes[3]\n"
        "    right = np.array_equal(batch.images[3].permute(1, 2, 0)[:height, :width], split.read_image(3))\n"
        "stats = loops.decode_alone.stats\n"
        "print(sum(stats.cache_misses.values()), sum(stats.cache_hits.values()), right)\n"
    )
    words = [sys.executable, "-c", code, str(split.beton_path.parent)]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    told = [
        subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert told == [["1", "0", "True"], ["0", "1", "True"]]
    names = {path.name.partition("-")[0] for path in tmp_path.rglob("*.nbi")}
    assert names == {"_ffcv_decode.decode_alone"}  # by which numba finds it


def test_a_full_disk_under_what_is_kept_costs_only_time(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba raises when it cannot write, with what it has compiled at hand."""
    original, failed = ffcv._compiled(False), []

    def decode(*arguments: object) -> None:
        if not failed:
            failed.append(True)
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*arguments)

    monkeypatch.setattr(ffcv, "_compiled", lambda parallel: decode)
    with pipelines.open_pipeline("ffcv", split, split.given_labels, torch.device("cpu"), 1) as pipeline:
        shown = [batch.indices.tolist() for batch in pipeline.iterate(batches(2))]
    assert shown == [rows.tolist() for rows in batches(2)]
    assert failed == [True]


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # which says that it may miss some
@pytest.mark.parametrize("name", ["ffcv", "resident", "torch-loader"])
def test_the_host_waits_for_no_copy(name: str, split: Split) -> None:
    """torch itself looks for them."""
    with pipelines.open_pipeline(name, split, split.given_labels, GPU, 1) as pipeline:
        assert len(list(pipeline.iterate(batches(2)))) == 2
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            assert len(list(pipeline.iterate(batches(4)))) == 4
        finally:
            torch.cuda.set_sync_debug_mode(before)


@pytest.mark.gpu
def test_epochs_on_a_gpu_take_no_more_memory_than_the_first(split: Split) -> None:
    """Batches above 1 MiB have blocks of their own in torch's cache."""
    epoch = [np.resize(np.arange(split.num_samples), 16_384)] * 4
    with pipelines.open_pipeline("ffcv", split, split.given_labels, GPU, 1) as pipeline:
        held = []
        for _ in range(8):
            for batch in pipeline.iterate(epoch):
                assert len(batch.images) == len(epoch[0])
                torch.cuda.synchronize()  # what was freed may be used again
            del batch
            held.append(torch.cuda.memory_reserved())
    assert held[-1] == held[1]
