"""Staging: a checked copy on the local disk, made once."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastnoisy.data.conversion.convert import convert
from fastnoisy.data.store import open_store
from fastnoisy.data.store import stage as staging
from fastnoisy.data.store.digests import write_sums
from fastnoisy.data.store.meta import META_FILES
from fastnoisy.data.store.stage import stage
from fastnoisy.errors import FastnoisyError


@pytest.fixture
def store(tmp_path: Path) -> Path:
    out = tmp_path / "net" / "digits"
    out.parent.mkdir()
    convert("digits", out, progress=None)
    (out / "human.npy").write_bytes(b"labels that lie beside")
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_copy_is_the_store_and_is_used_again(store: Path, tmp_path: Path) -> None:
    local = tmp_path / "local" / "disk"
    copy = stage(store, local)
    assert copy.parent == local
    assert copy.name.startswith("digits-")
    assert content(copy) == content(store)
    with open_store(copy) as opened:
        assert opened.split("train").verified, "the stamp holds in a copy"
    before = {p: p.stat().st_ino for p in copy.rglob("*")}
    assert stage(store, local) == copy
    assert {p: p.stat().st_ino for p in copy.rglob("*")} == before


def test_a_damaged_copy_is_made_anew(store: Path, tmp_path: Path) -> None:
    copy = stage(store, tmp_path / "local")
    with (copy / "train.beton").open("r+b") as file:
        file.truncate(1000)
    assert stage(store, tmp_path / "local") == copy
    assert content(copy) == content(store)


def test_another_store_of_that_name_gets_its_own_copy(store: Path, tmp_path: Path) -> None:
    copy = stage(store, tmp_path / "local")
    labels = dict(np.load(store / "train.meta" / "labels.npz"))
    labels["clean"] = labels["clean"][::-1] if "clean" in labels else labels["given"][::-1]
    np.savez(store / "train.meta" / "labels.npz", **labels)
    write_sums(store / "train.meta", META_FILES)
    other = stage(store, tmp_path / "local")
    assert other != copy
    assert content(other) == content(store)


def test_a_damaged_record_is_never_copied(store: Path, tmp_path: Path) -> None:
    with open_store(store) as opened:
        split = opened.split("train")
        at = int(split._reader.starts[7]) + 3
        wrong = bytes([split._reader.read_at(at, 1)[0] ^ 1])
    with (store / "train.beton").open("r+b") as file:
        file.seek(at)
        file.write(wrong)
    with pytest.raises(FastnoisyError, match="record 7") as caught:
        stage(store, tmp_path / "local")
    assert str(store / "train.beton") in str(caught.value)
    assert "partial" not in str(caught.value)
    assert [p.name for p in (tmp_path / "local").iterdir() if not p.name.endswith(".lock")] == []


@pytest.mark.parametrize("what", ["record", "tables"])
def test_a_disk_that_gives_back_other_bytes_is_named(
    what: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(store) as opened:
        at = int(opened.split("train")._reader.starts[7]) if what == "record" else 8
    size = (store / "train.beton").stat().st_size

    def fsync(descriptor: int) -> None:
        if os.fstat(descriptor).st_size == size:
            os.pwrite(descriptor, b"\xff" * 8, at)

    monkeypatch.setattr(staging.os, "fsync", fsync)
    with pytest.raises(
        FastnoisyError, match=f"{tmp_path / 'local'} is not what was read: .*{what}.* differ, while"
    ) as caught:
        stage(store, tmp_path / "local")
    assert "partial" not in str(caught.value)
    assert "data.stage" in caught.value.remedy


def test_a_folder_within_the_store_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store)
    before = content(store)
    for folder in (store, store / "local", store.parent / ".." / "net" / store.name / "a", tmp_path / "link" / "b"):
        with pytest.raises(FastnoisyError, match="lies within the store"):
            stage(store, folder)
    assert content(store) == before
    assert stage(store, store.parent).parent == store.parent


def test_no_room_and_no_folder_are_said(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FastnoisyError, match=r"data\.stage"):
        stage(store, tmp_path / "file" / "below")
    with pytest.raises(FastnoisyError, match="does not exist"):
        stage(tmp_path / "nowhere", tmp_path / "local")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(FastnoisyError, match="10 are free"):
        stage(store, tmp_path / "local")


SLOWLY = """
import sys, time
from pathlib import Path
from fastnoisy.data.store import stage as staging

staging._check = lambda *arguments: time.sleep(600)
staging.stage(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_a_process_that_is_ended_leaves_no_copy_for_good(number: signal.Signals, store: Path, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    similar = local / f".partial-12-other-{store.name}-{staging._identity(store)[:12]}"  # of a store other-digits
    similar.mkdir()
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, str(store), str(local)])
    leftover = local / f".partial-{process.pid}-{store.name}-{staging._identity(store)[:12]}"
    deadline = time.monotonic() + 60
    while not (leftover / "human.npy").exists() or content(leftover) != content(store):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    code = process.wait(timeout=60)
    if number == signal.SIGTERM:
        assert code == 128 + signal.SIGTERM
        assert not leftover.exists()
    else:
        assert leftover.exists()
    copy = stage(store, local)
    assert {path.name for path in local.iterdir() if path.is_dir()} == {copy.name, similar.name}


def _stage_and_count(arguments: tuple[Path, Path]) -> int:
    """How many copies this process made."""
    made = []
    original = staging._copy

    def counted(store: Path, target: Path) -> None:
        made.append(target)
        original(store, target)

    staging._copy = counted
    stage(*arguments)
    return len(made)


def test_of_many_processes_one_copies(store: Path, tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        made = pool.map(_stage_and_count, [(store, tmp_path / "local")] * 4, chunksize=1)
    assert sum(made) == 1
    assert len([p for p in (tmp_path / "local").iterdir() if p.is_dir()]) == 1
