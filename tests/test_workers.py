"""Worker processes: order, and what becomes of items on which a worker crashes, hangs or runs out of memory."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastnoisy import machine
from fastnoisy import workers as pool
from fastnoisy.errors import FastnoisyError

Lost = pool.Lost
ordered = functools.partial(pool.ordered, lost=lambda lost: lost)
STARTS = ["fork", "spawn"] if sys.platform == "linux" else ["spawn"]


def square(i: int) -> int:
    time.sleep(0.002 * (i % 3))  # so that later ones are done first
    return i * i


def hostile(i: int) -> int:
    faulthandler.disable()  # it would write a trace into the output of the tests
    if i == 7:
        os.kill(os.getpid(), signal.SIGSEGV)
    if i == 11:
        os._exit(3)
    if i == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    if i == 20:
        while True:  # as a codec that does not come back
            pass
    return i


def failing(i: int) -> int:
    if i == 5:
        raise FastnoisyError(f"item {i}", "mend it")
    return i


def large(i: int) -> bytes:
    return bytes(3 << 20)


def greedy(i: int) -> int:
    return len(bytes(pool.ITEM_BYTES + (1 << 30))) if i == 2 else i


def held_pipes(i: int) -> tuple[int, set[int]]:
    time.sleep(0.002)
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found.add(os.stat(f"/proc/self/fd/{name}").st_ino)
    return os.getpid(), found


def middling(i: int) -> int:
    return len(bytes(1 << 30)) if i == 2 else i


def slow(i: int) -> int:
    if i == 1:
        time.sleep(1.0)
    while i == 2:
        pass
    return i


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order(start: str, workers: int) -> None:
    assert list(ordered(square, range(5, 90), workers=workers, start=start)) == [i * i for i in range(5, 90)]
    assert list(ordered(square, range(0), workers=workers, start=start)) == []
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_only_the_items_that_end_a_process_are_lost(workers: int) -> None:
    results = list(ordered(hostile, range(30), workers=workers, timeout=0.5))
    lost = {i: result.reason for i, result in enumerate(results) if isinstance(result, Lost)}
    assert lost == {
        7: "decoding it ends the process (SIGSEGV)",
        11: "decoding it ends the process (exit code 3)",
        12: "its process was killed, perhaps for want of memory",
        20: "took longer than 0.5 s to read and decode",
    }
    assert [result for result in results if not isinstance(result, Lost)] == [i for i in range(30) if i not in lost]


def test_the_last_try_of_an_item_is_made_when_no_other_is_worked_on(tmp_path: Path) -> None:
    """Only the third try of 3 and 17 succeeds, and the times at which others were worked on leave room for it."""

    def noted(i: int) -> int:
        began = time.monotonic()
        tries = tmp_path / f"{i}.tries"
        with tries.open("a") as file:
            file.write("x")
        if i in (3, 17):
            if tries.stat().st_size < 3:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.1)
        time.sleep(0.005)
        (tmp_path / f"{i}.times").write_text(f"{began} {time.monotonic()}")
        return i

    assert list(ordered(noted, range(60), workers=3, chunk=2, start="fork")) == list(range(60))
    times = {i: tuple(map(float, (tmp_path / f"{i}.times").read_text().split())) for i in range(60)}
    for alone in (3, 17):
        began, ended = times[alone]
        assert [i for i, (first, last) in times.items() if i != alone and first < ended and last > began] == []


def test_a_worker_that_is_killed_from_outside_loses_nothing() -> None:
    results = []
    for result in ordered(square, range(200), workers=2, chunk=4):
        results.append(result)
        if len(results) in (20, 90):
            victim = multiprocessing.active_children()[0].pid
            assert victim is not None
            os.kill(victim, signal.SIGKILL)
    assert results == [i * i for i in range(200)]


@pytest.mark.skipif(
    sys.platform != "linux", reason="open files are told by /proc, and only forked workers inherit them"
)
def test_no_worker_holds_another_ones_pipes() -> None:
    """Whose pipes another holds would not see them closed when the parent is killed."""
    made = pool._Pool(held_pipes, 3, str, pool.TIMEOUT, "fork")
    try:
        held = dict(made.run(range(60), 1))
        pipes = {
            worker.process.pid: {os.fstat(end.fileno()).st_ino for end in (worker._tasks_to, worker.results)}
            for worker in made.workers
        }
    finally:
        made.close()
    assert held.keys() == pipes.keys()
    for one in pipes:
        assert [other for other in pipes if held[one] & pipes[other]] == [one]


def test_an_error_of_the_work_is_raised_here() -> None:
    with pytest.raises(FastnoisyError, match="item 5") as caught:
        list(ordered(failing, range(20), workers=2))
    assert caught.value.remedy == "mend it"
    assert multiprocessing.active_children() == []


def test_stopping_early_ends_the_processes() -> None:
    with contextlib.closing(ordered(square, range(10_000), workers=2)) as results:
        assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert multiprocessing.active_children() == []


def test_results_larger_than_all_that_may_wait_still_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_HELD", 4 << 20)
    assert [len(result) for result in ordered(large, range(24), workers=3)] == [3 << 20] * 24


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is known from /proc")
def test_an_item_that_asks_for_too_much_memory_is_lost_and_not_the_machines() -> None:
    """Whatever the machine has: more than any item may take says something of the item."""
    results = list(ordered(greedy, range(4), workers=2))
    assert results == [0, 1, Lost(2, "needs more than 4 GiB of memory to decode", by_machine=False), 3]


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is known from /proc")
def test_where_this_process_may_take_less_that_says_nothing_of_the_item() -> None:
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_workers import Lost, middling, ordered
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (700 << 20),) * 2)
print(list(ordered(middling, range(4), workers=2)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    reason = "needs more memory to decode than this process may take (ulimit -v)"
    assert done.stdout == f"{[0, 1, Lost(2, reason, by_machine=True), 3]}\n"


def test_in_the_last_try_it_is_the_time_at_work_that_counts() -> None:
    """One that waits is slow because of something else; one that works on and on is slow itself."""
    results = list(ordered(slow, range(4), workers=2, timeout=0.4))
    assert results == [0, 1, Lost(2, "took longer than 0.4 s to read and decode", by_machine=False), 3]


# How many


def test_workers_follow_cores_memory_and_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(machine, "available_host", lambda: 200 << 30)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert machine.num_workers(None) == 64
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert machine.num_workers(None) == 16
    monkeypatch.setattr(machine, "available_host", lambda: 2 << 30)
    assert machine.num_workers(None) == 1
    assert machine.num_workers(7) == 7
    with pytest.raises(FastnoisyError, match="workers must be at least 1, got 0"):
        machine.num_workers(0)


SRUN = {"SLURM_PROCID": "3", "SLURM_STEP_ID": "0", "SLURM_NODEID": "0"}


@pytest.mark.parametrize(
    ("told", "mask", "expected"),
    [
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "8(x2)"}, 64, 8),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_NODEID": "1"}, 64, 8),
        ({**SRUN, "SLURM_TASKS_PER_NODE": "4,2", "SLURM_NODEID": "0"}, 64, 16),
        ({**SRUN, "SLURM_TASKS_PER_NODE": "4,2", "SLURM_NODEID": "1"}, 64, 32),
        ({**SRUN, "SLURM_TASKS_PER_NODE": "8(x2),4,2(x3)", "SLURM_NODEID": "5"}, 64, 32),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_TASKS_PER_NODE": "8"}, 64, 32),  # the step is what runs
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "4", "LOCAL_WORLD_SIZE": "2"}, 64, 32),  # torchrun within a task
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "many"}, 64, 64),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_NODEID": "7"}, 64, 64),
        ({"SLURM_STEP_TASKS_PER_NODE": "8"}, 64, 64),  # left over in a shell
        ({"SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURM_TASKS_PER_NODE": "8"}, 64, 64),  # a batch script
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "8"}, 8, 8),  # each task is bound to its own
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_CPUS_ON_NODE": "32"}, 4, 4),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_CPUS_ON_NODE": "32"}, 32, 4),  # the step's, shared by all
        ({"LOCAL_WORLD_SIZE": "4"}, 8, 2),
    ],
)
def test_tasks_of_srun_share_cores_and_memory(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], mask: int, expected: int
) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_") or name == "LOCAL_WORLD_SIZE"]:
        monkeypatch.delenv(name)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(mask)), raising=False)
    monkeypatch.setattr(machine, "available_host", lambda: 10_000 << 30)
    assert machine.cores() == machine.num_workers(None) == expected
    monkeypatch.setattr(machine, "available_host", lambda: 16 << 30)
    ranks = 64 // expected if mask == 64 else 4 if "LOCAL_WORLD_SIZE" in told else 8
    assert machine.num_workers(None) == min(expected, 16 // ranks)  # all tasks have one memory, whatever their cores


def test_memory_is_what_the_nearest_limit_leaves(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    assert machine.available_host(tmp_path) == 1 << 62
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  8388608 kB\n")
    assert machine.available_host(tmp_path) == 8 << 30
    (tmp_path / "proc/self/cgroup").write_text("0::/job/step\n")
    step = tmp_path / "sys/fs/cgroup/job/step"
    step.mkdir(parents=True)
    (step / "memory.max").write_text("max\n")
    (step.parent / "memory.max").write_text(f"{3 << 30}\n")
    assert machine.available_host(tmp_path) == 3 << 30
    (tmp_path / "proc/self/cgroup").write_text("5:cpu,memory:/old\n")
    old = tmp_path / "sys/fs/cgroup/memory/old"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text(f"{2 << 30}\n")
    assert machine.available_host(tmp_path) == 2 << 30
