"""Numbers that the kernels are compiled with. Compiled and interpreted, Triton takes those of a module as they are."""

from __future__ import annotations

import zlib

from fastnoisy import keyed_random
from fastnoisy.augment import colours, draws, geometry, ops
from fastnoisy.augment.executors import codes

GOLDEN, MULTIPLY_1, MULTIPLY_2 = keyed_random._GOLDEN, keyed_random._MULTIPLY_1, keyed_random._MULTIPLY_2
ONE, FARTHEST = geometry.ONE, 2.0 * geometry.MAX_CANVAS  # of an affine map
IN_ONES = float(geometry.ONE)
PRECISION_BITS = geometry._PRECISION_BITS  # of a resize
TRIES, UNIT, FROM_UNITS = draws.TRIES, draws.UNIT, 1.0 / draws.UNIT
BELOW_0, BELOW_1, BELOW_2, BELOW_3 = colours._REACHED_FROM_BELOW
CUTOUT_PIXEL = ops.CUTOUT_COLOUR[0] | ops.CUTOUT_COLOUR[1] << 8 | ops.CUTOUT_COLOUR[2] << 16

ON_CHIP_SIDE = 32  # pixels; where no side on the way is longer, an image stays in registers
BOXES = 2  # that may be filled after `normalize`
KIND_BITS, KIND_MASK = 5, 31  # of a step in KINDS

# Triton tells what it keeps on disk by the kernel's text, constants and arguments, but not by a module's numbers.
VERSION = zlib.crc32(
    repr(
        [
            sorted((name, value) for name, value in space.items() if name.isupper() and isinstance(value, int | float))
            for space in (vars(codes), globals().copy())
        ]
    ).encode()
)
