"""The fuzz script: it finds planted faults, keeps what shows them, and gives the same cases for a seed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastnoisy.errors import FastnoisyError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", ROOT / "tools" / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def sample(tool: ModuleType, folder: Path, read: Any, guarded: bool = True) -> list[Any]:
    folder.mkdir(exist_ok=True)
    (folder / "a").write_bytes(bytes(range(200)))
    (folder / "beside").write_bytes(b"stays")
    return [tool.Sample(folder, ["a"], read, guarded)]


def outcomes(tool: ModuleType, samples: list[Any], tmp_path: Path, count: int = 60) -> Counter[str]:
    keep = tmp_path / "kept"
    return Counter(tool.try_case("kind", samples, 3, keep, i)[0] for i in range(count))


def checked(root: Path, heard: Any) -> bytes:
    data = (root / "a").read_bytes()
    assert (root / "beside").read_bytes() == b"stays"
    if data != bytes(range(200)):
        raise FastnoisyError("it is damaged")
    return data


def test_what_is_refused_is_no_fault(tool: ModuleType, tmp_path: Path) -> None:
    samples = sample(tool, tmp_path / "in", checked)
    found = outcomes(tool, samples, tmp_path)
    assert set(found) <= {"refused", "equal"}
    assert found["refused"] > 50
    assert not (tmp_path / "kept").exists()
    assert (tmp_path / "in/a").read_bytes() == bytes(range(200))


def test_a_traceback_a_silent_difference_and_a_raw_error_are_faults_and_are_kept(
    tool: ModuleType, tmp_path: Path
) -> None:
    def fails(root: Path, heard: Any) -> int:
        return {bytes(range(200)): 1}[(root / "a").read_bytes()]

    def silent(root: Path, heard: Any) -> bytes:
        return (root / "a").read_bytes()

    for name, read in (("fails", fails), ("silent", silent)):
        found = outcomes(tool, sample(tool, tmp_path / name, read), tmp_path)
        assert found["fault"] > 0, name
    assert outcomes(tool, sample(tool, tmp_path / "open", silent, guarded=False), tmp_path)["fault"] == 0
    kept = sorted((tmp_path / "kept").iterdir())
    assert kept
    number = int(kept[0].name.split("-")[1])
    samples = sample(tool, tmp_path / "silent", silent)
    assert tool.case("kind", samples, 3, number)[2] == kept[0].read_bytes()


def test_a_reader_that_says_so_is_no_fault(tool: ModuleType, tmp_path: Path) -> None:
    def says(root: Path, heard: Any) -> bytes:
        data = (root / "a").read_bytes()
        if data != bytes(range(200)):
            heard("something is odd")
        return data

    assert set(outcomes(tool, sample(tool, tmp_path / "in", says), tmp_path)) <= {"said", "equal"}


def test_a_crash_and_a_hang_are_faults(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "TIMEOUT", 0.5)

    def crashes(root: Path, heard: Any) -> bytes:
        data = (root / "a").read_bytes()
        if len(data) > 200:
            os._exit(9)
        return checked(root, heard) if len(data) != 200 else bytes(range(200))

    counts = tool.run({"kind": sample(tool, tmp_path / "in", crashes)}, 4.0, 1, tmp_path / "kept", 1)
    assert counts["kind"]["fault"] > 0


def test_the_script_runs_every_kind(tmp_path: Path) -> None:
    command = [sys.executable, "tools/fuzz.py", "--seconds", "8", "--keep", str(tmp_path / "kept")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line and line.split()[-1].isdigit()]
    assert {line[0] for line in lines} >= {
        "store",
        "run",
        "label-files",
        "cifar-n",
        "lists",
        "archives",
        "images",
        "texts",
    }
    assert not (tmp_path / "kept").exists()
