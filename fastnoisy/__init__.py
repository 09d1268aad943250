"""fastnoisy trains image classifiers on wrongly labelled data at the speed of the hardware.

`fastnoisy.convert`, `fastnoisy.train` and `fastnoisy.load` do what the commands do; see `api.py`. Importing the package
does no work and does not import torch. Floors (a file imports only from its own floor's package or from lower ones,
`tests/test_floors.py` keeps it): 0 errors, configuration, random numbers, losses, noise, order, machine; 1 recipes,
data, augment, models; 2 pipelines, methods; 3 training; 4 analysis, grids, model_export, api; 5 cli.
"""

import os

TYPE_CHECKING = False  # as type checkers take it; typing and pathlib take 10 ms, in which Ctrl-C is not yet handled
if TYPE_CHECKING:
    from fastnoisy.api import audit, compare, convert, correct, dry_run, export, load, sweep, train
    from fastnoisy.errors import FastnoisyError
    from fastnoisy.training.logs import Event
    from fastnoisy.training.run import Run
    from fastnoisy.training.stop import Interrupted, Stop

__version__ = "0.1.0"

# `fastnoisy/pipelines` is a link to the folder at the top. A checkout that lost its links (a zip, or git on a file
# system without them) holds a small text file in its place; then the folder is found beside the package.
_HERE = os.path.dirname(os.path.realpath(__file__))
if not os.path.isdir(f"{_HERE}/pipelines") and os.path.isfile(f"{os.path.dirname(_HERE)}/pipelines/__init__.py"):
    __path__.append(os.path.dirname(_HERE))

_ROOMS = {  # of what is imported on its first use
    "Event": "training.logs",
    "FastnoisyError": "errors",
    "Interrupted": "training.stop",
    "Run": "training.run",
    "Stop": "training.stop",
    "audit": "api",
    "compare": "api",
    "convert": "api",
    "correct": "api",
    "dry_run": "api",
    "export": "api",
    "load": "api",
    "sweep": "api",
    "train": "api",
}
__all__ = [
    "Event", "FastnoisyError", "Interrupted", "Run", "Stop", "audit", "compare", "convert", "correct", "dry_run",
    "export", "load", "sweep", "train",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module 'fastnoisy' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"fastnoisy.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
