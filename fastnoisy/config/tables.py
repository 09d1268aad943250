"""Plain nested tables: layers merged, key=value overrides, TOML in and out, all problems of a validation in one
message.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fastnoisy import literals
from fastnoisy.errors import FastnoisyError, unknown_name

NAMED = ("method", "model", "pipeline")  # tables with a name and the options of what is named


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested tables, later layers winning key by key.

    A later `method`, `base`, `model` or `pipeline` table that names another one starts afresh: options belong to the
    name they were set for.
    """
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                named = key in (*NAMED, "base") and "name" in old
                renamed = named and value.get("name", old["name"]) != old["name"]
                result[key] = merge(value) if renamed else merge(old, value)
            else:
                result[key] = merge(value) if isinstance(value, Mapping) else value
    return result


def flatten(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, by dotted key; an empty table has no key."""
    found: dict[str, Any] = {}
    for key, value in tables.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def parse_value(text: str) -> Any:
    """A TOML value (`0.1`, `true`, `[40, 80]`, `"text"`), or the text itself where it is none.

    Raises:
        FastnoisyError: it nests too deep.
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except RecursionError:
        raise FastnoisyError(f"the value {text[:40]}... is nested too deep") from None
    except ValueError:  # no TOML, or an integer of thousands of digits
        return text


def parse_call(text: str) -> dict[str, Any]:
    """`alasca` or `alasca(base=gce(q=0.5), lam=2.0)` as a table with `name` and the options, a call among them as a
    table too; literals and bare words only.

    Raises:
        FastnoisyError: the text is neither.
    """
    try:
        return _table(literals.parse(text))
    except FastnoisyError as error:
        problem = f"it is neither a name nor a call such as alasca(base=ce, lam=2.0): {error.message}"
        raise FastnoisyError(f"{literals.shorten(text)!r}: {problem}") from None


def _table(call: literals.Call) -> dict[str, Any]:
    if call.args:
        raise FastnoisyError(f"{call.source!r} has an option without a name", f"Write {call.name}(OPTION=VALUE)")
    options = {key: _plain(value) for key, value in call.keywords}
    if "name" in options:
        raise FastnoisyError(f"{call.source!r}: name is no option")
    return {"name": call.name, **options}


def _plain(value: Any) -> Any:
    if isinstance(value, literals.Call):
        return _table(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def call_table(value: Any) -> dict[str, Any]:
    """A name, a call such as `gce(q=0.5)`, or a table with `name`, as a table.

    Raises:
        FastnoisyError: it names no method.
    """
    table = parse_call(value) if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
    if not isinstance(table.get("name"), str):
        raise FastnoisyError(
            f"{value!r} names no method", "Write for example base=gce, base=gce(q=0.5), or method.base.name=gce with it"
        )
    return table


def call_tables(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The same with `method`, `method.base`, `model` and `pipeline` as tables, where they are written as a name or a
    call.

    Raises:
        FastnoisyError: one of these texts is neither.
    """
    result = dict(tables)
    for key in NAMED:
        if isinstance(result.get(key), str):
            result[key] = parse_call(result[key])
    method = result.get("method")
    if isinstance(method, Mapping) and isinstance(method.get("base"), str):
        result["method"] = {**method, "base": parse_call(method["base"])}
    return result


def parse_overrides(words: Iterable[str]) -> dict[str, Any]:
    """`key=value` words as nested tables: `optim.lr=0.1`, `method=nrd`, `method.weights=[0.2,0.6,0.2]`.

    Raises:
        FastnoisyError: a word without `=`.
    """
    tables: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise FastnoisyError(
                f"{word[:200]!r} is not of the form key=value", "Write for example seed=1 or optim.lr=0.1"
            )
        value = parse_value(text.strip())
        for key in reversed(keys):
            value = {key: value}
        check_depth(value, f"the key {path[:40]}")
        tables = merge(tables, call_tables(value))
    return tables


def check_depth(tables: Any, where: str) -> None:
    """Raise FastnoisyError where tables and lists nest deeper than any configuration does: Python's stack would end
    first.
    """
    level, depth = [tables], 0
    while level:
        if (depth := depth + 1) > literals.MAX_DEPTH:
            raise FastnoisyError(f"{where} is nested deeper than {literals.MAX_DEPTH}")
        inner: list[Any] = []
        for item in level:
            inner += item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ()
        level = inner


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        FastnoisyError: the file is missing or is not TOML; the message has the line.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FastnoisyError(f"configuration file {path} does not exist") from None
    except IsADirectoryError:
        inside = f"Name the file {path / 'config.toml'}" if (path / "config.toml").is_file() else "Name a .toml file"
        raise FastnoisyError(f"{path} is a folder, not a configuration file", inside) from None
    except OSError as error:
        raise FastnoisyError(f"configuration file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # not TOML, not UTF-8, or an integer of thousands of digits
        raise FastnoisyError(f"configuration file {path} is not valid TOML: {error}") from error
    except RecursionError:
        raise FastnoisyError(f"configuration file {path} is nested too deep") from None
    check_depth(tables, f"configuration file {path}")
    return tables


def text_problems(tables: Mapping[str, Any]) -> list[str]:
    """The keys and values that config.toml cannot hold: names of files may be of bytes that are no UTF-8."""
    return [
        f"{key}: {str(value)!r} is not UTF-8, which config.toml holds; rename the file or folder"
        for key, value in flatten(tables).items()
        if not _is_utf8(key) or not _is_utf8(str(value))
    ]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def validate(model: type[BaseModel], tables: Mapping[str, Any], prefix: str = "") -> tuple[Any, list[str]]:
    """Validate tables against a pydantic model.

    Returns:
        (the validated object or None, all problems: one line each with the key, the value and what was allowed).
    """
    try:
        return model.model_validate(dict(tables)), []
    except ValidationError as error:
        return None, [_problem(model, item, prefix) for item in error.errors()]


def _problem(model: type[BaseModel], item: Any, prefix: str) -> str:
    place = [str(part) for part in item["loc"]]
    key = prefix + ".".join(place)
    if item["type"] == "extra_forbidden":
        owner: Any = model
        for part in place[:-1]:
            owner = owner.model_fields[part].annotation if part in owner.model_fields else owner
        known = [prefix + ".".join([*place[:-1], name]) for name in getattr(owner, "model_fields", {})]
        return str(unknown_name("key", key, known))
    if item["type"] == "missing" and place[-1].isdigit():
        return f"{prefix}{'.'.join(place[:-1])}: too few numbers (got {item['input']!r})"
    if item["type"] == "missing":
        return f"missing key {key!r}"
    if item["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return f"{key} is a table: set one of its keys, {key}.NAME=VALUE (got {item['input']!r})"
    message = item["msg"].removeprefix("Value error, ")
    return f"{key or 'configuration'}: {message} (got {item['input']!r})" if key else message


def problems_error(problems: list[str], where: str = "the configuration") -> FastnoisyError:
    """One error for a list of problems."""
    if len(problems) == 1:
        return FastnoisyError(problems[0])
    return FastnoisyError(f"{len(problems)} problems in {where}:\n  " + "\n  ".join(problems))


def to_toml(tables: Mapping[str, Any], prefix: str = "") -> str:
    """Nested tables of strings, numbers, booleans, lists and tables as TOML text; None values are left out."""
    plain = [(k, v) for k, v in tables.items() if not isinstance(v, Mapping) and v is not None]
    nested = [(k, v) for k, v in tables.items() if isinstance(v, Mapping)]
    lines = [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in plain]
    for name, value in nested:
        key = _toml_key(name)
        body = to_toml(value, f"{prefix}{key}.")
        lines += ["", f"[{prefix}{key}]", body.rstrip("\n")]
    return "\n".join(lines) + "\n"


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's basic strings are JSON's
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    return repr(value)
