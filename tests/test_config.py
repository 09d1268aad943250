"""Configuration: layers, overrides, all problems at once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from fastnoisy import config, methods, recipes
from fastnoisy.config import Config
from fastnoisy.errors import FastnoisyError
from fastnoisy.training import setup


def resolve(*arguments: Any) -> Config:
    """The plain values of a resolved configuration."""
    return setup.resolve(*arguments).config


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
    assert call == {"method": {"name": "alasca", "base": {"name": "nrd"}, "lam": 1.5, "lca": "off"}}
    nested = config.parse_overrides(["method=alasca(base=nrd(ema_decay=0.9), lam=1)"])
    assert nested == {"method": {"name": "alasca", "base": {"name": "nrd", "ema_decay": 0.9}, "lam": 1}}
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
    tables = resolve("cifar10-nrd", ["noise=symmetric:0.2"], "some/store").model_dump()
    again = setup.check(tomllib.loads(config.to_toml(tables))).config
    assert again.model_dump() == tables


@pytest.mark.parametrize("data", recipes.data_names())
@pytest.mark.parametrize("method", methods.names())
def test_every_recipe_resolves_in_every_suite(data: str, method: str) -> None:
    raw = recipes.read(data)
    assert raw["summary"]
    for suite in raw.get("suite", {"nrd": None}):
        settings = resolve(f"{data}-{method}", [f"suite={suite}"])
        assert settings.method["name"] == method
        assert settings.suite == suite


def test_suites_fix_the_set_up_and_overrides_win() -> None:
    nrd, alasca = resolve("cifar10-nrd", []), resolve("cifar10-alasca", [])
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
    crossed = resolve("cifar10-alasca", ["suite=nrd", "optim.lr=0.3"])
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
        resolve("digits-nrd", words)
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
        resolve(recipe, [])


def test_a_file_of_ones_own_is_a_recipe(tmp_path: Path) -> None:
    settings = resolve("digits-nrd", ["seed=4"], "a/store")
    path = tmp_path / "mine.toml"
    path.write_text(config.to_toml(settings.model_dump()))
    assert resolve(str(path), ["seed=5"]).seed == 5
    path.write_text("seed = = 3")
    with pytest.raises(FastnoisyError, match="not valid TOML"):
        resolve(str(path), [])


def test_words_in_a_call_may_have_hyphens() -> None:
    assert config.parse_call("alasca(base=nce-rce)") == {"name": "alasca", "base": "nce-rce"}
    found = config.parse_call("alasca(base=nce-rce(alpha=1, beta=0.5), lam=2, lca=off)")
    assert found == {"name": "alasca", "base": {"name": "nce-rce", "alpha": 1, "beta": 0.5}, "lam": 2, "lca": "off"}
    assert config.parse_call("nrd(weights=[0.2, 0.6, 0.2], x=None, y=True)")["y"] is True


def test_workers_may_be_asked_for_one_per_core() -> None:
    assert resolve("digits-ce", ["data.workers=auto"]).data.workers is None
    assert resolve("digits-ce", ["data.workers=3"]).data.workers == 3


@pytest.mark.parametrize("word", ["select=[1,2]", "select={a=1}"])
def test_a_select_that_is_no_word_is_a_problem_as_any_other(word: str) -> None:
    with pytest.raises(FastnoisyError, match="select: Input should be a valid string"):
        resolve("digits-ce", [word])


def test_what_may_change_in_a_run_that_goes_on_is_said_by_the_fields() -> None:
    may = [
        "epochs", "optim.lr", "optim.milestones", "checkpoint.keep", "eval.mine", "eval_every", "log_every",
        "data.store",
        "data.stage", "data.workers", "pipeline.name", "pipeline.hw_decoder_load", "device", "threads", "compile",
        "channels_last", "amp", "views.executor",
    ]  # fmt: skip
    may_not = [
        "seed",
        "batch_size",
        "noise",
        "method.name",
        "model.width",
        "views.student",
        "data.subset",
        "epochsx",
        "dtype",
    ]
    assert all(config.may_change(key) for key in may)
    assert not [key for key in may_not if config.may_change(key)]
    assert {"epochs", "optim.*", "checkpoint.*", "eval.*", "data.store", "pipeline.*"} <= set(config.changeable())
    assert all(config.may_change(key.replace("*", "x")) for key in config.changeable())


def test_what_differs_between_two_configurations_is_told_by_key_and_spellings_are_no_difference() -> None:
    before = resolve("digits-nrd", [])
    same = [
        "method.weights=[0.1, 0.8, 0.1]",
        "optim.gamma=1e-1",
        "pipeline=auto",
        "data.workers=auto",
        "optim.weight_decay=5e-4",
    ]
    assert config.changed(before, resolve("digits-nrd", same)) == {}
    after = resolve("digits-nrd", ["seed=2", "optim.lr=0.5", "data.subset=40", "eval.more=/x", "method.ema_decay=0.5"])
    assert config.changed(before, after) == {
        "seed": (1, 2),
        "optim.lr": (before.optim.lr, 0.5),
        "data.subset": (None, 40),
        "eval.more": (None, "/x"),
        "method.ema_decay": (before.method["ema_decay"], 0.5),
    }
    assert config.changed(after, before)["eval.more"] == ("/x", None)


@pytest.mark.parametrize(
    "word", ["pipeline=dali(hw_decoder_load=0.5)", "pipeline.hw_decoder_load=0.5", "pipeline=dali"]
)
def test_a_pipeline_is_a_name_a_call_or_a_table(word: str) -> None:
    settings = setup.resolve("digits-ce", ["pipeline.name=dali", word])
    expected = 0.65 if word.endswith("dali") else 0.5
    assert settings.config.pipeline == {"name": "dali", "hw_decoder_load": expected}
    assert settings.pipeline.options["dali"].hw_decoder_load == expected  # type: ignore[attr-defined]
    again = setup.check(tomllib.loads(config.to_toml(settings.config.model_dump())))
    assert again == settings
    assert setup.check({**settings.config.model_dump(), "pipeline": "dali(hw_decoder_load=0.5)"}).config.pipeline == {
        "name": "dali",
        "hw_decoder_load": 0.5,
    }


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["pipeline=dalli"], "did you mean dali"),
        (["pipeline=resident(hw_decoder_load=0.5)"], "pipeline.hw_decoder_load"),
        (["pipeline.hw_decoder_lod=0.5"], "did you mean pipeline.hw_decoder_load"),
        (["pipeline.hw_decoder_load=2"], "less than or equal to 1"),
        (["data.hw_decoder_load=0.5"], "unknown key 'data.hw_decoder_load'"),
        (["optim.lr=1e300"], "less than or equal to 10000"),
        (["optim.gamma=1e30", f"optim.milestones={list(range(40))}"], "takes lr above 10000"),
        (["optim.gamma=2", f"optim.milestones={list(range(2000))}"], "takes lr above 10000"),
        (["threads=100000"], "less than or equal to 1024"),
        (["batch_size=1"], "set batch_size to 2 or more"),
        (["batch_size=6", "accumulate=4"], "set batch_size to 8 or more, or lower accumulate"),
        (["views.student=" + "cutout(" * 5000], "nested deeper"),
        (["method.weights=" + "[" * 5000], "nested too deep"),
        (["method=" + "nrd(a=" * 5000], "nested deeper"),
        (["views." + "a." * 5000 + "b=1"], "nested deeper"),
        ([f"seed={'9' * 5000}"], "seed"),
    ],
)
def test_corners_are_refused_in_a_line(words: list[str], part: str) -> None:
    with pytest.raises(FastnoisyError) as caught:
        setup.resolve("digits-nrd", words)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 5000, "a = {b = " * 5000, "[" + "a." * 5000 + "a]", f"x = {'9' * 5000}"]
)
def test_a_file_nested_thousands_deep_is_refused_in_a_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(text)
    with pytest.raises(FastnoisyError, match=r"deep\.toml"):
        setup.resolve(str(path), [])


def test_settings_hold_what_the_texts_mean() -> None:
    settings = setup.resolve(
        "folder-alasca", ["method.base=nrd(ema_decay=0.9)", "noise=symmetric:0.2", "views.size=224"]
    )
    assert (settings.noise.kind, settings.noise.rate) == ("symmetric", 0.2)
    assert settings.views["student"].output_size((400, 400)) == (224, 224)
    assert str(settings.method) == "alasca(nrd)"
    assert settings.method.base is not None
    assert settings.method.base.options.ema_decay == 0.9  # type: ignore[attr-defined]
    assert (
        setup.resolve("digits-ce", ["views.student=weak"]).views["student"]
        == setup.resolve("digits-ce", []).views["weak"]
    )
    with pytest.raises(FastnoisyError, match=r"views\.teacher: "):
        setup.resolve("digits-ce", ["views.student=weak", "views.teacher=student"])
