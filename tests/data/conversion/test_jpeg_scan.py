"""The walk over a JPEG's codes: yes for every baseline file that is whole, and never where Pillow says no."""

from __future__ import annotations

import errno
import pickle
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy.data.conversion import jpeg_scan, plain_jpeg
from fastnoisy.data.conversion.encode import Plan, Resize, encode
from fastnoisy.data.conversion.jpeg_scan import Scan
from fastnoisy.data.conversion.plain_jpeg import read_header

PLAN = Plan(Resize("max", 512), (512, 512), "jpg", 90, 1 << 21)


@pytest.fixture(scope="module")
def scan() -> Scan:
    return Scan.prepared()


def saved(height: int, width: int, mode: str = "RGB", coarse: int = 3, **options: object) -> bytes:
    """A JPEG of noise, enlarged `coarse` times."""
    random = np.random.default_rng(height * 1000 + width)
    pixels = random.integers(0, 256, (height // coarse + 1, width // coarse + 1, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).resize((width, height)).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def tells(scan: Scan, data: bytes) -> bool:
    header = read_header(data)
    return header is not None and scan(data, header.height, header.width)


def decodes(data: bytes) -> bool:
    """Whether Pillow reads it to its end, by the reduced decode, by the whole one and by its general reader."""
    header = read_header(data)
    if header is None or not plain_jpeg.is_whole(data, header) or plain_jpeg.decode(data, header) is None:
        return False
    Image.open(BytesIO(data)).load()
    return True


def start_of_codes(data: bytes) -> int:
    position = data.index(b"\xff\xda")
    return position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")


def test_it_is_compiled(scan: Scan) -> None:
    assert scan.compiled


@pytest.mark.parametrize("quality", [*range(1, 100, 7), 100])
@pytest.mark.parametrize("coarse", [1, 9])
def test_every_quality_and_sampling(scan: Scan, quality: int, coarse: int) -> None:
    for subsampling in (0, 1, 2):
        for optimize in (False, True):
            options = {"quality": quality, "subsampling": subsampling, "optimize": optimize}
            assert tells(scan, saved(93, 131, coarse=coarse, **options)), options
        assert tells(scan, saved(93, 131, "L", coarse, quality=quality))


@pytest.mark.parametrize("height", [8, 9, 15, 16, 17, 24, 31])
@pytest.mark.parametrize("width", [8, 15, 16, 17, 33])
def test_every_size(scan: Scan, height: int, width: int) -> None:
    for subsampling in (0, 1, 2):
        assert tells(scan, saved(height, width, subsampling=subsampling))
    assert tells(scan, saved(height, width, "L"))


@pytest.mark.parametrize(
    "options", [{"restart_marker_blocks": n} for n in (1, 2, 3, 7, 29)] + [{"restart_marker_rows": 1}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_restart_markers(scan: Scan, mode: str, options: dict[str, object]) -> None:
    data = saved(99, 130, mode, **options)
    assert tells(scan, data)
    first, second = data.index(b"\xff\xd0"), data.index(b"\xff\xd1")
    assert not tells(scan, data[: first + 1] + b"\xd1" + data[first + 2 :])
    assert not tells(scan, data[:first] + data[first + 2 :])
    assert not tells(scan, data[:second] + data[first : first + 2] + data[second:])


@pytest.mark.parametrize("tables", [9, 100])
def test_many_tables_are_kept_and_given_up(scan: Scan, tables: int) -> None:
    files = [saved(40, 41 + number, optimize=True, quality=1 + number % 99) for number in range(tables)]
    for _ in range(3):
        assert all(tells(scan, data) for data in files)
        assert not any(tells(scan, data[:-40] + data[-2:]) for data in files)


def test_a_grey_one_has_one_block_at_a_time_whatever_its_sampling(scan: Scan) -> None:
    data = saved(41, 60, "L")
    factors = data.index(b"\xff\xc0") + 11
    assert data[factors] == 0x11
    for sampling in (0x12, 0x22, 0x41):
        changed = data[:factors] + bytes([sampling]) + data[factors + 1 :]
        assert tells(scan, changed)
        assert decodes(changed)


def test_what_it_does_not_know(scan: Scan) -> None:
    assert not tells(scan, saved(60, 60, progressive=True))
    data = saved(60, 60)
    frame, tables, codes = data.index(b"\xff\xc0"), data.index(b"\xff\xc4"), start_of_codes(data)
    assert tells(scan, data)
    assert tells(scan, data + b"more")
    assert tells(scan, data[: frame + 1] + b"\xc1" + data[frame + 2 :])
    assert not scan(data, 60, 61)
    assert not scan(b"", 60, 60)
    assert not scan(bytearray(data), 60, 60)  # type: ignore[arg-type]
    without = {
        "frame": data[:frame] + data[frame + 19 :],
        "Huffman tables": data[:tables] + data[data.index(b"\xff\xda") :],
        "quantisation tables": data[: data.index(b"\xff\xdb")] + data[frame:],
        "codes": data[:codes] + b"\xff\xd9",
        "end": data[:-2],
        "half of the end": data[:-1],
    }
    for name, changed in without.items():
        header = read_header(changed) or read_header(data)
        assert header is not None
        assert not scan(changed, header.height, header.width), name
    for behind in (b"\0", b"\xff", b"\xff\0", b"\xff\xd0", b"\x55\x55"):
        assert not tells(scan, data[:-2] + behind + data[-2:]), behind
    for place, value in ((codes - 3, 1), (codes - 2, 62), (codes - 1, 0x10), (frame + 11, 0x33), (frame + 15, 4)):
        assert not tells(scan, data[:place] + bytes([value]) + data[place + 1 :]), place


def test_tables_that_are_none(scan: Scan) -> None:
    data = saved(60, 60)
    for table in (data.index(b"\xff\xc4") + 5, data.rindex(b"\xff\xc4") + 5):
        for counts in (bytes([2, *15 * [0]]), bytes(16), bytes([0, 4, *14 * [0]]), bytes(15 * [0]) + b"\xff"):
            changed = data[:table] + counts + data[table + 16 :]
            header = read_header(changed)
            assert header is not None
            assert not scan(changed, 60, 60)


def mutated(files: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Bits turned, bytes replaced, inserted, removed, moved, and ends cut off; half of it among the codes."""
    random = np.random.default_rng(seed)
    for number in range(count):
        data = bytearray(files[number % len(files)])
        lowest = start_of_codes(bytes(data)) if random.random() < 0.5 else 2
        for _ in range(random.integers(1, 4)):
            at = int(random.integers(lowest, len(data)))
            match int(random.integers(0, 6)):
                case 0:
                    data[at] ^= 1 << int(random.integers(0, 8))
                case 1:
                    data[at] = int(random.integers(0, 256))
                case 2:
                    data[at:at] = random.choice([b"\xff", b"\0", b"\xff\0", b"\xff\xd0", b"\xff\xd9", b"\x5a"])
                case 3:
                    del data[at : at + int(random.integers(1, 9))]
                case 4:
                    data[at : at + 4] = data[at : at + 4][::-1]
                case 5:
                    data[at:] = b"\xff\xd9" if random.random() < 0.5 else b""
            if len(data) <= lowest:
                break
        yield bytes(data)


SMALL = [
    saved(17, 24),
    saved(16, 16, "L", quality=100, coarse=1),
    saved(33, 18, subsampling=0, optimize=True),
    saved(40, 40, restart_marker_blocks=2),
    saved(24, 31, subsampling=1, quality=20),
    saved(25, 25, progressive=True),
]


@pytest.mark.parametrize("seed", range(4))
def test_yes_is_said_only_where_pillow_decodes(scan: Scan, seed: int) -> None:
    whole = known = 0
    for data in mutated(SMALL, 5000, seed):
        pillow = decodes(data) if tells(scan, data) else None
        assert pillow is not False, data.hex()
        known += pillow is True
        record = encode(lambda data=data: data, PLAN)  # type: ignore[misc]
        assert encode(lambda data=data: data, PLAN, None, scan) == record, data.hex()  # type: ignore[misc]
        whole += hasattr(record, "data") and record.data == data
    assert known > 300  # that changed, and are regular nevertheless
    assert whole > known


@pytest.mark.parametrize("number", range(5))
def test_an_end_that_is_cut_off_anywhere_is_seen(scan: Scan, number: int) -> None:
    data = SMALL[number]
    for end in range(start_of_codes(data), len(data) - 3):
        assert not tells(scan, data[:end])
        assert not tells(scan, data[:end] + b"\xff\xd9") or decodes(data[:end] + b"\xff\xd9")
    assert tells(scan, data)


def test_it_is_nothing_until_prepared() -> None:
    assert not Scan().compiled
    assert not tells(Scan(), saved(60, 60))


def test_it_goes_to_other_processes_as_it_is(scan: Scan) -> None:
    assert pickle.loads(pickle.dumps(scan)).compiled
    assert not pickle.loads(pickle.dumps(Scan())).compiled


def test_one_that_misjudges_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnoisy.data.conversion.jpeg_scan_passes.scan", lambda *words: True)
    assert not Scan.prepared().compiled
    monkeypatch.setattr("fastnoisy.data.conversion.jpeg_scan_passes.scan", lambda *words: False)
    assert not Scan.prepared().compiled


def test_one_that_cannot_be_kept_on_disk_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnoisy.data.conversion import jpeg_scan_passes

    def full(*arguments: object) -> bool:  # as numba does when it saves what it has compiled
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jpeg_scan_passes, "scan", full)
    assert not Scan.prepared().compiled


def test_without_numba_pillow_tells(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('not installed')")
    (tmp_path / "kept.jpg").write_bytes(saved(60, 60))
    program = (
        "from pathlib import Path; from fastnoisy.data.conversion.jpeg_scan import Scan;"
        "from fastnoisy.data.conversion.encode import *;"
        "scan = Scan.prepared(); plan = Plan(Resize('max', 90), (90, 90), 'jpg', 90, 1 << 21);"
        f"record = encode(Path({str(tmp_path / 'kept.jpg')!r}).read_bytes, plan, None, scan);"
        "print(scan.compiled, type(record).__name__, record.height)"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(jpeg_scan.__file__).parents[2])
    assert done.stdout == "False Stored 60\n", done.stderr


@pytest.mark.data
def test_every_real_baseline_photograph_is_known(scan: Scan, real_data: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, real_data / "unpack.py", tmp_path, "caltech101"], check=True, capture_output=True)
    photographs = sorted(tmp_path.rglob("*.jpg"))
    num_baseline = 0
    for path in photographs:
        data = path.read_bytes()
        header = read_header(data)
        if header is None or b"\xff\xc2" in data[: start_of_codes(data)]:
            continue
        num_baseline += 1
        assert scan(data, header.height, header.width) == plain_jpeg.is_whole(data, header), path
    assert num_baseline > 0.9 * len(photographs)
