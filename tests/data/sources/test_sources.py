"""The sources: what each makes of its data, and what it says to data that are not as published."""

from __future__ import annotations

import os
import pickle
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy.data.sources import base, digits, folder
from fastnoisy.data.sources._pickles import load_batch
from fastnoisy.errors import FastnoisyError
from fastnoisy.noise.cifar import CIFAR10_CLASSES

cifar10 = base.find("cifar10")


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    return Path(cifar10.make_example(tmp_path / "data"))


def files(root: Path, *names: str) -> Path:
    """Tiny images at these places."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, "PNG")
    return root


# Which source a text means.


def test_kind_and_path_of_a_source(cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = files(tmp_path / "photos", "cat/1.png", "dog/1.png")
    assert base.resolve("digits") == ("digits", None)
    assert base.resolve(str(cifar)) == ("cifar10", cifar)  # a folder in a folder, too, but the special layout wins
    assert base.resolve(str(cifar / "cifar-10-batches-py"))[0] == "cifar10"
    assert base.resolve(str(photos)) == ("folder", photos)
    assert base.resolve(f"folder:{cifar}") == ("folder", cifar)
    monkeypatch.chdir(tmp_path)
    assert base.resolve("photos") == ("folder", Path("photos"))
    assert base.open_source("photos")[1] == f"folder:{photos}"
    monkeypatch.chdir(photos)
    assert base.open_source(".")[1] == f"folder:{photos}"
    with pytest.raises(FastnoisyError, match="is empty"):  # but not what Path("") is
        base.open_source("")
    monkeypatch.chdir(tmp_path)
    assert base.open_source("digits")[1] == "digits"
    (tmp_path / "digits").mkdir()
    assert base.resolve("digits") == ("digits", None)  # what needs no path is never a folder of that name


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("cifar10", r"cifar10 needs a path.*write cifar10:PATH, where PATH is .*data_batch_1"),
        ("cifar10:", r"cifar10 needs a path"),
        ("cifar1O:x", r"unknown kind of source 'cifar1O'|does not exist"),
        ("cifra10:x", r"unknown kind of source 'cifra10': did you mean cifar10"),
        ("/no/such/place", r"'/no/such/place' does not exist.*(?s:.*)digits.*(?s:.*)folder"),
        ("folder:/no/such/place", r"folder: /no/such/place does not exist"),
        ("digits:/tmp", r"digits takes no path"),
        ("", r"SOURCE is empty.*the current folder is \."),
    ],
)
def test_sources_that_cannot_be_opened(source: str, message: str) -> None:
    with pytest.raises(FastnoisyError) as caught:
        base.open_source(source)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_nothing_recognised_lists_every_kind_and_its_layout(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no data")
    with pytest.raises(FastnoisyError, match="has no layout that is known") as caught:
        base.open_source(str(tmp_path))
    for kind in base.kinds():
        assert kind in caught.value.remedy
    assert folder.LAYOUT in caught.value.remedy


def test_a_store_is_no_source(tmp_path: Path) -> None:
    files(tmp_path, "train.meta/x.png")
    (tmp_path / "train.beton").touch()
    with pytest.raises(FastnoisyError, match="is converted already"):
        base.open_source(str(tmp_path))


def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> object:
        raise PermissionError(13, "Permission denied", path)

    files(tmp_path, "a/1.png")
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(FastnoisyError, match=r"cannot list .*permission denied"):
        base.open_source(f"folder:{tmp_path}")


# digits


def test_digits_are_the_published_ones() -> None:
    from sklearn.datasets import load_digits

    published = load_digits()
    train, test = digits.open().splits
    assert (len(train), len(test)) == (600, 1197)
    assert np.bincount(train.given_labels).tolist() == [60] * 10
    assert sorted([*train.paths, *test.paths], key=lambda path: int(path.split("/")[1])) == [
        f"digits/{i}" for i in range(1797)
    ]
    for split in (train, test):
        rows = [int(path.split("/")[1]) for path in split.paths]
        assert split.given_labels.tolist() == published.target[rows].tolist()
        assert split.clean_labels is not None
        assert split.clean_labels.tolist() == split.given_labels.tolist()
        for i in (0, 100, len(split) - 1):
            small = np.round(published.images[rows[i]] * 255 / 16).astype(np.uint8)
            large = np.asarray(Image.fromarray(small).resize((16, 16), Image.Resampling.BILINEAR))
            image = split.read(i)
            assert isinstance(image, np.ndarray)
            assert (image == large[:, :, None]).all()
            assert image.max() > 200


def test_the_digits_split_never_moves() -> None:
    """Published results depend on it."""
    train, _ = digits.open().splits
    assert train.paths[:8] == [
        "digits/1",
        "digits/7",
        "digits/8",
        "digits/15",
        "digits/16",
        "digits/18",
        "digits/20",
        "digits/22",
    ]


# CIFAR-10


@pytest.mark.parametrize("form", ["parent", "folder", "archive"])
def test_cifar10_in_every_form_it_comes_in(cifar: Path, form: str, tmp_path: Path) -> None:
    path = {"parent": cifar, "folder": cifar / "cifar-10-batches-py", "archive": tmp_path / "cifar-10-python.tar.gz"}[
        form
    ]
    if form == "archive":
        with tarfile.open(path, "w:gz") as archive:
            archive.add(cifar / "cifar-10-batches-py", "cifar-10-batches-py")
    assert cifar10.recognises(path)
    source = cifar10.open(path)
    assert source.class_names == list(CIFAR10_CLASSES)
    assert source.fixed_size == (32, 32)
    train, test = source.splits
    assert (train.name, len(train), test.name, len(test)) == ("train", 100, "test", 20)
    assert (train.paths[0], train.paths[37], test.paths[19]) == ("data_batch_1/0", "data_batch_2/17", "test_batch/19")
    assert train.given_labels.tolist() == [i % 10 for i in range(20)] * 5
    with open(cifar / "cifar-10-batches-py/data_batch_2", "rb") as file:
        row = pickle.load(file)[b"data"][17]
    image = train.read(37)
    assert isinstance(image, np.ndarray)
    assert image.shape == (32, 32, 3)
    assert [image[0, 0].tolist(), image[0, 1].tolist(), image[31, 31].tolist()] == [
        row[[0, 1024, 2048]].tolist(),
        row[[1, 1025, 2049]].tolist(),
        row[[1023, 2047, 3071]].tolist(),
    ]


def test_cifar10_without_its_names_file_has_the_standard_names(cifar: Path) -> None:
    (cifar / "cifar-10-batches-py/batches.meta").unlink()
    assert cifar10.open(cifar).class_names[3] == "cat"


def test_pickles_of_python_2_are_read() -> None:
    """The published files: byte strings without codecs, and numpy's old module name."""
    rows = np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072)
    raw = rows.tobytes()
    old = b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    old += b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
    old += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    old += b"\x89T" + len(raw).to_bytes(4, "little") + raw + b"tbU\x06labels]q\x01(K\x03K\x07eu."
    content = load_batch(old, "old")
    assert np.array_equal(content["data"], rows)
    assert content["labels"] == [3, 7]


class _Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_hostile_pickle_is_refused_and_runs_nothing(cifar: Path, tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "made-by-the-pickle"
    batch = {b"data": _Hostile(target), b"labels": [0]}
    (cifar / "cifar-10-batches-py/data_batch_3").write_bytes(pickle.dumps(batch, protocol=protocol))
    with pytest.raises(FastnoisyError, match=r"data_batch_3: the pickle names (posix|os|nt)\.system.*nothing was run"):
        cifar10.open(cifar)
    assert not target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"(S'1'\nibuiltins\neval\n.",  # INST
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",  # STACK_GLOBAL
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",  # a dotted name
        b"c_codecs\ndecode\n(S'x'\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
        b"ccopyreg\n_reconstructor\n.",
        b"\x82\x01.",  # an extension code
        b"Pid\n.",  # a persistent name
    ],
)
def test_no_name_but_the_four_is_ever_resolved(data: bytes) -> None:
    with pytest.raises(FastnoisyError, match=r"^place"):
        load_batch(data, "place")


def test_arrays_of_other_types_are_refused() -> None:
    for array in (np.zeros(3), np.array([object()])):
        with pytest.raises(FastnoisyError, match="place"):
            load_batch(pickle.dumps({b"data": array}, protocol=2), "place")


@pytest.mark.parametrize("keep", [0, 1, 100, 30_000])
def test_a_cut_off_pickle_is_named(cifar: Path, keep: int) -> None:
    os.truncate(cifar / "cifar-10-batches-py/test_batch", keep)
    with pytest.raises(FastnoisyError, match=r"test_batch is damaged or no CIFAR pickle") as caught:
        cifar10.open(cifar)
    assert "checksum" in caught.value.remedy


def test_damaged_pickles_raise_only_our_error() -> None:
    data = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [0]}, protocol=2)
    for place in [*range(200), *range(len(data) - 40, len(data))]:
        for flip in (0x01, 0x10, 0xFF):
            damaged = data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]
            try:
                load_batch(damaged, "batch")
            except FastnoisyError:
                continue  # any other exception fails the test


@pytest.mark.parametrize(
    ("batch", "problem"),
    [
        ({b"labels": [0]}, "no uint8 data of shape"),
        ({b"data": np.zeros((1, 300), np.uint8), b"labels": [0]}, "no uint8 data of shape"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "no 2 labels from 0 to 9"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, "no 1 labels from 0 to 9"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [1]}, "no 1 labels from 0 to 9"),
    ],
)
def test_pickles_that_are_not_cifar10(cifar: Path, batch: dict[bytes, object], problem: str) -> None:
    (cifar / "cifar-10-batches-py/data_batch_4").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(FastnoisyError, match=f"is not CIFAR-10: data_batch_4 has {problem}"):
        cifar10.open(cifar)


def test_a_missing_batch_is_named(cifar: Path) -> None:
    (cifar / "cifar-10-batches-py/data_batch_5").unlink()
    with pytest.raises(FastnoisyError, match="has no data_batch_5"):
        cifar10.open(cifar)


@pytest.mark.parametrize("keep", [0, 50, 3000])
def test_a_cut_off_archive_is_named(cifar: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(cifar / "cifar-10-batches-py", "cifar-10-batches-py")
    os.truncate(path, keep)
    with pytest.raises(FastnoisyError, match=r"cifar-10-python\.tar\.gz"):
        cifar10.open(path)


# A folder of class folders


def test_one_folder_per_class_is_the_train_split(tmp_path: Path) -> None:
    root = files(tmp_path / "p", "dog/2.png", "dog/10.png", "cat/b/c.png", "cat/a.JPG", ".git/x.png", "dog/.DS_Store")
    (root / "dog/notes").write_text("a file whose name does not say that it is no image")
    (root / "README").write_text("not in a class folder")
    source = folder.open(root)
    assert source.class_names == ["cat", "dog"]
    (train,) = source.splits
    assert train.name == "train"
    assert train.paths == ["cat/a.JPG", "cat/b/c.png", "dog/10.png", "dog/2.png", "dog/notes"]
    assert train.given_labels.tolist() == [0, 0, 1, 1, 1]
    assert train.clean_labels is None
    assert train.read(2) == (root / "dog/10.png").read_bytes()


def test_train_val_and_test_are_splits_over_one_list_of_classes(tmp_path: Path) -> None:
    root = files(tmp_path / "p", "train/a/1.png", "train/b/1.png", "train/c/1.png", "val/c/1.png", "test/b/1.png")
    source = folder.open(root)
    assert source.class_names == ["a", "b", "c"]
    assert [(split.name, split.given_labels.tolist()) for split in source.splits] == [
        ("train", [0, 1, 2]),
        ("val", [2]),
        ("test", [1]),
    ]


def test_classes_that_train_lacks_are_named(tmp_path: Path) -> None:
    root = files(tmp_path / "p", "train/a/1.png", "val/a/1.png", "val/zebra/1.png", "val/yak/1.png")
    with pytest.raises(FastnoisyError, match="has classes that train lacks: yak, zebra"):
        folder.open(root)


def test_a_split_of_another_name_is_not_taken_for_a_class(tmp_path: Path) -> None:
    root = files(tmp_path / "p", "train/a/1.png", "extra/a/1.png")
    with pytest.raises(FastnoisyError, match="has extra beside train/; splits are train, val, test"):
        folder.open(root)


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    root = files(tmp_path / "p", "train/1.png", "bus/1.png")
    assert folder.open(root).class_names == ["bus", "train"]


def test_empty_folders_are_errors(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(FastnoisyError, match="has no subfolders, so no classes"):
        folder.open(tmp_path / "none")
    (tmp_path / "classes/a").mkdir(parents=True)
    (tmp_path / "classes/b").mkdir()
    with pytest.raises(FastnoisyError, match="has no files in its class folders"):
        folder.open(tmp_path / "classes")
    files(tmp_path / "split", "train/a/1.png")
    (tmp_path / "split/val/a").mkdir(parents=True)
    with pytest.raises(FastnoisyError, match="val has no files in its class folders"):
        folder.open(tmp_path / "split")


def test_pipes_and_dangling_links_are_not_items(tmp_path: Path) -> None:
    root = files(tmp_path / "p", "a/1.png")
    os.mkfifo(root / "a/pipe")  # reading it would wait for ever
    (root / "a/gone.png").symlink_to(root / "nowhere.png")
    (root / "a/link.png").symlink_to(root / "a/1.png")
    assert folder.open(root).splits[0].paths == ["a/1.png", "a/link.png"]
