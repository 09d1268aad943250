"""A function over many items in worker processes: results in order, in bounded memory, whatever becomes of a worker.

Codecs meet hostile bytes here, so a worker may crash, be killed for want of memory, or hang. Its unfinished items then
go to a fresh process, one by one, and the item on which that process ends too is tried a last time when all other
workers have become idle: how long it takes and what memory is left depend on them, and what becomes of it must not.
Only where that process ends as well it comes back lost, with the reason. Time is kept by the kernel: a timer that ends
the worker is set before each item, so even a codec that never returns to Python, or a worker whose parent was killed,
does not go on for ever.

Workers are forked where the platform is Linux: they start in milliseconds and share what the parent has read (CIFAR's
pixels, a list of 2.4 million paths) without a copy. That is safe beside other threads of the parent, torch's among
them, since all that runs in a worker is Python, numpy's plain loops and Pillow's codecs: none of them waits for a
thread that is not there, and the locks that they take (allocator, loader, imports) are made anew by libc and Python.
Elsewhere they are spawned, and the function is pickled: so it must know how to open its data again.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from fastnoisy import signals
from fastnoisy.errors import FastnoisyError

TIMEOUT = 60.0  # seconds for one item
MIN_TIMEOUT = 0.001  # none is read in less, so all would be lost
MAX_TIMEOUT = 1e6  # 11 days; much longer ones are refused by the timer of the kernel
MAX_CHUNK = 64  # items handed out at once
AHEAD = 4  # chunks per worker that may be done before their turn
MAX_HELD = 256 << 20  # bytes of results that wait for their turn
ITEM_BYTES = 4 << 30  # address space that one item may take; the largest image that is accepted needs about one
FLUSH_SECONDS = 0.02  # between messages of a worker
_PDEATHSIG = 1  # of prctl(2)
_NO_MEMORY, _NO_MEMORY_HERE = 71, 72  # exit codes: past the limit for any item, past a lower one of this machine
_PATIENCE = 10  # times the time for an item, in which a last try may wait
PIPE_BYTES = 1 << 20  # what a worker's pipe may hold; the most that Linux lets everyone ask for


@dataclass(frozen=True, slots=True)
class Lost:
    """An item of which a worker died each time, the last with no other at work.

    Attributes:
        item: its number.
        reason: why, on one line.
        by_machine: whether that says nothing of the item: the machine has less memory than any item may take, or
            something else has killed the process.
    """

    item: int
    reason: str
    by_machine: bool


@dataclass(frozen=True, slots=True)
class Status:
    """How far something is: `done` of `total` images, `bad` of them rejected or damaged."""

    done: int
    total: int
    bad: int = 0


Progress = Callable[[Status], None]


def check_timeout(timeout: float) -> None:
    """Refuse a time for one item that no item has, or that the kernel's timer does not know.

    Raises:
        FastnoisyError: it is outside of 0.001 to 1,000,000 seconds.
    """
    if not MIN_TIMEOUT <= timeout <= MAX_TIMEOUT:  # which nan is not, either
        problem = (
            f"timeout: the time for one image must be {MIN_TIMEOUT:g} to {MAX_TIMEOUT:,.0f} seconds, got {timeout:g}"
        )
        raise FastnoisyError(problem, f"without it, {TIMEOUT:g} are allowed")


def ordered(
    work: Callable[[int], Any],
    items: range,
    *,
    workers: int,
    lost: Callable[[Lost], Any],
    timeout: float = TIMEOUT,
    chunk: int | None = None,
    start: str | None = None,
) -> Generator[Any, None, None]:
    """The results of `work` on each item, in the items' order. Close the generator to stop early.

    Args:
        work: called in the workers; its results are pickled. What it raises is raised here.
        items: consecutive numbers.
        workers: processes; at least 1.
        lost: makes what stands in for the result of an item of which a worker died each time; may raise.
        timeout: seconds that one item may take.
        chunk: items handed to a worker at once; chosen by their number where None.
        start: how processes are made: `fork` or `spawn`; by platform where None.

    Yields:
        A result, or what `lost` gives.

    Raises:
        FastnoisyError: no process can be started.
    """
    if chunk is None:
        chunk = max(1, min(MAX_CHUNK, len(items) // (4 * workers)))
    pool = _Pool(work, workers, lost, timeout, start or ("fork" if sys.platform == "linux" else "spawn"))
    try:
        yield from pool.run(items, chunk)
    finally:
        pool.close()


@dataclass(slots=True)
class _Task:
    """Items `first` to below `last`; `careful` where each is answered for by itself, `alone` where no other is worked
    on.
    """

    first: int
    last: int
    careful: bool = False
    alone: bool = False


class _Worker:
    """A process and what it has been given to do."""

    def __init__(self, pool: _Pool) -> None:
        self.tasks: deque[_Task] = deque()
        their_tasks, self._tasks_to = pool.context.Pipe(duplex=False)
        self.results, their_results = pool.context.Pipe(duplex=False)
        _widen(their_results.fileno())
        # A forked worker must not hold the parent's ends: a worker whose parent is gone sees it by the closed pipe.
        ends = [end for worker in (self, *pool.workers) for end in (worker.results, worker._tasks_to)]
        inherited = [end.fileno() for end in ends] if pool.forks else []
        arguments = (their_tasks, their_results, inherited, pool.work, pool.timeout, os.getpid())
        self.process = pool.context.Process(target=_serve, args=arguments, daemon=True)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
                with signals.blocked():  # until the worker has handlers of its own
                    self.process.start()
        except OSError as error:
            self._close()
            raise FastnoisyError(f"cannot start a process: {error.strerror or error}", "try fewer --workers") from None
        finally:
            their_tasks.close()
            their_results.close()

    def give(self, task: _Task) -> None:
        self.tasks.append(task)
        with contextlib.suppress(OSError):  # it died meanwhile: noticed when it is waited for
            self._tasks_to.send((task.first, task.last, task.careful, task.alone))

    def end(self) -> int:
        """Make sure that the process is gone; its exit code, negative for a signal."""
        self.process.join(1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(10)
        code = self.process.exitcode
        self._close()
        if code is not None:
            self.process.close()
        return -signal.SIGKILL if code is None else code

    def _close(self) -> None:
        self._tasks_to.close()
        self.results.close()


class _Pool:
    def __init__(
        self, work: Callable[[int], Any], count: int, lost: Callable[[Lost], Any], timeout: float, start: str
    ) -> None:
        self.work, self.lost, self.timeout, self.forks = work, lost, timeout, start == "fork"
        self.context: Any = multiprocessing.get_context(start)
        self.count = count
        self.workers: list[_Worker] = []
        self._done: dict[int, tuple[list[Any], int]] = {}  # by first item: results and the bytes they came in
        self._held = 0
        self._alone: deque[int] = deque()  # items to be tried when no other is worked on, and the one that is

    def run(self, items: range, chunk: int) -> Iterator[Any]:
        position = items.start
        todo = deque(_Task(i, min(i + chunk, items.stop)) for i in range(items.start, items.stop, chunk))
        for _ in range(min(self.count, len(todo))):
            self.workers.append(_Worker(self))  # one by one: each closes what it has inherited of those before it
        while position < items.stop:
            while position in self._done:
                results, num_bytes = self._done.pop(position)
                self._held -= num_bytes
                position += len(results)
                yield from results
            self._hand_out(todo, position + AHEAD * self.count * chunk)
            if position < items.stop:
                self._receive(todo, position)

    def close(self) -> None:
        for worker in self.workers:
            worker.process.kill()  # it holds nothing that is not lost gladly
        for worker in self.workers:
            worker.end()
        self.workers.clear()

    def _hand_out(self, todo: deque[_Task], bound: int) -> None:
        if self._alone:
            if not any(worker.tasks for worker in self.workers):
                idle = self.workers.pop()  # which may be long dead, or hold much memory
                idle.process.kill()
                idle.end()
                self.workers.append(_Worker(self))
                self.workers[-1].give(_Task(self._alone[0], self._alone[0] + 1, careful=True, alone=True))
            return
        for depth in (1, 2):  # two each, so that none waits while this process is busy
            for worker in self.workers:
                if todo and len(worker.tasks) < depth and todo[0].first < bound:
                    worker.give(todo.popleft())

    def _receive(self, todo: deque[_Task], position: int) -> None:
        """Wait for messages; where too much is held, only for the worker whose turn it is."""
        asked = [worker for worker in self.workers if worker.tasks]
        if self._held > MAX_HELD:
            turn = [worker for worker in asked if any(t.first <= position < t.last for t in worker.tasks)]
            asked = turn or asked
        by_connection: dict[Any, _Worker] = {worker.results: worker for worker in asked}
        for connection in wait(list(by_connection)):
            worker = by_connection[connection]
            try:
                message = worker.results.recv_bytes()
            except (EOFError, OSError):
                self._replace(worker, todo)
                continue
            results = pickle.loads(message)
            if isinstance(results, BaseException):
                raise results
            task = worker.tasks[0]
            self._keep(task.first, results, len(message))
            task.first += len(results)
            if task.first == task.last:
                worker.tasks.popleft()
                if task.alone:
                    self._alone.popleft()

    def _keep(self, first: int, results: list[Any], num_bytes: int) -> None:
        self._done[first] = (results, num_bytes)
        self._held += num_bytes

    def _replace(self, worker: _Worker, todo: deque[_Task]) -> None:
        """A worker has died: what it was at is tried again with care, then alone, and then given up."""
        code = worker.end()
        self.workers.remove(worker)
        task = worker.tasks.popleft()
        todo.extendleft(reversed(worker.tasks))
        if task.alone:
            item = self._alone.popleft()
            by_machine = code in (-signal.SIGKILL, _NO_MEMORY_HERE)
            self._keep(item, [self.lost(Lost(item, _reason(code, self.timeout), by_machine))], 0)
        elif task.careful:
            self._alone.append(task.first)
        if task.careful:
            task.first += 1
        self.workers.append(_Worker(self))
        if task.first < task.last:
            self.workers[-1].give(_Task(task.first, task.last, careful=True))


def _reason(code: int, timeout: float) -> str:
    if code == _NO_MEMORY:
        return f"needs more than {ITEM_BYTES >> 30} GiB of memory to decode"
    if code == _NO_MEMORY_HERE:
        return "needs more memory to decode than this process may take (ulimit -v)"
    if code in (-signal.SIGALRM, -signal.SIGPROF):
        return f"took longer than {timeout:g} s to read and decode"
    if code == -signal.SIGKILL:
        return "its process was killed, perhaps for want of memory"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
    return f"decoding it ends the process ({name})"


def _widen(pipe: int) -> None:
    """Let a pipe hold a chunk's results, so that a worker need not wait in the midst of them for this process to
    read.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a user may have 16,384 pages in pipes; then it stays at 64 KiB
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _serve(
    tasks: Connection,
    results: Connection,
    inherited: list[int],
    work: Callable[[int], Any],
    timeout: float,
    parent: int,
) -> None:
    """What a worker does: tasks in, results out, until the pipe is closed."""
    for descriptor in inherited:
        os.close(descriptor)
    gc.freeze()  # what came from the parent stays: looking through it would copy its pages
    # Ctrl-C goes to every process of the terminal; the parent ends this one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.NUMBERS)
    end_with(parent)
    no_memory = _NO_MEMORY if _limit_memory() else _NO_MEMORY_HERE
    try:
        while True:
            _do(results, work, timeout, no_memory, *tasks.recv())
    except (EOFError, OSError):  # nobody listens any more
        os._exit(1)


def _do(
    connection: Connection,
    work: Callable[[int], Any],
    timeout: float,
    no_memory: int,
    first: int,
    last: int,
    careful: bool,
    alone: bool,
) -> None:
    results: list[Any] = []
    # In the last try it is the time at work that counts, so that the verdict does not depend on what else the machine
    # does; waiting, as for a disk, has more.
    wall = _PATIENCE * timeout if alone else timeout
    sent = time.monotonic()
    for item in range(first, last):
        signal.setitimer(signal.ITIMER_REAL, wall)
        signal.setitimer(signal.ITIMER_PROF, timeout if alone else 0)
        try:
            results.append(work(item))
        except MemoryError:  # tried again as if it had ended the process, at last with no other at work
            os._exit(no_memory)
        except Exception as error:
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send_bytes(_pickled_error(error))
            return
        if careful or item == last - 1 or time.monotonic() - sent > FLUSH_SECONDS:
            signal.setitimer(signal.ITIMER_REAL, 0)  # waiting for the parent is not decoding
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.send_bytes(pickle.dumps(results, pickle.HIGHEST_PROTOCOL))
            results, sent = [], time.monotonic()


def _pickled_error(error: Exception) -> bytes:
    try:
        return pickle.dumps(error)
    except Exception:  # an exception may hold anything
        return pickle.dumps(RuntimeError("".join(traceback.format_exception(error))))


def end_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel end this process with its parent, which need not have the time to say so.

    Args:
        number: the signal that it gets then.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it was quicker
            os._exit(1)


def _limit_memory() -> bool:
    """Let a codec that asks for absurd amounts get an error, instead of the machine's memory.

    Returns:
        Whether the limit is the one that holds everywhere, and not a lower one of this machine.
    """
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        return False
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([used + ITEM_BYTES, *bounds]), hard))
    return all(used + ITEM_BYTES <= bound for bound in bounds)
