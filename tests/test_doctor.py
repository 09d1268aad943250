"""`fastnoisy doctor`: it reports whatever the machine is like, names what is missing, and never fails."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fastnoisy import __version__, compiler, doctor, extras
from fastnoisy.cli import cli

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = ["program", "packages", "extras", "gpu", "codecs", "compiler", "processors", "memory", "disk"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    cli.main(["doctor", *words], standalone_mode=False)
    return capsys.readouterr().out


def test_the_text_has_every_section_and_the_versions(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys)
    assert [line[:-1] for line in out.splitlines() if re.fullmatch(r"[a-z]+:", line)][: len(SECTIONS)] == SECTIONS
    assert re.search(rf"fastnoisy +{re.escape(__version__)}$", out, re.MULTILINE)
    assert re.search(rf"torch +{re.escape(importlib.metadata.version('torch'))}$", out, re.MULTILINE)
    assert "cannot be examined" not in out
    assert str(ROOT) not in out  # a page for the public


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    tables = json.loads(run(capsys, "--json"))
    assert list(tables) == [*SECTIONS, "missing"]
    assert tables["packages"]["torch"] == importlib.metadata.version("torch")
    assert set(tables["extras"]) == set(extras.EXTRAS)


def test_the_packages_are_those_of_setup() -> None:
    text = (ROOT / "setup.py").read_text()
    required = text[text.index("install_requires") : text.index("extras_require")]
    assert re.findall(r'"([A-Za-z0-9-]+)>=', required) == list(doctor.CORE)
    offered = text[text.index("extras_require") :]
    for name, extra in extras.EXTRAS.items():
        assert f'"{name}": [' in offered
        assert extra.install == f"pip install 'fastnoisy[{name}]'"


def test_what_is_missing_comes_with_the_lines_that_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for extra in extras.EXTRAS.values():
        monkeypatch.setitem(sys.modules, extra.module, None)
    original = importlib.metadata.version

    def version(name: str) -> str:
        if name == "kornia":
            raise importlib.metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(compiler, "missing_packages", lambda: "g++ python3-dev")
    text = doctor.render(doctor.examine())
    missing = text.rpartition("missing:\n")[2]
    assert "packages, kornia: pip install kornia" in missing
    for name, extra in extras.EXTRAS.items():
        assert f"extras, {name}: {extra.install}" in missing
    assert "apt install libopencv-dev libturbojpeg0-dev pkg-config" in missing
    assert "nvidia-dali-cuda120" in missing
    assert "apt install g++ python3-dev" in missing


def test_a_broken_extra_is_told_from_a_missing_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ffcv.py").write_text("raise ImportError('libopencv_core.so.406: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ffcv", raising=False)
    found = {finding.name: finding for finding in doctor.examine()["extras"]}["ffcv"]
    assert "does not load: libopencv_core.so.406" in found.value
    assert found.remedy.startswith("pip install 'fastnoisy[ffcv]'")


def test_a_look_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bool:
        raise RuntimeError("driver shut down\nwhile asked")

    monkeypatch.setattr(torch.cuda, "is_available", fail)
    assert doctor.examine()["gpu"] == [
        doctor.Finding("gpu", "cannot be examined: RuntimeError: driver shut down while asked")
    ]


def stub_gpu(monkeypatch: pytest.MonkeyPatch, available: bool) -> None:
    about = SimpleNamespace(name="NVIDIA H200", major=9, minor=0)
    answers: dict[str, Callable[..., object]] = {
        "is_available": lambda: available,
        "device_count": lambda: 1,
        "get_device_properties": lambda number: about,
        "mem_get_info": lambda number: (130 * 2**30, 140 * 2**30),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(doctor, "_output", lambda *words: "NVIDIA H200, 570.86.15, 143771 MiB")


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    stub_gpu(monkeypatch, available=True)
    found = {finding.name: finding.value for finding in doctor.examine()["gpu"]}
    assert found["driver"] == "570.86.15"
    assert found["cuda:0"] == "NVIDIA H200, 130.0 of 140.0 GiB free, compute capability 9.0"


def test_a_driver_that_torch_cannot_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stub_gpu(monkeypatch, available=False)
    found = {finding.name: finding for finding in doctor.examine()["gpu"]}["devices"]
    assert "CUDA 13.2 needs a driver from 580 on" in found.remedy


@pytest.mark.parametrize(("driver", "older"), [("580.95.05", False), ("535.183.01", True)])
def test_a_torch_without_cuda_beside_a_driver_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, driver: str, older: bool
) -> None:
    stub_gpu(monkeypatch, available=False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(doctor, "_output", lambda *words: f"NVIDIA H200, {driver}, 143771 MiB")
    report = doctor.examine()
    found = {finding.name: finding for finding in report["gpu"]}
    assert found["torch's CUDA"].value == "none"
    told = f"torch {torch.__version__} is built without CUDA, beside NVIDIA's driver {driver}"
    assert found["devices"].remedy.startswith(f"{told}: pip uninstall -y torch && pip install torch")
    assert ("a build for an older CUDA" in found["devices"].remedy) == older
    assert f"gpu, devices: {told}" in doctor.render(report)


def test_without_a_driver_a_torch_without_cuda_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    stub_gpu(monkeypatch, available=False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(doctor, "_output", lambda *words: "")
    monkeypatch.setattr(doctor, "_proc_driver", lambda: "")
    found = {finding.name: finding for finding in doctor.examine()["gpu"]}
    assert (found["driver"].value, found["devices"].remedy) == ("none found", "")


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


def test_the_tightest_limit_of_any_cgroup_above_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    groups = "sys/fs/cgroup/system.slice"
    put(tmp_path, {
        "proc/self/cgroup": "0::/system.slice/job_7/step_0",
        f"{groups}/memory.max": f"{64 * 2**30}", f"{groups}/memory.current": f"{2**30}",
        f"{groups}/cpu.max": "max 100000",
        f"{groups}/job_7/memory.max": f"{2 * 2**30}", f"{groups}/job_7/memory.current": f"{2**30}",
        f"{groups}/job_7/cpu.max": "150000 100000",
        f"{groups}/job_7/step_0/memory.max": "max", f"{groups}/job_7/step_0/memory.current": "9",
        f"{groups}/job_7/step_0/cpu.max": "800000 100000",
    })  # fmt: skip
    monkeypatch.setattr(doctor, "_ROOT", tmp_path)
    report = doctor.examine()
    assert doctor.Finding("cgroup limit", "2.0 GiB, 1.0 GiB used") in report["memory"]
    assert doctor.Finding("cgroup limit", "1.5 cores") in report["processors"]


def test_limits_of_cgroups_of_version_1_are_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Docker shows them: the path of the group is the host's, what is mounted is the group itself."""
    groups = "sys/fs/cgroup"
    put(tmp_path, {
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/",
        f"{groups}/memory/memory.limit_in_bytes": f"{3 * 2**30}",
        f"{groups}/memory/memory.usage_in_bytes": f"{2 * 2**30}",
        f"{groups}/memory/memory.stat": f"cache 7\ntotal_inactive_file {2**30}",
        f"{groups}/cpu/cpu.cfs_quota_us": "250000", f"{groups}/cpu/cpu.cfs_period_us": "100000",
    })  # fmt: skip
    monkeypatch.setattr(doctor, "_ROOT", tmp_path)
    report = doctor.examine()
    assert doctor.Finding("cgroup limit", "3.0 GiB, 1.0 GiB used") in report["memory"]
    assert doctor.Finding("cgroup limit", "2.5 cores") in report["processors"]
    put(tmp_path, {
        f"{groups}/memory/memory.limit_in_bytes": "9223372036854771712", f"{groups}/cpu/cpu.cfs_quota_us": "-1"
    })  # fmt: skip
    report = doctor.examine()
    assert doctor.Finding("cgroup limit", "none") in report["memory"]
    assert doctor.Finding("cgroup limit", "none") in report["processors"]


def test_exit_code_and_no_traceback_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastnoisy", "doctor"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert "missing:" in done.stdout
