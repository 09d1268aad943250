"""The store: what comes back is what was converted, and no damaged part of it is believed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import Store, beton, open_store
from fastnoisy.data.store.digests import write_sums
from fastnoisy.data.store.meta import META_FILES, escape, unescape
from fastnoisy.data.store.verify import verify
from fastnoisy.errors import FastnoisyError


def picture(seed: int, height: int, width: int) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 3 + seed, columns * 2, rows + columns + 9 * seed], axis=2).astype(np.uint8))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of two splits, JPEGs of differing size, and `jpg` and `raw` stores of it."""
    folder = tmp_path_factory.mktemp("converted")
    for split, count in (("train", 5), ("val", 2)):
        for label, name in enumerate(("ant", "bee")):
            place = folder / "source" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                picture(10 * label + i, 80 + 7 * i, 100 - 5 * i).save(place / f"{i}.jpg", quality=90)
    convert(str(folder / "source"), folder / "jpg")
    convert(str(folder / "source"), folder / "raw", options=ConvertOptions(resize="square=24", store="raw"))
    return folder


@pytest.fixture
def copy(converted: Path, tmp_path: Path) -> Path:
    """Own copies to damage."""
    shutil.copytree(converted, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def jpg(converted: Path) -> Iterator[Store]:
    with open_store(converted / "jpg") as store:
        yield store


@pytest.fixture
def raw(converted: Path) -> Iterator[Store]:
    with open_store(converted / "raw") as store:
        yield store


def change(path: Path, place: int, by: int = 1) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        value = file.read(1)[0]
        file.seek(place)
        file.write(bytes([value ^ by]))


def record_place(path: Path, i: int) -> int:
    reader = beton.BetonReader(path)
    reader.close()
    return int(reader.starts[i])


def test_a_store_tells_what_it_holds(jpg: Store, raw: Store, converted: Path) -> None:
    assert jpg.path == converted / "jpg"
    assert list(jpg.splits) == ["train", "val"]
    assert jpg.class_names == ["ant", "bee"]
    assert jpg.num_classes == 2
    train = jpg.split("train")
    assert (train.name, train.num_samples, train.canvas, train.class_names) == ("train", 10, (512, 512), ["ant", "bee"])
    assert train.given_labels.dtype == np.int64
    assert train.given_labels.tolist() == [0] * 5 + [1] * 5
    assert train.clean_labels is None
    assert train.sizes.dtype == np.int32
    assert train.sizes.tolist() == [[80 + 7 * i, 100 - 5 * i] for i in range(5)] * 2
    assert train.sources == [f"train/{name}/{i}.jpg" for name in ("ant", "bee") for i in range(5)]
    assert train.info["source"] == f"folder:{converted / 'source'}"
    assert raw.split("val").canvas == (24, 24)
    assert raw.split("val").sources[1] == "val/ant/1.jpg"


def test_jpegs_come_back_byte_for_byte(jpg: Store, converted: Path) -> None:
    split = jpg.split("train")
    for i in range(split.num_samples):
        data = (converted / "source" / split.sources[i]).read_bytes()
        assert split.mode(i) == "jpg"
        assert split.read_bytes(i) == data
        with Image.open(BytesIO(data)) as image:
            assert np.array_equal(split.read_image(i), np.asarray(image))


def test_raw_images_come_back_one_by_one_and_all_at_once(raw: Store, converted: Path) -> None:
    split = raw.split("train")
    images = split.read_all_raw()
    assert images is not None
    assert (images.dtype, images.shape) == (np.uint8, (10, 24, 24, 3))
    for i in range(10):
        with Image.open(converted / "source" / split.sources[i]) as image:
            expected = np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR))
        assert split.mode(i) == "raw"
        assert np.array_equal(split.read_image(i), expected)
        assert np.array_equal(images[i], expected)


def test_chosen_rows_come_back_in_their_order(raw: Store, jpg: Store) -> None:
    split = raw.split("train")
    rows = np.array([7, 0, 7, 3])
    images = split.read_rows(rows)
    assert images.dtype == np.uint8
    assert images.shape == (4, 24, 24, 3)
    for image, row in zip(images, rows, strict=True):
        assert (image == split.read_image(int(row))).all()
    assert split.read_rows(np.zeros(0, np.int64)).shape == (0, 24, 24, 3)
    with pytest.raises(IndexError):
        split.read_rows(np.array([split.num_samples]))
    with pytest.raises(FastnoisyError, match=r"differ in size.*--resize square=N"):
        jpg.split("train").read_rows(rows)


def test_images_can_be_written_to(raw: Store, jpg: Store) -> None:
    for store in (raw, jpg):
        image = store.split("train").read_image(0)
        image += 1
        assert not np.array_equal(image, store.split("train").read_image(0))


def test_all_at_once_over_several_pages(tmp_path: Path) -> None:
    """512 records of 12,288 bytes: 170 to a page of 2 MiB, so the run breaks twice."""
    place = tmp_path / "source" / "a"
    place.mkdir(parents=True)
    for i in range(400):
        Image.new("RGB", (64, 64), (i % 256, i // 256, 7)).save(place / f"{i:03}.png", compress_level=1)
    convert(str(tmp_path / "source"), tmp_path / "out")
    with open_store(tmp_path / "out") as store:
        images = store.split("train").read_all_raw()
    assert images is not None
    assert (images == np.array([(i % 256, i // 256, 7) for i in range(400)], np.uint8)[:, None, None, :]).all()


def test_no_fast_path_for_jpegs_and_smaller_images(jpg: Store, tmp_path: Path) -> None:
    assert jpg.split("train").read_all_raw() is None
    place = tmp_path / "source" / "a"
    place.mkdir(parents=True)
    picture(0, 20, 20).save(place / "0.png")
    picture(1, 20, 19).save(place / "1.png")
    convert(str(tmp_path / "source"), tmp_path / "out")
    with open_store(tmp_path / "out") as store:
        split = store.split("train")
        assert (split.mode(0), split.mode(1), split.canvas) == ("raw", "raw", (20, 20))
        assert split.read_all_raw() is None


def test_unknown_split_lists_the_known_ones(jpg: Store) -> None:
    with pytest.raises(FastnoisyError, match=r"unknown split .*'tets'.*known: train, val"):
        jpg.split("tets")


@pytest.mark.parametrize("i", [-1, 10, 10**9])
def test_records_that_are_not_there(jpg: Store, i: int) -> None:
    for read in (jpg.split("train").read_image, jpg.split("train").read_bytes, jpg.split("train").mode):
        with pytest.raises(IndexError, match=f"record {i} of 10"):
            read(i)


def test_split_survives_threads_and_pickling(raw: Store) -> None:
    split = raw.split("train")
    again = pickle.loads(pickle.dumps(split))
    images = split.read_all_raw()
    assert images is not None
    with ThreadPoolExecutor(8) as pool:
        for i, image in enumerate(pool.map(again.read_image, list(range(10)) * 20)):
            assert np.array_equal(image, images[i % 10])
    again.close()


@pytest.mark.parametrize("kind", ["jpg", "raw"])
def test_a_changed_record_is_found_and_named(copy: Path, kind: str) -> None:
    path = copy / kind / "train.beton"
    change(path, record_place(path, 3) + 200)
    with open_store(copy / kind) as store:  # the tables are whole
        split = store.split("train")
        for read in (split.read_image, split.read_bytes):
            with pytest.raises(
                FastnoisyError, match=r"train\.beton: record 3 \(train/ant/3\.jpg\) is damaged.*changed"
            ):
                read(3)
        assert split.read_image(2).shape[2] == 3
        if kind == "raw":
            with pytest.raises(FastnoisyError, match=r"record 3 \(train/ant/3\.jpg\)"):
                split.read_all_raw()


def test_a_record_that_was_never_an_image_is_named(copy: Path) -> None:
    """Wrong from the start, so that its checksum is right."""
    path = copy / "jpg" / "train.beton"
    reader = beton.BetonReader(path)
    reader.close()
    start, length = int(reader.starts[1]), int(reader.lengths[1])
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(bytes(length))
    checksums = copy / "jpg/train.meta/checksums.npy"
    values = np.load(checksums)
    values[1] = zlib.crc32(bytes(length))
    np.save(checksums, values)
    write_sums(checksums.parent, META_FILES)
    (problem,) = verify(copy / "jpg")
    assert "record 1 (train/ant/1.jpg) is damaged: it cannot be decoded" in problem


def test_verify_lists_every_problem_and_stamps_only_what_is_whole(copy: Path) -> None:
    path = copy / "raw" / "train.beton"
    for split in ("train", "val"):
        (copy / f"raw/{split}.meta/verified.json").unlink()
    for i in (2, 7):
        change(path, record_place(path, i))
    problems = verify(copy / "raw")
    assert [problem.split("train.beton: ")[1].split(" is damaged")[0] for problem in problems] == [
        "record 2 (train/ant/2.jpg)",
        "record 7 (train/bee/2.jpg)",
    ]
    with open_store(copy / "raw") as store:
        assert not store.split("train").verified
        assert store.split("val").verified


def test_verify_takes_back_the_stamp_of_damaged_records(copy: Path) -> None:
    path = copy / "raw" / "train.beton"
    with open_store(copy / "raw") as store:
        assert store.split("train").verified  # convert stamps what it wrote
    change(path, record_place(path, 0))
    assert len(verify(copy / "raw")) == 1
    with open_store(copy / "raw") as store:
        assert not store.split("train").verified
    change(path, record_place(path, 0))
    assert verify(copy / "raw") == []
    with open_store(copy / "raw") as store:
        assert store.split("train").verified


def test_the_stamp_is_for_this_file_and_survives_copying(copy: Path) -> None:
    moved = copy / "raw" / "moved"
    shutil.copytree(copy / "raw", moved, copy_function=shutil.copy)  # other times, same bytes
    with open_store(moved) as store:
        assert store.split("train").verified
    stamp = moved / "train.meta/verified.json"
    stamp.write_text(stamp.read_text().replace('"digest": "', '"digest": "0'))
    with open_store(moved) as store:
        assert not store.split("train").verified


@pytest.mark.parametrize("place", [0, 3, 8, 24, 24 + 3 * 1041 + 16, 24 + 3 * 1041 + 24])
def test_changed_header_or_table_is_found_on_opening(copy: Path, place: int) -> None:
    change(copy / "raw/val.beton", place)
    with pytest.raises(FastnoisyError, match=r"val\.beton"):
        open_store(copy / "raw")
    (problem,) = verify(copy / "raw")
    assert "val.beton" in problem


@pytest.mark.parametrize("cut", [1, 30, 5000])
def test_truncation_is_found_on_opening(copy: Path, cut: int) -> None:
    path = copy / "jpg/train.beton"
    os.truncate(path, path.stat().st_size - cut)
    with pytest.raises(FastnoisyError, match=r"train\.beton is damaged"):
        open_store(copy / "jpg")


@pytest.mark.parametrize("name", ["meta.json", "labels.npz", "sizes.npy", "checksums.npy", "../train.beton"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / "raw/train.meta" / name).unlink()
    with pytest.raises(FastnoisyError, match=f"{Path(name).name}.*No such file") as caught:
        open_store(copy / "raw")
    assert caught.value.remedy or name.endswith("beton")


@pytest.mark.parametrize("name", ["labels.npz", "sizes.npy", "meta.json"])
def test_no_changed_byte_of_labels_sizes_or_meta_raises_anything_else(copy: Path, name: str) -> None:
    """Each byte in turn: refused with a message, or a store that still says the same of labels and sizes."""
    path = copy / "raw/val.meta" / name
    data = path.read_bytes()
    with open_store(copy / "raw") as store:
        truth = store.split("val")
    refused = 0
    for place in range(0, len(data), 3):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x11]) + data[place + 1 :])
        try:
            store = open_store(copy / "raw")
        except FastnoisyError:
            refused += 1
            continue
        split = store.split("val")
        assert split.given_labels.tolist() == truth.given_labels.tolist()
        assert split.sizes.tolist() == truth.sizes.tolist()
        store.close()
    assert refused


@pytest.mark.parametrize("keep", [0, 1, 60, 130])
@pytest.mark.parametrize("name", ["labels.npz", "sizes.npy", "checksums.npy", "meta.json"])
def test_truncated_meta_files_are_refused(copy: Path, name: str, keep: int) -> None:
    os.truncate(copy / "raw/train.meta" / name, keep)
    with pytest.raises(FastnoisyError, match=rf"train\.meta/{name}"):
        open_store(copy / "raw")


def sign(store: Path) -> None:
    """Digests of the small files as they are now, as if a conversion had written them."""
    write_sums(store / "train.meta", META_FILES)


def test_meta_of_another_split_is_refused(copy: Path) -> None:
    for name in ("labels.npz", "sizes.npy", "checksums.npy"):
        path = copy / "raw/train.meta" / name
        data = path.read_bytes()
        shutil.copy(copy / "raw/val.meta" / name, path)
        with pytest.raises(FastnoisyError, match=rf"train\.meta/{name} has changed since it was written"):
            open_store(copy / "raw")
        sign(copy / "raw")
        with pytest.raises(FastnoisyError, match=rf"{name} does not belong to train\.beton"):
            open_store(copy / "raw")
        path.write_bytes(data)
        sign(copy / "raw")


def test_another_label_than_the_beton_holds_is_refused(copy: Path) -> None:
    path = copy / "raw/train.meta/labels.npz"
    labels = np.load(path)["given"]
    np.savez(path, given=labels[::-1].copy())
    sign(copy / "raw")
    with pytest.raises(FastnoisyError, match=r"labels\.npz does not belong to train\.beton"):
        open_store(copy / "raw")


def test_missing_source_lines_are_found(copy: Path) -> None:
    path = copy / "raw/train.meta/sources.txt"
    path.write_text("only one\n")
    sign(copy / "raw")
    with open_store(copy / "raw") as store, pytest.raises(FastnoisyError, match="1 lines for 10 records"):
        _ = store.split("train").sources


def test_a_newer_format_says_so(copy: Path) -> None:
    path = copy / "raw/train.meta/meta.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "format": 99}))
    with pytest.raises(FastnoisyError, match="has format 99, where 1 is read"):
        open_store(copy / "raw")


def test_splits_of_two_stores_do_not_mix(copy: Path) -> None:
    for name in ("val.beton", "val.meta"):
        target = copy / "raw" / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        shutil.move(copy / "jpg" / name, target)
    with pytest.raises(FastnoisyError, match="val has other class names or canvas than train"):
        open_store(copy / "raw")


def test_what_is_no_store(tmp_path: Path) -> None:
    for read in (open_store, verify):
        with pytest.raises(FastnoisyError, match=r"nowhere does not exist.*fastnoisy convert SOURCE"):
            read(tmp_path / "nowhere")
        with pytest.raises(FastnoisyError, match="is not a converted data set"):
            read(tmp_path)


def test_a_text_path_is_a_path(converted: Path) -> None:
    open_store(str(converted / "raw")).close()
    assert verify(str(converted / "raw")) == []


@given(st.text())
def test_any_name_fits_on_one_line(text: str) -> None:
    assert unescape(escape(text)) == text
    assert "\n" not in escape(text)
    assert "\r" not in escape(text)


@given(st.text(alphabet="\\nr\n\r"))
def test_any_mix_of_escapes_comes_back(text: str) -> None:
    assert unescape(escape(text)) == text


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("sizes.npy", np.zeros((10, 2), "U3")),
        ("sizes.npy", np.zeros((2, 5), np.int32)),
        ("sizes.npy", np.zeros((), np.int32)),
        ("checksums.npy", np.zeros(10, np.float64)),
        ("checksums.npy", np.zeros((10, 1), np.uint32)),
        ("labels.npz", np.zeros(10, "U3")),
        ("labels.npz", np.zeros(0, np.int64)),
        ("labels.npz", np.zeros(10, [("a", np.int64)])),
        ("sizes.npy", {"other": np.zeros(3)}),
        ("checksums.npy", {"checksums": np.zeros(3)}),
    ],
)
def test_arrays_of_any_other_kind_are_refused(copy: Path, name: str, array: np.ndarray | dict[str, np.ndarray]) -> None:
    path = copy / "raw/train.meta" / name
    if isinstance(array, dict) or name.endswith("npz"):
        with path.open("wb") as file:
            np.savez(file, **(array if isinstance(array, dict) else {"given": array}))
    else:
        np.save(path, array)
    sign(copy / "raw")
    with pytest.raises(FastnoisyError, match=rf"train\.meta/{name} does not belong to train\.beton"):
        open_store(copy / "raw")


@pytest.mark.parametrize("key", ["options", "source", "canvas", "class_names", "num_samples", "num_bytes", "digest"])
@pytest.mark.parametrize("value", [None, 7, [], {"a": 1}])
def test_a_key_of_meta_json_that_is_missing_or_no_such_thing_is_refused(copy: Path, key: str, value: object) -> None:
    path = copy / "raw/train.meta/meta.json"
    info = json.loads(path.read_text())
    if value == 7 and key in ("num_samples", "num_bytes"):
        value = "seven"
    if (key, value) == ("options", {"a": 1}):
        value = "none"
    path.write_text(json.dumps({k: v for k, v in info.items() if k != key} | ({} if value is None else {key: value})))
    sign(copy / "raw")
    with pytest.raises(
        FastnoisyError, match=r"train\.(meta/meta\.json|meta/labels\.npz|beton) (is damaged|does not belong)"
    ):
        open_store(copy / "raw")


def held(store: Path) -> object:
    """All that a store tells without its records."""
    with open_store(store) as opened:
        return [
            [s.name, s.canvas, s.class_names, s.sources, s.info, s.listed("rejected"), s.listed("notes"), s.verified]
            + [a.tolist() for a in (s.given_labels, s.sizes, s.checksums, s.pages) if a is not None]
            for s in opened.splits.values()
        ]


def test_a_flipped_bit_outside_of_the_records_is_refused_or_harmless(copy: Path) -> None:
    """Some 3,000 over all small files and the tables; a stamp that is not what it was is none."""
    store = copy / "jpg"
    shutil.rmtree(store / "val.meta")
    (store / "val.beton").unlink()
    expected = held(store)
    unstamped = [[*split[:7], False, *split[8:]] for split in expected]  # type: ignore[attr-defined]
    reader = beton.BetonReader(store / "train.beton")
    first, last = int(reader.starts.min()), int((reader.starts + reader.lengths).max())
    reader.close()
    draw = np.random.default_rng(11)
    counts = {"refused": 0, "harmless": 0}
    for path in sorted(file for file in store.rglob("*") if file.is_file()):
        content = path.read_bytes()
        places = [*range(3_500), *range(len(content) - 300, len(content))] if path.suffix == ".beton" else []
        places = [at for at in places if not first <= at < last] or list(range(len(content)))
        for _ in range(300):
            at = int(draw.choice(places))
            flipped = bytearray(content)
            flipped[at] ^= 1 << int(draw.integers(8))
            path.write_bytes(flipped)
            try:
                assert held(store) in (expected, unstamped), (path.name, at)
                counts["harmless"] += 1
            except FastnoisyError:
                counts["refused"] += 1
        path.write_bytes(content)
    assert counts["refused"] > 7 * counts["harmless"], counts


def test_the_digests_are_compared_once_and_not_again_by_each_worker(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(copy / "raw") as opened:
        sent = pickle.dumps(opened.split("train"))
    monkeypatch.setattr("fastnoisy.data.store.split.check_sums", lambda *arguments: pytest.fail("compared again"))
    pickle.loads(sent).close()
