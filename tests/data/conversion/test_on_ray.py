"""Conversion as tasks of a Ray cluster on this machine: one machine's bytes, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="pip install 'fastnoisy[cluster]'")
pytestmark = [pytest.mark.slow, pytest.mark.data]
SLOW = """
import sys, time

def hook(event, given):
    if event == "open" and str(given[0]).endswith(".jpg"):
        time.sleep(0.01)

sys.addaudithook(hook)
"""


def content(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def photos(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("photos")
    subprocess.run([sys.executable, real_data / "unpack.py", out, "caltech101"], check=True)
    return out / "caltech101"


def command(source: Path, out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "fastnoisy", "convert", str(source), str(out), "--resize", "max=200", *words]


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "photos"
    subprocess.run(command(photos, out), check=True, capture_output=True)
    return content(out)


def tasks() -> list[int]:
    """Processes that are at work on a Ray task."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if place.read_bytes().startswith(b"ray::_shard"):
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


def test_two_workers_give_one_machines_bytes(photos: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    done = subprocess.run(
        command(photos, tmp_path / "out", "--ray", "local"), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "2,103 stored" in done.stdout
    assert content(tmp_path / "out") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "no shard is left"


def test_a_worker_that_is_killed_is_made_good(photos: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(SLOW)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'slow'}:{os.environ.get('PYTHONPATH', '')}"}
    with subprocess.Popen(
        command(photos, tmp_path / "out", "--ray", "local"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    ) as process:  # fmt: skip
        for _ in range(1200):
            if any(path.stat().st_size > 1 << 20 for path in tmp_path.glob(".out.shard-*.partial/**/train.beton")):
                break
            assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
            time.sleep(0.05)
        killed = tasks()
        assert killed
        os.kill(killed[0], signal.SIGKILL)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert content(tmp_path / "out") == whole


def test_what_is_wrong_with_the_source_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path / "nothing", tmp_path / "out", "--ray", "local"), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert next(line for line in done.stderr.splitlines() if line.startswith("error: ")).startswith("error: shard ")
    assert "does not exist" in done.stderr
