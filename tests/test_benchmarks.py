"""Every benchmark script runs small and writes what it measured with machine and commit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(p.name for p in (ROOT / "benchmarks").glob("*.py") if not p.name.startswith("_"))
ARGUMENTS = {"compare.py": ["digits", "--methods", "ce,nrd"], "digits.py": ["--seeds", "1"]}


@pytest.mark.parametrize("script", SCRIPTS)
def test_tiny(script: str, tmp_path: Path) -> None:
    words = [*ARGUMENTS.get(script, []), "--tiny", "--device", "cpu", "--out", str(tmp_path / "out")]
    if script in ARGUMENTS:
        words += ["--runs", str(tmp_path / "runs")]
    command = [sys.executable, str(ROOT / "benchmarks" / script), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").glob("*.json")
    content = json.loads(path.read_text())
    assert {"commit", "torch", "cpu", "cores", "date"} <= set(content["environment"])
    assert content["table"] in done.stdout


def test_committed_results_say_where_they_come_from() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        environment = json.loads(path.read_text())["environment"]
        assert len(environment["commit"].split("+")[0]) == 40, path
