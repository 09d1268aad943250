"""Export a run: its network in a format that needs no fastnoisy, with preprocessing, classes and a model card."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from fastnoisy.errors import FastnoisyError, one_line, unknown_name
from fastnoisy.files import replacing
from fastnoisy.model_export import preprocessing
from fastnoisy.model_export.card import card, difference
from fastnoisy.model_export.formats import FORMATS, Written
from fastnoisy.training.device import caller_unchanged, set_threads
from fastnoisy.training.run import Run

Say = Callable[[str], object]


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        out: the folder.
        files: the names of what it holds.
        what: which network it is, a few words.
        predictor: under which of the run's predictors it was evaluated; empty: under none.
        reported: the run's reported predictor; the same where the file gives what `predict` gives.
        difference: the largest between a logit of the file, read back, and the run's own; None: not compared.
    """

    out: Path
    files: list[str]
    what: str
    predictor: str
    reported: str
    difference: float | None


def export(run: Run, to: str, out: Path, say: Say) -> Export:
    """Write a run's network down; see `fastnoisy.api.export`."""
    if to not in FORMATS:
        raise unknown_name("format", to, FORMATS)
    _check_free(out)
    made = [folder for folder in out.absolute().parents if not folder.exists()]
    try:
        with caller_unchanged(), replacing(out) as partial:
            set_threads(run.config.threads)
            partial.mkdir(parents=True)
            written = FORMATS[to](run, partial)
            (partial / "preprocessing.json").write_text(json.dumps(preprocessing.describe(run), indent=1) + "\n")
            names = "".join(f"{one_line(name)}\n" for name in run.class_names)
            (partial / "classes.txt").write_text(names, encoding="utf-8")
            files = sorted([*(path.name for path in partial.iterdir()), "README.md"])
            (partial / "README.md").write_text(card(run, to, written, files), encoding="utf-8")
    except BaseException as error:
        for folder in made:
            with suppress(OSError):  # something of another process is in it by now
                folder.rmdir()
        if isinstance(error, (OSError, SafetensorError)):
            said = error.strerror if isinstance(error, OSError) else None
            raise FastnoisyError(f"{out} cannot be written: {said or error}", "Name another folder") from error
        raise
    for line in _told(run, written):
        say(line)
    found = written.exported
    return Export(out, files, found.what, found.predictor, found.reported, written.difference)


def _check_free(out: Path) -> None:
    """Raise FastnoisyError where the folder is neither new nor empty."""
    if out.exists() and not out.is_dir():
        raise FastnoisyError(f"{out} is a file, not a folder", "Name a new folder with --out")
    if out.resolve() == Path.cwd():
        raise FastnoisyError(f"{out} is the folder you are in", "Name a new folder with --out")
    if out.is_dir() and any(out.iterdir()):
        raise FastnoisyError(f"{out} is not empty", "Name a new folder with --out")


def _told(run: Run, written: Written) -> list[str]:
    found = written.exported
    lines = [f"{found.what}: {difference(written)}"]
    if found.predictor != found.reported:
        test = next(iter((run.final or {}).get("eval", {}).items()), None)
        numbers = ""
        if test is not None:
            shares = [
                f"{name} {100 * test[1][name]['accuracy']:.2f} %"
                for name in (found.predictor, found.reported)
                if name in test[1]
            ]
            numbers = f": on {test[0]} {', '.join(shares)}"
        lines.append(f"note: the run reports {found.reported}, which is more than the one network exported{numbers}")
    return lines
