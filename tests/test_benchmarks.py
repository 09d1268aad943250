"""Every benchmark script runs small and writes what it measured with machine and commit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastnoisy.data.conversion.convert import ConvertOptions, convert

ROOT = Path(__file__).resolve().parent.parent
ON_REAL_DATA = ("cifar10n.py",)
BY_THEMSELVES = ("decode.py", "pipelines.py")  # whose results are looked at more closely
MANY_PROCESSES = ("fine_tune.py", "imports.py")
SCRIPTS = sorted(p.name for p in (ROOT / "benchmarks").glob("*.py") if not p.name.startswith("_"))
ARGUMENTS = {
    "compare.py": ["digits", "--methods", "ce,nrd"],
    "digits.py": ["--seeds", "1"],
    "imports.py": ["--base", "HEAD"],
    "cost.py": ["--methods", "ce,dividemix,alasca(base=gce,recompute=true)"],
}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(name, marks=pytest.mark.slow if name in MANY_PROCESSES else ())
        for name in SCRIPTS
        if name not in (*ON_REAL_DATA, *BY_THEMSELVES)
    ],
)
def test_tiny(script: str, tmp_path: Path) -> None:
    check(script, ARGUMENTS.get(script, []), tmp_path)


@pytest.mark.data
def test_tiny_on_cifar10n(real_data: Path, tmp_path: Path) -> None:
    parts = ["cifar10", "cifar-n"]
    subprocess.run([sys.executable, real_data / "unpack.py", tmp_path / "real", *parts], check=True)
    store = tmp_path / "store"
    convert(f"cifar10:{tmp_path / 'real'}", store, options=ConvertOptions(), progress=None)
    shutil.copy(tmp_path / "real" / "cifar-n" / "CIFAR-10_human.pt", store)
    check("cifar10n.py", ["--data", str(store), "--seeds", "1"], tmp_path)


@pytest.mark.slow
def test_the_matrix_of_methods_goes_on_where_it_was(tmp_path: Path) -> None:
    words = ["--methods", "ce,alasca(elr)", "--seeds", "1"]
    check("../tools/method_matrix.py", words, tmp_path)
    costs = sorted((tmp_path / "runs").glob("*-seed1-*.json"))
    assert len(costs) == 2
    before = [path.stat().st_mtime_ns for path in costs]
    (tmp_path / "out" / "methods.json").unlink()
    check("../tools/method_matrix.py", words, tmp_path)
    assert [path.stat().st_mtime_ns for path in costs] == before


@pytest.mark.slow
def test_the_grid_of_methods(tmp_path: Path) -> None:
    content = check("../tools/method_matrix.py", ["--grid", "--methods", "als", "--seeds", "11"], tmp_path)
    assert list(content["methods"]) == ["als method.warmup=20", "als method.warmup=60", "als method.warmup=100"]
    assert "**" in content["table"]  # the best


def check(script: str, arguments: list[str], tmp_path: Path) -> dict[str, Any]:
    words = [*arguments, "--tiny", "--device", "cpu", "--out", str(tmp_path / "out")]
    if arguments and script not in ("cost.py", "decode.py", "imports.py"):
        words += ["--runs", str(tmp_path / "runs")]
    command = [sys.executable, str(ROOT / "benchmarks" / script), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").glob("*.json")
    content = json.loads(path.read_text())
    assert {"commit", "torch", "cpu", "cores", "date"} <= set(content["environment"])
    assert content["table"] in done.stdout
    return content


def test_committed_results_say_where_they_come_from() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        environment = json.loads(path.read_text())["environment"]
        assert len(environment["commit"].split("+")[0]) == 40, path


@pytest.mark.slow
def test_first_batches_are_timed_in_fresh_processes_too(tmp_path: Path) -> None:
    check("pipelines.py", [], tmp_path)
    content = json.loads((tmp_path / "out" / "pipelines.json").read_text())
    warm = content["first_batch_of_a_million_seconds"]
    fresh = content["first_batch_of_a_million_in_a_fresh_process_seconds"]
    assert warm.keys() == fresh.keys() >= {"resident", "synthetic", "torch-loader"}
    for seconds in fresh.values():
        assert seconds.keys() == {"cold", "cold again"}
        assert min(seconds.values()) >= 0


def test_decode_tells_the_best_share_of_those_it_has_swept(tmp_path: Path) -> None:
    """On the CPU, where the share makes no difference, but the sweep is the same."""
    check("decode.py", ["--shares", "0.25,0.9"], tmp_path)
    content = json.loads((tmp_path / "out" / "decode-cpu.json").read_text())
    assert content["images"] == {**content["images"], "count": 48, "enlarged": 48, "canvas": [500, 500]}
    assert list(content["gather"]) == ["resident's gather, photographs", "resident's gather, squares of 256"]
    for numbers in content["gather"].values():
        low, middle, high = numbers["images_per_second"]
        assert 0 < low <= middle <= high
    canvas = [3 * side * side / 1e9 for side in (500, 256)]
    for size, numbers in zip(canvas, content["gather"].values(), strict=True):
        assert numbers["gb_per_second"][1] == pytest.approx(numbers["images_per_second"][1] * size, abs=1e-3)
    pytest.importorskip("nvidia.dali", reason="DALI is not installed: pip install 'fastnoisy[dali]'")
    medians = {numbers["share"]: numbers["images_per_second"][1] for numbers in content["decode"].values()}
    assert medians.keys() == {0.25, 0.9}
    assert content["best_share"] == max(medians, key=medians.__getitem__)
    assert "dali, share 0.25" in content["table"]
    assert content["table"].count("the best") == 1
