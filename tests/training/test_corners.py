"""Absurd values of every number of the configuration: a run is refused in one line, or works; nothing else happens."""

from __future__ import annotations

import functools
import random
import warnings
from collections import Counter
from pathlib import Path

import pytest

from fastnoisy import config
from fastnoisy.errors import FastnoisyError
from fastnoisy.training import dry_run, setup
from fastnoisy.workers import Lost, ordered

RECIPES = ("digits-nrd", "digits-alasca", "digits-dividemix", "digits-elr-plus", "digits-co-teaching")
WORDS = [
    "model=preact_small(width=4)", "data.subset=60", "epochs=2", "batch_size=30", "threads=1", "device=cpu",
]  # fmt: skip
VALUES = (
    "0", "-1", "1", "0.5", "1e308", "-1e308", "1e-320", "2147483648", "1000000000000000000", "nan", "inf", "-inf", "[]",
    "[1, 2]", "'x'",
)  # fmt: skip


def cases(digits: Path) -> list[tuple[str, str]]:
    """Recipe and override: every number, list or missing value of the configuration, and every option of a method."""
    found = []
    for recipe in RECIPES:
        plain = config.flatten(setup.resolve(recipe, WORDS, str(digits)).config.model_dump())
        for key, value in plain.items():
            numeric = value is None or (isinstance(value, (int, float, list)) and not isinstance(value, bool))
            if numeric and (recipe == RECIPES[0] or key.startswith("method")):
                found += [(recipe, f"{key}={text}") for text in VALUES]
    return found


def attempt(chosen: list[tuple[str, str]], digits: Path, run: Path, i: int) -> tuple[str, str]:
    """What becomes of a case, and more where that is bad."""
    recipe, word = chosen[i]
    warnings.simplefilter("ignore")
    try:
        settings = setup.resolve(recipe, [*WORDS, word], str(digits))
        dry_run.run(settings, run, lambda event: None)
    except FastnoisyError as error:
        return ("refused", "") if "\n" not in str(error) else ("lines", f"{word}: {error}")
    except Exception as error:
        return "traceback", f"{recipe} {word}: {type(error).__name__}: {error}"
    return "works", ""


@pytest.mark.parametrize("share", [40, pytest.param(None, marks=pytest.mark.slow)])
def test_absurd_values_are_refused_or_work(share: int | None, digits: Path, tmp_path: Path) -> None:
    chosen = cases(digits)
    assert len(chosen) > 600
    if share is not None:
        chosen = random.Random(4).sample(chosen, share)

    def lost(lost: Lost) -> tuple[str, str]:
        return "lost", f"{chosen[lost.item]}: {lost.reason}"

    work = functools.partial(attempt, chosen, digits, tmp_path / "run")
    # spawned, for autograd refuses to work in a fork of a process in which it has started threads
    results = list(ordered(work, range(len(chosen)), workers=2, lost=lost, timeout=60, start="spawn"))
    counts = Counter(kind for kind, _ in results)
    assert set(counts) <= {"refused", "works"}, [told for kind, told in results if kind not in ("refused", "works")]
    assert counts["refused"] > 2 * counts["works"] > 0
    assert list(tmp_path.iterdir()) == []
