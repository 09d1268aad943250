"""The configuration of a run: layers of TOML, then key=value overrides; all problems in one message.

A run is described by plain nested tables. Layers are merged in order (later wins), overrides such as `optim.lr=0.1`
come last, and the result is validated once. `to_toml` writes what `read_toml` reads. What the texts of a configuration
mean (its noise, its views, the options of its method, network and pipeline) is parsed by `training/setup.py`, once.
"""

from fastnoisy.config.tables import (
    NAMED,
    call_table,
    call_tables,
    check_depth,
    flatten,
    merge,
    parse_call,
    parse_overrides,
    parse_value,
    problems_error,
    read_toml,
    text_problems,
    to_toml,
    validate,
)
from fastnoisy.config.types import (
    ESTIMATE,
    VIEW_NAMES,
    Config,
    NoiseRate,
    OptimConfig,
    Table,
    Triple,
    ViewsConfig,
    changeable,
    changed,
    may_change,
)

__all__ = [
    "ESTIMATE",
    "NAMED",
    "VIEW_NAMES",
    "Config",
    "NoiseRate",
    "OptimConfig",
    "Table",
    "Triple",
    "ViewsConfig",
    "call_table",
    "call_tables",
    "changeable",
    "changed",
    "check_depth",
    "flatten",
    "may_change",
    "merge",
    "parse_call",
    "parse_overrides",
    "parse_value",
    "problems_error",
    "read_toml",
    "text_problems",
    "to_toml",
    "validate",
]
