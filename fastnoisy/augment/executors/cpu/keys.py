"""`keyed_random` for numba, on uint64 alone: numba marks products of int64 as never overflowing.

An int64 beside a uint64 would make a float64 of both in numba, so every constant is a uint64.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np

from fastnoisy import keyed_random
from fastnoisy.augment.executors.cpu.compiled import compiled

_MASK = (1 << 64) - 1
_GOLDEN = np.uint64(keyed_random._GOLDEN & _MASK)
_MULTIPLY_1 = np.uint64(keyed_random._MULTIPLY_1 & _MASK)
_MULTIPLY_2 = np.uint64(keyed_random._MULTIPLY_2 & _MASK)
_27, _30, _31, _32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@compiled
def _mix(x):
    x = (x ^ (x >> _30)) * _MULTIPLY_1
    x = (x ^ (x >> _27)) * _MULTIPLY_2
    return x ^ (x >> _31)


@compiled
def fold(key, value):
    """See `keyed_random.fold`; key uint64, value an integer; uint64."""
    return _mix((key ^ _mix(np.uint64(value) + _GOLDEN)) + _GOLDEN)


@compiled
def below(bits, limit):
    """See `keyed_random.below`; bits uint64, limit an integer; int64."""
    return np.int64(((bits >> _32) * np.uint64(limit)) >> _32)


@compiled
def draw(key, number, limit):
    """Draw `number` of a key, an integer uniform in [0, limit), int64."""
    return below(fold(key, number), limit)
