"""Which cells a grid has, and what their folders are called."""

from __future__ import annotations

import pytest

from fastnoisy.errors import FastnoisyError
from fastnoisy.grids.grid import cells


def test_every_combination_is_a_cell() -> None:
    found = cells("digits-ce,digits-nrd", ["epochs=3", "seed=1,2", "noise=symmetric:0.2,symmetric:0.8"])
    assert len(found) == 8
    assert len({cell.name for cell in found}) == 8
    assert found[0].recipe == "digits-ce"
    assert found[0].words == ("epochs=3", "seed=1", "noise=symmetric:0.2")
    assert found[0].point == ("digits-ce", "seed=1", "noise=symmetric:0.2")
    assert found[1].words[-1] == "noise=symmetric:0.8"
    assert found[0].name == "digits-ce,seed=1,noise=symmetric:0.2"


def test_commas_within_brackets_and_quotes_part_nothing() -> None:
    words = [
        "method.weights=[0.1,0.8,0.1],[0.2,0.6,0.2]",
        'views.student="a(1, 2) | b"',
        "method=alasca(base=gce(q=0.5))",
    ]
    found = cells("digits-nrd", words)
    assert [cell.point for cell in found] == [("method.weights=[0.1,0.8,0.1]",), ("method.weights=[0.2,0.6,0.2]",)]
    assert found[0].words[:2] == (words[1], words[2])
    assert all("/" not in cell.name and " " not in cell.name and "[" not in cell.name for cell in found)
    assert len({cell.name for cell in found}) == 2


@pytest.mark.parametrize(
    ("recipes", "word", "said"),
    [
        ("digits-ce", "seed", "not of the form key=value"),
        ("digits-ce", "seed=1,,2", "a value is empty"),
        ("digits-ce", "seed=1,2,1", "a value is there twice"),
        ("digits-ce,digits-ce", "seed=1", "RECIPE.*twice"),
    ],
)
def test_a_grid_that_is_none_is_refused(recipes: str, word: str, said: str) -> None:
    with pytest.raises(FastnoisyError, match=said):
        cells(recipes, [word])


def test_a_recipe_of_ones_own_is_named_by_its_file() -> None:
    (cell,) = cells("my/own.toml", ["seed=1"])
    assert cell.name == "own.toml"
    assert cell.recipe == "my/own.toml"
