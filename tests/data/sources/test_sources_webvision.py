"""WebVision in miniature: every list, what is missing, what is odd, and classes that are ImageNet's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.sources import _imagenet, base
from fastnoisy.data.sources import webvision as family
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError

imagenet_val_mini = base.find("imagenet-val-mini")
webvision = base.find("webvision")
webvision_all = base.find("webvision-all")
webvision_flickr = base.find("webvision-flickr")
webvision_mini = base.find("webvision-mini")

LABELS = [0, 3, 49, 50, 999, 3, 0, 49]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return Path(webvision.make_example(tmp_path / "data"))


def test_the_google_list_and_the_validation_list(tree: Path) -> None:
    source = webvision.open(tree)
    train, val = source.splits
    assert (train.name, val.name) == ("train", "val")
    assert train.given_labels.tolist() == val.given_labels.tolist() == LABELS
    assert train.clean_labels is None
    assert val.clean_labels is not None
    assert (train.paths[1], val.paths[1]) == ("google/q0007/g1.jpg", "val000002.jpg")
    assert train.read(1) == (tree / "google/q0007/g1.jpg").read_bytes()
    assert val.read(1) == (tree / "val_images_256/val000002.jpg").read_bytes()
    assert source.notes == [
        "webvision: 8 training images, the published set has 980,449",
        "webvision: 8 validation images, the published set has 50,000",
    ]


def test_mini_is_the_first_fifty_classes_of_both(tree: Path) -> None:
    source = webvision_mini.open(tree)
    for split in source.splits:
        assert split.given_labels.tolist() == [0, 3, 49, 3, 0, 49]
    assert source.splits[0].paths[3:] == [f"google/q{n:04d}/g{i}.jpg" for n, i in ((7, 5), (1, 6), (99, 7))]
    assert source.notes == [
        "webvision-mini: 6 training images, the published set has 65,944",
        "webvision-mini: 6 validation images, the published set has 2,500",
    ]


def test_counts_as_published_are_not_worth_a_note(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "VAL_PER_CLASS", 3)
    lines = "".join(f"val{i % 8 + 1:06d}.jpg {i % 50}\n" for i in range(150))
    (tree / "info/val_filelist.txt").write_text(lines)
    train = "".join(f"google/q0001/g0.jpg {i % 50}\n" for i in range(65_944))
    (tree / "info/train_filelist_google.txt").write_text(train)
    assert [note for note in webvision_mini.open(tree).notes if "published" in note] == []


def test_mini_has_the_class_names_of_imagenets_first_fifty(tree: Path, tmp_path: Path) -> None:
    mini = webvision_mini.open(tree).class_names
    other, _ = base.open_source(imagenet_val_mini.make_example(tmp_path / "imagenet"))
    assert mini == other.class_names == webvision.open(tree).class_names[:50]
    assert len(mini) == 50
    (tree / "info/synsets.txt").unlink()
    assert webvision_mini.open(tree).class_names == mini


def test_the_thousand_classes() -> None:
    wnids = [wnid for wnid, _ in _imagenet.synsets()]
    names = _imagenet.class_names(1000)
    assert wnids == sorted(wnids)
    assert len(set(wnids)) == len({name.lower() for name in names}) == 1000
    assert (names[0], wnids[0], names[49], names[999]) == ("tench", "n01440764", "African crocodile", "toilet tissue")
    assert [names[i] for i in (134, 517)] == ["crane (bird)", "crane (machine)"]


@pytest.mark.data
def test_the_thousand_classes_are_webvisions_own(real_data: Path) -> None:
    _imagenet.check_synsets("webvision", real_data / "webvision-meta/synsets.txt")


def test_flickr_and_all(tmp_path: Path) -> None:
    flickr = Path(webvision_flickr.make_example(tmp_path / "flickr"))
    source = webvision_flickr.open(flickr)
    assert source.splits[0].paths[0] == "flickr/q0001/f0.jpg"
    assert source.notes == ["webvision-flickr: 8 validation images, the published set has 50,000"]
    both = Path(webvision_all.make_example(tmp_path / "all"))
    train = webvision_all.open(both).splits[0]
    assert train.given_labels.tolist() == LABELS * 2
    assert {path.split("/")[0] for path in train.paths} == {"google", "flickr"}


def test_a_path_alone_means_the_first_list_that_is_there(tmp_path: Path) -> None:
    tree = Path(webvision_all.make_example(tmp_path))
    assert base.resolve(str(tree))[0] == "webvision-all"
    (tree / "info/train_filelist_flickr.txt").write_text("flickr/q0001/f0.jpg 0\n")
    assert base.resolve(str(tree))[0] == "webvision-flickr"
    (tree / "info/train_filelist_google.txt").write_text("google/q0001/g0.jpg 0\n")
    assert base.resolve(str(tree))[0] == "webvision"
    assert base.resolve(f"webvision-mini:{tree}") == ("webvision-mini", tree)


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        (webvision, "info/train_filelist_google.txt"),
        (webvision, "google"),
        (webvision_mini, "info/train_filelist_google.txt"),
        (webvision_flickr, "info/train_filelist_flickr.txt"),
        (webvision_flickr, "flickr"),
        (webvision_all, "info/train_filelist_all.txt"),
        (webvision_all, "google"),
        (webvision_all, "flickr"),
        (webvision, "info/val_filelist.txt"),
        (webvision, "val_images_256"),
        (webvision_mini, "val_images_256"),
        (webvision_flickr, "info/val_filelist.txt"),
        (webvision_all, "val_images_256"),
    ],
)
def test_what_is_missing_is_named_with_its_place(module: base.Kind, missing: str, tmp_path: Path) -> None:
    tree = Path(module.make_example(tmp_path).partition(":")[2] or module.make_example(tmp_path / "b"))
    place = tree / missing
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(FastnoisyError) as caught:
        module.open(tree)
    assert f"has no {missing}" in caught.value.message
    assert f"looked for at {place}" in caught.value.message
    assert caught.value.message.count("looked for") == 1
    assert caught.value.remedy == f"expected: {module.layout}"


def test_all_that_is_missing_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(
        FastnoisyError, match=r"no info/train_filelist_google\.txt \(lines 'google/.*and no google/ \(.*val_"
    ) as caught:
        webvision.open(tmp_path)
    assert f"looked for at {tmp_path}/val_images_256 and {tmp_path}/val_images)" in caught.value.message


def test_other_places_of_images(tree: Path) -> None:
    (tree / "val_images_256").rename(tree / "val_images")
    lines = (tree / "info/train_filelist_google.txt").read_text()
    (tree / "info/train_filelist_google.txt").write_text(lines.replace("google/", ""))
    train, val = webvision.open(tree).splits
    assert train.read(0)
    assert val.read(0)


def test_images_that_lie_elsewhere(tree: Path) -> None:
    (tree / "google").rename(tree / "google_images")
    (tree / "google").mkdir()
    with pytest.raises(
        FastnoisyError, match=r"its images elsewhere: none of the first 8 in .*for example google/q0001/g0"
    ):
        webvision.open(tree)


def test_some_missing_images_are_rejected_when_converted(tree: Path, tmp_path: Path) -> None:
    (tree / "google/q0001/g0.jpg").unlink()
    with pytest.raises(FileNotFoundError):
        webvision.open(tree).splits[0].read(0)
    options = ConvertOptions(max_rejected=0.5)
    summary = convert(str(tree), tmp_path / "out", options=options)
    assert [(split.stored, split.rejected) for split in summary.splits] == [(7, 1), (8, 0)]
    with open_store(tmp_path / "out") as store:
        assert store.class_names == _imagenet.class_names(1000)


def test_lines_that_are_not_webvisions(tree: Path) -> None:
    path = tree / "info/train_filelist_google.txt"
    path.write_text(path.read_text() + "google/q1631/x.jpg 1000\n")
    with pytest.raises(FastnoisyError, match=r"train_filelist_google\.txt, line 9, has the label 1000"):
        webvision_mini.open(tree)
    path.write_text("google/q1631/x.jpg 50\n")
    with pytest.raises(FastnoisyError, match="lists no image of the first 50 classes"):
        webvision_mini.open(tree)


def test_images_listed_twice_are_kept_and_noted(tree: Path) -> None:
    path = tree / "info/train_filelist_google.txt"
    path.write_text(path.read_text() * 2)
    source = webvision.open(tree)
    assert len(source.splits[0]) == 16
    assert "webvision: lines of train that name an image once more: 8; all are kept" in source.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("n01443537", "n99999999"), r"line 2, has n99999999, where n01443537 belongs"),
        (lambda text: text + "n99999999 more\n", r"line 1001, has n99999999, where the end belongs"),
        (lambda text: text[: text.index("n15075141")], r"line 999, is the last, where 1000 classes belong"),
    ],
    ids=["other", "more", "fewer"],
)
def test_another_versions_classes_are_refused(tree: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tree / "info/synsets.txt"
    path.write_text(change(path.read_text()))
    with pytest.raises(FastnoisyError, match=message):
        webvision.open(tree)
