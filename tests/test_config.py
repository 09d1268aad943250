"""Configuration: layers, overrides, all problems at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fastnoisy import config, methods, recipes
from fastnoisy.errors import FastnoisyError
from fastnoisy.training import setup


def test_overrides_are_typed_and_nested() -> None:
    words = [
        "seed=3",
        "optim.lr=0.5",
        "optim.milestones=[1, 2]",
        "noise=symmetric:0.2",
        "method.weights=[0.1, 0.8, 0.1]",
    ]
    assert config.parse_overrides(words) == {
        "seed": 3,
        "optim": {"lr": 0.5, "milestones": [1, 2]},
        "noise": "symmetric:0.2",
        "method": {"weights": [0.1, 0.8, 0.1]},
    }
    call = config.parse_overrides(['method=alasca(base="nrd", lam=1.5, lca=off)'])
    assert call == {"method": {"name": "alasca", "base": "nrd", "lam": 1.5, "lca": "off"}}
    nested = config.parse_overrides(["method=alasca(base=nrd(ema_decay=0.9), lam=1)"])
    assert nested == {"method": {"name": "alasca", "base": "nrd(ema_decay=0.9)", "lam": 1}}
    assert not methods.problems(nested["method"])
    with pytest.raises(FastnoisyError, match="not of the form key=value"):
        config.parse_overrides(["seed"])
    with pytest.raises(FastnoisyError, match="neither a name nor a call"):
        config.parse_overrides(["method=alasca(__import__('os').system('x'))"])


def test_another_name_starts_its_options_afresh() -> None:
    merged = config.merge({"method": {"name": "nrd", "weights": [1]}}, {"method": {"name": "ce"}})
    assert merged == {"method": {"name": "ce"}}
    kept = config.merge({"method": {"name": "nrd", "weights": [1]}}, {"method": {"ema_decay": 0.9}})
    assert kept["method"] == {"name": "nrd", "weights": [1], "ema_decay": 0.9}


def test_toml_round_trips() -> None:
    tables = setup.resolve("cifar10-nrd", ["noise=symmetric:0.2"], "some/store").model_dump()
    again = setup.check(tomllib.loads(config.to_toml(tables)))
    assert again.model_dump() == tables


@pytest.mark.parametrize("data", recipes.data_names())
@pytest.mark.parametrize("method", methods.names())
def test_every_recipe_resolves_in_every_suite(data: str, method: str) -> None:
    raw = recipes.read(data)
    assert raw["summary"]
    for suite in raw.get("suite", {"nrd": None}):
        settings = setup.resolve(f"{data}-{method}", [f"suite={suite}"])
        assert settings.method["name"] == method
        assert settings.suite == suite


def test_suites_fix_the_set_up_and_overrides_win() -> None:
    nrd, alasca = setup.resolve("cifar10-nrd", []), setup.resolve("cifar10-alasca", [])
    assert (nrd.suite, nrd.model["name"], nrd.epochs, nrd.optim.nesterov, nrd.drop_last) == (
        "nrd",
        "gjs_preact34",
        400,
        True,
        True,
    )
    assert (nrd.optim.lr, nrd.optim.weight_decay) == (0.1, 5e-4)
    assert (alasca.suite, alasca.model["name"], alasca.epochs, alasca.optim.nesterov) == (
        "alasca",
        "resnet34_cifar",
        120,
        False,
    )
    assert [alasca.optim.factor(e) for e in (0, 39, 40, 80)] == pytest.approx([1, 1, 0.01, 0.0001])
    assert (nrd.data.holdout, alasca.data.holdout) == (0, 0.1)
    crossed = setup.resolve("cifar10-alasca", ["suite=nrd", "optim.lr=0.3"])
    assert (crossed.model["name"], crossed.optim.lr) == ("gjs_preact34", 0.3)
    assert crossed.views.program("student").startswith("randaugment")
    assert alasca.views.program("student") == alasca.views.weak


def test_all_problems_come_at_once_with_near_misses() -> None:
    words = [
        "optim.lrr=0.1",
        "epochs=ten",
        "noise=symmetric:1.5",
        "method.weigths=[1]",
        "model=preact_smal",
        "views.student=hflop",
    ]
    with pytest.raises(FastnoisyError) as caught:
        setup.resolve("digits-nrd", words)
    text = str(caught.value)
    assert "6 problems" in text
    for part in (
        "did you mean optim.lr",
        "epochs",
        "got 'ten'",
        "between 0 and 1",
        "method.weights",
        "preact_small",
        "hflip",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("cifar10-nrf", "did you mean cifar10-nrd"),
        ("cifr10-nrd", "did you mean cifar10-nrd"),
        ("missing.toml", "does not exist"),
    ],
)
def test_unknown_recipes(recipe: str, words: str) -> None:
    with pytest.raises(FastnoisyError, match=words):
        setup.resolve(recipe, [])


def test_a_file_of_ones_own_is_a_recipe(tmp_path: Path) -> None:
    settings = setup.resolve("digits-nrd", ["seed=4"], "a/store")
    path = tmp_path / "mine.toml"
    path.write_text(config.to_toml(settings.model_dump()))
    assert setup.resolve(str(path), ["seed=5"]).seed == 5
    path.write_text("seed = = 3")
    with pytest.raises(FastnoisyError, match="not valid TOML"):
        setup.resolve(str(path), [])


def test_words_in_a_call_may_have_hyphens() -> None:
    assert config.parse_call("alasca(base=nce-rce)") == {"name": "alasca", "base": "nce-rce"}
    found = config.parse_call("alasca(base=nce-rce(alpha=1, beta=0.5), lam=2, lca=off)")
    assert found == {"name": "alasca", "base": "nce-rce(alpha=1, beta=0.5)", "lam": 2, "lca": "off"}
    assert config.parse_call("nrd(weights=[0.2, 0.6, 0.2], x=None, y=True)")["y"] is True


def test_workers_may_be_asked_for_one_per_core() -> None:
    assert setup.resolve("digits-ce", ["data.workers=auto"]).data.workers is None
    assert setup.resolve("digits-ce", ["data.workers=3"]).data.workers == 3


@pytest.mark.parametrize("word", ["select=[1,2]", "select={a=1}"])
def test_a_select_that_is_no_word_is_a_problem_as_any_other(word: str) -> None:
    with pytest.raises(FastnoisyError, match="select: Input should be a valid string"):
        setup.resolve("digits-ce", [word])
