"""Methods that must know the noise rate, where it is estimated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fastnoisy
from fastnoisy.errors import FastnoisyError
from fastnoisy.features.extract import extract, of_rows
from fastnoisy.features.network import open_network
from fastnoisy.training import loop, setup
from fastnoisy.training.labels import read_labels
from fastnoisy.training.logs import Event
from fastnoisy.training.run import Run
from fastnoisy.training.stop import Interrupted, Stop

WORDS = ["model=preact_small(width=4)", "device=cpu", "threads=1", "batch_size=100", "epochs=2", "noise=symmetric:0.4"]
ESTIMATE = "method.noise_rate=estimate"


def heard(store: Path, *words: str, recipe: str = "digits-cdr") -> tuple[setup.Setup, list[Event]]:
    events: list[Event] = []
    return setup.prepare(setup.resolve(recipe, [*WORDS, *words], str(store)), observe=events.append), events


def test_the_rate_is_estimated_from_the_labels(digits: Path) -> None:
    prepared, events = heard(digits, ESTIMATE)
    rate = prepared.labels.estimate
    assert rate is not None
    assert prepared.labels.clean is not None
    wrong = (prepared.labels.given != prepared.labels.clean).mean()
    assert abs(rate - wrong) < 0.1
    assert prepared.method.rate == rate  # type: ignore[union-attr]
    assert f"{rate:.1%} of the training labels are wrong by estimate, which the method goes by" in prepared.notes
    assert events[-1] == Event("step", "features of the training images", 600, 600, unit="images")
    assert str(events[-1]) == "features of the training images: 600 of 600 images"


def test_of_a_subset_no_other_image_is_looked_at(digits: Path) -> None:
    prepared, events = heard(digits, ESTIMATE, "data.subset=200")
    assert events[-1].total == 200
    assert prepared.labels.estimate is not None
    whole, _ = heard(digits, ESTIMATE)
    network = open_network(torch.device("cpu"), side=32)
    rows = prepared.labels.train
    few = of_rows(prepared.split, rows, network, say=print)
    (all_of_them,) = extract([whole.split], network, say=print)
    np.testing.assert_allclose(few, all_of_them[rows], rtol=0.1, atol=0.1)  # bf16, in batches of other images


def test_nobody_estimates_unasked(digits: Path) -> None:
    prepared, events = heard(digits)
    assert prepared.labels.estimate is None
    assert not events


def test_a_wrapped_method_asks_too(digits: Path) -> None:
    prepared, _ = heard(digits, "method.base=jocor", "method.base.noise_rate=estimate", recipe="digits-alasca")
    assert prepared.labels.estimate is not None


def test_a_run_that_goes_on_keeps_its_estimate(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.start(setup.resolve("digits-jocor", [*WORDS, ESTIMATE], str(digits)), tmp_path / "whole")
    stop = Stop()

    def after_the_first(event: Event) -> None:
        if event.kind == "epoch":
            stop.ask()

    with pytest.raises(Interrupted):
        loop.start(
            setup.resolve("digits-jocor", [*WORDS, ESTIMATE], str(digits)), tmp_path / "run", after_the_first, stop
        )
    kept = read_labels(tmp_path / "run" / "labels.npz").estimate
    assert kept == read_labels(tmp_path / "whole" / "labels.npz").estimate
    assert kept is not None
    monkeypatch.setattr("fastnoisy.training.estimate.rate", lambda *arguments: pytest.fail("estimated again"))
    loop.resume(tmp_path / "run")
    for name in ("whole", "run"):
        assert Run(tmp_path / name).config.method["noise_rate"] == "estimate"
    first, second = (Run(tmp_path / name).checkpoint.state["method"] for name in ("whole", "run"))
    assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)


@pytest.mark.parametrize("value", ["1.0", "-0.1", "guess", "true", "[0.1]"])
def test_a_rate_that_is_none(value: str) -> None:
    with pytest.raises(FastnoisyError, match=r"method.noise_rate: must be a number from 0 to below 1, or estimate"):
        setup.resolve("digits-cdr", [f"method.noise_rate={value}"])


def test_a_folder_of_ones_own_needs_no_rate_named(digits: Path, tmp_path: Path) -> None:
    words = ["pretrained=false", "model=preact_small(width=4)", "views.size=16", "epochs=1", "device=cpu", "threads=1"]
    run = fastnoisy.train("folder-co-teaching", *words, data=digits, out=tmp_path / "run", progress=lambda event: None)
    assert run.config.method["noise_rate"] == "estimate"
    assert run.labels.estimate is not None
