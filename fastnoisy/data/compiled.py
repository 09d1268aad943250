"""Passes that numba compiles, for what Pillow does as well but slower: taken only where they are right and can be kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self


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
        """Compile and try. Where the passes fail the trial, numba is missing, or the disk cannot keep them, do without."""
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
