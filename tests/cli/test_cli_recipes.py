"""`fastnoisy recipes` and `train --dry-run`: what would be trained, before it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fastnoisy import methods, recipes

Call = Callable[..., tuple[int, str, str]]


def test_every_recipe_has_a_line(call: Call) -> None:
    code, out, _ = call("recipes")
    assert code == 0
    for data in recipes.data_names():
        for method in methods.names():
            (line,) = (text for text in out.splitlines() if text.strip().startswith(f"{data}-{method} "))
            epochs = "auto" if data == "folder" else r"\d+"
            assert re.search(rf"suite (nrd|alasca) +[\w.]+ +{epochs} epochs  \w", line)


def test_a_shown_recipe_is_a_configuration_that_can_be_checked(call: Call, tmp_path: Path) -> None:
    code, out, _ = call("recipes", "show", "cifar100-gce", "noise=asymmetric:0.2", "seed=4")
    assert code == 0
    assert "# suite nrd; NRD Table 5, cifar100 gce, asymmetric 20 %" in out
    assert "# published: 72.13 % (NRD, Table 2)" in out
    path = tmp_path / "mine.toml"
    path.write_text(out)
    code, out, _ = call("recipes", "check", path)
    assert code == 0
    assert (
        "is sound: method gce, model gjs_preact34, noise asymmetric:0.2:superclass, 400 epochs, batch 128, lr 0.2"
        in out
    )
    code, again, _ = call("recipes", "show", path)
    assert code == 0
    assert again == "".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("#"))


def test_a_recipe_that_fits_the_data_says_so(call: Call) -> None:
    code, out, _ = call("recipes", "show", "folder-ce", "device=cpu")
    assert code == 0
    said = (
        "# chosen for this machine: epochs=30, views.size=160: for a CPU; data.store=STORE counts the images of a store"
    )
    assert said in out.splitlines()
    assert "# chosen" not in call("recipes", "show", "cifar10-ce")[1]


def test_what_is_wrong_with_ones_own_is_said_at_once(call: Call, tmp_path: Path) -> None:
    _, out, _ = call("recipes", "show", "digits-nrd")
    path = tmp_path / "mine.toml"
    path.write_text(out.replace("epochs = 200", "epocs = 200").replace('noise = "symmetric', 'noise = "symetric'))
    code, _, err = call("recipes", "check", path)
    assert code == 2
    for part in ("problems", "did you mean epochs", "missing key 'epochs'", "did you mean symmetric"):
        assert part in err, err
    assert call("recipes", "check", tmp_path / "none.toml")[0] == 2
    code, _, err = call("recipes", "show", "cifar10-gec")
    assert code == 2
    assert "did you mean cifar10-gce" in err
    code, _, err = call("recipes", "sohw", "cifar10-gce")
    assert code == 2
    assert "did you mean show? known: check, show. To print a recipe: fastnoisy recipes show sohw" in err


@pytest.mark.parametrize("recipe", ["digits-nrd", "digits-alasca"])
def test_a_dry_run_measures_and_writes_nothing(recipe: str, call: Call, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    words = ["train", recipe, "threads=1", "model.width=4", "--data", store, "--out", out, "--dry-run"]
    code, _, err = call(*words)
    assert code == 0, err
    for pattern in (
        r"200 epochs, batch 32, lr 0.01 x 0.1 at epochs \[100, 150\], weight decay 0.0005; numbers of the recipe "
        r"itself",
        r"600 images, 10 classes, noise symmetric:0.4, 3[5-7]\.\d\d% of the labels wrong",
        r"dry run: 3 steps of batch 32 after one to warm up",
        r"speed +[\d,]+ img/s, \d+ ms a step, \d+% of it waiting for data",
        r"memory +\d+\.\d\d GiB",
        r"ETA +\w+ for 200 epochs, 3,600 steps, evaluations included",
        r"nothing was written",
    ):
        assert re.search(pattern, err), (pattern, err)
    assert not out.parent.exists()
    code, _, err = call(*words, "data.subset=40")
    assert code == 0, "an epoch of one step is enough to try"
    for extra in (["--quiet"], ["optim.lr=1e30"], ["device=tpu"]):
        code, _, err = call(*words, *extra)
        assert code == 2
        assert not out.parent.exists()


def test_a_dry_run_of_fine_tuning_leaves_the_store_as_it_is(call: Call, animals: Path, tmp_path: Path) -> None:
    """Features, which a run's regression and its estimate are of, would be kept in it."""
    before = sorted(path for path in (animals / "store").rglob("*") if "features" not in path.parts)
    words = ["epochs=1", "views.size=32", "batch_size=8", "threads=1", "device=cpu"]
    code, _, err = call(
        "train", "folder-co-teaching", *words, "--data", animals / "store", "--out", tmp_path / "a", "--dry-run"
    )
    assert code == 0, err
    assert "the classifier would start from a regression on the features of 24 training images" in err
    assert "of the training labels are wrong by estimate" in err
    assert sorted((animals / "store").rglob("*")) == before
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_a_split_that_was_not_made_yet(call: Call, store: Path, tmp_path: Path) -> None:
    words = ["method.temperature=0.4", "model.width=4", "threads=1", "data.subset=200"]
    code, _, err = call("train", "digits-dividemix", *words, "--data", store, "--out", tmp_path / "a", "--dry-run")
    assert code == 0, err
    assert "dry run: 3 steps of batch 32" in err


def test_the_log_names_suite_and_row(call: Call, store: Path, tmp_path: Path) -> None:
    words = ["model=preact_small(width=4)", "views.eval=resize(16) | normalize", "views.size=16", "threads=1"]
    code, _, err = call(
        "train",
        "folder-gce",
        *words,
        "optim.lr=0.2",
        "noise=symmetric:0.3",
        "--data",
        store,
        "--out",
        tmp_path,
        "--dry-run",
    )
    assert code == 0, err
    assert "method gce, suite nrd, model preact_small" in err
    assert "cifar10 gce, symmetric 40 % (there is no row for folder); overridden: optim.lr" in err
