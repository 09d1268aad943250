"""What a run changes in the process that it runs in, and that its caller gets back as it was."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.data._utils import signal_handling


@contextmanager
def caller_unchanged() -> Iterator[None]:
    """Put the caller's thread count, current GPU and handler of SIGCHLD back at the end."""
    threads = torch.get_num_threads()
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGCHLD) != handler:  # DataLoader's, which watches its workers, and they are gone
            signal.signal(signal.SIGCHLD, handler)
            signal_handling._SIGCHLD_handler_set = False  # so that the next DataLoader sets it again
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if device is not None:
            torch.cuda.set_device(device)
