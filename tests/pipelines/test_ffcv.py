"""How the ffcv pipeline asks for copies to a GPU: seen on any machine, for tensors are stood in for; measured where there is
a GPU.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from fastnoisy import pipelines
from fastnoisy.data.store import Split

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
    """A GPU whose memory is the main one. Lists what is copied to it: (type, whether from pinned memory, without waiting)."""
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


def test_no_copy_is_waited_for(split: Split, copies: list[tuple[torch.dtype, bool, bool]]) -> None:
    """FFCV's buffers are pinned by it; what else goes to the GPU must be, too, or `non_blocking` is a word."""
    with pipelines.open_pipeline("ffcv", split, split.given_labels, GPU, 1) as pipeline:
        copies.clear()  # labels and sizes, which go there once
        assert len(list(pipeline.iterate(batches(4)))) == 4
    assert copies == [(torch.uint8, False, True), (torch.int64, True, True)] * 4


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
