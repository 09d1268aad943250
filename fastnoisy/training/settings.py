"""`Settings`: a run's configuration with all of its texts parsed, which everything after `setup.resolve` is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastnoisy import methods, pipelines
from fastnoisy.augment import ViewProgram
from fastnoisy.config import Config
from fastnoisy.noise import NoiseSpec


@dataclass(frozen=True)
class Settings:
    """A validated configuration and what its texts mean. Equal configurations give equal settings.

    Attributes:
        config: the plain values, every option written down: what config.toml holds. `config.model` is the network's
            table.
        noise: the label noise.
        views: the program of each view that the configuration has, by its name there.
        method: the method with its options, and what it wraps.
        pipeline: the pipeline asked for, or `auto`, with its options.
        told: what was chosen for this network, device and data, one line; empty for nothing.
    """

    config: Config
    noise: NoiseSpec
    views: Mapping[str, ViewProgram]
    method: methods.Choice
    pipeline: pipelines.Request
    told: str = field(default="", compare=False)
