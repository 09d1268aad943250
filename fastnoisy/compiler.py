"""What torch.compile and numba need, and where they keep what they have compiled.

The standard library alone is imported here: tools ask before anything is installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

_MONTH = 30 * 24 * 3600  # seconds


def missing_packages() -> str:
    """The apt packages that torch.compile lacks on the CPU, separated by blanks; empty where it can build C++."""
    packages = []
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
        packages.append("g++")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        packages.append("python3-dev")
    return " ".join(packages)


class Compiled(ABC):
    """Does nothing by itself until it is prepared, and then only where its passes have stood their trial.

    Attributes:
        compiled: whether its passes are at work.
    """

    compiled = False

    @classmethod
    def prepared(cls) -> Self:
        """One that is compiled; also how it comes into a process that is not forked."""
        one = cls()
        one.prepare()
        return one

    def prepare(self) -> None:
        """Compile and try. Where the passes fail the trial, numba is missing, or the disk cannot keep them, do
        without.
        """
        try:
            self._load()
            self.compiled = True
            self.compiled = self._is_right()
        except (ImportError, OSError):  # no numba; a full disk or a quota where numba keeps what it has compiled
            self.compiled = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self).prepared if self.compiled else type(self)), ()

    @abstractmethod
    def _load(self) -> None:
        """Import the passes. Raises ImportError where numba is missing."""

    @abstractmethod
    def _is_right(self) -> bool:
        """Whether it does here, as prepared, what Pillow does."""


def kept(source: Path, *others: Path, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: compiled by numba on its first call, and kept on disk where there is a place for it.

    numba compares the file of a function alone with what it has kept, and in silence takes old code whose callee in
    another file has changed. So it is kept in a folder with a name of its own, see `kept_in`, or not at all.

    Args:
        source, others: all files that what is compiled depends on.
        options: of `numba.njit`.
    """
    import numba

    folder = kept_in(source, *others)
    place = folder is not None and _can_write(folder)

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        settings: Any = numba.config
        before = settings.CACHE_DIR
        settings.CACHE_DIR = str(folder)  # read when a function is decorated
        try:
            compiled: Any = numba.njit(cache=place, error_model="numpy", **options)(function)
        except RuntimeError:  # a function whose file is not one, as in an archive
            compiled = numba.njit(error_model="numpy", **options)(function)
        finally:
            settings.CACHE_DIR = before
        _forgive_full_disks(compiled._cache)
        return compiled  # type: ignore[no-any-return]

    return compile_


def _can_write(folder: Path) -> bool:
    """Make a folder for compiled code; of old code, beside it, what is older than a month is removed."""
    try:
        if not folder.exists():
            for old in folder.parent.glob("numba-*"):
                if time.time() - old.stat().st_mtime > _MONTH:
                    shutil.rmtree(old, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _forgive_full_disks(cache: Any) -> None:
    """Make numba go on with what it has compiled where it cannot write it down."""
    save = cache.save_overload

    def tried(*arguments: Any) -> None:
        with contextlib.suppress(OSError):
            save(*arguments)

    cache.save_overload = tried


def inner(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: compiled by numba into the compiled functions that call it, and not kept by itself."""
    import numba

    njit: Any = numba.njit  # its annotations lack the two options, without which compiling takes half as long again
    made: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(
        error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, **options
    )
    return made


def kept_in(*sources: Path) -> Path | None:
    """Where numba keeps what it makes of these files: a folder named by a digest of them and where they lie, of this
    file, of numba, llvmlite, numpy and Python, and of the processor.

    It lies in `NUMBA_CACHE_DIR`, or in `fastnoisy` in the user's folder for caches. None where there is no such folder
    or a file cannot be read.
    """
    digest = hashlib.sha256(f"{sys.version} {_processor()}".encode())
    try:
        base = os.environ.get("NUMBA_CACHE_DIR")
        base = base or os.path.join(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fastnoisy")
        for package in ("numba", "llvmlite", "numpy"):
            digest.update(f"{package} {importlib.metadata.version(package)}".encode())
        for source in (Path(__file__), *sources):
            digest.update(str(source).encode() + source.read_bytes())
    except (OSError, RuntimeError, importlib.metadata.PackageNotFoundError):  # RuntimeError: nobody's home
        return None
    return Path(base) / f"numba-{digest.hexdigest()[:16]}"


def _processor() -> str:
    """What tells this processor from others."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}))
