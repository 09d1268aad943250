"""Instance-dependent noise against numbers of the published codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastnoisy import noise
from fastnoisy.errors import FastnoisyError
from fastnoisy.noise import instance


@pytest.fixture
def data(golden: Callable[[str], Any]) -> Any:
    return golden("noise_instance")


@pytest.fixture
def images(data: Any) -> np.ndarray:
    return np.array(data["inputs"]["images_uint8_12x4x4x3"], np.uint8)


@pytest.fixture
def labels(data: Any) -> np.ndarray:
    return np.array(data["inputs"]["labels"])


def many(count: int, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, 4, 5, 3), dtype=np.uint8), generator.integers(0, classes, count)


def test_flip_probabilities_equal_the_published_ones(data: Any, images: np.ndarray, labels: np.ndarray) -> None:
    inputs, outputs = data["inputs"], data["outputs"]
    pixels = images.reshape(12, -1).astype(np.float64)
    q = np.array(inputs["q"])
    cores = instance._flip_probabilities(pixels @ np.array(inputs["w_cores_48x10"]), labels, q)
    np.testing.assert_allclose(cores, outputs["prob_cores"], rtol=1e-12, atol=1e-40)
    features, projections = instance._pdn_features(pixels), np.array(inputs["w_pdn_10x48x10"])
    scores = np.stack([features[i] @ projections[labels[i]] for i in range(12)])
    pdn = instance._flip_probabilities(scores, labels, q)
    np.testing.assert_allclose(pdn, outputs["prob_pdn"], rtol=1e-12, atol=1e-40)


def test_cores_equals_the_published_code_from_end_to_end(data: Any, images: np.ndarray, labels: np.ndarray) -> None:
    noisy = noise.instance_dependent(images, labels, 0.4, 10, seed=0)
    assert noisy.tolist() == data["outputs"]["end_to_end_cores_rate_0.4"]


def test_flip_rates_of_pdn_are_scipys_draws(data: Any) -> None:
    drawn = instance._truncated_normal(np.random.RandomState(1), 0.4, 12)
    np.testing.assert_allclose(drawn, data["outputs"]["truncnorm_rvs_seed1_n12_eps0.4"], rtol=0, atol=1e-14)


@pytest.mark.parametrize("mean", [0.01, 0.4, 1.0])
def test_flip_rates_are_shares(mean: float) -> None:
    for draw in (instance._truncated_normal, instance._rejected_normal):
        drawn = draw(np.random.RandomState(1), mean, 10_000)
        assert drawn.shape == (10_000,)
        assert drawn.min() >= 0
        assert drawn.max() <= 1


def test_more_samples_than_one_block_of_flip_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "BLOCK", 100)
    assert instance._rejected_normal(np.random.RandomState(1), 0.0, 250).shape == (250,)


def test_drawing_is_numpys_choice() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(7), 200)
    generator = np.random.RandomState(4)
    expected = [generator.choice(7, p=row) for row in probabilities]
    assert instance._draw(probabilities, np.random.RandomState(4)).tolist() == expected


@pytest.mark.parametrize("variant", noise.INSTANCE_VARIANTS)
def test_what_either_variant_keeps(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = many(3000)
    before = labels.copy()
    first = noise.instance_dependent(images, labels, 0.4, 10, 1, variant)
    assert first.dtype == np.int64
    assert (labels == before).all()
    assert (first != labels).mean() == pytest.approx(0.4, abs=0.03)
    assert (noise.instance_dependent(images, labels, 0.4, 10, 2, variant) != first).any()
    assert (noise.instance_dependent(images, labels, 0.0, 10, 1, variant) == labels).all()
    assert noise.instance_dependent(images[:0], labels[:0], 0.4, 10, 1, variant).shape == (0,)
    monkeypatch.setattr(instance, "CHUNK_VALUES", 700)  # 11 images at a time
    assert (noise.instance_dependent(images, labels, 0.4, 10, 1, variant) == first).all()


def test_the_image_decides() -> None:
    """The same image with the same label is mistaken for the same class, as far as the saturated softmax goes."""
    images, _ = many(1)
    noisy = noise.instance_dependent(np.repeat(images, 500, 0), np.zeros(500, np.int64), 0.5, 10, 3)
    counts = np.bincount(noisy, minlength=10)
    assert sorted(counts)[-2:] == sorted([counts[0], 500 - counts[0]])


def test_wrong_input_is_named() -> None:
    images, labels = many(4)
    with pytest.raises(FastnoisyError, match="did you mean cores"):
        noise.instance_dependent(images, labels, 0.4, 10, 1, "core")
    with pytest.raises(FastnoisyError, match="4 images and 3 labels"):
        noise.instance_dependent(images, labels[:3], 0.4, 10, 1)
    with pytest.raises(FastnoisyError, match="between 0 and 1"):
        noise.instance_dependent(images, labels, 1.4, 10, 1)
    with pytest.raises(FastnoisyError, match="out of range"):
        noise.instance_dependent(images, labels, 0.4, 2, 1)
    for wrong in (images.astype(np.float32), images[..., 0], images.transpose(0, 3, 1, 2)):
        with pytest.raises(FastnoisyError, match=r"uint8 \(N, H, W, 3\), got"):
            noise.instance_dependent(wrong, labels, 0.4, 10, 1)
