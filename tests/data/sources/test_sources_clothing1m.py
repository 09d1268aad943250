"""Clothing1M in miniature: both arrangements of it, what is missing, and what its lists may hold."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fastnoisy.data.sources import base
from fastnoisy.data.sources import clothing1m as family
from fastnoisy.errors import FastnoisyError

clothing1m = base.find("clothing1m")
clothing1m_clean = base.find("clothing1m-clean")

TEXTS = [
    "noisy_train_key_list.txt",
    "clean_val_key_list.txt",
    "clean_test_key_list.txt",
    "noisy_label_kv.txt",
    "clean_label_kv.txt",
    "category_names_eng.txt",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return Path(clothing1m.make_example(tmp_path / "data"))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_noisy_training_and_clean_evaluation(tree: Path) -> None:
    source = clothing1m.open(tree)
    assert base.resolve(str(tree)) == ("clothing1m", tree)
    assert len(source.class_names) == 14
    assert source.class_names[0] == "T-Shirt"
    train, val, test = source.splits
    assert [(split.name, len(split)) for split in source.splits] == [("train", 15), ("val", 4), ("test", 4)]
    assert train.given_labels.tolist() == [i * 3 % 14 for i in range(15)]
    assert train.clean_labels is None
    for split, first in ((val, 15), (test, 19)):
        assert split.given_labels.tolist() == [i * 3 % 14 for i in range(first, first + 4)]
        assert split.clean_labels is not None
        assert split.clean_labels.tolist() == split.given_labels.tolist()
    assert train.paths[2] == "images/2/14/200,2.jpg"
    assert train.read(2) == (tree / "images/2/14/200,2.jpg").read_bytes()
    assert source.notes == [
        "clothing1m: 15 images in train, the published set has about 1,000,000",
        "clothing1m: 4 images in val, the published set has 14,313",
        "clothing1m: 4 images in test, the published set has 10,526",
    ]


@pytest.mark.parametrize("texts", ["root", "annotations"])
@pytest.mark.parametrize("images", ["images", "root", "keys without images/"])
def test_both_places_of_texts_and_of_images(tree: Path, texts: str, images: str) -> None:
    content = clothing1m.open(tree).splits[0].read(3)
    if images == "root":
        for place in (tree / "images").iterdir():
            place.rename(tree / place.name)
        (tree / "images").rmdir()
    if images == "keys without images/":
        for name in TEXTS[:5]:
            (tree / name).write_text((tree / name).read_text().replace("images/", ""))
    if texts == "annotations":
        (tree / "annotations").mkdir()
        for name in TEXTS:
            (tree / name).rename(tree / "annotations" / name)
    assert base.resolve(str(tree))[0] == "clothing1m"
    source = clothing1m.open(tree)
    assert source.splits[0].read(3) == content
    assert all(split.read(0) for split in source.splits)


@pytest.mark.parametrize("missing", TEXTS)
def test_a_missing_text_is_named_with_both_places(tree: Path, missing: str) -> None:
    (tree / missing).unlink()
    with pytest.raises(FastnoisyError) as caught:
        clothing1m.open(tree)
    assert f"has no {missing} (" in caught.value.message
    assert f"looked for at {tree / missing} and {tree / 'annotations' / missing}" in caught.value.message
    assert caught.value.remedy == f"expected: {clothing1m.layout}"


def test_missing_images(tree: Path) -> None:
    shutil.rmtree(tree / "images")
    with pytest.raises(FastnoisyError, match=r"images elsewhere: none of the first 15 in .*noisy_train_key_list"):
        clothing1m.open(tree)


def test_clean_labels_of_training_images_are_noted(tree: Path) -> None:
    keys = (tree / "noisy_train_key_list.txt").read_text().splitlines()
    append(tree / "clean_label_kv.txt", f"{keys[0]} 5\n{keys[1]} 5\n")
    (tree / "clean_train_key_list.txt").write_text(f"{keys[0]}\n")
    source = clothing1m.open(tree)
    assert source.splits[0].clean_labels is None
    assert source.splits[0].given_labels.tolist()[:2] == [0, 3]
    assert source.notes[3:] == [
        "clothing1m: 2 training images have a clean label too; not used, since not all have one",
        "clothing1m: clean_train_key_list.txt is not used: training is on the noisy list alone;"
        " clothing1m-clean trains on it instead",
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("noisy_label_kv.txt", "images/0/0/x.jpg\n", r"noisy_label_kv\.txt, line 16, is 'images/0/0/x\.jpg'"),
        ("clean_label_kv.txt", "images/0/0/x.jpg 14\n", r"line 9, has the label 14.*from 0 to 13"),
        ("noisy_train_key_list.txt", "images/0/0/x.jpg\n", r"line 16, has 'images/0/0/x\.jpg', which has no label in"),
        ("clean_val_key_list.txt", "/etc/passwd\n", "line 5, has the path '/etc/passwd'"),
        ("category_names_eng.txt", "Hat\n", "has 15 class names, where 14 belong"),
        ("category_names_eng.txt", "Vest\n", "line 15, has the class 'Vest', as line 13 has"),
    ],
)
def test_lines_that_do_not_belong(tree: Path, name: str, text: str, message: str) -> None:
    append(tree / name, text)
    with pytest.raises(FastnoisyError, match=message):
        clothing1m.open(tree)


def test_an_empty_list_is_an_error(tree: Path) -> None:
    (tree / "clean_test_key_list.txt").write_text("\n")
    with pytest.raises(FastnoisyError, match=r"clean_test_key_list\.txt is empty"):
        clothing1m.open(tree)


def test_the_clean_list_with_its_labels_and_the_same_evaluation(tmp_path: Path) -> None:
    kind, tree = base.resolve(clothing1m_clean.make_example(tmp_path / "data"))
    assert kind == "clothing1m-clean"
    assert tree is not None
    assert base.resolve(str(tree))[0] == "clothing1m"
    source, noisy = clothing1m_clean.open(tree), clothing1m.open(tree)
    train = source.splits[0]
    assert [(split.name, len(split)) for split in source.splits] == [("train", 9), ("val", 4), ("test", 4)]
    assert list(train.paths) == (tree / "clean_train_key_list.txt").read_text().split()
    assert train.given_labels.tolist() == [i * 3 % 14 for i in range(23, 32)]
    assert train.clean_labels is not None
    assert train.clean_labels.tolist() == train.given_labels.tolist()
    assert train.read(2) == (tree / "images/5/75/2500,25.jpg").read_bytes()
    assert source.class_names == noisy.class_names
    for one, other in zip(source.splits[1:], noisy.splits[1:], strict=True):
        assert list(one.paths) == list(other.paths)
        assert one.given_labels.tolist() == other.given_labels.tolist()
    assert source.notes[0] == "clothing1m-clean: 9 images in train, the published set has 47,570"
    for name in ("noisy_train_key_list.txt", "noisy_label_kv.txt"):  # copies of the clean part alone lack these
        (tree / name).unlink()
    assert len(clothing1m_clean.open(tree).splits[0]) == 9
    (tree / "clean_train_key_list.txt").unlink()
    with pytest.raises(FastnoisyError, match=r"clothing1m-clean: .* has no clean_train_key_list\.txt"):
        clothing1m_clean.open(tree)


@pytest.mark.parametrize(("count", "noted"), [(949_999, True), (950_000, False), (1_050_000, False), (1_050_001, True)])
def test_only_a_count_far_from_a_million_is_noted(count: int, noted: bool) -> None:
    note = f"clothing1m: {count:,} images in train, the published set has about 1,000,000"
    assert family.NOISY_TRAIN._count_note("train", "noisy_train", count) == [note] * noted
    assert family.CLEAN_TRAIN._count_note("train", "clean_train", 47_570) == []


def test_an_image_in_two_lists_is_noted(tree: Path) -> None:
    append(tree / "clean_test_key_list.txt", (tree / "clean_val_key_list.txt").read_text().splitlines()[0] + "\n")
    assert "clothing1m: images both in val and in test: 1" in clothing1m.open(tree).notes
