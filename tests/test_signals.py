"""Signals to commands: at any moment they end with 130 or 143, quietly and soon, and leave nothing half-written."""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy import files, signals
from fastnoisy.data.conversion.convert import convert
from fastnoisy.data.store import open_store

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("convert", "adopt", "correct", "train", "predict")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, files as ffcv leaves them, a store and a run."""
    from fastnoisy.training import loop, setup

    place = tmp_path_factory.mktemp("made")
    draw = np.random.default_rng(0)
    for i in range(3000):
        path = place / f"images/{i % 2}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < 60:
            Image.fromarray(draw.integers(0, 256, (300, 300, 3), np.uint8)).save(path, compress_level=0)
        else:
            path.hardlink_to(place / f"images/{i % 2}/{i % 60}.png")
    convert("digits", place / "digits")
    (place / "foreign").mkdir()
    shutil.copy(place / "digits/train.beton", place / "foreign")
    words = ["model.width=4", "data.subset=60", "epochs=1", "batch_size=30", "threads=1", "device=cpu"]
    loop.start(setup.resolve("digits-ce", words, str(place / "digits")), place / "run")
    return place


def words_of(command: str, made: Path, out: Path) -> list[str]:
    if command == "convert":
        return ["convert", str(made / "images"), str(out / "out"), "--workers", "4"]
    if command == "adopt":
        shutil.copytree(made / "foreign", out / "foreign")
        return ["verify", str(out / "foreign"), "--adopt", "--workers", "4"]
    if command == "correct":
        (out / "fixes.csv").write_text("index,label\n1,7\n")
        outputs = ["--out", str(out / "out"), "--to-folder", str(out / "folder"), "--to-csv", str(out / "list.csv")]
        return ["correct", str(made / "digits"), str(out / "fixes.csv"), *outputs]
    if command == "train":
        words = ["model.width=4", "epochs=100000", "batch_size=30", "threads=1", "device=cpu"]
        return ["train", "digits-ce", *words, "--data", str(made / "digits"), "--out", str(out / "run")]
    return ["predict", str(made / "run"), str(made / "images"), "--device", "cpu"]


def cpu_seconds(pid: int) -> float:
    """Of a process and those that it has waited for; endless where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return math.inf
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def handles_sigterm(pid: int) -> bool:
    """Whether a process has a handler of its own."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def hit(command: str, made: Path, out: Path, number: signal.Signals, delay: float) -> bool:
    """Start a command, send it a signal after some seconds of its CPU time, and see how it ends; whether it got it."""
    out.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnoisy", *words_of(command, made, out)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not handles_sigterm(process.pid):  # Python itself starts: the signals' own actions, or its own traceback
        time.sleep(0.001)
        assert process.poll() is None
    while process.poll() is None and cpu_seconds(process.pid) < delay:
        time.sleep(0.002)
    if process.poll() == 0:  # it was done before the signal
        process.communicate()
        return False
    before = cpu_seconds(process.pid)
    process.send_signal(number)
    spent = 0.0
    while process.poll() is None:
        assert spent < 2.0, "it goes on"
        now = cpu_seconds(process.pid)
        spent = now - before if now < math.inf else 0.0
        time.sleep(0.002)
    _, said = process.communicate(timeout=20)
    assert process.returncode in (128 + number, -number), said
    assert "Traceback" not in said, said
    assert "Exception" not in said, said
    left = [path.name for path in out.rglob("*") if ".partial-" in path.name]
    assert left == [], left
    assert command != "correct" or not list(out.glob(".*")), "it goes on from nothing, so it leaves nothing"
    for store in (out / "out", out / "foreign"):
        if store.exists() and [path.name for path in store.iterdir()] != ["train.beton"]:
            open_store(store).close()  # whole: the signal came after that
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("count", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_an_early_signal_ends_it(command: str, count: int, made: Path, tmp_path: Path) -> None:
    """Early in its imports, as workers are forked, and at work."""
    draw, got = random.Random(f"{command} {count}"), 0
    for i in range(count):
        number = draw.choice((signal.SIGINT, signal.SIGTERM))
        delay = draw.choice((0.0, draw.uniform(0, 0.2), draw.uniform(0, 0.6), draw.uniform(0, 2.5)))
        if command in ("convert", "adopt", "correct"):
            delay /= 4
        got += hit(command, made, tmp_path / f"{i}", number, delay)
    assert got > count / 2


def test_a_signal_while_the_files_module_is_imported_ends_it() -> None:
    """Then the module is there, and what it defines is not yet."""
    code = """
import os, signal, sys, time, types
from fastnoisy import signals
sys.modules["fastnoisy.files"] = types.ModuleType("fastnoisy.files")
signals.quiet()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(10)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")


def test_the_words_are_said_and_what_is_half_written_is_removed(tmp_path: Path) -> None:
    code = f"""
import os, signal, time
from pathlib import Path
from fastnoisy import files, signals
with signals.handled(signals.leaving("go on with it")):
    folder = Path({str(tmp_path)!r})
    with files.replacing(folder / "a") as partial, files.unfinished(folder / "b") as b:
        partial.write_text("half")
        b.mkdir()
        (b / "c").write_text("half")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "go on with it\n")
    assert list(tmp_path.iterdir()) == []


def ended(code: str, **how: int) -> subprocess.CompletedProcess[str]:
    code = f"import os, signal, time\nfrom pathlib import Path\nfrom fastnoisy import files, signals\n{code}"
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, timeout=60, check=False, **options)


@pytest.mark.parametrize("moment", ["rename", "replace", "rmtree"])
def test_a_folder_is_replaced_wholly_or_not_at_all(moment: str, tmp_path: Path) -> None:
    """Between the two renames neither the old nor the new folder has its name."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/old").write_text("")
    place = "shutil" if moment == "rmtree" else "os"
    done = ended(f"""
import {place}
original = {place}.{moment}
def hit(*arguments, **options):
    original(*arguments, **options)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
{place}.{moment} = hit
signals.quiet()
with files.replacing(Path({str(tmp_path)!r}) / "a") as partial:
    partial.mkdir()
    (partial / "new").write_text("")
""")
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["a", "a/new"]


def test_nobody_who_does_not_read_keeps_a_process_from_leaving() -> None:
    """Standard output and error are full pipes: `fastnoisy ... | less`, and the user does not scroll."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, bytes(1 << 12))
        os.set_blocking(write, True)
        code = """
import sys, threading
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
with signals.handled(signals.leaving("words")):
    sys.stdout.write("a line that no one reads")
    sys.stdout.flush()
"""
        assert ended(code, stdout=write, stderr=write).returncode == 128 + signal.SIGINT
    finally:
        os.close(read)
        os.close(write)


def test_a_temporary_lock_goes_with_the_process(tmp_path: Path) -> None:
    for temporary in (True, False):
        done = ended(f"""
signals.quiet()
with files.FileLock(Path({str(tmp_path / str(temporary))!r}), temporary={temporary}):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
""")
        assert done.returncode == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["False"]


def test_the_handlers_are_set_before_anything_else_is_imported() -> None:
    """Until then Ctrl-C ends in Python's own traceback."""
    code = "import os, sys; before = set(sys.modules); import fastnoisy.signals; print(*set(sys.modules) - before)"
    said = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    light = {"signal", "select", "threading", "contextlib", "types", "collections.abc", "__future__", "enum"}
    light |= {"collections", "functools", "operator", "reprlib", "keyword", "itertools", "fastnoisy"}
    light |= {"warnings"}  # threading's, from Python 3.13 on
    found = {name for name in said.stdout.split() if not name.startswith("_")}
    assert found - light == {"fastnoisy.signals"}


def test_a_forked_process_only_leaves(tmp_path: Path) -> None:
    code = f"""
import os, signal, time
from pathlib import Path
from fastnoisy import files, signals
signals.quiet()
with files.replacing(Path({str(tmp_path / "a")!r})) as partial:
    partial.write_text("whole")
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a").read_text() == "whole"


def test_handlers_are_put_back_and_threads_are_left_alone() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in signals.NUMBERS]

    before = handlers()
    with signals.handled(lambda number, frame: None):
        assert handlers() != before
    assert handlers() == before

    def elsewhere() -> list[object]:
        with signals.handled(lambda number, frame: None):
            return handlers()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(elsewhere).result() == before


def test_nothing_is_kept_in_mind_once_it_is_written(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "a") as partial:
        partial.write_text("x")
        assert partial in files._unfinished
    with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "b"):
        raise ZeroDivisionError
    assert not {path for path in files._unfinished if path.is_relative_to(tmp_path)}
