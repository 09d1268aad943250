"""The device and the CPU threads of a run."""

from __future__ import annotations

import os

import torch

from fastnoisy.errors import FastnoisyError


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one. A GPU named by its number becomes torch's current one: pinned memory, streams
    that libraries make and FFCV's own copies go to the current device, whatever the tensors' is.

    Raises:
        FastnoisyError: a GPU is asked for and there is none.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise FastnoisyError(f"device {name} is not there: torch {torch.__version__} sees no GPU", "Use device=cpu")
    device = torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu" if name == "auto" else name)
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise FastnoisyError(f"device {name} is not there: this machine has {torch.cuda.device_count()} GPUs")
    if device.index is not None:
        torch.cuda.set_device(device)
    return device


def set_threads(threads: int) -> None:
    """Use `threads` CPU threads; 0: as many as this process may run on."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
