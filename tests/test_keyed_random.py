"""Keyed random numbers: test vectors, equality of every executor, and that they look random."""

from __future__ import annotations

import numba
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


def test_values_may_be_mixed_before_they_meet_the_keys() -> None:
    keys = torch.tensor(EDGES)
    for value in (*range(40), -1, 2**62, -(2**63)):
        assert kr.fold_premixed(keys, torch.tensor(kr.premix(value))).tolist() == [kr.fold(k, value) for k in EDGES]


# Every executor has to give these: wrap-around, signs and the ends of int64.
EDGES = [
    0,
    1,
    -1,
    2,
    255,
    -(2**31),
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63 - 1,
    -(2**63),
    -(2**63) + 1,
    0x5555555555555555,
]
LIMITS = [1, 2, 3, 16, 1000, 2**16, 2**31 - 1, 2**31]
PAIRS = [(one, other) for one in EDGES for other in EDGES]
FOLDED = [kr.fold(one, other) for one, other in PAIRS]
CHAINED = [kr.key(one, other, 7) for one, other in PAIRS]


def test_vectors_at_the_ends_of_int64() -> None:
    """Of `fold`, by the published constants and nothing of ours; and of all edges together, fixed for good."""

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    golden = 0x9E3779B97F4A7C15
    for (one, other), folded in zip(PAIRS, FOLDED, strict=True):
        expected = mix(((one % 2**64 ^ mix((other + golden) % 2**64)) + golden) % 2**64)
        assert folded % 2**64 == expected
        assert -(2**63) <= folded < 2**63
    assert mix(golden) == 0xE220A8397B1DCDAF  # the first output of splitmix64 with seed 0
    assert len(set(FOLDED)) == len(PAIRS)
    assert kr.key(*FOLDED) == OF_ALL_EDGES
    assert [kr.name_value(name) for name in NAMES] == list(NAMES.values())


OF_ALL_EDGES = 2251496779239441570
NAMES = {
    "": -3750763034362895579,
    "a": -5808556873153909620,
    "student": 3606056766413723200,
    "teacher": 1959029595251775989,
    "Ü": 775157929741898122,
}


# A comparison of a draw is what a compiler gets wrong that takes products for ones that never overflow.
SMALL = [[kr.below(bits, limit) < (limit + 1) // 2 for bits in FOLDED] for limit in LIMITS]


def halves() -> tuple[list[int], list[int]]:
    return [one for one, _ in PAIRS], [other for _, other in PAIRS]


def test_numpy_agrees_at_the_ends_of_int64() -> None:
    one, other = (np.array(half, dtype=np.int64) for half in halves())
    assert kr.fold(one, other).tolist() == FOLDED
    assert kr.key(one, other, 7).tolist() == CHAINED
    for limit, small in zip(LIMITS, SMALL, strict=True):
        drawn = kr.below(np.array(FOLDED), limit)
        assert drawn.tolist() == [kr.below(bits, limit) for bits in FOLDED]
        assert (drawn < (limit + 1) // 2).tolist() == small
    for value in EDGES:  # a Python number on either side, and an array of no dimensions
        assert kr.fold(value, other).tolist() == [kr.fold(value, single) for single in other.tolist()]
        assert kr.fold(other, value).tolist() == [kr.fold(single, value) for single in other.tolist()]
        assert int(kr.fold(np.array(value), np.array(3))) == kr.fold(value, 3)


def test_torch_agrees_at_the_ends_of_int64() -> None:
    one, other = (torch.tensor(half) for half in halves())
    assert kr.fold(one, other).tolist() == FOLDED
    assert kr.key(one, other, 7).tolist() == CHAINED
    for limit in LIMITS:
        expected = [kr.below(bits, limit) for bits in FOLDED]
        assert kr.below(torch.tensor(FOLDED), limit).tolist() == expected
        assert kr.below(torch.tensor(FOLDED), torch.full((len(PAIRS),), limit)).tolist() == expected
    for value in EDGES:
        assert kr.fold(value, other).tolist() == [kr.fold(value, single) for single in other.tolist()]
        assert kr.fold(other, value).tolist() == [kr.fold(single, value) for single in other.tolist()]


def test_broadcasting() -> None:
    columns, rows = torch.tensor(EDGES), torch.tensor(EDGES[:3])[:, None]
    grid = kr.fold(rows, columns)
    assert grid.shape == (3, len(EDGES))
    assert grid.tolist() == [[kr.fold(row, column) for column in EDGES] for row in EDGES[:3]]


def test_seeds_outside_int64_wrap() -> None:
    for value in (2**63, 2**64 - 1, 2**64 + 5, -(2**63) - 1):
        assert kr.key(value) == kr.key((value + 2**63) % 2**64 - 2**63)


def test_below_at_the_ends() -> None:
    for limit in LIMITS:
        lowest, highest = kr.below(0, limit), kr.below(-1, limit)
        assert (lowest, highest) == (0, limit - 1)
        assert kr.below(2**63 - 1, limit) == (2**31 - 1) * limit >> 32
        assert kr.below(-(2**63), limit) == 2**31 * limit >> 32


STUDENT = kr.name_value("student")  # names become numbers on the host, once


def in_one_function(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, ...]:
    folded = kr.fold(one, other)
    limits = torch.stack([kr.below(folded, limit) for limit in LIMITS])
    numbers = torch.stack([kr.fold(value, other) for value in EDGES] + [kr.fold(other, value) for value in EDGES])
    view = kr.fold(kr.key(5, 6), STUDENT)
    small = torch.stack([kr.below(folded, limit) < (limit + 1) // 2 for limit in LIMITS])
    return folded, kr.key(one, other, 7), limits, numbers, kr.fold(kr.fold(view, one), 3), small


@pytest.mark.compiler
def test_compiled_agrees() -> None:
    one, other = (torch.tensor(half) for half in halves())
    compiled = torch.compile(in_one_function, fullgraph=True)
    for expected, got in zip(in_one_function(one, other), compiled(one, other), strict=True):
        assert torch.equal(expected, got)
    assert compiled(one, other)[0].tolist() == FOLDED
    assert compiled(one, other)[-1].tolist() == SMALL


@pytest.mark.gpu
def test_a_gpu_agrees() -> None:
    one, other = (torch.tensor(half) for half in halves())
    for expected, got in zip(in_one_function(one, other), in_one_function(one.cuda(), other.cuda()), strict=True):
        assert torch.equal(expected, got.cpu())


def test_the_cpu_executor_agrees() -> None:
    """Folded, drawn and compared in one compiled function, as its kernels do it."""
    from fastnoisy.augment.executors.cpu import keys

    @numba.njit
    def fill(one, other, limits, folded, drawn, small):  # type: ignore[no-untyped-def]
        for row in range(len(one)):
            folded[row] = keys.fold(one[row], other[row])
            for place in range(len(limits)):
                drawn[place, row] = keys.draw(one[row], other[row], limits[place])
                small[place, row] = keys.draw(one[row], other[row], limits[place]) < (limits[place] + 1) // 2

    one, other = (np.array(half, dtype=np.int64) for half in halves())
    folded, shape = np.zeros(len(one), np.uint64), (len(LIMITS), len(one))
    drawn, small = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    fill(one.view(np.uint64), other, np.array(LIMITS), folded, drawn, small)
    assert folded.view(np.int64).tolist() == FOLDED
    assert drawn.tolist() == [[kr.below(bits, limit) for bits in FOLDED] for limit in LIMITS]
    assert small.tolist() == SMALL


def test_numba_agrees() -> None:
    """The same hash in a kernel of one's own: unsigned arithmetic, so that shifts are logical."""
    uint = np.uint64

    @numba.njit
    def mix(x):  # type: ignore[no-untyped-def]
        x = (x ^ (x >> uint(30))) * uint(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> uint(27))) * uint(0x94D049BB133111EB)
        return x ^ (x >> uint(31))

    @numba.njit
    def fold(key, value):  # type: ignore[no-untyped-def]
        golden = uint(0x9E3779B97F4A7C15)
        return np.int64(mix((uint(key) ^ mix(uint(value) + golden)) + golden))

    @numba.njit
    def below(bits, limit):  # type: ignore[no-untyped-def]
        return np.int64(((uint(bits) >> uint(32)) * uint(limit)) >> uint(32))

    @numba.njit
    def fill(one, other, limits, folded, drawn):  # type: ignore[no-untyped-def]
        for row in range(len(one)):
            folded[row] = fold(one[row], other[row])
            for column in range(len(limits)):
                drawn[row, column] = below(folded[row], limits[column])

    one, other = (np.array(half, dtype=np.int64) for half in halves())
    folded, drawn = np.empty_like(one), np.empty((len(one), len(LIMITS)), dtype=np.int64)
    fill(one, other, np.array(LIMITS), folded, drawn)
    assert folded.tolist() == FOLDED
    assert drawn.tolist() == [[kr.below(bits, limit) for limit in LIMITS] for bits in FOLDED]


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
