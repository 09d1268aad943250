"""Names without lists: a source, method or pipeline is a file, and the file's name is its name.

Names use hyphens where file names use underscores. Listing names imports nothing, so help texts stay fast.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from fastnoisy.errors import unknown_name


def names(package: str) -> list[str]:
    """The names that the files of a package define, sorted. Files starting with an underscore and `base` are not names."""
    path = importlib.import_module(package).__path__
    found = (module.name for module in pkgutil.iter_modules(path))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_") and name != "base")


def load(package: str, kind: str, name: str) -> ModuleType:
    """Import the file that defines `name`.

    Raises:
        FastnoisyError: no such file; the message lists near misses and all names.
    """
    known = names(package)
    if name not in known:
        raise unknown_name(kind, name, known)
    return importlib.import_module(f"{package}.{name.replace('-', '_')}")
