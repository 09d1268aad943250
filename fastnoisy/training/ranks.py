"""Joining the processes that a launcher has started: torchrun, `fastnoisy train --gpus`, or torchrun under srun.

A launcher tells each process its number in environment variables. `joined` makes them one group, ends it whatever
happens, and sees that an error is printed once, by the rank that met it.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch.distributed as dist

from fastnoisy.distributed import ONE, Group, LostError, Ranks
from fastnoisy.errors import FastnoisyError, ToldError
from fastnoisy.training.device import choose_device
from fastnoisy.training.run_folder import RunFolder
from fastnoisy.training.settings import Settings
from fastnoisy.training.stop import Interrupted

_PATIENCE = 10  # times the timeout of a step, for what one rank does alone: a checkpoint, a fit, a compilation
_HOUR = 3600.0  # seconds, at least
_MEETING = timedelta(minutes=10)  # for all processes of a start to come
_ASKED = timedelta(milliseconds=100)
_SAID_WITHIN = 5.0  # seconds that a rank which has lost another one gives it to say why
_PREFIX = "fastnoisy"


def launched() -> bool:
    """Whether a launcher has started this process as one of several."""
    return _number("WORLD_SIZE", 1) > 1


def goes_on(folder: RunFolder, settings: Settings) -> bool:
    """Whether a launcher's command is to go on with the run in a folder instead of refusing it: a launcher starts the
    same command again where a rank was lost, and the folder holds what that command has begun.
    """
    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if not under_torchrun or not folder.config_path.is_file():
        return False
    if _number("TORCHELASTIC_RESTART_COUNT", 0):
        return True
    return not folder.begun_otherwise(settings)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else default


@contextmanager
def joined(settings: Callable[[], Settings]) -> Iterator[Group]:
    """The ranks of this start; of a process that is alone, the group of one.

    Args:
        settings: gives what the run is configured with.

    Raises:
        FastnoisyError: as the block; the message names rank and machine.
        ToldError: another rank has said what went wrong.
        LostError: another rank does not answer, and none has said why.
    """
    if not launched():
        yield ONE
        return
    rank, size, c = _number("RANK", 0), _number("WORLD_SIZE", 1), settings().config
    device = choose_device(c.device)
    if dist.is_initialized():
        raise FastnoisyError(
            "torch.distributed is initialised already in this process, and a run joins its processes itself",
            "Call fastnoisy.train before init_process_group, or after destroy_process_group",
        )
    asked = c.distributed.backend
    backend = asked if asked != "auto" else "nccl" if device.type == "cuda" else "gloo"
    if backend == "nccl" and device.type != "cuda":
        raise FastnoisyError(f"distributed.backend=nccl on device {device}", "It is for GPUs: set it to auto or gloo")
    store = _meet(rank, size)
    try:
        with _told_once(store, rank, size):
            here, many = _number("LOCAL_RANK", rank), _number("LOCAL_WORLD_SIZE", size)
            yield connect(store, rank, size, backend, c.distributed.timeout, here, many)
    finally:
        if dist.is_initialized():
            with suppress(RuntimeError):  # of a group that has lost a rank
                dist.destroy_process_group()


def connect(
    store: dist.Store, rank: int, size: int, backend: str, timeout: float, local_rank: int = 0, local_size: int = 1
) -> Ranks:
    """Make torch's process groups and a hold on them.

    Args:
        timeout: seconds that a training step waits; ten times as long, and at least an hour, where one rank may work
            alone.
    """
    kinds = "cpu:gloo,cuda:nccl" if backend == "nccl" else "gloo"
    try:
        if backend == "nccl":
            choose_device("auto", _Place(rank, size, local_rank, local_size))  # NCCL takes torch's current GPU
        patience = timedelta(seconds=max(_HOUR, _PATIENCE * timeout))
        dist.init_process_group(kinds, store=store, rank=rank, world_size=size, timeout=patience)
        patient = dist.group.WORLD
        timely = dist.new_group(backend=kinds, timeout=timedelta(seconds=timeout))
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        raise LostError(f"rank {rank} of {size} on {socket.gethostname()} cannot join the others ({said})") from error
    assert patient is not None
    assert isinstance(timely, dist.ProcessGroup)
    return Ranks(patient, timely, local_rank, local_size)


class _Place(Group):
    """Where a rank stands, before there is a group."""

    def __init__(self, rank: int, size: int, local_rank: int, local_size: int) -> None:
        self.rank, self.size, self.local_rank, self.local_size = rank, size, local_rank, local_size

    gather = sum = agree = barrier = None  # type: ignore[assignment]


def _meet(rank: int, size: int) -> dist.Store:
    """A store that the processes of this start share and no other start has written to.

    torchrun hands the same store to the processes that it starts again, with all that the lost ones wrote. So each
    process gives itself a name, and rank 0 answers to names until every rank has told it that it has the answer.
    """
    host, port = os.environ.get("MASTER_ADDR", "127.0.0.1"), _number("MASTER_PORT", 29500)
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    name, end = secrets.token_hex(8), time.monotonic() + _MEETING.total_seconds()
    try:
        base = dist.TCPStore(host, port, None, rank == 0 and not agent, timeout=_MEETING, wait_for_workers=False)
        store = dist.PrefixStore(_PREFIX, base)
        if rank == 0:
            _answer(store, size, name, end)
            start = name
        else:
            store.set(f"name/{rank}", name)
            start = store.get(f"answer/{name}").decode()
            store.set(f"{start}/has/{rank}", "1")
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        raise FastnoisyError(
            f"rank {rank} of {size} on {socket.gethostname()} does not reach the other processes by {host}:{port} "
            f"({said})",
            "See that all of them were started, and that this port of the first machine can be reached",
        ) from None
    return dist.PrefixStore(start, store)


def _answer(store: dist.Store, size: int, start: str, end: float) -> None:
    """Rank 0's side of `_meet`."""
    left, answered = set(range(1, size)), set[bytes]()
    while left:
        for rank in sorted(left):
            if store.check([f"{start}/has/{rank}"]):
                left.discard(rank)
            elif store.check([f"name/{rank}"]) and (name := store.get(f"name/{rank}")) not in answered:
                answered.add(name)  # perhaps of a process that is gone: nobody reads that answer
                store.set(f"answer/{name.decode()}", start)
        if time.monotonic() > end:
            raise RuntimeError(f"ranks {sorted(left)} have not come within {_MEETING.total_seconds():.0f} s")
        time.sleep(_ASKED.total_seconds() / 2)


@contextmanager
def _told_once(store: dist.Store, rank: int, size: int) -> Iterator[None]:
    """Of an error that several ranks meet, or that one rank's end is for the others, one rank's line goes through."""
    try:
        yield
    except Interrupted:
        raise
    except LostError as error:
        if _heard(store):
            raise ToldError("another rank has said what went wrong") from error
        raise
    except ToldError:
        raise
    except FastnoisyError as error:
        if not _is_first(store):
            raise ToldError("another rank has said what went wrong") from error
        where = f"rank {rank} of {size} on {socket.gethostname()}: "
        raise type(error)(where + error.message, error.remedy) from error
    except Exception:
        _is_first(store)  # its traceback says it
        raise


def _heard(store: dist.Store) -> bool:
    """Whether another rank has said why it ends, or says so within a few seconds; else this one speaks. In a thread of
    its own: where the machine that holds the store is cut off, its answer may not come for minutes.
    """
    found = threading.Event()

    def ask() -> None:
        with suppress(RuntimeError):
            store.wait(["told"], timedelta(seconds=_SAID_WITHIN))
            found.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_SAID_WITHIN + 1)
    if not found.is_set() and not asking.is_alive():
        return not _is_first(store)
    return found.is_set()


def _is_first(store: dist.Store) -> bool:
    try:
        return bool(store.add("told", 1) == 1)
    except RuntimeError:  # the machine that held it is gone
        return True
