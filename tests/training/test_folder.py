"""The run folder: whose it is, and that what is refused leaves nothing in it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastnoisy.data.store import open_store
from fastnoisy.data.store.verify import verify
from fastnoisy.errors import FastnoisyError
from fastnoisy.training import loop, setup
from fastnoisy.training.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["model.width=4", "data.subset=200", "epochs=1", "batch_size=20", "threads=1", "device=cpu"]


def start(store: Path, out: Path, *words: str) -> dict[str, Any]:
    return loop.start(setup.resolve("digits-ce", [*WORDS, *words], str(store)), out)


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def copy(digits: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits, tmp_path / "copy"))


def damage(store: Path) -> None:
    """Flip the last byte of the last record of the test split, which is opened after the training split."""
    with open_store(store) as opened:
        reader = opened.split("test")._reader
        place = int(reader.starts[-1] + reader.lengths[-1] - 1)
    with (store / "test.beton").open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def unstamp(store: Path) -> None:
    (store / "test.meta/verified.json").unlink(missing_ok=True)


@pytest.mark.parametrize("pipeline", ["resident", "ffcv"])
def test_the_command_that_failed_works_once_the_data_are_mended(pipeline: str, copy: Path, tmp_path: Path) -> None:
    if pipeline == "ffcv":
        pytest.importorskip("ffcv")
        verify(copy)
        unstamp(copy)
        mend, said = verify, "has not been verified"
    else:
        damage(copy)
        mend, said = damage, "test.beton: record 1196 .* is damaged"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("the user's")
    for out, left in ((tmp_path / "run", None), (tmp_path / "mine", {"notes": b"the user's"})):
        with pytest.raises(FastnoisyError, match=said):
            start(copy, out, f"pipeline={pipeline}")
        assert (files(out) if out.exists() else None) == left
    mend(copy)
    assert start(copy, tmp_path / "run", f"pipeline={pipeline}")["event"] == "final"


def test_a_change_that_cannot_be_opened_is_not_kept(copy: Path, tmp_path: Path) -> None:
    pytest.importorskip("ffcv")
    out = tmp_path / "run"
    start(copy, out, "pipeline=torch-loader")
    unstamp(copy)
    before = files(out)
    with pytest.raises(FastnoisyError, match="has not been verified"):
        loop.resume(out, ["pipeline=ffcv"])
    assert files(out) == before


def flock_of_nfs(descriptor: int, operation: int) -> None:
    """As NFS has it: a lock of the server's, for which the descriptor must be one that may be written to."""
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def test_a_run_folder_may_lie_on_nfs(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", flock_of_nfs)
    assert start(digits, tmp_path / "run")["event"] == "final"
    assert loop.resume(tmp_path / "run", ["epochs=2"])["epochs"] == 2


def test_a_file_system_without_locks_gets_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    said: list[str] = []
    with RunFolder(tmp_path).locked(said.append):
        pass
    assert [line for line in said if "cannot be locked (No locks available)" in line] == said != []
    assert list(tmp_path.iterdir()) == []


def test_a_lock_taken_on_a_file_just_removed_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever held it removes the file before letting go: a lock on the removed one would keep nobody out."""
    original, calls = fcntl.flock, 0

    def removed_first(descriptor: int, operation: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            (tmp_path / ".lock").unlink()
        original(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    held = RunFolder(tmp_path).locked(print)
    with held, pytest.raises(FastnoisyError, match=r"another process .* is at work"), RunFolder(tmp_path).locked(print):
        pass
    assert calls == 3
    with RunFolder(tmp_path).locked(print):  # free again
        pass


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()  # root may write anywhere, so that a mode would not do
    with (
        pytest.raises(FastnoisyError, match=rf"{tmp_path} cannot be written to: Is a directory"),
        RunFolder(tmp_path).locked(print),
    ):
        pass


def test_a_process_that_outlives_a_killed_run_does_not_keep_its_lock(tmp_path: Path) -> None:
    """Decoders are forked, and notice only after seconds that the run is gone."""
    code = f"""
import os, time
from pathlib import Path
from fastnoisy.training.run_folder import RunFolder
with RunFolder(Path({str(tmp_path)!r})).locked(print):
    if os.fork() == 0:
        os.close(1)
        time.sleep(30)
        os._exit(0)
    os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == 9
    with RunFolder(tmp_path).locked(pytest.fail):  # refused where another holds it
        pass
