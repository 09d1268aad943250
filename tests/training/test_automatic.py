"""What a recipe leaves to the network, the device and the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fastnoisy.training import automatic, setup

TABLES = {
    "epochs": "auto", "drop_last": "auto", "batch_size": 64, "device": "cpu",
    "model": {"name": "resnet50", "pretrained": True, "head": "auto"},
    "data": {"mean": "auto", "std": "auto"}, "views": {"size": "auto"},
}  # fmt: skip


def filled(count: int | None, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[dict[str, Any], str]:
    monkeypatch.setattr(automatic, "_count", lambda flat: count)
    return automatic.filled({**TABLES, **changes})


@pytest.mark.parametrize(
    ("count", "device", "epochs"),
    [
        (10, "cpu", 30),
        (1_000, "cpu", 8),
        (1_903, "cpu", 4),
        (50_000, "cpu", 3),
        (None, "cpu", 30),
        (1_903, "cuda", 30),
        (4_000, "cuda:1", 15),
        (1_000_000, "cuda", 5),
    ],
)
def test_epochs_by_images_and_device(
    count: int | None, device: str, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, told = filled(count, monkeypatch, device=device)
    assert found["epochs"] == epochs
    side = 160 if device == "cpu" else 224
    assert found["views"]["size"] == side
    images = "" if count is None else f"{count:,} images on "
    where = "a CPU" if device == "cpu" else "a GPU"
    assert told == f"epochs={epochs}, views.size={side}: for {images}{where}"


def test_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, side in ((True, 224), (False, 160)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert filled(100, monkeypatch, device="auto")[0]["views"]["size"] == side


def test_an_incomplete_batch_counts_where_there_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    assert filled(255, monkeypatch)[0]["drop_last"] is False
    assert filled(256, monkeypatch)[0]["drop_last"] is True
    assert filled(65, monkeypatch)[0]["drop_last"] is True, "a batch of one image has no statistics"
    assert filled(66, monkeypatch)[0]["drop_last"] is False
    assert filled(67, monkeypatch, accumulate=2)[0]["drop_last"] is True
    assert filled(1, monkeypatch)[0]["drop_last"] is False


@pytest.mark.parametrize(
    ("name", "mean", "side"),
    [
        ("tf_efficientnet_lite0", 0.5, 160),
        ("resnet50", 0.485, 160),
        ("vit_small_patch16_224", 0.5, 224),
        ("no_such_network", 0.485, 160),
    ],
)
def test_the_network_says_what_its_images_are(
    name: str, mean: float, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = filled(100, monkeypatch, model={"name": name, "pretrained": True})
    assert (found["data"]["mean"][0], found["views"]["size"]) == (mean, side)


def test_a_size_that_the_user_binds_a_transformer_to(monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"name": "vit_small_patch16_224", "pretrained": True, "img_size": 96}
    assert filled(100, monkeypatch, model=model)[0]["views"]["size"] == 96


def test_the_head_of_many_images_learns_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert filled(2_000, monkeypatch)[0]["model"]["head"] == "regression"
    assert filled(2_000_000, monkeypatch)[0]["model"]["head"] == "fresh"
    two_classifiers = {**TABLES["model"], "name": "deit_base_distilled_patch16_224"}  # type: ignore[dict-item]
    assert filled(2_000, monkeypatch, model=two_classifiers)[0]["model"]["head"] == "fresh"
    convolution = {**TABLES["model"], "name": "resnetv2_50x1_bit"}  # type: ignore[dict-item]
    assert filled(2_000, monkeypatch, model=convolution)[0]["model"]["head"] == "fresh"


def test_what_is_said_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"epochs": 3, "device": "cpu", "views": {"size": 32}, "data": {"mean": [0, 0, 0]}}
    assert automatic.filled(tables) == (tables, "")
    found, told = filled(100, monkeypatch, epochs=7)
    assert (found["epochs"], told) == (7, "views.size=160: for 100 images on a CPU")


def test_images_are_counted_in_the_store(digits: Path) -> None:
    def told(*words: str, store: Path = digits) -> str:
        return setup.resolve("folder-ce", [*words, "device=cpu"], str(store)).told

    assert told("data.holdout=0.5") == "epochs=27, views.size=160: for 300 images on a CPU"
    assert told("data.subset=160") == "epochs=30, views.size=160: for 160 images on a CPU"
    assert told(store=digits.with_name("nowhere")) == "epochs=30, views.size=160: for a CPU"
    settings = setup.resolve("folder-ce", ["device=cpu", "epochs=1"], str(digits))
    assert (settings.config.epochs, settings.told) == (1, "views.size=160: for 600 images on a CPU")
    again = setup.check(settings.config.model_dump())
    assert again.config == settings.config, "what is written down says nothing is automatic"
