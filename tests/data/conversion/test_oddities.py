"""169 exotic and broken image files in one run: what Pillow can read is stored as Pillow reads it, the rest is told."""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fastnoisy.data.conversion.pages import picture_of
from fastnoisy.data.store import open_store
from fastnoisy.data.store.verify import verify

ROOT = Path(__file__).resolve().parents[2]
GIB = 1 << 30

# Pillow reads them, without a word of what libjpeg warns it of: parts are missing, or made up.
DAMAGED = {
    "jpeg-decoder/crashtest/dc-predictor-overflow.jpg": "premature end of data segment",
    "jpeg-decoder/crashtest/imagetestsuite/5482a54657765056f1a94116a8dbffe7.jpg": "unusual JPEG that is cut off",
    "jpeg-decoder/crashtest/imagetestsuite/7997b6b229f25315d33f5c7085e37500.jpg": "premature end of data segment",
    "jpeg-decoder/crashtest/imagetestsuite/b55977028a3a574336966b6536640fc9.jpg": "premature end of data segment",
    "jpeg-decoder/crashtest/imagetestsuite/f6b4389c3cf0f5997b2e5a4b905aea8d.jpg": "Inconsistent progression sequence",
    "jpeg-decoder/crashtest/subtract-with-overflow.jpg": "956 extraneous bytes before marker 0xc4",
    "jpeg-decoder/reftest/partial_progressive.jpg": "premature end of data segment",
    "pillow/broken_data_stream.png": "the checksum of its 'IDAT' is wrong",
    "pillow/hopper_bad_exif.jpg": "1214 extraneous bytes before marker 0xd0",
}
# Pillow refuses them for a text: one has 2 MiB and is a black pixel, the other is packed in a way that is not known.
WORDY = {"pillow/png_decompression_dos.png", "pillow/unknown_compression_method.png"}
FLAWED = {  # encoded anew, with a note
    "jpeg-decoder/icc/icc_chunk_double_seq_no.jpeg": "a damaged colour profile",
    "jpeg-decoder/icc/icc_missing_chunk.jpeg": "a damaged colour profile",
    "jpeg-decoder/reftest/extraneous-data.jpg": "stray bytes before its end marker",
    "jpeg-decoder/reftest/mozilla/jpg-cmyk-1.jpg": "CMYK colours",
    "jpeg-decoder/reftest/mozilla/jpg-cmyk-2.jpg": "an unusual subsampling of colours",
    "jpeg-decoder/reftest/ycck.jpg": "YCCK colours",
    "pillow/jpeg_ff00_header.jpg": "stray bytes in its header",
    "pillow/junk_jpeg_header.jpg": "stray bytes in its header",
    "pillow/photoshop-200dpi-broken.jpg": "stray bytes in its header",
    "pillow/pil_sample_cmyk.jpg": "YCCK colours",
}

pytestmark = [
    pytest.mark.data,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of Pillow, about damaged EXIF
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


@pytest.fixture(scope="module")
def oddities(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("oddities")
    subprocess.run([sys.executable, real_data / "unpack.py", out, "oddities"], check=True, capture_output=True)
    return out / "image-oddities"


@pytest.fixture(scope="module")
def manifest(real_data: Path) -> dict[str, dict[str, str]]:
    with (real_data / "image-oddities/manifest.csv").open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def convert(source: Path, out: Path, *words: str) -> None:
    """In a process of its own, none of whose processes may take more than 2 GiB of addresses."""
    command = [sys.executable, "-m", "fastnoisy", "convert", f"folder:{source}", str(out), *words]
    done = subprocess.run(
        [*command, "--max-rejected", "0.9", "--workers", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 * GIB, 2 * GIB)),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def pillow_reads(path: Path) -> np.ndarray:
    """uint8 RGB pixels, upright; 16-bit ones are scaled."""
    image = Image.open(BytesIO(picture_of(path.read_bytes())) if f"pillow/{path.name}" in WORDY else path)
    try:
        image.getexif()  # in a PNG it may stand behind the pixels
        upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError):
        upright = image
    if upright.mode.startswith("I"):
        wide = np.asarray(upright).astype(np.int64)
        return np.repeat(((wide * 255 + 32767) // 65535).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.asarray(upright.convert("RGB"))


def rejected(out: Path) -> dict[str, str]:
    with (out / "train.meta/rejected.csv").open(newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def test_raw_pixels_are_pillows(oddities: Path, manifest: dict[str, dict[str, str]], tmp_path: Path) -> None:
    convert(oddities, tmp_path / "out", "--store", "raw", "--resize", "none")
    readable = {path for path, row in manifest.items() if not row["pil_error"]} - set(DAMAGED) | WORDY
    reasons = rejected(tmp_path / "out")
    assert len(manifest) == 169
    assert set(reasons) == set(manifest) - readable
    assert all(reasons.values())
    assert all(words in reasons[path] for path, words in DAMAGED.items())
    with open_store(tmp_path / "out") as store:
        split = store.split("train")
        assert sorted(split.sources) == sorted(readable)
        for i, name in enumerate(split.sources):
            assert np.array_equal(split.read_image(i), pillow_reads(oddities / name)), name
    assert verify(tmp_path / "out") == []
    with (tmp_path / "out/train.meta/notes.csv").open(newline="") as file:
        noted = {row["path"]: row["note"] for row in csv.DictReader(file)}
    assert set(noted) == {path for path in readable if int(manifest[path]["frames"] or 1) > 1} | set(FLAWED)
    assert all(noted[path].startswith(words) for path, words in FLAWED.items())


def test_jpegs_differ_from_pillows_pixels_by_two_levels_at_most(
    oddities: Path, manifest: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    convert(oddities, tmp_path / "out", "--store", "jpg", "--resize", "none")
    unreadable = {path for path, row in manifest.items() if row["pil_error"]} - WORDY
    assert set(rejected(tmp_path / "out")) == unreadable | set(DAMAGED)
    errors = {}
    with open_store(tmp_path / "out") as store:
        split = store.split("train")
        for i, name in enumerate(split.sources):
            difference = split.read_image(i).astype(np.int64) - pillow_reads(oddities / name)
            errors[name] = float(np.abs(difference).mean())
        kept = sum(split.read_bytes(i) == (oddities / name).read_bytes() for i, name in enumerate(split.sources))
    assert {name: error for name, error in errors.items() if error > 2} == {}
    assert 30 < kept < 70
    assert verify(tmp_path / "out") == []


def test_by_itself_it_makes_photographs_of_512_pixels_at_most(oddities: Path, tmp_path: Path) -> None:
    convert(oddities, tmp_path / "out")
    with open_store(tmp_path / "out") as store:
        assert store.split("train").canvas == (512, 512)
        assert store.split("train").num_samples == 89
    assert verify(tmp_path / "out") == []
