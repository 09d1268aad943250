"""CIFAR-100 as a source: its two labellings, its forms, and files that are not as published."""

from __future__ import annotations

import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from fastnoisy.data.sources import base, cifar
from fastnoisy.errors import FastnoisyError
from fastnoisy.noise.cifar import CIFAR100_COARSE_OF_FINE

cifar10 = base.find("cifar10")
cifar100 = base.find("cifar100")
cifar100_coarse = base.find("cifar100-coarse")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return Path(cifar100.make_example(tmp_path / "data"))


@pytest.mark.parametrize("form", ["parent", "folder", "archive"])
def test_cifar100_in_every_form_it_comes_in(data: Path, form: str, tmp_path: Path) -> None:
    folder, archive = data / "cifar-100-python", tmp_path / "cifar-100-python.tar.gz"
    path = {"parent": data, "folder": folder, "archive": archive}[form]
    if form == "archive":
        with tarfile.open(path, "w:gz") as tar:
            tar.add(folder, "cifar-100-python")
    assert base.resolve(str(path)) == ("cifar100", path)
    fine, coarse = cifar100.open(path), cifar100_coarse.open(path)
    assert fine.class_names == list(cifar.CIFAR100_CLASSES)
    assert coarse.class_names == list(cifar.CIFAR100_SUPERCLASSES)
    assert (len(fine.class_names), fine.class_names[99], coarse.class_names[19]) == (100, "worm", "vehicles_2")
    assert fine.fixed_size == coarse.fixed_size == (32, 32)
    with open(folder / "test", "rb") as file:
        row = pickle.load(file)[b"data"][17]
    for source in (fine, coarse):
        train, test = source.splits
        assert (train.name, len(train), test.name, len(test)) == ("train", 100, "test", 100)
        assert (train.paths[0], test.paths[17]) == ("train/0", "test/17")
        image = test.read(17)
        assert isinstance(image, np.ndarray)
        assert image[0, 1].tolist() == row[[1, 1025, 2049]].tolist()
    labels = fine.splits[0].given_labels
    assert labels.tolist() == [7 * i % 100 for i in range(100)]
    assert coarse.splits[0].given_labels.tolist() == [CIFAR100_COARSE_OF_FINE[label] for label in labels]
    assert coarse.splits[0].clean_labels is not None


def test_a_path_alone_means_the_fine_labels(data: Path) -> None:
    assert base.open_source(str(data))[1] == f"cifar100:{data}"
    assert base.open_source(f"cifar100-coarse:{data}")[1] == f"cifar100-coarse:{data}"


def test_both_cifars_in_one_folder_have_to_be_told_apart(data: Path, tmp_path: Path) -> None:
    os.rename(cifar10.make_example(tmp_path / "other") + "/cifar-10-batches-py", data / "cifar-10-batches-py")
    with pytest.raises(FastnoisyError, match=r"could be cifar10 or cifar100\. say which, as in cifar10:"):
        base.open_source(str(data))
    assert len(base.open_source(f"cifar100:{data}")[0].class_names) == 100
    assert len(base.open_source(f"cifar10:{data}")[0].class_names) == 10
    assert base.resolve(str(data / "cifar-100-python"))[0] == "cifar100"


def test_folders_with_such_names_are_not_cifar100(tmp_path: Path) -> None:
    for name in ("train", "test", "meta"):
        (tmp_path / name / "cat").mkdir(parents=True)
    assert not cifar100.recognises(tmp_path)
    assert base.resolve(str(tmp_path))[0] == "folder"


def test_without_its_names_file_it_has_the_standard_names(data: Path) -> None:
    (data / "cifar-100-python/meta").unlink()
    assert cifar100.open(data).class_names[1] == "aquarium_fish"
    assert cifar100_coarse.open(data).class_names[0] == "aquatic_mammals"


@pytest.mark.parametrize("kind", ["cifar100", "cifar100-coarse"])
def test_a_missing_or_damaged_file_is_named(data: Path, kind: str) -> None:
    found = base.find(kind)
    folder = data / "cifar-100-python"
    os.truncate(folder / "test", 1000)
    with pytest.raises(FastnoisyError, match=f"{kind}: .*test is damaged or no CIFAR pickle"):
        found.open(data)
    (folder / "test").unlink()
    with pytest.raises(FastnoisyError, match=f"{kind}: .* has no test"):
        found.open(data)
    (folder / "train").unlink()
    with pytest.raises(FastnoisyError, match=f"{kind}: .* has no train"):
        found.open(data)


class _Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("name", ["train", "meta"])
def test_a_hostile_pickle_is_refused_and_runs_nothing(data: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "made-by-the-pickle"
    (data / "cifar-100-python" / name).write_bytes(pickle.dumps({b"data": _Hostile(target)}, protocol=2))
    with pytest.raises(FastnoisyError, match=rf"{name}: the pickle names (posix|os|nt)\.system.*nothing was run"):
        cifar100.open(data)
    assert not target.exists()


@pytest.mark.parametrize(
    ("fine", "coarse", "problem"),
    [
        ([100], [0], "is not CIFAR-100: train has no 1 fine_labels from 0 to 99"),
        ([1, 2], [0], "is not CIFAR-100: train has no 1 fine_labels"),
        ([1], [20], "is not CIFAR-100: train has no 1 coarse_labels from 0 to 19"),
    ],
)
def test_labels_that_are_not_cifar100s(data: Path, fine: list[int], coarse: list[int], problem: str) -> None:
    batch = {b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": fine, b"coarse_labels": coarse}
    (data / "cifar-100-python/train").write_bytes(pickle.dumps(batch, protocol=2))
    module = cifar100_coarse if "coarse" in problem else cifar100
    with pytest.raises(FastnoisyError, match=problem):
        module.open(data)


def test_pickles_of_the_other_cifar_are_named(data: Path) -> None:
    other = cifar10.make_example(data / "other")
    os.replace(f"{other}/cifar-10-batches-py/data_batch_1", data / "cifar-100-python/train")
    with pytest.raises(FastnoisyError, match="is not CIFAR-100: train has no 20 fine_labels from 0 to 99"):
        cifar100.open(data)
    (data / "cifar-100-python/meta").write_bytes(pickle.dumps({b"label_names": []}, protocol=2))
    cifar100.make_example(data / "fresh")
    os.replace(data / "fresh/cifar-100-python/train", data / "cifar-100-python/train")
    with pytest.raises(FastnoisyError, match="meta has no 100 fine_label_names"):
        cifar100.open(data)


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\x1b]0;x", b"beaver"])
def test_class_names_that_are_no_texts_of_their_own_are_refused(data: Path, name: bytes) -> None:
    meta = data / "cifar-100-python/meta"
    content = pickle.loads(meta.read_bytes(), encoding="bytes")
    content[b"fine_label_names"][7] = name
    meta.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(FastnoisyError, match="fine_label_names in meta are no 100 texts"):
        cifar100.open(data)
