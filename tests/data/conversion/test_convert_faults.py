"""Images that the machine fails to read: a conversion stops, or tries them again; they are never left out for good."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import shutil
import signal
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from fastnoisy.cli import cli
from fastnoisy.data.conversion import journal
from fastnoisy.data.conversion.convert import ConvertOptions, convert, merge
from fastnoisy.data.conversion.journal import read_journal
from fastnoisy.data.conversion.shards import Shard
from fastnoisy.data.sources import base
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError

COUNT = 200  # more than a line of the journal holds
ALLOWED = ConvertOptions(max_rejected=0.2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults") / "source"
    for i in range(COUNT):
        place = root / ("ant" if i < COUNT // 2 else "bee")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 24 + i % 5, 3), i, np.uint8)).save(place / f"{i:03}.png")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


class Killed(BaseException):
    """As though the process had ended here."""


def stop_at(row: int) -> Callable[[object], None]:
    def progress(status: object) -> None:
        if status.done == row:  # type: ignore[attr-defined]
            raise Killed

    return progress


def failing(monkeypatch: pytest.MonkeyPatch, names: set[str], fail: Callable[[Path], None]) -> None:
    """Let `fail` happen in the worker that reads a file of such a name."""

    read_file = base.read_file

    def read(path: Path) -> bytes:
        if path.name in names:
            fail(path)
        return read_file(path)

    monkeypatch.setattr(base, "read_file", read)


def raising(number: int) -> Callable[[Path], None]:
    def fail(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return fail


def kill(path: Path) -> None:
    os._exit(3)  # as a codec that crashes


def hang(path: Path) -> None:
    time.sleep(60)


# Faults that end the run


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOMEM, errno.ENOENT])
@pytest.mark.parametrize(
    "options", [ALLOWED, ConvertOptions(resize="none", max_rejected=0.2), ConvertOptions(resize="max=16")]
)
def test_a_fault_of_the_machine_stops_and_the_same_command_goes_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, options: ConvertOptions
) -> None:
    failing(monkeypatch, {"150.png", "151.png"}, raising(number))
    with pytest.raises(FastnoisyError, match=rf"cannot read bee/15[01]\.png: {os.strerror(number)}") as caught:
        convert(str(source), tmp_path / "out", options=options, workers=2)
    assert "give the same command again" in caught.value.remedy
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    convert(str(source), tmp_path / "out", options=options, workers=2)
    with open_store(tmp_path / "out") as store:
        assert store.split("train").num_samples == COUNT


def test_a_fault_that_a_source_puts_into_its_own_words_stops_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = base.find("beton").make_example(tmp_path / "in")
    pread = os.pread

    def fail(descriptor: int, length: int, start: int) -> bytes:
        if multiprocessing.parent_process() is not None:
            raise OSError(errno.EIO, "Input/output error")
        return pread(descriptor, length, start)

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(FastnoisyError, match=r"cannot read shapes_train\.beton/0: Input/output error"):
        convert(name, tmp_path / "out", options=ConvertOptions(resize="max=16", max_rejected=1))


def interrupted(source: str, out: Path, row: int, act: Callable[[], object]) -> None:
    """Convert with one worker, and do something when so many rows are done."""

    def progress(status: object) -> None:
        if status.done == row:  # type: ignore[attr-defined]
            act()

    # in small chunks, so that the worker has not read all of it by then
    convert(source, out, options=ConvertOptions(max_rejected=0.5), workers=1, progress=progress)


@pytest.mark.parametrize("how", ["gone", "shorter"])
def test_a_shard_that_goes_or_shrinks_meanwhile_stops(source: Path, tmp_path: Path, how: str) -> None:
    for name, letters in (("train-0.tar", "ab"), ("train-1.tar", "cdefgh")):
        with tarfile.open(tmp_path / name, "w") as archive:
            for letter in letters:
                for i in range(COUNT):
                    archive.add(source / ("ant" if i < COUNT // 2 else "bee") / f"{i:03}.png", f"{letter}{i}.png")
                    label = tarfile.TarInfo(f"{letter}{i}.cls")
                    label.size = 1
                    archive.addfile(label, io.BytesIO(b"0" if i % 2 else b"1"))
    last = tmp_path / "train-1.tar"
    act = {"gone": lambda: last.rename(tmp_path / "away"), "shorter": lambda: os.truncate(last, 30 * 1024)}[how]
    with pytest.raises(FastnoisyError, match="No such file" if how == "gone" else "has become shorter"):
        interrupted(f"wds:{tmp_path / 'train-*.tar'}", tmp_path / "out", 50, act)
    assert not (tmp_path / "out").exists()


def test_a_lists_images_that_go_all_at_once_are_a_disk_that_went(source: Path, tmp_path: Path) -> None:
    """One that is missing may just not be there; where those that were read before have gone, too, it stops."""
    shutil.copytree(source, tmp_path / "images")
    paths = sorted(path.relative_to(tmp_path) for path in (tmp_path / "images").rglob("*.png")) * 8
    (tmp_path / "list.csv").write_text(
        "path,label\n" + "".join(f"{path},{i % 2}\n" for i, path in enumerate(paths)) + "images/none.png,1\n"
    )
    with pytest.raises(FastnoisyError, match="though it was there when this began"):
        interrupted(
            f"csv:{tmp_path / 'list.csv'}",
            tmp_path / "out",
            50,
            lambda: (tmp_path / "images").rename(tmp_path / "away"),
        )
    (tmp_path / "away").rename(tmp_path / "images")
    (split,) = convert(
        f"csv:{tmp_path / 'list.csv'}", tmp_path / "out", options=ConvertOptions(max_rejected=0.5)
    ).splits
    assert (split.stored, split.rejected) == (8 * COUNT, 1)


@pytest.mark.parametrize("shard", [None, Shard(0, 1)])
def test_a_disk_that_fails_behind_the_last_rows_back_stops_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: Shard | None
) -> None:
    """The disk is made to hold rows in a thread; an error of that is told to nobody else."""
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.5)  # until nothing more is committed
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(journal, "SYNC_SECONDS", -1.0)
    monkeypatch.setattr(journal, "COMMIT_ROWS", COUNT + 1)  # it begins behind the last row
    monkeypatch.setattr(journal, "COMMIT_SECONDS", 600.0)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FastnoisyError, match=r"cannot write .*Input/output error"):
        convert(str(source), tmp_path / "out", shard=shard)
    assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
    monkeypatch.undo()
    assert convert(str(source), tmp_path / "out", shard=shard).splits[0].stored == COUNT


# Faults that reject in this run


def out_of_memory(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does


def no_memory_left(path: Path) -> None:
    raise MemoryError


@pytest.mark.parametrize("options", [ALLOWED, ConvertOptions(resize="none"), ConvertOptions(resize="max=16")])
def test_a_process_that_the_kernel_kills_says_nothing_of_the_image(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: ConvertOptions
) -> None:
    failing(monkeypatch, {"150.png"}, out_of_memory)
    with pytest.raises(FastnoisyError, match=r"bee/150\.png: .*its process was killed, perhaps for want of memory"):
        convert(str(source), tmp_path / "out", options=options, workers=2)
    monkeypatch.undo()
    convert(str(source), tmp_path / "out", options=options, workers=2)
    convert(str(source), tmp_path / "one", options=options, workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


def test_a_memory_error_beside_others_is_tried_again_alone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(path: Path) -> None:
        tries = tmp_path / f"{path.name}.tries"
        tries.open("a").write("x")
        if tries.stat().st_size <= 2:
            no_memory_left(path)

    failing(monkeypatch, {"020.png", "080.png"}, twice)
    (split,) = convert(str(source), tmp_path / "out", options=ConvertOptions(resize="max=16"), workers=3).splits
    assert (split.stored, split.rejected) == (COUNT, 0)


@pytest.mark.parametrize("fail", [kill, hang])
def test_an_image_whose_process_ends_is_rejected_and_tried_again_on_going_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[[Path], None]
) -> None:
    out, options = tmp_path / "out", ConvertOptions(resize="none")
    lines: list[str] = []
    failing(monkeypatch, {"020.png", "080.png"}, fail)
    with pytest.raises(Killed):
        convert(str(source), out, options=options, workers=1, timeout=0.1, progress=stop_at(150))
    done = sum(len(rows) for _, rows in read_journal(tmp_path / ".out.partial/train.journal"))
    assert done > 80
    with pytest.raises(Killed):  # still at fault: what comes behind them is kept
        convert(str(source), out, options=options, timeout=0.1, say=lines.append, progress=stop_at(done))
    assert lines == [f"going on with an earlier run: {done} of {COUNT} images are done"]
    monkeypatch.undo()
    failing(monkeypatch, {"020.png"}, fail)
    with pytest.raises(Killed):  # from the line with the one that is well again
        convert(str(source), out, options=options, timeout=0.1, say=lines.append, progress=stop_at(199))
    assert 20 < int(lines[1].split()[6]) <= 80
    monkeypatch.undo()
    convert(str(source), out, options=options)
    convert(str(source), tmp_path / "one", options=options)
    assert contents(out) == contents(tmp_path / "one")


@pytest.mark.parametrize("changed", [["ant/004.png"], ["bee/102.png", "bee/103.png"], ["ant/060.png"], "all"])
@pytest.mark.parametrize("options", [ConvertOptions(resize="max=16"), ConvertOptions(resize="none", max_rejected=0.1)])
def test_what_has_changed_between_an_interruption_and_its_continuation_is_made_anew(
    source: Path, tmp_path: Path, changed: list[str] | str, options: ConvertOptions
) -> None:
    """Names and labels are the same, and still the store must be of the files as they are."""
    copy, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(source, copy)
    (copy / "ant/060.png").write_bytes(b"broken, and mended meanwhile")
    with pytest.raises(Killed):
        convert(str(copy), out, options=options, workers=2, progress=stop_at(128))
    paths = sorted(str(path.relative_to(copy)) for path in copy.rglob("*.png")) if changed == "all" else changed
    for name in paths:
        size = (30, 20) if options.resize == "none" and changed == "all" else (24, 18)
        Image.new("RGB", size, "red").save(copy / name)
    lines: list[str] = []
    convert(str(copy), out, options=options, say=lines.append)
    convert(str(copy), tmp_path / "one", options=options)
    assert contents(out) == contents(tmp_path / "one")
    assert lines[0] == f"{paths[0]} has changed since an earlier run: from there on, train is made anew"


def test_files_that_stay_as_they_were_are_not_made_anew(source: Path, tmp_path: Path) -> None:
    options, lines = ConvertOptions(resize="max=16"), list[str]()
    with pytest.raises(Killed):
        convert(str(source), tmp_path / "out", options=options, workers=2, progress=stop_at(128))
    convert(str(source), tmp_path / "out", options=options, say=lines.append)
    assert len(lines) == 1
    assert lines[0].startswith("going on with an earlier run: ")


@pytest.mark.parametrize("fail", [kill, hang])
def test_what_fails_beside_others_but_not_alone_is_not_lost(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[[Path], None]
) -> None:
    """As for want of memory, or of a core. Behind one that fails it is tried with care at once, else the second
    time.
    """
    options = ConvertOptions(resize="max=16")

    def fail_twice(path: Path) -> None:
        tries = tmp_path / f"{path.name}.tries"
        tries.open("a").write("x")
        if tries.stat().st_size <= 2 - (path.name == "021.png"):
            fail(path)

    failing(monkeypatch, {"020.png", "021.png", "080.png"}, fail_twice)
    (split,) = convert(str(source), tmp_path / "out", options=options, workers=3, timeout=0.5).splits
    assert (split.stored, split.rejected, split.lost) == (COUNT, 0, 0)
    assert [(tmp_path / f"{name}.png.tries").read_text() for name in ("020", "021", "080")] == ["xxx", "xx", "xxx"]
    monkeypatch.undo()
    convert(str(source), tmp_path / "one", options=options, workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


def test_a_run_that_is_not_stopped_leaves_out_what_fails_alone_too_and_says_how_to_try_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, names, command = tmp_path / "out", {"020.png", "080.png"}, ["convert", str(source)]
    (source / "bee/200.png").write_bytes(b"no image: rejected, but not lost")
    try:
        failing(monkeypatch, names, kill)
        done = CliRunner().invoke(cli, [*command, str(out), "--resize", "max=16", "--workers", "2"])
        assert (done.exit_code, done.stderr) == (0, "")
        with open_store(out) as store:
            assert store.split("train").num_samples == COUNT - 2
            assert {Path(path).name for path, _ in store.split("train").listed("rejected")} == {*names, "200.png"}
        assert "3 rejected" in done.stdout
        assert "2 of the rejected could not be read, took too long or ended their process." in done.stdout
        assert f"To try them again, remove {out} and give the same command again." in done.stdout
        monkeypatch.undo()
        shutil.rmtree(out)
        done = CliRunner().invoke(cli, [*command, str(out), "--resize", "max=16", "--workers", "2"])
        assert "To try" not in done.stdout
        with open_store(out) as store:
            assert store.split("train").num_samples == COUNT
    finally:
        (source / "bee/200.png").unlink()


def test_shards_tell_what_they_have_lost_and_so_does_what_is_made_of_them(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    failing(monkeypatch, {"020.png", "080.png", "130.png"}, kill)
    told = [convert(str(source), out, options=ALLOWED, shard=Shard(i, 2)).splits[0] for i in range(2)]
    assert [(split.rejected, split.lost) for split in told] == [(2, 2), (1, 1)]
    assert convert(str(source), out, options=ALLOWED, shard=Shard(0, 2)).splits[0] == told[0]
    with pytest.raises(FastnoisyError, match="cannot be stored") as caught:
        merge(out, max_rejected=0)
    assert "remove the shards" in caught.value.remedy
    done = CliRunner().invoke(cli, ["convert", "--merge", str(out)])
    assert done.exit_code == 0, done.output
    assert f"To try them again, remove {out} and {out}.shard-*, and convert the shards again." in done.stdout
    assert "3 of the rejected could not be read" in done.stdout


def test_after_too_short_a_timeout_the_right_command_goes_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the sizes can be read then, so that what they decided has to be decided anew."""
    few = tmp_path / "few/ant"
    few.mkdir(parents=True)
    for i in range(12):
        shutil.copy(source / f"ant/{i:03}.png", few)
    convert(str(few.parent), tmp_path / "whole")
    failing(monkeypatch, {f"{i:03}.png" for i in range(COUNT)}, hang)
    with pytest.raises(FastnoisyError, match=r"more than 5\.0% of 12 images .*took longer than 0\.01 s") as caught:
        convert(str(few.parent), tmp_path / "out", timeout=0.01)
    assert "are tried again without it" in caught.value.remedy
    monkeypatch.undo()
    convert(str(few.parent), tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_listed_file_that_was_missing_is_looked_for_again(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "images")
    paths = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "images").rglob("*.png"))
    rows = "".join(f"{path},{path.split('/')[1]}\n" for path in paths)
    (tmp_path / "list.csv").write_text("path,label\n" + rows)
    (tmp_path / paths[9]).rename(tmp_path / "aside.png")
    (tmp_path / paths[11]).write_bytes(b"no image")
    with pytest.raises(Killed):
        convert(
            f"csv:{tmp_path}/list.csv", tmp_path / "out", options=ConvertOptions(resize="max=16"), progress=stop_at(190)
        )
    found = [row for _, rows in read_journal(tmp_path / ".out.partial/train.journal") for row in rows]
    assert "No such file" in found[9]
    (tmp_path / "aside.png").rename(tmp_path / paths[9])
    convert(f"csv:{tmp_path}/list.csv", tmp_path / "out", options=ConvertOptions(resize="max=16"))
    with open_store(tmp_path / "out") as store:
        assert store.split("train").num_samples == COUNT - 1
        assert [Path(path).name for path, _ in store.split("train").listed("rejected")] == ["011.png"]


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), 1e-9, 0, -1, 1e30])
def test_a_time_that_no_image_can_keep_or_no_timer_can_hold_is_refused(
    source: Path, tmp_path: Path, timeout: float
) -> None:
    with pytest.raises(FastnoisyError, match=r"timeout: .* must be 0\.001 to 1,000,000 seconds, got "):
        convert(str(source), tmp_path / "out", timeout=timeout)
    assert list(tmp_path.iterdir()) == []


def test_the_longest_time_is_one_that_the_timer_takes(source: Path, tmp_path: Path) -> None:
    assert convert(str(source), tmp_path / "out", timeout=1e6).splits[0].rejected == 0
