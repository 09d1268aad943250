"""Recipes against the papers: every row of NRD's Table 5, every set-up of ALASCA's tables, and what has no row."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from fastnoisy import config, methods, recipes
from fastnoisy.analysis import published
from fastnoisy.config import Config
from fastnoisy.errors import FastnoisyError
from fastnoisy.recipes import rows
from fastnoisy.training import setup


def resolve(*arguments: Any) -> Config:
    """The plain values of a resolved configuration."""
    return setup.resolve(*arguments).config


# As printed in the paper, in the paper's notation: the package holds the same in its own.
with (Path(__file__).parent / "golden" / "nrd_table5.csv").open() as file:
    TABLE5 = list(csv.DictReader(file))
NAMES = {"CE": "ce", "BS": "bs", "LS": "ls", "SCE": "sce", "GCE": "gce", "NCE+RCE": "nce-rce"}
NAMES |= {"JS": "js", "GJS": "gjs", "NRD": "nrd"}
PARAMETERS = {"bs": ["beta"], "ls": ["epsilon"], "sce": ["alpha", "beta"], "gce": ["q"], "nce-rce": ["alpha", "beta"]}
PARAMETERS |= {"js": ["weight"], "gjs": ["weight"], "ce": []}
RULES = {"cifar10": "sequential", "cifar100": "superclass"}
STRONG = "randaugment(n=1, m=3) | random_crop(32, padding=4) | hflip | normalize | cutout(5)"
WEAK = "random_crop(32, padding=4) | hflip | normalize"
MIXED = "augmix | random_crop(32, padding=4) | hflip | normalize"


def noise_text(line: dict[str, str]) -> str:
    kind = {"sym": "symmetric", "asym": "asymmetric"}.get(line["noise_type"])
    return "none" if kind is None else f"{kind}:{int(line['noise_rate_pct']) / 100:g}"


@pytest.mark.parametrize("line", TABLE5, ids=lambda line: "-".join(list(line.values())[:4]))
def test_every_cell_of_nrd_table_5(line: dict[str, str]) -> None:
    data, method, noise = line["dataset"].lower().replace("-", ""), NAMES[line["method"]], noise_text(line)
    settings = resolve(f"{data}-{method}", [f"noise={noise}", "suite=nrd"])
    assert (settings.optim.lr, settings.optim.weight_decay) == (float(line["lr"]), float(line["wd"]))
    assert settings.method["name"] == method
    numbers = [float(word) for word in line["params"].split()]
    if method == "nrd":
        assert list(settings.method["weights"]) == numbers
        assert settings.method["normalize"] == "gjs"
    else:
        assert [settings.method[name] for name in PARAMETERS[method]] == numbers
    # the set-up around it: NRD 5.1, A.1 and the GJS code
    assert (settings.model, settings.epochs, settings.batch_size) == ({"name": "gjs_preact34"}, 400, 128)
    assert [settings.optim.factor(e) for e in (0, 199, 200, 299, 300, 399)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert (settings.optim.momentum, settings.optim.nesterov, settings.drop_last) == (0.9, True, True)
    assert (settings.data.holdout, settings.data.subset) == (0, None)
    assert settings.views.program("student") == STRONG
    assert settings.views.program("teacher") == MIXED
    assert settings.views.program("eval") == "normalize"
    expected = {
        "cifar10": (0.4914, 0.4822, 0.4465, 0.2023, 0.1994, 0.2010),
        "cifar100": (0.507, 0.487, 0.441, 0.267, 0.256, 0.276),
    }
    assert (*settings.data.mean, *settings.data.std) == expected[data]
    assert settings.noise == (noise if "asym" not in noise else f"{noise}:{RULES[data]}")
    assert settings.row.startswith(f"NRD Table 5, {data} {method}, ")
    assert "no row" not in settings.row
    plain = resolve(f"{data}-{method}", [f"noise={noise}"])
    assert plain == settings, "the methods of NRD's tables take NRD's suite by themselves"


def test_table_5_is_there_as_a_whole() -> None:
    assert len(TABLE5) == sum(row.data.startswith("cifar") for row in rows.table("nrd").values()) == 126


ALASCA_NOISES = ("symmetric:0.4", "symmetric:0.6", "symmetric:0.8", "asymmetric:0.4")
ELR = {
    ("cifar10", "sym"): {"beta": 0.7, "lam": 3.0}, ("cifar10", "asym"): {"beta": 0.9, "lam": 1.0},
    ("cifar100", "sym"): {"beta": 0.9, "lam": 7.0}, ("cifar100", "asym"): {"beta": 0.9, "lam": 7.0},
}  # fmt: skip


def check_alasca_setup(tables: dict[str, Any], data: str, noise: str) -> None:
    """D.1.2 and the authors' code: net, schedule, split, normalisation, augmentation, asymmetric rule."""
    optim, views = tables["optim"], tables["views"]
    assert tables["model"]["name"] == "resnet34_cifar"
    assert (tables["epochs"], tables["batch_size"], tables["drop_last"]) == (120, 128, False)
    assert (optim["lr"], optim["weight_decay"], optim["momentum"], optim["nesterov"]) == (0.02, 5e-4, 0.9, False)
    assert (list(optim["milestones"]), optim["gamma"]) == ([40, 80], 0.01)
    assert tables["data"]["holdout"] == 0.1
    assert [*tables["data"]["mean"], *tables["data"]["std"]] == [0.4914, 0.4822, 0.4465, 0.2471, 0.2435, 0.2616]
    assert views[views["student"]] == WEAK
    rule = {"cifar10": "sequential", "cifar100": "index_blocks"}[data]
    assert str(tables["noise"]) == (f"{noise}:{rule}" if noise.startswith("asym") else noise)
    assert "no row" not in tables["row"]


@pytest.mark.parametrize("noise", ALASCA_NOISES)
@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
@pytest.mark.parametrize("base", ["ce", "gce", "sce", "elr", "decoupling", "co-teaching", "crust"])
def test_robust_losses_and_sample_selection_of_alasca(data: str, base: str, noise: str) -> None:
    """ALASCA Tables 4 and 5, with and without ALASCA. Composed, not resolved: not every method is there yet."""
    kind = noise.partition("metric")[0]
    sce = {"alpha": 1.0, "beta": 0.4, "clamp_label": True}
    expected = {"gce": {"q": 0.7, "floor": 1e-4}, "sce": sce, "elr": ELR[data, kind]}
    expected |= {"decoupling": {"warmup": 30}, "co-teaching": {"warmup": 30}, "crust": {"fraction": 0.5}, "ce": {}}
    alone = recipes.compose(data, base, "alasca", {"noise": noise})
    check_alasca_setup(alone, data, noise)
    assert alone["method"] == {"name": base, **expected[base]}
    with_it = recipes.compose(data, "alasca", "alasca", {"noise": noise}, base)
    check_alasca_setup(with_it, data, noise)
    assert with_it["method"] == {"name": "alasca", "base": {"name": base, **expected[base]}}
    if base in methods.names():
        settings = resolve(f"{data}-alasca", [f"noise={noise}", f"method.base={base}"])
        assert settings.suite == "alasca"
        assert (settings.method["lam"], settings.method["ramp_start"], settings.method["ramp_end"]) == (2.0, 0.1, 0.7)
        assert not settings.method["shared_ema"]


@pytest.mark.parametrize("noise", ["symmetric:0.4", "symmetric:0.6", "asymmetric:0.4", "instance:0.4:cores"])
@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
@pytest.mark.parametrize("method", ["ce", "mixup", "har", "cdr"])
def test_regularisation_methods_of_alasca(data: str, method: str, noise: str) -> None:
    """ALASCA Table 7: ResNet-34 and the schedule of D.1.2 for all of them (decision A11)."""
    tables = recipes.compose(data, method, "alasca", {"noise": noise})
    check_alasca_setup(tables, data, noise)
    expected = {"mixup": {"alpha": 1.0}, "har": {"rho": 10.0}}.get(method, {})
    assert tables["method"] == {"name": method, **expected}


@pytest.mark.parametrize("noise", ALASCA_NOISES)
@pytest.mark.parametrize("method", ["one", "byot"])
def test_self_distillation_of_alasca(method: str, noise: str) -> None:
    check_alasca_setup(recipes.compose("cifar10", method, "alasca", {"noise": noise}), "cifar10", noise)


LAM_U = {"cifar10": {"0.2": 0, "0.5": 25, "0.8": 25, "0.9": 50, "asym": 0}}
LAM_U["cifar100"] = {"0.2": 25, "0.5": 150, "0.8": 150, "0.9": 150, "asym": 150}


@pytest.mark.parametrize(
    "noise", ["symmetric:0.2", "symmetric:0.5", "symmetric:0.8", "symmetric:0.9", "asymmetric:0.4"]
)
@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
@pytest.mark.parametrize("base", ["dividemix", "elr-plus"])
def test_semi_supervised_methods_of_alasca(data: str, base: str, noise: str) -> None:
    """ALASCA Table 6: the set-up of DivideMix and ELR+ themselves, and a ramp that ends at 0.9."""
    tables = recipes.compose(data, "alasca", "alasca", {"noise": noise}, base)
    alone = recipes.compose(data, base, "alasca", {"noise": noise})
    inner = tables["method"]["base"]
    settings = resolve(f"{data}-alasca", [f"noise={noise}", f"method.base={base}"])
    assert settings.method["ramp_end"] == 0.9
    assert alone["method"] == inner
    for key in ("model", "epochs", "optim", "batch_size", "data", "views", "noise"):
        assert alone[key] == tables[key]
    assert tables["model"]["name"] == "dividemix_preact18"
    assert (tables["optim"]["lr"], tables["optim"]["weight_decay"], tables["optim"]["gamma"]) == (0.02, 5e-4, 0.1)
    shape = (tables["epochs"], tables["optim"]["milestones"], tables["batch_size"])
    if base == "dividemix":
        assert shape == (300, [150], 64)
        assert inner["lam_u"] == LAM_U[data]["asym" if noise.startswith("asym") else noise.partition(":")[2]]
        assert inner["warmup"] == {"cifar10": 10, "cifar100": 30}[data]
        assert inner["threshold"] == (0.6 if noise.endswith("0.9") else 0.5)
    else:
        assert shape == {"cifar10": (200, [150], 128), "cifar100": (250, [200], 128)}[data]
        kind = noise.partition("metric")[0]
        assert {key: inner[key] for key in ("beta", "lam")} == ELR[data, kind]
        assert inner["ramp_steps"] == {"cifar10": 0, "cifar100": 40_000}[data]


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 6))])
def test_every_published_cell_has_a_row_and_can_be_reached(part: int) -> None:
    """NRD Tables 2 to 4, ALASCA Tables 2 to 9: recipe and overrides are whole, and no row is made up."""
    cells = published.cells()
    assert len(cells) == 392 + 7 * 4 + 10
    rules = 0
    cells = cells[part::6]
    for cell in cells:
        words = dict(word.split("=", 1) for word in cell.overrides.split())
        data, method = cell.recipe.split("-", 1)
        base = words.get("method.base") or ("ce" if method == "alasca" else None)
        if {method, base} - {None} <= set(methods.names()):
            settings = setup.resolve(cell.recipe, cell.overrides.split())
            row, suite = settings.config.row, settings.config.suite
            assert cell in published.find(settings)
        else:
            suite = words.get("suite", "alasca")
            row = recipes.compose(data, method, suite, {"noise": words.get("noise", "none")}, base)["row"]
        if "Table 8" not in cell.table:
            assert "no row" not in row, cell
        theirs = cell.recipe in ("webvision-dividemix", "webvision-elr-plus")  # as their own codes train them
        assert suite == ("alasca" if theirs else cell.paper.lower()), cell
        rules += 1
    assert rules == len(cells)


def test_a_suite_is_the_same_for_every_method() -> None:
    yardstick = resolve("cifar10-ce", ["suite=alasca"])
    ours = resolve("cifar10-alasca", [])
    other, nrd = resolve("cifar10-alasca", ["suite=nrd"]), resolve("cifar10-nrd", ["suite=nrd"])
    for key in ("model", "epochs", "optim", "data", "views", "drop_last", "batch_size", "noise"):
        assert getattr(yardstick, key) == getattr(ours, key), key
        if key != "optim":
            assert getattr(other, key) == getattr(nrd, key), key
    assert (other.optim.lr, other.optim.weight_decay) == (0.05, 1e-3), "ALASCA around cross-entropy takes its row"
    around = resolve("cifar10-alasca", ["suite=nrd", "method.base=gce", "noise=symmetric:0.8"])
    assert {key: around.method["base"][key] for key in ("name", "q", "floor")} == {
        "name": "gce",
        "q": 0.9,
        "floor": 1e-7,
    }
    assert around.row == "NRD Table 5, cifar10 gce, symmetric 80 %"
    foreign = resolve("cifar100-gjs", ["suite=alasca", "noise=symmetric:0.6"])
    assert (foreign.optim.lr, foreign.method["weight"], foreign.data.holdout) == (0.02, 0.9, 0.1)
    assert "there is no row for gjs); options: NRD Table 5, cifar100 gjs, symmetric 60 %" in foreign.row


@pytest.mark.parametrize("noise", ["human:worse", "symmetric:0.3", "file:labels.npy", "pairflip:0.4", "instance:0.4"])
@pytest.mark.parametrize("method", ["ce", "gce", "nrd", "alasca"])
def test_where_there_is_no_row_the_40_percent_symmetric_one_serves_and_is_named(method: str, noise: str) -> None:
    settings = resolve(f"cifar10-{method}", [f"noise={noise}"])
    if method == "alasca" and noise == "instance:0.4":
        assert settings.row == "ALASCA D.1.2, cifar10 ce, instance-dependent 40 %"
        return
    forty = resolve(f"cifar10-{method}", ["noise=symmetric:0.4"])
    assert (settings.optim, settings.method) == (forty.optim, forty.method)
    assert f"symmetric 40 % (there is no row for {noise}" in settings.row


def test_where_the_noise_has_rows_the_nearest_rate_serves() -> None:
    for data, method, noise, row, options in (
        ("cifar10", "elr", "asymmetric:0.2", "ALASCA D.1.2, cifar10 elr, asymmetric 40 %", {"beta": 0.9, "lam": 1.0}),
        ("cifar10", "dividemix", "asymmetric:0.3", "ALASCA D.1.2, cifar10 dividemix, asymmetric 40 %", {"lam_u": 0.0}),
        ("cifar10", "dividemix", "symmetric:0.95", "ALASCA D.1.2, cifar10 dividemix, symmetric 90 %", {"history": 5}),
        ("cifar10", "elr-plus", "symmetric:0.3", "ALASCA D.1.2, cifar10 elr-plus, symmetric 40 %", {"lam": 3.0}),
        ("cifar10", "jocor", "symmetric:0.85", "JoCoR's paper, cifar10 jocor, symmetric 80 %", {"co_lambda": 0.65}),
        ("cifar100", "nrd", "symmetric:0.9", "NRD Table 5, cifar100 nrd, symmetric 80 %", {}),
    ):
        settings = resolve(f"{data}-{method}", [f"noise={noise}"])
        assert settings.row == f"{row} (there is no row for {noise})"
        assert {key: settings.method[key] for key in options} == options


@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_jocor_weighs_agreement_as_its_paper_does(data: str) -> None:
    for noise, weight in {
        "symmetric:0.2": 0.9,
        "symmetric:0.5": 0.9,
        "symmetric:0.8": 0.65,
        "asymmetric:0.4": 0.9,
    }.items():
        settings = resolve(f"{data}-jocor", [f"noise={noise}"])
        assert settings.method["co_lambda"] == (weight if data == "cifar10" else 0.85)
        assert settings.row.startswith(f"JoCoR's paper, {data} jocor, ")


def test_a_folder_of_ones_own_takes_the_40_percent_row_from_scratch() -> None:
    small, large = (resolve("folder-nrd", ["pretrained=false", *words]) for words in ([], ["views.size=224"]))
    for settings in (small, large):
        assert settings.model == {"name": "gjs_preact34"}
        assert (settings.epochs, settings.optim.milestones, settings.drop_last) == (60, [30, 45], True)
        assert (settings.optim.lr, settings.optim.weight_decay) == (0.1, 5e-4)
        assert list(settings.method["weights"]) == [0.2, 0.6, 0.2]
        assert settings.row == "NRD Table 5, cifar10 nrd, symmetric 40 % (there is no row for folder)"
    assert (small.method["normalize"], large.method["normalize"]) == ("gjs", "none")
    assert "random_resized_crop(224," in large.views.program("student")
    assert large.views.program("eval") == "resize(224) | normalize"
    wrapped = resolve("folder-alasca", ["pretrained=false", "views.size=224", "method.base=nrd"])
    assert (wrapped.method["base"]["normalize"], wrapped.drop_last) == ("none", False)
    assert resolve("folder-nrd", ["views.size=224", "method.normalize=gjs"]).method["normalize"] == "gjs"


@pytest.mark.parametrize("method", methods.names())
def test_a_folder_of_ones_own_is_fine_tuned_whatever_the_method(method: str) -> None:
    settings = resolve(f"folder-{method}", [])
    assert settings.model["name"] == "tf_efficientnet_lite0"
    assert (settings.model["pretrained"], settings.model["head"]) == (True, "regression")
    assert (settings.optim.name, settings.optim.schedule, settings.amp) == ("adamw", "cosine", "auto")
    assert (settings.data.mean, settings.data.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert settings.row == ""
    assert method != "nrd" or settings.method["normalize"] == "none", "of photographs, decision N1"
    short = resolve(f"folder-{method}", ["epochs=3"]).method
    for table in (short, short.get("base") or {}):
        assert table.get("warmup", 0) <= 1, "of a few epochs nothing is left after a longer one"
        assert table.get("lca_start", 0) <= 1


@pytest.mark.parametrize(
    "words",
    [
        ["pretrained=false"],
        ["model.pretrained=false"],
        ["model=preact_small(width=8)"],
        ["model=resnet18"],
        ["model.name=preact_small"],
        ["pretrained=false", "model=resnet18(drop_rate=0.1)"],
    ],
)
def test_a_network_without_published_weights_is_trained_from_scratch(words: list[str]) -> None:
    settings = resolve("folder-gce", words)
    assert (settings.optim.name, settings.optim.schedule, settings.epochs) == ("sgd", "step", 60)
    assert not settings.model.get("pretrained")


@pytest.mark.parametrize(
    "words",
    [
        ["model=resnet18(pretrained=true)"],
        ["pretrained=true", "model=resnet18"],
        ["model=resnet18", "model.weights=some.pth"],
        ["model.weights=some.pth", "model=resnet18"],
        ["model=resnet18(weights=some.pth)", "model.pretrained=false"],
    ],
)
def test_any_network_with_weights_is_fine_tuned(words: list[str]) -> None:
    settings = resolve("folder-gce", words)
    assert (settings.optim.name, settings.model["name"], settings.model["head"]) == ("adamw", "resnet18", "regression")
    assert settings.model["pretrained"] is True, "weights imply it"
    assert settings.data.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("recipe", "words", "said"),
    [
        ("folder-ce", ["pretrained=maybe"], "pretrained=maybe is neither true nor false"),
        ("folder-ce", ["pretrained=false", "model=resnet18(pretrained=true)"], "is to start from weights"),
        (
            "folder-ce",
            ["pretrained=false", "model.weights=some.pth"],
            "pretrained=false, and the network tf_eff.* weights",
        ),
        ("folder-ce", ["pretrained=true", "model=resnet18(pretrained=false)"], "is to start from random weights"),
        (
            "folder-ce",
            ["pretrained=true", "model.pretrained=false"],
            "network tf_efficientnet_lite0 is to start from ra",
        ),
        ("cifar10-ce", ["pretrained=true"], "pretrained= chooses between two set-ups, and cifar10-.* has one"),
    ],
)
def test_a_contradiction_in_how_a_network_starts(recipe: str, words: list[str], said: str) -> None:
    with pytest.raises(FastnoisyError, match=said):
        resolve(recipe, words)


def test_a_finished_configuration_does_not_choose_anew(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(config.to_toml(resolve("folder-ce", []).model_dump()))
    with pytest.raises(FastnoisyError, match=r"pretrained=False chooses a set-up, and .*c.toml is a finished"):
        resolve(str(tmp_path / "c.toml"), ["pretrained=false"])
    assert resolve(str(tmp_path / "c.toml"), ["model.head=fresh"]).model["head"] == "fresh"


def test_an_override_wins_and_is_named() -> None:
    settings = resolve(
        "cifar10-nrd", ["optim.lr=0.3", "method.weights=[0.1,0.8,0.1]", "views.student=weak", "epochs=9"]
    )
    assert (settings.optim.lr, settings.method["weights"], settings.epochs) == (0.3, (0.1, 0.8, 0.1), 9)
    assert settings.views.program("student") == WEAK
    assert settings.row.endswith("symmetric 40 %; overridden: optim.lr, method.weights")
    written = resolve("cifar10-nrd", ["noise=asymmetric:0.4:snapshot"])
    assert written.noise == "asymmetric:0.4:snapshot"
    with pytest.raises(FastnoisyError, match=r"suite.*nrd.*alasca"):
        resolve("cifar10-nrd", ["suite=ndr"])


def test_changing_a_finished_configuration_keeps_its_words_true(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(resolve("cifar100-alasca", ["noise=symmetric:0.4"]).model_dump()))
    again = resolve(str(path), [])
    assert again == resolve("cifar100-alasca", ["noise=symmetric:0.4"])
    other = resolve(str(path), ["noise=asymmetric:0.2", "optim.lr=0.1"])
    assert other.noise == "asymmetric:0.2:index_blocks", "the rule of the file's own suite"
    assert other.row.endswith("symmetric 40 %; overridden: noise, optim.lr")
    renamed = resolve(str(path), ["method=gce(q=0.5)"])
    assert (renamed.recipe, renamed.method["q"]) == ("", 0.5)
    assert renamed.row.endswith("overridden: method.name, method.q")
    with pytest.raises(FastnoisyError, match=r"suite=nrd cannot change.*cifar100-alasca suite=nrd"):
        resolve(str(path), ["suite=nrd"])
    for word in ("recipe=foo", "row=foo"):
        with pytest.raises(FastnoisyError, match="written by fastnoisy itself"):
            resolve("cifar10-nrd", [word])


def test_another_variant_of_a_noise_takes_the_row_of_its_rate_and_says_so() -> None:
    for noise in ("symmetric:0.8:exclude_true", "asymmetric:0.2:snapshot"):
        settings = resolve("cifar10-nrd", [f"noise={noise}"])
        plain = resolve("cifar10-nrd", [f"noise={noise.rpartition(':')[0]}"])
        assert (settings.optim, settings.method) == (plain.optim, plain.method)
        assert settings.row.endswith(f"(there is no row for {noise})")
        assert not plain.row.endswith(")")


def test_published_numbers_are_shown_for_their_own_set_up_alone() -> None:
    assert published.find(setup.resolve("cifar10-ce", ["noise=symmetric:0.4"]))
    for word in ("data.subset=500", "data.std=[0.1,0.1,0.1]", "drop_last=false", "views.student=weak", "optim.lr=0.3"):
        assert not published.find(setup.resolve("cifar10-ce", ["noise=symmetric:0.4", word])), word


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["views.size=224"], "no program of this run uses the word size"),
        (["data=x"], "data is a table"),
        (["views=weak"], "views is a table"),
        (["method=alasca(base=5)"], "names no method"),
        (["optim.lr=inf"], "finite"),
        (["data.std=[0,0,0]"], "above 0"),
        (["noise=0.4"], "such as symmetric:0.4"),
        (["noise=foo"], "symmetric:RATE"),
        (["method=nrd(weights=[0.5,0.5])"], "method.weights: too few numbers"),
    ],
)
def test_wrong_values_say_what_is_allowed(words: list[str], part: str) -> None:
    with pytest.raises(FastnoisyError) as caught:
        resolve("cifar10-ce", words)
    assert part in str(caught.value)


def test_a_default_run_folder_tells_settings_apart() -> None:
    names = [
        setup.run_name(setup.resolve(recipe, words), "mine")
        for recipe, words in [
            ("cifar10-alasca", []),
            ("cifar10-alasca", ["method.base=gce", "noise=asymmetric:0.4", "seed=2"]),
            ("cifar10-nrd", ["noise=human:worse"]),
            ("folder-nrd", ["noise=file:a/b.npy"]),
        ]
    ]
    assert names == [
        "cifar10-alasca-symmetric-0.4-seed1",
        "cifar10-alasca-gce-asymmetric-0.4-sequential-seed2",
        "cifar10-nrd-human-worse-seed1",
        "folder-nrd-file-seed1",
    ]
