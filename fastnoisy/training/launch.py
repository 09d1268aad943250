"""Starting the processes of a run on this machine: what torchrun does, from within `fastnoisy train`."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence

import torch

from fastnoisy import machine
from fastnoisy.errors import FastnoisyError


def number_of_gpus(asked: str) -> int:
    """How many processes `--gpus` asks for.

    Args:
        asked: a number, or `all`.

    Raises:
        FastnoisyError: it is neither, or there are not so many.
    """
    there = torch.cuda.device_count()
    if asked != "all" and not (asked.isdigit() and int(asked)):
        raise FastnoisyError(f"--gpus {asked}: must be a number from 1 on, or all")
    number = there if asked == "all" else int(asked)
    if not there or number > there:
        raise FastnoisyError(
            f"--gpus {asked}: torch {torch.__version__} sees {there} GPUs on this machine",
            "Leave --gpus out, or start processes on the CPU with --processes N",
        )
    return number


def launch(processes: int, words: Sequence[str]) -> int:
    """Run `fastnoisy` with `words` in so many processes that train one model together; returns the exit code.

    Raises:
        FastnoisyError: a launcher has started this process already.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if "WORLD_SIZE" in os.environ:
        raise FastnoisyError(
            "a launcher has started this process already, and --gpus and --processes would start others",
            "Leave them out under torchrun and srun",
        )
    # each is alone on its share of the cores; else two threads of each would wait for one another
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, machine.cores() // processes)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0",
        max_restarts=0, monitor_interval=0.1, run_id=secrets.token_hex(8),
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "fastnoisy", *words)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        own = [code for code in codes if code > 0]  # negative: ended by a signal, most by the launcher's own
        return min(own) if own else 128 - codes[0]
    except SignalException as asked:
        return 128 + int(asked.sigval)
    return 0
