"""What may still be taken, as the kernel and every control group above this process say, in a made /proc and /sys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fastnoisy import machine

GIB = 1 << 30


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, {"proc/meminfo": "MemTotal: 99 kB\nMemAvailable:  33554432 kB"})
    return tmp_path


def test_what_the_kernel_says_where_nothing_is_limited(root: Path, tmp_path: Path) -> None:
    assert machine.available_host(root) == 32 * GIB
    assert machine.limits(root) == []
    assert machine.available_host(tmp_path / "nothing") == 1 << 62


def test_a_limit_at_any_height_of_the_tree_holds(root: Path) -> None:
    """Slurm limits job_N; the process is in job_N/step_0/user/task_0, whose own memory.max is "max"."""
    slurm = "system.slice/slurmstepd.scope/job_5"
    base = f"sys/fs/cgroup/{slurm}"
    put(root, {
        "proc/self/cgroup": f"0::/{slurm}/step_0/user/task_0",
        f"{base}/step_0/user/task_0/memory.max": "max", f"{base}/step_0/user/task_0/memory.current": "5",
        f"{base}/memory.max": f"{8 * GIB}", f"{base}/memory.current": f"{6 * GIB}",
        f"{base}/memory.stat": f"anon 3\ninactive_file {GIB}",
    })  # fmt: skip
    assert machine.limits(root) == [machine.Limit(3 * GIB, 8 * GIB, 5 * GIB)]
    assert machine.available_host(root) == 3 * GIB
    put(root, {"sys/fs/cgroup/system.slice/memory.max": f"{7 * GIB}"})
    put(root, {"sys/fs/cgroup/system.slice/memory.current": f"{7 * GIB + 1}"})
    assert machine.available_host(root) == 0, "what is over its limit has nothing left, not less"


def test_version_1_counts_and_tells_no_limit_by_a_large_number(root: Path) -> None:
    base = "sys/fs/cgroup/memory/slurm/uid_1/job_5"
    put(root, {
        "proc/self/cgroup": "7:cpuset:/x\n4:hugetlb,memory:/slurm/uid_1/job_5/step_0\n0::/",
        f"{base}/step_0/memory.limit_in_bytes": "9223372036854771712", f"{base}/step_0/memory.usage_in_bytes": "5",
        f"{base}/memory.limit_in_bytes": f"{4 * GIB}", f"{base}/memory.usage_in_bytes": f"{2 * GIB}",
        f"{base}/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}",
    })  # fmt: skip
    assert machine.limits(root) == [machine.Limit(3 * GIB, 4 * GIB, GIB)]
    assert machine.available_host(root) == 3 * GIB


def test_asking_for_it_does_not_import_torch() -> None:
    code = "import sys; from fastnoisy import machine; machine.num_workers(None); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def ticks(user: int, nice: int, idle: int, waiting: int = 0) -> str:
    return f"{user} {nice} 0 {idle} {waiting} 0 0 0 0 0"


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 2})
    monkeypatch.setattr(machine.os, "times", lambda: (0.0, 0.0))


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(
    ("first", "second", "free"),
    [
        (ticks(0, 0, 50), ticks(0, 0, 50), 2.0),
        (ticks(50, 0, 0), ticks(0, 0, 50), 1.0),
        (ticks(50, 0, 0), ticks(50, 0, 0), 0.0),
        (ticks(0, 50, 0), ticks(25, 0, 25), 1.5),  # what gives way is in nobody's way
        (ticks(0, 0, 0, 50), ticks(10, 0, 30, 10), 1.8),  # a core that waits for a disk is free
    ],
)
def test_cores_that_others_leave_free(
    first: str, second: str, free: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a machine with three, the second of which this process may not use."""
    nothing, busy = ticks(0, 0, 0), ticks(50, 0, 0)
    put(tmp_path, {"proc/stat": f"cpu  {nothing}\ncpu0 {nothing}\ncpu1 {nothing}\ncpu2 {nothing}\nintr 1"})
    later = {"proc/stat": f"cpu  {nothing}\ncpu0 {first}\ncpu1 {busy}\ncpu2 {second}\nintr 1"}
    monkeypatch.setattr(machine.time, "sleep", lambda _: put(tmp_path, later))
    assert machine.free_cores(root=tmp_path) == pytest.approx(free)


@pytest.mark.usefixtures("two_cores")
def test_all_are_free_where_the_kernel_tells_nothing(tmp_path: Path) -> None:
    assert machine.free_cores(0.0, tmp_path) == 2.0


def test_what_this_process_does_itself_is_in_nobody_s_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0})
    put(tmp_path, {"proc/stat": f"cpu0 {ticks(0, 0, 0)}"})
    clock = iter([0.0, 0.5])
    spent = iter([(0.0, 0.0), (0.4, 0.1)])
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(machine.os, "times", lambda: next(spent))
    monkeypatch.setattr(machine.time, "sleep", lambda _: put(tmp_path, {"proc/stat": f"cpu0 {ticks(50, 0, 0)}"}))
    assert machine.free_cores(root=tmp_path) == 1.0
