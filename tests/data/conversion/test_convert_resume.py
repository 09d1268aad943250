"""A conversion that is killed, runs out of disk, or is spread over processes and machines: always the same bytes."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy.data.conversion.convert import ConvertOptions, convert, merge
from fastnoisy.data.conversion.journal import Journal, partial_path, read_journal
from fastnoisy.data.conversion.shards import Shard
from fastnoisy.data.store.verify import verify
from fastnoisy.errors import FastnoisyError

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = ConvertOptions(max_rejected=0.5)


def make_source(root: Path, count: int) -> Path:
    """Two splits of two classes: JPEGs that are kept, PNGs that are encoded, a film, and files that are no images."""
    rows, columns = np.mgrid[0:110, 0:150]
    for number in range(count):
        place = root / ("val" if number % 7 == 0 else "train") / ("ant" if number % 3 else "bee")
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.stack([rows * 2 + number, columns + 5 * number, rows * columns // (number + 1)], axis=2)
        image = Image.fromarray(pixels.astype(np.uint8))
        if number % 11 == 5:
            (place / f"{number:04}.jpg").write_bytes(b"no image")
        elif number % 13 == 4:
            image.convert("P").save(place / f"{number:04}.gif", save_all=True, append_images=[image.rotate(180)])
        else:
            image.save(place / f"{number:04}.{'png' if number % 4 == 1 else 'jpg'}")
    return root


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("resume") / "source", 120)


@pytest.fixture(scope="module")
def whole(source: Path) -> dict[str, bytes]:
    """The store of one process that was never stopped."""
    convert(str(source), source.parent / "whole", options=ALLOWED, workers=1)
    assert verify(source.parent / "whole") == []
    return contents(source.parent / "whole")


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def command(source: Path, out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "fastnoisy", "convert", str(source), str(out), "--max-rejected", "0.5", *words]


# Workers and shards


@pytest.mark.parametrize("workers", [2, 8])
def test_any_number_of_workers_gives_the_same_bytes(
    source: Path, whole: dict[str, bytes], tmp_path: Path, workers: int
) -> None:
    convert(str(source), tmp_path / "out", options=ALLOWED, workers=workers)
    assert contents(tmp_path / "out") == whole


def test_spawned_workers_give_the_same_bytes(source: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    convert(str(source), tmp_path / "out", options=ALLOWED, workers=2, start="spawn")
    assert contents(tmp_path / "out") == whole


def test_three_merged_shards_give_the_same_bytes(source: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    for index in (2, 0, 1):
        convert(str(source), tmp_path / "out", options=ALLOWED, workers=2, shard=Shard(index, 3))
    assert not (tmp_path / "out").exists()
    merge(tmp_path / "out")
    assert contents(tmp_path / "out") == whole


def test_more_shards_than_images_are_merged_too(tmp_path: Path) -> None:
    source = str(make_source(tmp_path / "source", 5))
    for index in range(7):
        convert(source, tmp_path / "out", shard=Shard(index, 7), workers=1)
    merge(tmp_path / "out")
    convert(source, tmp_path / "one")
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


def test_ranks_take_their_shards_and_the_command_merges_them(
    source: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    for names, rank in (("RANK WORLD_SIZE", 0), ("RANK WORLD_SIZE", 1), ("SLURM_PROCID SLURM_NTASKS", 2)):
        environment = {**os.environ, **dict(zip(names.split(), (str(rank), "3"), strict=True))}
        words = command(source, tmp_path / "out", "--shard", "auto", "--workers", "1")
        done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert f"fastnoisy convert --merge {tmp_path / 'out'}" in done.stdout
    words = [sys.executable, "-m", "fastnoisy", "convert", "--merge", str(tmp_path / "out")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == whole


def test_a_finished_shard_is_not_made_again(source: Path, tmp_path: Path) -> None:
    first = convert(str(source), tmp_path / "out", options=ALLOWED, shard=Shard(1, 3))
    again = convert(
        str(source), tmp_path / "out", options=ALLOWED, shard=Shard(1, 3), progress=lambda status: pytest.fail("again")
    )
    assert again == first
    with pytest.raises(FastnoisyError, match=r"exists already, with quality 90, now 80"):
        convert(str(source), tmp_path / "out", options=ConvertOptions(quality=80), shard=Shard(1, 3))


def test_merge_names_shards_that_are_missing_of_another_conversion_or_damaged(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FastnoisyError, match="there is no shard of"):
        merge(out)
    convert(str(source), out, options=ALLOWED, shard=Shard(0, 2))
    with pytest.raises(FastnoisyError, match=r"1 of 2 shards of .*out are missing: 1/2"):
        merge(out)
    other = ConvertOptions(quality=80, max_rejected=0.5)
    convert(str(source), out, options=other, shard=Shard(1, 2))
    with pytest.raises(FastnoisyError, match="are of different conversions: quality 90, now 80"):
        merge(out)
    Shard(1, 2).path(out).rename(tmp_path / "aside")
    convert(str(source), out, options=ALLOWED, shard=Shard(1, 2))
    with open(Shard(1, 2).path(out) / "train.beton", "r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"damaged")
    with pytest.raises(FastnoisyError, match=r"out\.shard-1-of-2 is damaged: the bytes of train\.beton from"):
        merge(out)
    assert not out.exists()


def test_more_rejected_images_can_be_allowed_when_shards_are_merged(source: Path, tmp_path: Path) -> None:
    for index, share in ((0, 0.09), (1, 0.08)):
        options = ConvertOptions(max_rejected=share)
        convert(str(source), tmp_path / "out", options=options, shard=Shard(index, 2))
    with pytest.raises(FastnoisyError, match=r"train: more than 9\.0% of"):
        merge(tmp_path / "out")
    merge(tmp_path / "out", max_rejected=0.1)
    convert(str(source), tmp_path / "one", options=ConvertOptions(max_rejected=0.1))
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


# Killed


def rows_noted(out: Path) -> int:
    """How many rows the journals of an unfinished conversion have."""
    with contextlib.suppress(FileNotFoundError):  # it has just finished
        journals = partial_path(out).glob("*.journal")
        return sum(len(rows) for path in journals for _, rows in read_journal(path))
    return 0


def has_come_to(goal: int, out: Path, process: int, count: int) -> bool:
    """Whether that process, or its end, has come so far: see `kill_and_go_on`."""
    if out.exists():
        return True
    try:
        mine = (partial_path(out) / "lock").read_text().startswith(f"process {process} ")
    except FileNotFoundError:
        return False
    if goal > count:
        return mine and any((partial_path(out) / "store").glob("*.meta"))
    return mine and rows_noted(out) >= goal


def kill_and_go_on(source: Path, out: Path, count: int, goals: list[int], draw: random.Random) -> int:
    """Kill the command once per goal, then let it end; how often it was killed before the store had its name.

    A goal is a stretch of the way and not of time, so that conversions are cut off on a slow or busy machine as on a
    fast one.

    Args:
        source: what is converted; `out`: to where.
        count: images of the source.
        goals: 0: the process has the lock; 1 to `count`: so many rows are in the journal; above: tables are written
            beside the images. It is killed then, or a random while later: of up to half the time it took to start, or
            to add the rows before.
        draw: of these.
    """
    cut_off = 0
    for goal in goals:
        process = subprocess.Popen(command(source, out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = rows = rows_noted(out)
        since = time.monotonic()
        while process.poll() is None and not has_come_to(goal, out, process.pid, count):
            if (now := rows_noted(out)) > rows:
                rows, since = now, time.monotonic()
            time.sleep(0.002)
        if goal == 0 or before < rows < count:
            time.sleep(draw.uniform(0, 0.5) * (time.monotonic() - since))
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        if out.exists():  # finished before the signal came
            return cut_off
        cut_off += killed
    done = subprocess.run(command(source, out), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not partial_path(out).exists()
    return cut_off


def test_three_kills_and_the_store_is_the_same(source: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    draw = random.Random(1)
    assert kill_and_go_on(source, tmp_path / "out", 120, [0, draw.randint(1, 64), 121], draw) >= 2
    assert contents(tmp_path / "out") == whole


@pytest.mark.slow
def test_twenty_kills_and_the_store_is_the_same(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", 1000)
    subprocess.run(command(source, tmp_path / "whole"), cwd=ROOT, check=True, capture_output=True)
    whole, draw = contents(tmp_path / "whole"), random.Random(77)
    goals = [0, 0, *sorted(draw.sample(range(1, 1000), 16)), 1000, 1001]
    cut_off = 0
    for number, goal in enumerate(goals):
        cut_off += kill_and_go_on(source, tmp_path / f"out-{number}", 1000, [goal], draw)
        assert contents(tmp_path / f"out-{number}") == whole
        shutil.rmtree(tmp_path / f"out-{number}")
    assert cut_off >= 16
    assert kill_and_go_on(source, tmp_path / "out", 1000, goals, draw) >= 16
    assert contents(tmp_path / "out") == whole


class Killed(BaseException):
    """As though the process had ended here."""


def stop_at(row: int) -> object:
    def progress(status: object) -> None:
        if status.done == row:  # type: ignore[attr-defined]
            raise Killed

    return progress


@pytest.fixture
def unfinished(source: Path, tmp_path: Path) -> Path:
    """The folder of a conversion that was stopped in its first split."""
    stop = stop_at(90)
    with pytest.raises(Killed):
        convert(str(source), tmp_path / "out", options=ALLOWED, workers=1, progress=stop)  # type: ignore[arg-type]
    partial = tmp_path / ".out.partial"
    assert sum(len(rows) for _, rows in read_journal(partial / "train.journal")) == 64
    return partial


@pytest.mark.parametrize("damage", ["journal cut off", "journal changed", "records missing", "records changed", "more"])
def test_what_the_disk_did_not_keep_is_made_again(
    unfinished: Path, source: Path, whole: dict[str, bytes], damage: str
) -> None:
    journal, records = unfinished / "train.journal", unfinished / "store/train.beton"
    if damage == "journal cut off":
        os.truncate(journal, journal.stat().st_size - 3)
    elif damage == "journal changed":
        text = bytearray(journal.read_bytes())
        text[len(text) // 2] ^= 1
        journal.write_bytes(text)
    elif damage == "records missing":
        os.truncate(records, records.stat().st_size - 50_000)
    elif damage == "records changed":
        with open(records, "r+b") as file:
            file.seek((2 << 20) + 5000)
            file.write(b"damaged")
    else:  # bytes of rows that the journal does not know
        with open(records, "ab") as file:
            file.write(b"x" * 5000)
    convert(str(source), unfinished.parent / "out", options=ALLOWED)
    assert contents(unfinished.parent / "out") == whole


def test_a_file_that_was_being_written_beside_the_images_is_not_kept(
    unfinished: Path, source: Path, whole: dict[str, bytes]
) -> None:
    meta = unfinished / "store/train.meta"
    meta.mkdir()
    (meta / ".partial-1-meta.json").write_text("{")  # as `replacing` leaves it in a process that is killed
    convert(str(source), unfinished.parent / "out", options=ALLOWED)
    assert contents(unfinished.parent / "out") == whole


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system does not let a program drop cached pages")
def test_rows_are_read_back_from_the_disk_and_not_from_memory(
    unfinished: Path, source: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed write the memory still has what the disk has not; here it goes when the kernel is asked to drop
    it.
    """
    lost = []

    def drop(descriptor: int, start: int, length: int, advice: int) -> None:
        if not lost:
            lost.append(os.fstat(descriptor).st_size - 50_000)
            os.pwrite(descriptor, bytes(50_000), lost[0])

    monkeypatch.setattr(os, "posix_fadvise", drop)
    convert(str(source), unfinished.parent / "out", options=ALLOWED)
    assert lost[0] > 0
    assert contents(unfinished.parent / "out") == whole


def test_going_on_says_so_and_only_the_same_command_may(
    unfinished: Path, source: Path, whole: dict[str, bytes]
) -> None:
    out, lines = unfinished.parent / "out", []
    with pytest.raises(FastnoisyError, match=r"unfinished conversion with quality 90, now 80.*--restart"):
        convert(str(source), out, options=ConvertOptions(quality=80, max_rejected=0.5))
    convert(str(source), out, options=ALLOWED, say=lines.append)
    assert lines == ["going on with an earlier run: 64 of 120 images are done"]
    assert contents(out) == whole


def test_restart_throws_the_earlier_run_away(unfinished: Path, source: Path) -> None:
    out = unfinished.parent / "out"
    other = ConvertOptions(quality=80, max_rejected=0.5)
    convert(str(source), out, options=other, restart=True, say=lambda line: pytest.fail(line))
    assert not unfinished.exists()
    assert verify(out) == []


def test_two_processes_do_not_convert_to_the_same_place(source: Path, tmp_path: Path) -> None:
    def second(status: object) -> None:
        with pytest.raises(FastnoisyError, match=rf"another process is converting to .*out: process {os.getpid()} on"):
            convert(str(source), tmp_path / "out", options=ALLOWED)
        raise Killed

    with pytest.raises(Killed):
        convert(str(source), tmp_path / "out", options=ALLOWED, progress=second)  # type: ignore[arg-type]


def test_who_waited_for_the_lock_of_a_finished_conversion_leaves_nothing(source: Path, tmp_path: Path) -> None:
    convert(str(source), tmp_path / "out", options=ALLOWED)
    (tmp_path / ".out.partial").mkdir()  # killed between the name and the tidying up
    (tmp_path / ".out.partial/job.json").write_text("{}")
    with pytest.raises(FastnoisyError, match="out exists already"):
        convert(str(source), tmp_path / "out", options=ALLOWED)


# No space left


def mounted(place: Path) -> bool:
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    try:
        return subprocess.run(words, capture_output=True).returncode == 0
    except OSError:
        return False


def test_a_full_disk_is_told_and_nothing_is_lost(source: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    place = tmp_path / "small"
    if not mounted(place):
        pytest.skip("a small tmpfs cannot be mounted here; the next test limits the size of files instead")
    try:
        with pytest.raises(FastnoisyError, match=r"cannot write .*No space left on device, .* MB are free") as caught:
            convert(str(source), place / "out", options=ALLOWED)
        assert "make room and give the same command again" in caught.value.remedy
        assert not (place / "out").exists()
        subprocess.run(["mount", "-o", "remount,size=20m", str(place)], check=True)
        lines: list[str] = []
        convert(str(source), place / "out", options=ALLOWED, say=lines.append)
        assert lines[0].startswith("going on with an earlier run: ")
        assert contents(place / "out") == whole
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_file_that_may_not_grow_is_told_and_nothing_is_lost(
    source: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    def limited(limit: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    out = tmp_path / "out"
    for limit in (2_600_000, 2_750_000):  # where writing fails with EFBIG, as it would with ENOSPC
        prepare = functools.partial(limited, limit)
        done = subprocess.run(command(source, out), cwd=ROOT, capture_output=True, text=True, preexec_fn=prepare)
        assert done.returncode == 2, done.stderr
        assert done.stderr.splitlines()[-1].startswith(f"error: cannot write {out}: File too large")
        assert "give the same command again" in done.stderr
    assert "going on with an earlier run" in done.stderr
    convert(str(source), out, options=ALLOWED)
    assert contents(out) == whole


# The journal


def test_a_journal_ends_where_a_line_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append({"rows": ["a", [1, 2]]})
    journal.append({"synced": 2})
    journal.append({"rows": ["c"]})
    size = path.stat().st_size
    assert [rows for _, rows in read_journal(path)] == [["a", [1, 2]], ["c"]]
    os.truncate(path, size - 1)
    assert [rows for _, rows in read_journal(path)] == [["a", [1, 2]]]
    assert journal.mend() == 2
    journal.append({"rows": ["d"]})
    assert [rows for _, rows in read_journal(path)] == [["a", [1, 2]], ["d"]]
    journal.close()
