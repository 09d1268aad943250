"""What is the torch-loader's own: its processes, how they end, and what is said where they are ended."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fastnoisy import pipelines
from fastnoisy.data.store import Split
from fastnoisy.errors import FastnoisyError
from fastnoisy.pipelines import torch_loader
from fastnoisy.pipelines.base import Pipeline

CPU = torch.device("cpu")


def open_one(split: Split, workers: int) -> Pipeline:
    return pipelines.open_pipeline("torch-loader", split, split.given_labels, CPU, workers)


def batches(count: int) -> list[np.ndarray]:
    return [np.arange(8 * number, 8 * number + 8) for number in range(count)]


def test_a_worker_that_is_killed_is_an_error_with_a_remedy(split: Split) -> None:
    threads = threading.active_count()
    with open_one(split, 2) as pipeline:
        running = pipeline.iterate(batches(60))
        next(running)
        victim = multiprocessing.active_children()[0]
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        time.sleep(0.5)  # the training step, which the death of a worker must not interrupt
        with pytest.raises(FastnoisyError, match=f"{victim.pid}") as caught:
            list(running)
        assert "data.workers=1" in caught.value.remedy
        assert "/dev/shm" in caught.value.remedy
        assert multiprocessing.active_children() == []
        assert [batch.indices.tolist() for batch in pipeline.iterate(batches(3))] == [r.tolist() for r in batches(3)]
    assert threading.active_count() == threads
    assert multiprocessing.active_children() == []


def test_no_room_in_shared_memory_is_an_error(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 4 kB at most stand for a full /dev/shm; a queue's thread that meets it would leave its reader
    waiting.
    """

    def begin(number: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    monkeypatch.setattr(torch_loader, "_begin_worker", begin)
    with open_one(split, 1) as pipeline, pytest.raises(FastnoisyError, match=r"file </torch_.*data\.workers=0"):
        list(pipeline.iterate([np.arange(500)]))


def test_a_closed_pipeline_is_closed(split: Split) -> None:
    pipeline = open_one(split, 2)
    left_open, other = pipeline.iterate(batches(40)), pipeline.iterate(batches(40))
    next(left_open), next(other)
    assert len(multiprocessing.active_children()) == 4
    pipeline.close()
    assert multiprocessing.active_children() == []
    with pytest.raises(RuntimeError, match="closed in the middle"):
        next(left_open)
    with pytest.raises(RuntimeError, match="is closed"):
        next(pipeline.iterate(batches(2)))
    assert multiprocessing.active_children() == []


def test_ctrl_c_is_the_parents_alone(split: Split) -> None:
    """As from a terminal, every process gets it; what the parent does with it here is nothing."""
    previous = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        with open_one(split, 2) as pipeline:
            running = pipeline.iterate(batches(40))
            next(running), next(running)  # one of either worker
            for worker in multiprocessing.active_children():
                assert worker.pid is not None
                ignored = Path(f"/proc/{worker.pid}/status").read_text().split("SigIgn:")[1].split()[0]
                assert int(ignored, 16) >> (signal.SIGINT - 1) & 1
                os.kill(worker.pid, signal.SIGINT)
            assert len(list(running)) == 38
    finally:
        signal.signal(signal.SIGINT, previous)
