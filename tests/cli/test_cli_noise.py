"""`fastnoisy noise` end to end: rates and tables, the folder, and that training gets the same labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy.data.conversion.convert import convert
from fastnoisy.data.store import open_store
from fastnoisy.training.labels import Labels
from fastnoisy.training.setup import resolve

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 classes of 3 photographs, no two of one size within a class; nobody knows which labels are right."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(22):
        place = folder / "source" / f"class {number:02d}"
        place.mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((70 + i, 90, 3), 10 * number, np.uint8)).save(place / f"{i}.jpg")
    convert(str(folder / "source"), folder / "store")
    return folder / "store"


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def given(store: Path, *words: str) -> np.ndarray:
    """The labels that a run with these words trains on."""
    with open_store(store) as opened:
        return Labels.draw(resolve("digits-ce", words, str(store)), opened.split("train")).given


def test_what_is_said_and_written(call: Call, store: Path, tmp_path: Path) -> None:
    out_folder = tmp_path / "my noise"
    code, out, err = call("noise", "symmetric:0.4", "--data", store, "--out", out_folder)
    assert code == 0, err
    lines = squeezed(out)
    for line in (
        f"{store}/train: 600 images, 10 classes",
        "noise symmetric:0.4 (seed 1): this share of the labels is drawn again over all classes, so some keep theirs",
        "effective rate 35.83 % (215 labels wrong)",
        "per class lowest 25.00 % (9), highest 46.67 % (6)",
        "clean \\ given 0 1 2 3 4 5 6 7 8 9",
        "0 0 58.3 10.0 3.3 1.7 . 5.0 3.3 5.0 6.7 6.7",
        f"fastnoisy train RECIPE noise=symmetric:0.4 noise_seed=1 --data {store} --out RUN",
        f"fastnoisy train RECIPE 'noise=file:{out_folder}/labels.npy' --data {store} --out RUN",
    ):
        assert line in lines
    labels = np.load(out_folder / "labels.npy")
    assert (labels == given(store, "noise=symmetric:0.4", "noise_seed=1")).all()
    assert (labels == given(store, f"noise=file:{out_folder}/labels.npy", "seed=5")).all()
    assert (labels == given(store, f"noise=file:{out_folder}/labels.csv")).all()
    with Image.open(out_folder / "transitions.png") as picture:
        assert min(picture.size) > 500
    code, out, _ = call("noise", f"file:{out_folder}/labels.csv", "--data", store)
    assert code == 0
    assert "effective rate 35.83 % (215 labels wrong)" in squeezed(out)
    assert "noise_seed" not in out


@pytest.mark.parametrize("spec", ["none", "symmetric:0.3:exclude_true", "pairflip:0.2", "instance:0.3"])
def test_the_labels_are_those_that_training_draws(call: Call, store: Path, tmp_path: Path, spec: str) -> None:
    code, out, err = call("noise", spec, "--data", store, "--seed", 3, "--out", tmp_path / "out")
    assert code == 0, err
    assert (np.load(tmp_path / "out" / "labels.npy") == given(store, f"noise={spec}", "noise_seed=3")).all()
    if spec.startswith("instance"):
        assert "instance:0.3:cores" in out


def test_many_classes_are_summed_up(call: Call, photos: Path, tmp_path: Path) -> None:
    code, out, err = call("noise", "symmetric:0.5", "--data", photos, "--out", tmp_path / "out")
    assert code == 0, err
    assert "class clean given leave % wrong of given % most go to" in squeezed(out)
    assert "largest flows" in out
    code, out, err = call("noise", f"file:{tmp_path / 'out' / 'labels.npy'}", "--data", photos)
    assert code == 0, err
    assert "which are right is not known" in out
    assert "class stored given" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["symetric:0.4"], "did you mean symmetric"),
        (["symmetric:40"], "between 0 and 1"),
        (["asymmetric:0.4"], "pairflip:0.4"),
        (["human:worse"], "CIFAR-10"),
        (["file:none.npy"], "none.npy does not exist"),
        (["symmetric:0.4", "--seed", "-1"], "--seed"),
    ],
)
def test_wrong_input_is_one_clear_error_and_nothing_is_written(
    call: Call, store: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    code, _, err = call("noise", *words, "--data", store, "--out", tmp_path / "out")
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_images_of_unlike_size_cannot_have_instance_noise(call: Call, photos: Path) -> None:
    code, _, err = call("noise", "instance:0.3", "--data", photos)
    assert code == 2
    assert "square=N" in err


def test_an_existing_folder_is_refused_before_anything_is_drawn(call: Call, store: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.npy").write_bytes(b"mine")
    code, out, err = call("noise", "symmetric:0.4", "--data", store, "--out", tmp_path / "out")
    assert code == 2
    assert "exists already" in err
    assert out == ""
    assert (tmp_path / "out" / "labels.npy").read_bytes() == b"mine"


def test_a_missing_store(call: Call, tmp_path: Path) -> None:
    code, _, err = call("noise", "symmetric:0.4", "--data", tmp_path / "none")
    assert code == 2
    assert "does not exist" in err
    assert call("noise", "symmetric:0.4")[0] == 2
