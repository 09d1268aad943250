"""Names without lists: a source, method or pipeline is a file, and the file's name is its name.

Names use hyphens where file names use underscores. Listing names and their summaries imports none of the files, so help
texts stay fast.
"""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
from importlib import resources
from types import ModuleType

from fastnoisy.errors import unknown_name


@functools.cache  # of a folder's listing, which a recipe's resolution asks for some hundred times
def _found(package: str) -> tuple[str, ...]:
    path = importlib.import_module(package).__path__
    found = (module.name for module in pkgutil.iter_modules(path))
    return tuple(sorted(name.replace("_", "-") for name in found if not name.startswith("_") and name != "base"))


def names(package: str) -> list[str]:
    """The names that the files of a package define, sorted. Files starting with an underscore and `base` are not
    names.
    """
    return list(_found(package))


def load(package: str, kind: str, name: str) -> ModuleType:
    """Import the file that defines `name`.

    Raises:
        FastnoisyError: no such file; the message lists near misses and all names.
    """
    known = names(package)
    if name not in known:
        raise unknown_name(kind, name, known)
    return importlib.import_module(f"{package}.{name.replace('-', '_')}")


def summary(package: str, name: str) -> str:
    """The first line of the docstring of the file that defines `name`, which is read and not imported; empty without
    one.
    """
    file = resources.files(package) / f"{name.replace('-', '_')}.py"
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
