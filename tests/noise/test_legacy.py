"""Draws that equal the published codes' under every numpy."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fastnoisy.noise.legacy import choices

OLD = tuple(map(int, np.__version__.split(".")[:2])) < (2, 5)


def matrices() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    flips = 0.6 * np.eye(100)
    flips[np.arange(100), (np.arange(100) + 1) % 100] = 0.4
    even = np.full((10, 10), 0.3 / 9)
    np.fill_diagonal(even, 0.7)
    certain = np.eye(5)
    rough = random.dirichlet(np.full(30, 0.1), 30)
    return {"flips": flips, "even": even, "certain": certain, "rough": rough / rough.sum(1, keepdims=True)}


@pytest.mark.skipif(not OLD, reason="this numpy draws another stream: from 2.5 on")
@pytest.mark.parametrize("name", matrices())
@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_they_are_numpys_own_up_to_2_4(name: str, seed: int) -> None:
    transition = matrices()[name]
    rows = np.random.default_rng(seed).integers(0, len(transition), 20_000)
    generator = np.random.RandomState(seed)
    expected = [int(generator.multinomial(1, transition[row]).argmax()) for row in rows]
    assert choices(transition, rows, seed).tolist() == expected


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("flips", "872cf987544aa1b5"),
        ("even", "14a825eaf9e7631c"),
        ("certain", "0a1b2038190b0215"),
    ],
)
def test_they_are_the_same_everywhere(name: str, digest: str) -> None:
    """The labels that numpy 2.4.6 drew."""
    transition = matrices()[name]
    rows = np.arange(50_000) % len(transition)
    assert hashlib.sha256(choices(transition, rows, 1).astype("<i8").tobytes()).hexdigest()[:16] == digest


def test_the_doubles_are_the_mersenne_twisters() -> None:
    """The reference generator's first outputs for seed 5489, as doubles of 53 bits."""
    first = np.random.RandomState(5489).random_sample(2)
    words = np.array([3499211612, 581869302, 3890346734, 3586334585], np.uint64)
    assert first.tolist() == [
        ((int(a) >> 5) * 67108864 + (int(b) >> 6)) / 9007199254740992 for a, b in words.reshape(2, 2)
    ]
