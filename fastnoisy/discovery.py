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


@functools.cache
def declared(package: str) -> dict[str, tuple[str, str]]:
    """The names that the files of a package declare, sorted; for each the file's module and a summary.

    A file has one name, its own, and the first line of its docstring as the summary; or it assigns `KINDS`, a
    dictionary from names to calls whose first argument is the summary. The files are read and not imported.
    """
    found: dict[str, tuple[str, str]] = {}
    for name in names(package):
        module = f"{package}.{name.replace('-', '_')}"
        tree = ast.parse((resources.files(package) / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8"))
        tables = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "KINDS" for t in node.targets)
        ]
        if not tables:
            found[name] = module, (ast.get_docstring(tree) or "").partition("\n")[0]
        for table in tables:
            assert isinstance(table, ast.Dict)
            for key, value in zip(table.keys, table.values, strict=True):
                assert isinstance(key, ast.Constant)
                assert isinstance(value, ast.Call)
                assert isinstance(value.args[0], ast.Constant)
                found[str(key.value)] = module, str(value.args[0].value)
    return dict(sorted(found.items()))


def summary(package: str, name: str) -> str:
    """The first line of the docstring of the file that defines `name`, which is read and not imported; empty without
    one.
    """
    file = resources.files(package) / f"{name.replace('-', '_')}.py"
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
