"""Which rows of which stream come next, asked of the feed alone: no run, no data, no network."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from fastnoisy.methods.base import Pass, Stream
from fastnoisy.order import Population, order
from fastnoisy.training.feed import Feed

STREAMS = {"labelled": Stream("labelled"), "unlabelled": Stream("unlabelled"), "train": Stream()}
BOTH = Pass("both", ("labelled", "unlabelled"), drop_last=True)


def population(name: str, rows: range) -> Population:
    return Population(name, np.array(rows))


POPULATIONS = {
    "train": population("train", range(50)),
    "labelled": population("labelled", range(40)),
    "unlabelled": population("unlabelled", range(40, 50)),
}


def cut(made: Feed, spec: Pass, *given: Any) -> dict[str, list[np.ndarray]]:
    return {name: list(batches) for name, batches in made.batches(spec, *given).items()}


def feed(batch_size: int = 4, drop_last: bool = False) -> Feed:
    return Feed(STREAMS, lambda rows, name, epoch: order(rows, name, seed=1, epoch=epoch), batch_size, drop_last)


@pytest.mark.parametrize(("drop_last", "steps", "last"), [(False, 13, 2), (True, 12, 4)])
def test_a_pass_over_one_stream_visits_every_row_once(drop_last: bool, steps: int, last: int) -> None:
    made = feed(drop_last=drop_last)
    (batches,) = cut(made, Pass(), POPULATIONS, 3).values()
    assert made.steps(Pass(), POPULATIONS) == len(batches) == steps
    assert [len(rows) for rows in batches] == [4] * (steps - 1) + [last]
    rows = np.concatenate(batches)
    assert len(set(rows.tolist())) == len(rows)
    assert np.array_equal(rows, order(POPULATIONS["train"], "train", 1, 3)[: len(rows)])


def test_a_run_that_goes_on_is_given_the_rest() -> None:
    whole, rest = (cut(feed(), BOTH, POPULATIONS, 5, first) for first in (0, 3))
    for name, batches in rest.items():
        assert [rows.tolist() for rows in batches] == [rows.tolist() for rows in whole[name][3:]]


def test_a_stream_that_is_not_the_first_starts_over_in_another_order() -> None:
    """Ten rows beside ten batches of four: five rounds, and no batch lies across two of them."""
    batches = cut(feed(), BOTH, POPULATIONS, 0)
    assert {name: len(found) for name, found in batches.items()} == {"labelled": 10, "unlabelled": 10}
    rounds = [np.concatenate(batches["unlabelled"][first : first + 2]).tolist() for first in range(0, 10, 2)]
    assert all(len(set(rows)) == 8 and set(rows) <= set(range(40, 50)) for rows in rounds)
    assert len({tuple(rows) for rows in rounds}) == 5


def test_a_population_smaller_than_a_batch_is_repeated_whole() -> None:
    small = {**POPULATIONS, "unlabelled": population("unlabelled", range(40, 43))}
    rows = np.concatenate(cut(feed(), BOTH, small, 0)["unlabelled"])
    assert len(rows) == 40
    assert all(len(set(rows[first : first + 3].tolist())) == 3 for first in range(0, 39, 3))


def test_a_pass_has_its_own_batch_size_and_a_selection_not_made_yet_counts_as_all() -> None:
    twice = Pass("warm-up", ("labelled",), batch_factor=2)
    only_all = {"train": POPULATIONS["train"]}
    batches = cut(feed(), twice, only_all, 0)["labelled"]
    assert [len(rows) for rows in batches] == [8] * 6 + [2]


def test_it_is_a_pure_function() -> None:
    ask = functools.partial(cut, feed(), BOTH, POPULATIONS)
    first = {name: np.concatenate(rows) for name, rows in ask(7).items()}
    again = {name: np.concatenate(rows) for name, rows in ask(7).items()}
    other = {name: np.concatenate(rows) for name, rows in ask(8).items()}
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)
