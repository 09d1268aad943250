"""The compiled walk of `jpeg_scan`, apart from it since it needs numba: a JPEG's header and codes, read to the end.

A step looks up the next `BITS` bits and learns how many bits the codes in them take, together with the bits of values
that
follow the codes, and by how many coefficients they advance. An entry is uint16: bits taken in the lowest 6, above them
the advance, with 64 added where the block ends by its code for that; `_ALONE` above where one symbol must be read by
itself: its code is longer than `BITS`, or is none. Entries of AC codes start behind any coefficient, those of DC codes
at a block's start.

Numbers are unsigned where they can be, for numba would look after negative indices, and take uint64 and int64 together
as
float64. Every read is within the file: where lengths, codes or markers are not what they should be, the walk ends.
"""

from __future__ import annotations

import numpy as np

from fastnoisy.compiler import kept

BITS = 12  # a table of 8 KB; 32 KB of them are at work, which a first-level cache of 48 KB holds; 11 and 13 take longer
TABLES = 64  # kept pairs of a DC and an AC table; the files of one encoder have two pairs
KEY = 544  # bytes of a pair: 16 counts and up to 256 values, twice
NOTES = (
    2 + 3 * TABLES
)  # integers: places in use, the next one; of each, numbers of DC and AC codes, and whether it is combined
_SIZE = 1 << BITS
PAIR = 2 * _SIZE  # entries
_ALONE = 512
_SHIFT = np.uint64(64 - BITS)
_U = np.uint64
_ZERO, _ONE, _SIX, _SEVEN, _EIGHT, _LOW = _U(0), _U(1), _U(6), _U(7), _U(8), _U(63)
_ONES, _TOPS, _ALL = _U(0x0101010101010101), _U(0x8080808080808080), _U(0xFFFFFFFFFFFFFFFF)


_inner = kept(no_cpython_wrapper=True, no_cfunc_wrapper=True)  # only called by compiled code, and so sooner compiled


@_inner
def _num_codes(data, at, highest):  # type: ignore[no-untyped-def]
    """How many codes the 16 counts at a place are of; -1 where libjpeg refuses the table, or a symbol is above
    `highest`.
    """
    num, code = np.int64(0), np.int64(0)
    for length in range(1, 17):
        count = np.int64(data[_U(at + length - 1)])
        num += count
        code += count
        if count and code >= 1 << length:  # no code is all ones
            return -1
        code <<= 1
    if num == 0 or num > 256:
        return -1
    for i in range(num):
        if data[_U(at + 16 + i)] > highest:
            return -1
    return num


@_inner
def _singles(data, at, dc, entries, lengths):  # type: ignore[no-untyped-def]
    """Entries of one symbol each, uint16 (2**BITS,), and the lengths of their codes, 0 where the symbol stands
    alone.
    """
    entries[:] = _ALONE << 6
    lengths[:] = 0
    code, value = 0, at + 16
    for length in range(1, BITS + 1):
        for _ in range(data[_U(at + length - 1)]):
            symbol = np.int64(data[_U(value)])
            run, size = symbol >> 4, symbol & 15
            if dc:
                entry = (1 << 6 | length + symbol) if symbol <= 11 else _ALONE << 6
            elif 0 < size <= 10 or symbol == 0xF0:
                entry = (run + 1) << 6 | length + size
            else:
                entry = (64 << 6 | length) if symbol == 0 else _ALONE << 6
            first, last = code << (BITS - length), (code + 1) << (BITS - length)
            for i in range(first, last):
                entries[_U(i)] = entry
            if entry >> 6 < _ALONE:
                for i in range(first, last):
                    lengths[_U(i)] = length
            code += 1
            value += 1
        code <<= 1


@_inner
def _combine(singles, single_lengths, following, following_lengths, entries):  # type: ignore[no-untyped-def]
    """Entries of as many symbols as have their codes in the bits: one of `singles`, then ones of `following`."""
    for i in range(_SIZE):
        entry = np.int64(singles[_U(i)])
        used, advance = entry & 63, entry >> 6
        if single_lengths[_U(i)]:
            while advance < 64 and used < BITS:
                j = _U((i << used) & (_SIZE - 1))
                length = np.int64(following_lengths[j])
                if length == 0 or used + length > BITS:
                    break
                entry = np.int64(following[j])
                if entry >> 6 < 64 and advance + (entry >> 6) > 63:
                    break
                used += entry & 63
                advance += entry >> 6
        entries[_U(i)] = advance << 6 | used


@_inner
def _same(data, at, num, key, start):  # type: ignore[no-untyped-def]
    i = 0
    while i < 16 + num and data[_U(at + i)] == key[_U(start + i)]:
        i += 1
    return i == 16 + num


@_inner
def _table(data, dc_at, ac_at, taken, keys, tables, notes):  # type: ignore[no-untyped-def]
    """The place among `TABLES` of a pair of tables whose counts stand at these places; -1 where they are not valid.

    A pair that is met for the first time gets entries of one symbol each, made in a microsecond; those of several
    symbols, which take ten times that, come when it is met again. `taken` are places that must stay, for this file
    needs them.
    """
    num_dc, num_ac = _num_codes(data, dc_at, 15), _num_codes(data, ac_at, 255)
    if num_dc < 0 or num_ac < 0:
        return -1
    place = np.int64(-1)
    for i in range(notes[_ZERO]):
        same = notes[_U(2 + 3 * i)] == num_dc and notes[_U(3 + 3 * i)] == num_ac
        same = (
            same and _same(data, ac_at, num_ac, keys, KEY * i + KEY // 2) and _same(data, dc_at, num_dc, keys, KEY * i)
        )
        if same:
            place = np.int64(i)
            break
    new = place < 0
    if new:
        place = notes[_ONE]
        while place == taken[_ZERO] or place == taken[_ONE]:
            place = (place + 1) % TABLES
        notes[_ONE] = (place + 1) % TABLES
        notes[_ZERO] = max(notes[_ZERO], place + 1)
        for i in range(16 + num_dc):
            keys[KEY * place + i] = data[dc_at + i]
        for i in range(16 + num_ac):
            keys[KEY * place + KEY // 2 + i] = data[ac_at + i]
        notes[2 + 3 * place], notes[3 + 3 * place], notes[4 + 3 * place] = num_dc, num_ac, 0
    elif notes[4 + 3 * place]:
        return place
    start = PAIR * place
    dc, ac = tables[start : start + _SIZE], tables[start + _SIZE : start + PAIR]
    lengths, other = np.empty(_SIZE, np.uint8), np.empty(_SIZE, np.uint8)
    if new:
        _singles(data, dc_at, True, dc, lengths)
        _singles(data, ac_at, False, ac, lengths)
    else:
        first, following = np.empty(_SIZE, np.uint16), np.empty(_SIZE, np.uint16)
        _singles(data, dc_at, True, first, lengths)
        _singles(data, ac_at, False, following, other)
        _combine(first, lengths, following, other, dc)
        _combine(following, other, following, other, ac)
        notes[4 + 3 * place] = 1
    return place


@_inner
def _symbol(bits, data, at):  # type: ignore[no-untyped-def]
    """The symbol whose code the highest of 64 bits begin with, and above its 8 bits the code's length; -1 where none
    is.
    """
    code, first, value = np.int64(0), np.int64(0), at + 16
    for length in range(1, 17):
        count = np.int64(data[_U(at + length - 1)])
        code = np.int64(bits >> _U(64 - length))
        if code - first < count:
            return length << 8 | np.int64(data[_U(value + code - first)])
        value += count
        first = (first + count) << 1
    return -1


@_inner
def _eight(data, position):  # type: ignore[no-untyped-def]
    """The next 8 bytes, the first one highest: one load. All ones, which `_bytewise` has to look at, where they end
    sooner.
    """
    if position + _EIGHT > _U(len(data)):
        return _ALL
    a, b = _U(data[position]), _U(data[position + _U(1)])
    c, d = _U(data[position + _U(2)]), _U(data[position + _U(3)])
    e, f = _U(data[position + _U(4)]), _U(data[position + _U(5)])
    g, h = _U(data[position + _U(6)]), _U(data[position + _U(7)])
    return (a << _U(56) | b << _U(48) | (c << _U(40) | d << _U(32))) | (e << _U(24) | f << _U(16) | (g << _U(8) | h))


@_inner
def _bytewise(data, position, bits, count, missing):  # type: ignore[no-untyped-def]
    """At least 56 bits, the next one highest. `missing` of them are not there, but zeros in the place of a marker or
    the end.

    Bits below `count` are zero, or already what will stand there.
    """
    while count < _U(56):
        byte, step = _ZERO, _ZERO
        if position < _U(len(data)) and data[position] != 0xFF:
            byte, step = _U(data[position]), _ONE
        elif position + _ONE < _U(len(data)) and data[position + _ONE] == 0:
            byte, step = _U(0xFF), _U(2)
        else:
            missing += _EIGHT
        bits |= byte << (_U(56) - count)
        position += step
        count += _EIGHT
    return position, bits, count, missing


@_inner
def _walk(data, start, mcus, interval, blocks, bases, dc_ats, ac_ats, tables):  # type: ignore[no-untyped-def]
    """Whether all codes of a scan that starts there are ones, and the image's end follows at once.

    Of each MCU's blocks: `bases`, where their entries start in `tables`, and where their tables' counts stand in the
    file.
    """
    position, bits, count, missing = _U(start), _ZERO, _ZERO, _ZERO
    restart, left = 0, interval
    for _ in range(mcus):
        if interval:
            if left == 0:
                if count - missing > _SEVEN or position + _ONE >= _U(
                    len(data)
                ):  # more than it, also where it is below 0
                    return False
                if data[position] != 0xFF or data[position + _ONE] != 0xD0 + restart:
                    return False
                position, bits, count, missing = position + _U(2), _ZERO, _ZERO, _ZERO
                restart, left = (restart + 1) & 7, interval
            left -= 1
        for block in range(blocks):
            base = bases[_U(block)]
            eight = _eight(data, position)
            if (~eight - _ONES) & eight & _TOPS:  # a byte is 0xFF
                position, bits, count, missing = _bytewise(data, position, bits, count, missing)
            else:
                position, bits, count = position + ((_LOW - count) >> _U(3)), bits | eight >> count, count | _U(56)
            before, entry = bits, _U(tables[base + (bits >> _SHIFT)])
            advance = k = entry >> _SIX
            bits <<= entry & _LOW
            count -= entry & _LOW
            if k >= _U(_ALONE):
                found = _symbol(bits, data, dc_ats[_U(block)])
                if found < 0 or found & 255 > 11:
                    return False
                take = _U((found >> 8) + (found & 255))
                bits <<= take
                count -= take
                k = _ONE
            base += _U(_SIZE)
            while True:
                while k < _U(64):
                    before, entry = bits, _U(tables[base + (bits >> _SHIFT)])
                    advance = entry >> _SIX
                    k += advance
                    bits <<= entry & _LOW
                    count -= entry & _LOW
                    if k < _U(64):
                        eight = _eight(data, position)
                        if (~eight - _ONES) & eight & _TOPS:  # a byte is 0xFF
                            position, bits, count, missing = _bytewise(data, position, bits, count, missing)
                        else:
                            position, bits, count = (
                                position + ((_LOW - count) >> _U(3)),
                                bits | eight >> count,
                                count | _U(56),
                            )
                        before, entry = bits, _U(tables[base + (bits >> _SHIFT)])
                        advance = entry >> _SIX
                        k += advance
                        bits <<= entry & _LOW
                        count -= entry & _LOW
                if k == _U(64) or (advance >= _U(64) and k < _U(128)):
                    break
                # The block may have ended within this step, or its first code is a long one: read one symbol.
                k -= advance
                bits = before
                count += entry & _LOW
                found = _symbol(bits, data, ac_ats[_U(block)])
                size = found & 15
                if found < 0 or size > 10 or (size == 0 and found & 255 != 0 and found & 255 != 0xF0):
                    return False
                take = _U((found >> 8) + size)
                bits <<= take
                count -= take
                if found & 255 == 0:
                    break
                advance = _U((found >> 4 & 15) + 1)
                k += advance
                if k > _U(64):
                    return False
                position, bits, count, missing = _bytewise(data, position, bits, count, missing)
        if count < missing:
            return False
    if count - missing > _SEVEN or position + _ONE >= _U(len(data)):
        return False
    return data[position] == 0xFF and data[position + _ONE] == 0xD9


@kept()
def scan(data, height, width, keys, tables, notes):  # type: ignore[no-untyped-def]
    """Whether the bytes of a plain JPEG, by its header of that size, are one baseline image to the end; no where in
    doubt.
    """
    dc_at, ac_at = np.full(4, -1), np.full(4, -1)
    frame, quantisers, interval, position = np.int64(0), 0, np.int64(0), np.int64(2)
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        start, end = position + 4, position + 2 + (np.int64(data[position + 2]) << 8 | np.int64(data[position + 3]))
        if end < start or end > len(data):
            return False
        if marker == 0xDA:
            break
        if marker == 0xC0 or marker == 0xC1:
            if frame or end - start < 6 or end - start != 6 + 3 * np.int64(data[start + 5]):
                return False
            frame = start
        elif 0xC0 <= marker < 0xD0 and marker != 0xC4:
            return False
        elif marker == 0xDD:
            if end - start != 2:
                return False
            interval = np.int64(data[start]) << 8 | np.int64(data[start + 1])
        elif marker == 0xDB:
            while start < end:
                if data[start] & 15 > 3 or data[start] >> 4 > 1:
                    return False
                quantisers |= 1 << (data[start] & 15)
                start += 129 if data[start] >> 4 else 65
            if start != end:
                return False
        elif marker == 0xC4:
            while start + 17 <= end:
                kind, at, num = data[start], start + 1, np.int64(0)
                for i in range(16):
                    num += data[at + i]
                if kind & 15 > 3 or kind >> 4 > 1 or num > 256 or at + 16 + num > end:
                    return False
                if kind >> 4:
                    ac_at[kind & 15] = at
                else:
                    dc_at[kind & 15] = at
                start = at + 16 + num
            if start != end:
                return False
        position = end
    else:
        return False
    num = np.int64(data[frame + 5] if frame else 0)
    if (num != 1 and num != 3) or end - start != 4 + 2 * num or data[start] != num:
        return False
    if data[end - 3] != 0 or data[end - 2] != 63 or data[end - 1] != 0 or data[frame] != 8:
        return False
    if (np.int64(data[frame + 1]) << 8 | np.int64(data[frame + 2])) != height:
        return False
    if (np.int64(data[frame + 3]) << 8 | np.int64(data[frame + 4])) != width or max(height, width) > 65500:
        return False
    blocks, across, down, place = np.int64(0), np.int64(1), np.int64(1), np.int64(-1)
    bases, dc_ats, ac_ats = np.empty(10, np.uint64), np.empty(10, np.int64), np.empty(10, np.int64)
    taken = np.full(2, -1)
    for i in range(num):
        component, chosen = frame + 6 + 3 * i, start + 1 + 2 * i
        h, v = np.int64(data[component + 1]) >> 4, np.int64(data[component + 1]) & 15
        if not 1 <= h <= 4 or not 1 <= v <= 4 or data[component] != data[chosen] or data[component + 2] > 3:
            return False
        if i and (h != 1 or v != 1 or data[component] == data[component - 3] or data[component] == data[frame + 6]):
            return False
        dc, ac = data[chosen + 1] >> 4, data[chosen + 1] & 15
        if not quantisers >> data[component + 2] & 1 or dc > 3 or ac > 3 or dc_at[dc] < 0 or ac_at[ac] < 0:
            return False
        if i == 0 or data[chosen + 1] != data[chosen - 1]:
            place = _table(data, dc_at[dc], ac_at[ac], taken, keys, tables, notes)
        if place < 0:
            return False
        if i < 2:
            taken[i] = place
        if i == 0 and num == 3:
            across, down = h, v
            if h == 3 or v == 3 or h * v > 8:
                return False
        for _ in range(h * v if num == 3 else 1):
            bases[blocks], dc_ats[blocks], ac_ats[blocks] = PAIR * place, dc_at[dc], ac_at[ac]
            blocks += 1
    mcus = -(-width // (8 * across)) * -(-height // (8 * down))
    return _walk(data, end, mcus, interval, blocks, bases, dc_ats, ac_ats, tables)
