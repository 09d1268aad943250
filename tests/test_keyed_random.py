"""Keyed random numbers: test vectors, equality of every executor, and that they look random."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastnoisy import keyed_random as kr


def test_vectors() -> None:
    """Fixed for good: whoever changes these changes every run that was ever made."""
    assert kr.key(0) == VECTORS[0]
    assert kr.key(1, 2, 3) == VECTORS[1]
    assert kr.key(1, 7, 49_999, kr.name_value("student"), 5) == VECTORS[2]
    assert kr.name_value("student") == VECTORS[3]


VECTORS = [-6411193824288604561, -8634215444751041720, 6888453094723106914, 3606056766413723200]


def test_python_numpy_torch_and_compiled_agree() -> None:
    seed, epoch, view = 3, 11, kr.name_value("teacher")
    samples = np.concatenate([np.arange(500), [2**31, 2**40, 2**62]]).astype(np.int64)
    expected = [kr.key(seed, epoch, int(s), view, 4) for s in samples]
    prefix = kr.key(seed, epoch)
    in_numpy = kr.fold(kr.fold(kr.fold(prefix, samples), view), 4)

    def in_torch(rows: torch.Tensor) -> torch.Tensor:
        return kr.fold(kr.fold(kr.fold(prefix, rows), view), 4)

    rows = torch.from_numpy(samples)
    assert in_numpy.tolist() == expected
    assert in_torch(rows).tolist() == expected
    as_tensor = kr.fold(kr.fold(torch.tensor(prefix), rows), torch.tensor(view))
    assert kr.fold(as_tensor, 4).tolist() == expected


@pytest.mark.compiler
def test_compiled_agrees() -> None:
    rows = torch.arange(-300, 300) * 7_777_777_777

    def draw(x: torch.Tensor) -> torch.Tensor:
        return kr.below(kr.fold(kr.fold(kr.key(5, 6), x), 3), 1000)

    assert torch.equal(torch.compile(draw)(rows), draw(rows))


def test_below_is_uniform_and_in_range() -> None:
    bits = kr.fold(kr.key(1, 2), np.arange(100_000))
    for limit in (2, 3, 16, 1000):
        draws = kr.below(bits, limit)
        assert draws.min() == 0
        assert draws.max() == limit - 1
        counts = np.bincount(draws, minlength=limit)
        expected = len(bits) / limit
        chi = ((counts - expected) ** 2 / expected).sum()
        assert chi < limit + 6 * np.sqrt(2 * limit)


@pytest.mark.parametrize("shift", [1, 7])
def test_neighbouring_keys_are_unrelated(shift: int) -> None:
    one = kr.below(kr.fold(kr.key(1, 2), np.arange(50_000)), 2**20).astype(float)
    two = kr.below(kr.fold(kr.key(1, 2 + shift), np.arange(50_000)), 2**20).astype(float)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.02
    assert abs(np.corrcoef(one[:-shift], one[shift:])[0, 1]) < 0.02
