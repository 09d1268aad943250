"""`keyed_random` for Triton: int64 that wraps, shifts masked to logical ones."""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from fastnoisy.augment.executors.cuda import constants


@triton.jit
def _mix(x):
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * constants.MULTIPLY_1
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * constants.MULTIPLY_2
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


@triton.jit
def fold(key, value):
    """See `keyed_random.fold`; key int64, value an integer; int64."""
    return _mix((key ^ _mix(tl.cast(value, tl.int64) + constants.GOLDEN)) + constants.GOLDEN)


@triton.jit
def below(bits, limit):
    """See `keyed_random.below`; bits int64, limit an integer; int64."""
    return (((bits >> 32) & 0xFFFFFFFF) * limit) >> 32


@triton.jit
def draw(key, number, limit):
    """Draw `number` of a key, an integer uniform in [0, limit), int64."""
    return below(fold(key, number), limit)
