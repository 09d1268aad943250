"""The store and an unmodified ffcv read each other's files: jpg, raw and mixed, in both directions."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastnoisy.data.conversion.adopt import adopt
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import beton, open_store
from fastnoisy.data.store.verify import verify

try:
    import ffcv.writer
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor
except ImportError as error:
    pytestmark = pytest.mark.skip(reason=f"ffcv is not installed ({error}): pip install 'fastnoisy[ffcv]'")

COUNT = 12


def pixels(i: int, height: int = 48, width: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 3 + i, columns * 2 + 5 * i, rows + columns], axis=2).astype(np.uint8)


def photographs(root: Path) -> Path:
    """JPEGs of one size, half of them kept byte for byte, and PNGs, in two classes."""
    for i in range(COUNT):
        place = root / ("ant" if i % 2 else "bee")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(i)).save(
            place / f"{i:02}.{'png' if i % 3 == 0 else 'jpg'}", **({"quality": 95} if i % 3 else {})
        )
    return root


def read_by_ffcv(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and indices in file order, through an ffcv Loader."""
    loader = Loader(
        str(path),
        batch_size=5,
        num_workers=1,
        order=OrderOption.SEQUENTIAL,
        drop_last=False,
        pipelines={
            "image": [SimpleRGBImageDecoder()],
            "label": [IntDecoder(), ToTensor()],
            "index": [IntDecoder(), ToTensor()],
        },
    )
    batches: list[Any] = [[np.array(part) for part in batch] for batch in loader]
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))  # type: ignore[return-value]


@pytest.mark.filterwarnings("ignore")  # of ffcv and of numba about it
@pytest.mark.parametrize("kind", ["raw", "jpg"])
def test_an_unmodified_ffcv_loader_reads_our_files(tmp_path: Path, kind: str) -> None:
    options = ConvertOptions(store=kind, resize="none")
    convert(str(photographs(tmp_path / "in")), tmp_path / "out", options=options)
    images, labels, indices = read_by_ffcv(tmp_path / "out/train.beton")
    with open_store(tmp_path / "out") as store:
        split = store.split("train")
        assert (labels.reshape(-1) == split.given_labels).all()
        assert indices.reshape(-1).tolist() == list(range(COUNT))
        for i in range(COUNT):
            difference = np.abs(images[i].astype(int) - split.read_image(i))
            if kind == "raw":
                assert difference.max() == 0
            else:  # ffcv decodes with libjpeg's fast transform: 1.01 levels on these images
                assert difference.mean() < 1.5


@pytest.mark.filterwarnings("ignore")
def test_ffcv_reads_a_file_of_both_modes(tmp_path: Path) -> None:
    target = io.BytesIO()
    Image.fromarray(pixels(1)).save(target, "JPEG", quality=95)
    with beton.BetonWriter(tmp_path / "mixed.beton", 8, 1 << 21) as writer:  # fewer records than there is space for
        writer.append(pixels(0).tobytes(), beton.RAW, 48, 64, 3)
        writer.append(target.getvalue(), beton.JPG, 48, 64, 1)
    images, labels, indices = read_by_ffcv(tmp_path / "mixed.beton")
    assert labels.reshape(-1).tolist() == [3, 1]
    assert indices.reshape(-1).tolist() == [0, 1]
    assert (images[0] == pixels(0)).all()
    assert np.abs(images[1].astype(int) - pixels(1)).mean() < 2


class Pictures:
    """Images of differing size, as ffcv's writer takes them."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return pixels(i, 40 + i, 60 - i), i % 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("mode", ["raw", "jpg", "proportion"])
def test_we_read_what_ffcvs_writer_wrote(tmp_path: Path, mode: str, workers: int) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in/train.beton"
    field = RGBImageField(write_mode=mode, compress_probability=0.5, jpeg_quality=95)
    writer = ffcv.writer.DatasetWriter(str(path), {"image": field, "label": IntField()}, num_workers=workers)
    with contextlib.redirect_stderr(io.StringIO()):
        writer.from_indexed_dataset(Pictures(), chunksize=3)
    for process in multiprocessing.active_children():
        process.join()
    reader = beton.BetonReader(path)
    modes = set(reader.modes.tolist())
    reader.close()
    assert modes == {"raw": {beton.RAW}, "jpg": {beton.JPG}}.get(mode, {beton.RAW, beton.JPG})
    assert adopt(tmp_path / "in") == []
    with open_store(tmp_path / "in") as store:
        split = store.split("train")
        assert split.given_labels.tolist() == [i % 3 for i in range(COUNT)]
        for i in range(COUNT):
            difference = np.abs(split.read_image(i).astype(int) - pixels(i, 40 + i, 60 - i))
            assert difference.mean() < 2
            assert split.mode(i) == "jpg" or difference.max() == 0
    # and into a store of its own
    convert(f"beton:{path}", tmp_path / "out", options=ConvertOptions(store="raw", resize="none"))
    assert verify(tmp_path / "out") == []
