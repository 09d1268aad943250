"""The device and the CPU threads of a run, and how its caller gets them back as they were."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.data._utils import signal_handling

from fastnoisy import machine
from fastnoisy.distributed import ONE, Group
from fastnoisy.errors import FastnoisyError


def choose_device(name: str, group: Group = ONE, backend: str = "auto") -> torch.device:
    """`auto` is the GPU where there is one; of several ranks each takes one of its own. A GPU named by its number
    becomes torch's current one: pinned memory, streams that libraries make and FFCV's own copies go to the current
    device, whatever the tensors' is.

    Args:
        backend: with `gloo` ranks may share a GPU.

    Raises:
        FastnoisyError: the name is none of auto, cpu, cuda and cuda:N, a GPU is asked for and there is none, or there
            are fewer than ranks.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", name):
        raise FastnoisyError(f"device {name!r} is none", "Choose auto, cpu, cuda or cuda:N")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise FastnoisyError(f"device {name} is not there: torch {torch.__version__} sees no GPU", "Use device=cpu")
    device = torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu" if name == "auto" else name)
    if group.size > 1 and device.type == "cuda":
        there = torch.cuda.device_count()
        if device.index is not None or (group.local_size > there and backend != "gloo"):
            raise FastnoisyError(
                f"{group.local_size} processes on this machine, each for a GPU of its own, and device={name} "
                + (f"gives {there}" if device.index is None else "names one"),
                "Start one process for each GPU with device=auto",
            )
        device = torch.device("cuda", group.local_rank % there)
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise FastnoisyError(f"device {name} is not there: this machine has {torch.cuda.device_count()} GPUs")
    if device.index is not None:
        torch.cuda.set_device(device)
    return device


def set_threads(threads: int) -> None:
    """Use `threads` CPU threads; 0: as many as this process may run on."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


def threads_at_start(threads: int, device: torch.device) -> tuple[int, str]:
    """The number of CPU threads that a run is to use, and a line that says why it is not one per core.

    Args:
        threads: as it is asked for; 0: `OMP_NUM_THREADS`, or on a CPU the cores that others leave free now. A thread
            that waits for its turn keeps all others of the run waiting: where one of two cores is taken, two threads
            are slower than one (benchmarks/threads.py).
    """
    if threads:
        return threads, ""
    told, cores = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0], machine.cores()
    if told.isdigit() and int(told):
        return int(told), ""
    if device.type != "cpu" or cores == 1:
        return cores, ""
    free = machine.free_cores()
    threads = max(1, min(cores, round(free)))
    if threads == cores:
        return threads, ""
    return (
        threads,
        f"threads={threads}: {free:.1f} of {cores} cores are free of other work now; threads=N sets another number",
    )


@contextmanager
def caller_unchanged() -> Iterator[None]:
    """Put the caller's thread count, current GPU, random state of the CPU and handler of SIGCHLD back at the end."""
    random = torch.get_rng_state()  # DataLoader draws a seed from it
    threads = torch.get_num_threads()
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        torch.set_rng_state(random)
        if signal.getsignal(signal.SIGCHLD) != handler:  # DataLoader's, which watches its workers, and they are gone
            signal.signal(signal.SIGCHLD, handler)
            signal_handling._SIGCHLD_handler_set = False  # so that the next DataLoader sets it again
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if device is not None:
            torch.cuda.set_device(device)
