"""The .beton format: our own bytes against its description, files written by FFCV itself, and every kind of damage."""

from __future__ import annotations

import base64
import gc
import lzma
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastnoisy.data.store.beton import JPG, MIN_PAGE_SIZE, RAW, BetonReader, BetonWriter, page_size_for
from fastnoisy.errors import FastnoisyError

HEADER, DESCRIPTOR, SAMPLE, ALLOCATION = 24, 1041, 32, 24  # bytes

# Written by ffcv 1.0.2's DatasetWriter, xz and base85: fields image (smart: JPEG above 100 bytes, quality 90), weight
# (float, i / 2), label (10 + i), index; images 0 to 3 have shape (2 + i, 3, 3) and values 40 i + (0, 1, 2), image 4 is
# 16x24 of 90.
FFCV_FILE = """
{Wp48S^xk6X(HY>0stWa8~^|S5YJf5|NkBV(_H`n|NPZ~s@f1M9R)PL7@et@snD5zB9f->!lZ|U0tFz-#4^4ozhjBdCc*zxDt=EVly~Gri}Pp~
g2PWJa8_M=!;o}By1>D)z6@8$X@<y};#%sTu41jswYV4rfNU+b_@jOl2xQ2Qz_LeK{Ch(kby%8W{4{dvr8`gd8)luu_7p&I$=)(-$eQGtM2<gV
Q>d5!kiV+`pM28r(0<0AntT&nmDKi8%A=P2aLTI5w#GX0{K&ev+4liO9gAj*+4X<c4I4jwcdLUGA#Tytdh<RMQ(|_kS>)wg1qk`a+O7QiQY&=L
9$O$n`Q1}J_$g!wJAlh7Y~Qsz@Wj0?U#bs2OJ+il6Au3nllXCXS@;Xh|CK0452^fo-us#`E>^&gh4X`fz-7cGQ~33fHZcXIu<mcca7{-H(UB3V
tzaFx&ao#LTv>+cW>Q$b>2|DH<mFoh2>Hj_t^E5^D|F2sTOdOD-BUgIDP##dfXgau-?cmN#Jw(Gst-O(W<rn?4*w97_;Gky_zTVdl_*9Jsr-E2
`<gH=R=|&i^MirFWyB>@`1O%CF$JZt?r*_xO-BsTkrAq`U>&;7u_qW@S%&FmQdqv}cC1&dEGwV?xB|ui8<8!?FspkCYm(iWBEA6R&c+5Gz`KQy
b`Br#01;h?Sn8l(gPw|iG#EgXZ@5+ZANhoEI)8kEXxdc=|M4RleM5jMkj@T|3?=ZbJ4lRMLFn-A)i><B!}fH59<k5#j;I0In-1BMC8OuY6x&^=
?!S#HA?x<Gy7SF#z3Q6b+~^khC>riEroYjT8TX8E|LwksVki?C#}~x{lUFuT&8sCzA}%nECNXSCQ`9W`W62NGxDj0&wWRJ5hi+N6l1>JB{*nh=
POalq{@Ui;Jk-1a9xmJz!YgNosfM*D(l4vhOzE+@h((O`lc5yWFuv3kk%n9rGwoz~)@}x&rJ^I4_(v$H6Dk{BrS=VOJsga{>B!7IPQGRrd4=@d
h4$&y_H?4id58PDxH1`amH`Pw;KdASSah#zFpInO(fCqd$7AdI4q_p3n~$9#W~>(2MNz=Nv8B3H(}>1!?q4s&IvsZyv-vjZ^8!Z&1?@$umR1Tc
31TU#sQ>|ss;Q^myY{d<$B``PBH14@JVZ2DqT=ZcQUaoBOm^d60VVmjUcWS`bDKZy&ao#LTv>+cW>Q$b>2|DH<mFoh2>Hj_t^E5^D|F2sTOdOD
-BUgIDP##dfXgau-?cmN#Jw(Gst-O(W<rn?4*w97_;Gky_zTVdl_*9Jsr-E2`<gH=R=|&i^MirFWyB>@`1O%CF$JZt?r*_xO-BsTkrAq`U>&;7
u_qW@S%&FmQdqv}cC1<C<y!>^`N!I={QFWXbj==HAVT@wQ$6@8WC=Tf%PMT&wL9>{y)Iv>4?as~LXZ;<{}7Y-ad=ty3(fzPC`J#d{CwW~nlLU_
z>kIVgMq+h#3fVs^^rC)1*Nd=Z^3X)M-0)C5vr|V9lFl3Cm38=hUsQfSib3YtXbscTLlRD$J(v@`%)`(%^pxWc%6U&p8z8OJo8>Pi7E}bs4t6+
zX?W#Ez`!!{&Emi5!+0?YeBjgM*si-OC*l%00H0$_<(={fpKfEJ}?c70ssI200CKA
"""


def write(path: Path, images: list[np.ndarray], labels: list[int] | None = None, capacity: int | None = None) -> None:
    with BetonWriter(path, capacity or len(images), MIN_PAGE_SIZE) as writer:
        for i, image in enumerate(images):
            label = labels[i] if labels else i
            writer.append(image.tobytes(), RAW, image.shape[0], image.shape[1], label)


def noise(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) * 2654435761 >> 7).astype(np.uint8).reshape(shape)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three raw images of differing size."""
    path = tmp_path / "small.beton"
    write(path, [noise(4, 5, 3), noise(3, 3, 3), noise(1, 2, 3)], [7, 0, 3])
    return path


def test_bytes_are_laid_out_as_ffcv_describes_them(small: Path) -> None:
    data = small.read_bytes()
    assert struct.unpack_from("<HHIQQ", data) == (2, 3, MIN_PAGE_SIZE, 3, 2 * MIN_PAGE_SIZE)
    for i, (kind, name) in enumerate([(2, b"image"), (1, b"label"), (1, b"index")]):
        at = HEADER + i * DESCRIPTOR
        assert struct.unpack_from("<B16s", data, at) == (kind, name.ljust(16, b"\0"))
        assert data[at + 17 : at + DESCRIPTOR] == bytes(1024)
    start = MIN_PAGE_SIZE
    for i, (height, width, label) in enumerate([(4, 5, 7), (3, 3, 0), (1, 2, 3)]):
        at = HEADER + 3 * DESCRIPTOR + i * SAMPLE
        assert struct.unpack_from("<BHHQ3xqq", data, at) == (1, width, height, start, label, i)  # 3x: aligned integers
        size = height * width * 3
        assert struct.unpack_from("<QQQ", data, 2 * MIN_PAGE_SIZE + i * ALLOCATION) == (i, start, size)
        assert data[start : start + size] == noise(height, width, 3).tobytes()
        start += size
    assert len(data) == 2 * MIN_PAGE_SIZE + 3 * ALLOCATION


def test_reads_what_ffcv_wrote(tmp_path: Path) -> None:
    path = tmp_path / "ffcv.beton"
    path.write_bytes(lzma.decompress(base64.b85decode("".join(FFCV_FILE.split()))))
    reader = BetonReader(path)
    assert reader.sizes.tolist() == [[2, 3], [3, 3], [4, 3], [5, 3], [16, 24]]
    assert reader.labels.tolist() == [10, 11, 12, 13, 14]
    assert reader.modes.tolist() == [RAW] * 4 + [JPG]
    for i in range(4):
        assert np.frombuffer(reader.read(i), np.uint8).reshape(-1, 3).tolist() == [[40 * i, 40 * i + 1, 40 * i + 2]] * (
            6 + 3 * i
        )
    with Image.open(BytesIO(reader.read(4))) as image:
        assert image.size == (24, 16)
        assert np.asarray(image).tolist() == np.full((16, 24, 3), 90).tolist()
    reader.close()


def test_reads_other_fields_in_any_order_and_a_shuffled_allocation_table(tmp_path: Path) -> None:
    """A file with a float and two integers before the image, as another writer might lay it out."""
    fields = [(0, b"weight"), (1, b"key"), (1, b"label"), (2, b"picture")]
    page, starts = 4096, (8192 + 12, 8192)
    head = struct.pack("<HHIQQ", 2, len(fields), page, 2, 12288)
    head += b"".join(struct.pack("<B16s1024x", kind, name) for kind, name in fields)
    for i, start in enumerate(starts):
        head += struct.pack("<dqqBHHQ3x", 0.5, 99, 5 + i, 1, 2, 2, start)
    pages = bytes(range(24)).ljust(page, b"\0")
    table = struct.pack("<QQQ", 1, starts[1], 12) + struct.pack("<QQQ", 0, starts[0], 12)
    path = tmp_path / "other.beton"
    path.write_bytes(head.ljust(8192, b"\0") + pages + table)
    reader = BetonReader(path)
    assert reader.labels.tolist() == [5, 6]
    assert [list(reader.read(i)) for i in range(2)] == [list(range(12, 24)), list(range(12))]
    reader.close()


def test_no_record_crosses_a_page(tmp_path: Path) -> None:
    path = tmp_path / "pages.beton"
    images = [noise(700, 700, 3)] * 3  # 1.47 MB each: one per page of 2 MiB
    write(path, images)
    reader = BetonReader(path)
    assert (reader.starts % MIN_PAGE_SIZE).tolist() == [0, 0, 0]
    assert all(reader.read(i) == images[i].tobytes() for i in range(3))
    assert reader.num_bytes == 4 * MIN_PAGE_SIZE + 3 * ALLOCATION
    reader.close()


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 500_000), min_size=1, max_size=12), spare=st.integers(0, 70_000))
def test_round_trip_of_any_record_lengths(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], spare: int
) -> None:
    path = tmp_path_factory.mktemp("trip") / "a.beton"
    records = [bytes([i + 1]) * size for i, size in enumerate(sizes)]
    with BetonWriter(path, len(sizes) + spare, MIN_PAGE_SIZE) as writer:
        for i, record in enumerate(records):
            writer.append(record, JPG, i + 1, 2, -i)
    reader = BetonReader(path)
    assert [reader.read(i) for i in range(len(sizes))] == records
    assert reader.labels.tolist() == [-i for i in range(len(sizes))]
    assert reader.sizes.tolist() == [[i + 1, 2] for i in range(len(sizes))]
    pages = (reader.starts // MIN_PAGE_SIZE, (reader.starts + reader.lengths - 1) // MIN_PAGE_SIZE)
    assert (pages[0] == pages[1]).all()
    reader.close()


def test_unfinished_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "unfinished.beton"

    def stop_half_way() -> None:
        with BetonWriter(path, 2, MIN_PAGE_SIZE) as writer:
            writer.append(bytes(12), RAW, 2, 2, 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_half_way()
    with pytest.raises(FastnoisyError, match=r"unfinished\.beton is damaged.*version 0"):
        BetonReader(path)


@pytest.mark.parametrize("keep", [0, 10, HEADER, 500, 4000, MIN_PAGE_SIZE, 2 * MIN_PAGE_SIZE, -1, -ALLOCATION])
def test_truncation_is_found_on_opening(small: Path, keep: int) -> None:
    data = small.read_bytes()
    small.write_bytes(data[:keep])
    with pytest.raises(FastnoisyError, match=r"small\.beton is damaged"):
        BetonReader(small)


def test_appended_bytes_are_found_on_opening(small: Path) -> None:
    small.write_bytes(small.read_bytes() + b"more")
    with pytest.raises(FastnoisyError, match="is damaged"):
        BetonReader(small)


def test_no_changed_byte_of_header_or_tables_goes_unseen(small: Path) -> None:
    """Every byte, two ways: either opening refuses the file, or the digest differs; never another kind of error."""
    data = bytearray(small.read_bytes())
    reader = BetonReader(small)
    digest = reader.digest
    reader.close()
    table = 2 * MIN_PAGE_SIZE
    named = [HEADER + i * DESCRIPTOR + j for i in range(3) for j in range(20)]  # the rest of a descriptor is unused
    samples = HEADER + 3 * DESCRIPTOR
    places = [*range(HEADER), *named, *range(samples, samples + 3 * SAMPLE), *range(table, table + 3 * ALLOCATION)]
    messages = []
    with open(small, "r+b", buffering=0) as file:
        for place in places:
            for flip in (0x01, 0x80):
                os.pwrite(file.fileno(), bytes([data[place] ^ flip]), place)
                try:
                    changed = BetonReader(small)
                except FastnoisyError as error:
                    messages.append(error.message)
                else:
                    assert changed.digest != digest
                    changed.close()
            os.pwrite(file.fileno(), bytes([data[place]]), place)
    assert len(messages) > 200  # the others (a label, a name) leave the file readable, but the digest tells
    assert all("small.beton" in message for message in messages)


def test_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(FastnoisyError, match=r"cannot open .*none\.beton: No such file"):
        BetonReader(tmp_path / "none.beton")


def test_file_cut_off_after_opening_is_an_error_not_a_crash(small: Path) -> None:
    reader = BetonReader(small)
    os.truncate(small, MIN_PAGE_SIZE + 10)
    with pytest.raises(FastnoisyError, match=r"small\.beton is damaged: it ends"):
        reader.read(0)
    reader.close()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ([(2, b"image"), (4, b"mask"), (1, b"label")], "field 'mask' has FFCV's type 4"),
        ([(1, b"label")], "0 image fields"),
        ([(2, b"left"), (2, b"right"), (1, b"label")], "2 image fields"),
        ([(2, b"image"), (0, b"score")], "no integer field"),
    ],
)
def test_fields_that_are_no_labelled_images(tmp_path: Path, fields: list[tuple[int, bytes]], problem: str) -> None:
    path = tmp_path / "fields.beton"
    rows = {2: struct.pack("<BHHQ3x", 1, 1, 1, 8192), 1: bytes(8), 0: bytes(8)}
    head = struct.pack("<HHIQQ", 2, len(fields), 4096, 1, 12288)
    head += b"".join(struct.pack("<B16s1024x", kind, name) for kind, name in fields)
    head += b"".join(rows.get(kind, b"") for kind, _ in fields)
    path.write_bytes(head.ljust(12288, b"\0") + struct.pack("<QQQ", 0, 8192, 3))
    with pytest.raises(FastnoisyError, match=problem):
        BetonReader(path)


def test_many_threads_read_one_file(tmp_path: Path) -> None:
    path = tmp_path / "threads.beton"
    images = [np.full((8, 8, 3), i, np.uint8) for i in range(200)]
    write(path, images)
    reader = BetonReader(path)
    with ThreadPoolExecutor(8) as pool:
        for i, data in enumerate(pool.map(reader.read, list(range(200)) * 5)):
            assert data == images[i % 200].tobytes()
    reader.close()


def test_a_forgotten_reader_gives_its_file_back(small: Path) -> None:
    def opened() -> int:  # of this file alone: other tests' leftovers may be collected meanwhile
        return sum(link.exists() and link.samefile(small) for link in Path("/proc/self/fd").iterdir())

    readers = [BetonReader(small) for _ in range(10)]
    assert opened() == 10
    readers.clear()
    gc.collect()
    assert opened() == 0


def test_writer_refuses_what_cannot_be_read_back(tmp_path: Path) -> None:
    with BetonWriter(tmp_path / "a.beton", 1, MIN_PAGE_SIZE) as writer:
        with pytest.raises(ValueError, match="must have 1 to 2097152 bytes"):
            writer.append(bytes(MIN_PAGE_SIZE + 1), JPG, 1, 1, 0)
        with pytest.raises(ValueError, match="must have 1 to"):
            writer.append(b"", JPG, 1, 1, 0)
        with pytest.raises(ValueError, match="11 bytes are not 2x2x3 pixels"):
            writer.append(bytes(11), RAW, 2, 2, 0)
    for page_size in (1000, 1 << 20, 3 << 20, 1 << 32):
        with pytest.raises(ValueError, match="power of two"):
            BetonWriter(tmp_path / "b.beton", 1, page_size)


@pytest.mark.parametrize(
    ("canvas", "pages"),
    [
        ((16, 16), 2 << 20),
        ((512, 512), 2 << 20),
        ((836, 836), 2 << 20),
        ((837, 837), 4 << 20),
        ((4096, 4096), 64 << 20),
    ],
)
def test_page_size_holds_the_canvas_raw(canvas: tuple[int, int], pages: int) -> None:
    assert page_size_for(canvas) == pages
    assert canvas[0] * canvas[1] * 3 <= pages


def test_page_size_beyond_the_format_is_refused() -> None:
    with pytest.raises(FastnoisyError, match="canvas of 40000x40000"):
        page_size_for((40000, 40000))
