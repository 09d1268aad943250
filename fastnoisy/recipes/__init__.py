"""Recipes: one TOML file per data set; `<data>-<method>` composes it with a suite, a row of the papers' tables and a
method.

A file holds the keys of a configuration, and beside them:

* `summary`: one line for listings;
* `table`: the data set whose rows of the papers' tables it takes (see `rows.py`); without it, it has its own numbers;
* `[suite.NAME]`: keys that the set-up of one paper fixes for every method (net, schedule, split, augmentation, ...),
  and `asymmetric`, the rule that `noise=asymmetric:RATE` means there;
* `[for.METHOD]`, at the top or within a suite: keys for one method alone;
* `[pretrained]` and `[scratch]`, with all of the above within: for a network that starts from published weights, and
  for one that starts from random ones. The word `pretrained=false` chooses, or the network that is named.

Layers, later winning: the row, the file, its `[for.METHOD]`, `[suite.NAME]`, its `[for.METHOD]`, the same four of
`[pretrained]` or `[scratch]`, the user's overrides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from fastnoisy import config
from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.noise import NoiseSpec
from fastnoisy.recipes import rows

PHOTOGRAPH_SIDE = 128
_STARTS = ("pretrained", "scratch")
_META = ("summary", "table", "suite", "for", "asymmetric", *_STARTS)


def data_names() -> list[str]:
    """The data sets that have a recipe file, sorted."""
    folder = resources.files("fastnoisy.recipes")
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def read(data: str) -> dict[str, Any]:
    """The raw tables of a data set's recipe file."""
    return config.call_tables(config.read_toml(Path(str(resources.files("fastnoisy.recipes") / f"{data}.toml"))))


def split_name(name: str, methods: list[str]) -> tuple[str, str]:
    """`cifar10-nrd` as ("cifar10", "nrd").

    Raises:
        FastnoisyError: the data set or the method is unknown; the message lists near misses and all names.
    """
    data, _, method = name.partition("-")
    if data not in data_names() or method not in methods:
        raise unknown_name("recipe", name, [f"{d}-{m}" for d in data_names() for m in methods])
    return data, method


def compose(
    data: str, method: str, suite: str, overrides: Mapping[str, Any] | None = None, base: str | None = None
) -> dict[str, Any]:
    """The tables of `<data>-<method>` under a suite, with the user's overrides; `noise` in them is parsed, a
    `NoiseSpec`.

    Args:
        overrides: nested tables; a wrapper's `base` in table form.
        base: the method that `method` wraps, if it is a wrapper.

    Raises:
        FastnoisyError: there is no such suite.
    """
    if suite not in rows.TITLES:
        raise unknown_name("suite", suite, rows.TITLES)
    raw = read(data)
    start, overrides = _start(data, raw, overrides or {})
    levels = [level for table in (raw, start) for level in (table, table.get("suite", {}).get(suite, {}))]
    rule = next((str(level["asymmetric"]) for level in levels if "asymmetric" in level), "")
    names = {"method": {"name": method, **({} if base is None else {"base": {"name": base}})}}
    layers: list[Mapping[str, Any]] = [names]
    for level in levels:
        layers.append({key: value for key, value in level.items() if key not in _META})
        specific = level.get("for", {})
        if base is not None:
            inner = specific.get(base, {})
            own = {"base": {"name": base, **inner.get("method", {})}}
            layers.append({**inner, "method": own})
        layers.append(specific.get(method, {}))
    origin = {"recipe": f"{data}-{method}", "suite": suite, "row": ""}
    tables = config.merge(*layers, origin, overrides)
    spec = _parse_noise(tables.get("noise", "none"))
    if table := raw.get("table") or start.get("table"):
        noise = spec if isinstance(spec, NoiseSpec) else NoiseSpec("none")  # what does not parse is said at validation
        found = rows.choose(suite, table, method, base, noise, data, rule)
        taken = [key for key in config.flatten(found.tables) if not key.endswith(".name")]
        changed = [key for key in config.flatten(overrides) if key in taken]
        text = found.text + (f"; overridden: {', '.join(changed)}" if changed else "")
        tables = config.merge(found.tables, tables, {"row": text})
    return _noise_rule(_normalize(tables), spec, rule)


def _start(data: str, raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The layer `[pretrained]` or `[scratch]` of a recipe, empty where it has none, and the overrides without the word
    that chose it.

    Raises:
        FastnoisyError: `pretrained=` of a recipe without these layers, that is neither true nor false, or that the
            network named beside it contradicts.
    """
    rest = {key: value for key, value in overrides.items() if key != "pretrained"}
    word = overrides.get("pretrained")
    if "pretrained" in overrides and not isinstance(word, bool):
        raise FastnoisyError(f"pretrained={word} is neither true nor false")
    if not set(_STARTS) <= set(raw):
        if word is not None:
            raise FastnoisyError(
                f"pretrained= chooses between two set-ups, and {data}-* has one", "Set model.pretrained instead"
            )
        return {}, rest
    if not isinstance(rest.get("model", {}), Mapping):  # said at validation
        return raw["pretrained"], rest
    own = dict(rest.get("model", {}))
    said = True if own.get("weights") else own.get("pretrained")  # of the network itself
    if None not in (word, said) and word != said:
        network = own.get("name", raw["model"]["name"])
        raise FastnoisyError(
            f"pretrained={str(word).lower()}, and the network {network} is to start from "
            f"{'weights' if said else 'random weights'}",
            "Leave one of them out",
        )
    named = "name" in own
    default = False if named else raw["model"].get("pretrained")
    starts = next(answer for answer in (word, said, default) if answer is not None)
    layer = raw["pretrained" if starts else "scratch"]
    if starts and named:  # the layer's options go with any network
        own = {**layer.get("model", {}), "pretrained": True, **own}
    if not starts and not named:
        own.pop("pretrained", None)  # which the layer's network may not know
    return layer, {**rest, "model": own} if "model" in rest else rest


def change(tables: dict[str, Any], overrides: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A finished configuration with overrides; what they make untrue of `recipe` and `row` is taken out or said.

    Raises:
        FastnoisyError: another suite: that is a matter of composing anew.
    """
    before = tables.get("suite", "")
    if "pretrained" in overrides:
        raise FastnoisyError(
            f"pretrained={overrides['pretrained']} chooses a set-up, and {path} is a finished configuration",
            "Compose anew, or set model.pretrained",
        )
    if "suite" in overrides and overrides["suite"] != before:
        name = tables.get("recipe") or "DATA-METHOD"
        raise FastnoisyError(
            f"suite={overrides['suite']} cannot change in {path}, which is a finished configuration of suite {before}",
            f"Compose anew, for example: fastnoisy train {name} suite={overrides['suite']}",
        )
    result = config.merge(tables, overrides)
    row = str(tables.get("row", ""))
    keys = ("noise", "optim.lr", "optim.weight_decay")
    changed = [key for key in config.flatten(overrides) if key in keys or key.startswith("method.")]
    if row and changed:
        result["row"] = f"{row}{',' if '; overridden: ' in row else '; overridden:'} {', '.join(changed)}"
    old, new = tables.get("method"), result.get("method")
    data = str(tables.get("recipe", "")).partition("-")[0]
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("name") != new.get("name"):
        result["recipe"] = ""
    rule = read(data).get("suite", {}).get(before, {}).get("asymmetric", "") if data in data_names() else ""
    return _noise_rule(result, _parse_noise(result.get("noise", "none")), rule)


def table_of(recipe: str) -> str:
    """The data set whose rows of the papers' tables a recipe takes; empty for none."""
    data = recipe.partition("-")[0]
    return str(read(data).get("table", "")) if data in data_names() else ""


def _parse_noise(noise: Any) -> Any:
    """A noise spec, or the value itself where it is none, which is said when the configuration is validated."""
    try:
        return NoiseSpec.parse(noise) if isinstance(noise, str) else noise
    except FastnoisyError:
        return noise


def _noise_rule(tables: dict[str, Any], spec: Any, rule: str) -> dict[str, Any]:
    """The tables with the parsed noise; `asymmetric:RATE` has the suite's rule written out."""
    if isinstance(spec, NoiseSpec) and spec.kind == "asymmetric" and not spec.option and rule:
        spec = replace(spec, option=rule)
    return {**tables, "noise": spec}


def _normalize(tables: dict[str, Any]) -> dict[str, Any]:
    """NRD's divergence is scaled as in the GJS code on small images and bare on photographs (decision N1)."""
    method = tables["method"]
    for table in (method, method.get("base")):
        if isinstance(table, dict) and table.get("name") == "nrd" and _side(tables) >= PHOTOGRAPH_SIDE:
            table.setdefault("normalize", "none")
    return tables


def _side(tables: Mapping[str, Any]) -> int:
    views = tables.get("views")
    side = views.get("size") if isinstance(views, Mapping) and config.ViewsConfig.mention_size(views) else None
    return side if isinstance(side, int) else PHOTOGRAPH_SIDE if side == "auto" else 32


def is_path(name: str) -> bool:
    """Whether a recipe's name is a file of the user's own."""
    return name.endswith(".toml") or "/" in name


def from_file(path: Path) -> dict[str, Any]:
    """A configuration of the user's own, for example another run's `config.toml`.

    Raises:
        FastnoisyError: missing, not TOML, or built as a data recipe instead of one configuration.
    """
    tables = config.call_tables(config.read_toml(path))
    if "suite" in tables and not isinstance(tables["suite"], str):
        raise FastnoisyError(f"{path} holds suites: it is a data recipe, not the configuration of one run")
    return tables
