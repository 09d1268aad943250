"""Counter-based random numbers: a pure function of (seed, epoch, sample, view, draw), the same on every device.

A key is a 64-bit integer made by folding integers in, one after another, with the splitmix64 finaliser
(Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"). All arithmetic wraps in int64, so plain
Python, numpy and torch (eager or compiled, CPU or GPU) give the same bits. numba does on uint64 alone: it marks
products of int64 as never overflowing, so its compiler drops comparisons of them (a flip came out wrong for 496 of
1,000 keys). There
is no state: the same sample gets the same numbers whatever the batch size, the order, the number of ranks or a resume.

Only integers come out. What decides a pixel is made from these integers; floats appear first in `normalize`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as int64: 2**64 divided by the golden ratio
_MULTIPLY_1 = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_MULTIPLY_2 = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
_MASK64 = (1 << 64) - 1


def _signed(value: int) -> int:
    value &= _MASK64
    return value - (1 << 64) if value >> 63 else value


def _mix(x: Any) -> Any:
    """The splitmix64 finaliser on int64; `>>` is arithmetic there, so each shift is masked to a logical one."""
    if isinstance(x, int):
        x &= _MASK64
        x = ((x ^ (x >> 30)) * (_MULTIPLY_1 & _MASK64)) & _MASK64
        x = ((x ^ (x >> 27)) * (_MULTIPLY_2 & _MASK64)) & _MASK64
        return _signed(x ^ (x >> 31))
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _MULTIPLY_1
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _MULTIPLY_2
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def fold(key: Any, value: Any) -> Any:
    """Fold `value` into `key`.

    Args:
        key, value: Python integers, int64 numpy arrays or int64 torch tensors of broadcastable shapes.

    Returns:
        The new key, int64, of the broadcast shape (a Python integer if both were). All its bits are usable as a draw.
    """
    if isinstance(key, int) and isinstance(value, int):
        return _mix((key ^ _mix(_signed(value + _GOLDEN))) + _GOLDEN)
    if isinstance(key, np.ndarray) or isinstance(value, np.ndarray):
        with np.errstate(over="ignore"):  # wrapping is what is wanted
            key, value = np.asarray(key, np.int64), np.asarray(value, np.int64)
            return _mix((key ^ _mix(value + _GOLDEN)) + _GOLDEN)
    value = _mix(_signed(value + _GOLDEN)) if isinstance(value, int) else _mix(value + _GOLDEN)
    return _mix((key ^ value) + _GOLDEN)


def premix(value: int) -> int:
    """What `fold` makes of a value before it meets the key, int64: `fold_premixed(key, premix(v)) == fold(key, v)`."""
    mixed: int = _mix(_signed(value + _GOLDEN))
    return mixed


def fold_premixed(key: Any, premixed: Any) -> Any:
    """`fold` of values that were mixed before; many draws of many keys then cost one mix, not one each.

    Args:
        key, premixed: int64 torch tensors of broadcastable shapes.
    """
    return _mix((key ^ premixed) + _GOLDEN)


def key(*values: Any) -> Any:
    """The key of a sequence of integers: `key(seed, epoch, sample, view)`, then `fold(key, draw)` for each draw."""
    result: Any = 0
    for value in values:
        result = fold(result, value)
    return result


def below(bits: Any, limit: Any) -> Any:
    """An integer uniform in [0, limit) from a draw's upper 32 bits; `limit` at most 2**31. Bias below limit / 2**32."""
    return (((bits >> 32) & 0xFFFFFFFF) * limit) >> 32


def name_value(name: str) -> int:
    """A 64-bit integer for a name (a view, a stream), so that names can be folded into keys (FNV-1a)."""
    value = 0xCBF29CE484222325
    for byte in name.encode("utf-8", "surrogateescape"):
        value = ((value ^ byte) * 0x100000001B3) & _MASK64
    return _signed(value)
