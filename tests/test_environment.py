"""How tools/test gets the extra ffcv, which needs system packages and a compiler, and what it says where it cannot."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
Commands = list[list[str]]


@pytest.fixture
def environment() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_environment", ROOT / "tools" / "_environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stub(monkeypatch: pytest.MonkeyPatch, environment: ModuleType, failing: set[str], missing: str = "") -> Commands:
    """Record what would be run; commands with one of the words in `failing` fail."""
    ran: Commands = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        ran.append(command)
        failed = bool(failing & {word for part in command for word in part.split()})
        return SimpleNamespace(returncode=int(failed), stderr="ImportError: libopencv_core.so.406\n", stdout="")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(environment, "ffcv_missing", lambda: missing)
    monkeypatch.setattr(environment, "compiler_missing", lambda: "")
    return ran


def test_an_environment_that_has_it_is_left_alone(monkeypatch: pytest.MonkeyPatch, environment: ModuleType) -> None:
    ran = stub(monkeypatch, environment, set())
    assert environment.add_ffcv("python", []) == ""
    assert [command[1] for command in ran] == ["-c"]


def test_without_the_system_packages_pip_is_not_tried(monkeypatch: pytest.MonkeyPatch, environment: ModuleType) -> None:
    ran = stub(monkeypatch, environment, {"ffcv.loader,"}, missing="pkg-config libopencv-dev")
    monkeypatch.setattr(environment, "apt_install", lambda packages: False)
    assert "apt install pkg-config libopencv-dev" in environment.add_ffcv("python", [])
    assert not [command for command in ran if "pip" in command]


def test_a_failure_of_the_build_or_the_import_is_told(monkeypatch: pytest.MonkeyPatch, environment: ModuleType) -> None:
    stub(monkeypatch, environment, {"ffcv.loader,", "pip"})
    assert "could not build" in environment.add_ffcv("python", [])
    ran = stub(monkeypatch, environment, {"ffcv.loader,"})
    assert environment.add_ffcv("python", ["torch==2.11.0"]) == "it does not load: ImportError: libopencv_core.so.406"
    install = next(command for command in ran if "pip" in command)
    assert install[-3:] == ["torch==2.11.0", "-e", ".[ffcv]"]


def test_only_root_installs_system_packages(monkeypatch: pytest.MonkeyPatch, environment: ModuleType) -> None:
    ran = stub(monkeypatch, environment, set())
    monkeypatch.setattr(environment.os, "geteuid", lambda: 1000)
    assert not environment.apt_install("g++")
    assert ran == []


def test_the_quickstart_installs_no_extra() -> None:
    text = (ROOT / "tools" / "quickstart").read_text()
    assert 'make_environment(venv, ["-e", "."])' in text


def test_a_browser_is_installed_where_it_can_be_and_never_missed(
    monkeypatch: pytest.MonkeyPatch, environment: ModuleType
) -> None:
    asked: list[str] = []
    there = True
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/bin/{name}" if there else None)
    monkeypatch.setattr(environment, "apt_install", lambda packages: bool(asked.append(packages)))
    assert (environment.add_chromium(), asked) == ("", [])
    there = False
    assert (environment.add_chromium(), asked) == ("apt install chromium", ["chromium"])
