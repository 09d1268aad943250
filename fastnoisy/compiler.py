"""What torch.compile and numba need, and where they keep what they have compiled.

The standard library alone is imported here: tools ask before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self


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


def kept(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: compiled by numba on its first call, and kept on disk where there is a place for it."""
    import numba

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            compiled: Callable[..., Any] = numba.njit(cache=True, error_model="numpy", **options)(function)
        except RuntimeError:  # neither the folder of the function's file nor the user's can be written
            compiled = numba.njit(error_model="numpy", **options)(function)
        return compiled

    return compile_
