"""The walker of folders: nothing that cannot be listed is an empty folder, nothing is passed over without a word."""

from __future__ import annotations

import errno
import os
import socket
import unicodedata
from pathlib import Path

import pytest

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.sources import base, folder
from fastnoisy.data.sources._example import picture, write_picture
from fastnoisy.data.sources._walk import subfolders, walk
from fastnoisy.errors import FastnoisyError


def make(root: Path, *paths: str) -> Path:
    for i, path in enumerate(paths):
        write_picture(root / path, i, i)
    return root


def refusing(monkeypatch: pytest.MonkeyPatch, place: Path, number: int) -> None:
    """Let one folder's listing fail."""
    scandir = os.scandir

    def scan(path: str) -> object:
        if os.fspath(path) == os.fspath(place):
            raise OSError(number, os.strerror(number), os.fspath(place))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)


def test_files_at_any_depth_part_by_part(tmp_path: Path) -> None:
    make(tmp_path, "a/b/c.jpg", "a-b/1.jpg", "a/2.jpg", "z.JPG", "A.png", "a/no ending")
    assert walk(tmp_path).files == ["A.png", "a/2.jpg", "a/b/c.jpg", "a/no ending", "a-b/1.jpg", "z.JPG"]
    assert walk(tmp_path / "a", "x/").files == ["x/2.jpg", "x/b/c.jpg", "x/no ending"]


def test_a_path_that_is_too_long_is_told(tmp_path: Path) -> None:
    name, place = "d" * 250, os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(name, dir_fd=place)
        below = os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    found = walk(tmp_path)
    assert found.files == []
    ((path, reason),) = found.rejected
    assert path.startswith(f"{name}/{name}")
    assert "too long" in reason


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENAMETOOLONG])
def test_a_folder_that_may_not_be_listed_is_rejected_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    make(tmp_path, "cat/1.jpg", "cat/more/2.jpg", "dog/1.jpg")
    refusing(monkeypatch, tmp_path / "cat/more", number)
    assert [path for path, _ in walk(tmp_path).rejected] == ["cat/more"]
    (split,) = folder.open(tmp_path).splits
    assert [path for path, _ in split.rejected] == ["cat/more"]
    assert split.rejected[0][1].startswith("a folder: ")
    monkeypatch.undo()
    refusing(monkeypatch, tmp_path / "dog", number)
    source = folder.open(tmp_path)
    assert [path for path, _ in source.splits[0].rejected] == ["dog"]
    assert source.notes[0].startswith("folder: left out are folders with all that is in them: 'dog': it")
    assert source.notes[1] == "folder: 1 of 2 classes have no image: dog"


def test_a_folder_that_may_not_be_searched_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for kinds that look for files by name, whose fault it would be for ever."""
    root = make(tmp_path, "cat/1.jpg")
    status = os.stat

    def stat(path: str, **how: bool) -> os.stat_result:
        if os.fspath(path).startswith(f"{root}/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return status(path, **how)

    monkeypatch.setattr(os, "stat", stat)
    for source in (str(root), f"cifar10:{root}/cat"):
        with pytest.raises(FastnoisyError, match=r"cannot read .*: Permission denied"):
            base.open_source(source)


def test_a_split_of_which_nothing_may_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "train/cat/1.jpg", "val/cat/1.jpg")
    refusing(monkeypatch, tmp_path / "val/cat", errno.EACCES)
    with pytest.raises(FastnoisyError, match=r"no files in its class folders; val/cat: a folder: it may not be read"):
        folder.open(tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE])
def test_a_fault_of_the_machine_stops_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    make(tmp_path, "cat/1.jpg", "dog/deep/1.jpg")
    refusing(monkeypatch, tmp_path / "dog/deep", number)
    for listing in (lambda: walk(tmp_path), lambda: folder.open(tmp_path)):
        with pytest.raises(FastnoisyError, match=rf"cannot list .*dog/deep: {os.strerror(number)}"):
            listing()


def test_links_are_followed_and_never_in_a_circle(tmp_path: Path) -> None:
    root = make(tmp_path / "in", "cat/1.jpg", "dog/2.jpg")
    make(tmp_path, "away/3.jpg", "away/more/4.jpg", "one.jpg")
    (root / "cat/linked").symlink_to(tmp_path / "away")
    (root / "cat/one.jpg").symlink_to(tmp_path / "one.jpg")
    (root / "cow").symlink_to(tmp_path / "away")
    (root / "dog/up").symlink_to("..")
    (root / "dog/self.jpg").symlink_to("self.jpg")
    (root / "dog/gone.jpg").symlink_to("nowhere.jpg")
    source = folder.open(root)
    (split,) = source.splits
    assert source.class_names == ["cat", "cow", "dog"]
    assert list(split.paths) == [
        "cat/1.jpg", "cat/linked/3.jpg", "cat/linked/more/4.jpg", "cat/one.jpg", "cow/3.jpg", "cow/more/4.jpg",
        "dog/2.jpg",
    ]  # fmt: skip
    assert list(split.rejected) == [
        ("dog/gone.jpg", "a link to what is not there"),
        ("dog/self.jpg", "a link that leads to itself"),
        ("dog/up", "a link to a folder that it lies in"),
    ]


def test_a_link_to_a_split_that_is_gone_is_an_error(tmp_path: Path) -> None:
    root = make(tmp_path / "in", "train/cat/1.jpg", "train/dog/2.jpg")
    (root / "val").symlink_to(tmp_path / "gone")
    with pytest.raises(FastnoisyError, match="val is a link to what is not there"):
        folder.open(root)
    make(tmp_path / "gone", "cat/3.jpg")
    assert [split.name for split in folder.open(root).splits] == ["train", "val"]


def test_pipes_and_sockets_are_named_and_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "cat/1.jpg")
    os.mkfifo(tmp_path / "cat/pipe.jpg")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("cat/socket")
        found = walk(tmp_path)
    assert found.files == ["cat/1.jpg"]
    assert [path for path, reason in found.rejected if "a pipe, a socket" in reason] == ["cat/pipe.jpg", "cat/socket"]


def test_the_systems_own_are_no_classes_and_no_images(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg", "dog/1.jpg", "__MACOSX/cat/._1.jpg", "@eaDir/cat/1.jpg@SYNOFILE_THUMB.jpg")
    make(tmp_path, "lost+found/x.jpg", "$RECYCLE.BIN/x.jpg", "#recycle/x.jpg", "System Volume Information/x.jpg")
    make(tmp_path, "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "cat/Thumbs.db", "dog/desktop.ini", "cat/._1.jpg")
    make(tmp_path, "dog/.ipynb_checkpoints/1.jpg", "dog/.hidden.jpg", "dog/.@__thumb/s1001.jpg", "cat/Icon\r")
    source = folder.open(tmp_path)
    assert source.class_names == ["cat", "dog"]
    assert list(source.splits[0].paths) == ["cat/1.jpg", "dog/1.jpg"]
    assert list(source.splits[0].rejected) == []
    told = " ".join(source.notes)
    for name in ("@eaDir (2)", "and 6 more", "hidden files that are named as images: 1"):
        assert name in told
    assert walk(tmp_path).system["Thumbs.db"] == walk(tmp_path).system["Icon\r"] == 1
    assert subfolders(tmp_path)[0] == ["cat", "dog"]


def test_what_lies_beside_is_told(tmp_path: Path) -> None:
    root = make(tmp_path / "in", "cat/1.jpg", "dog/1.jpg", "stray.png")
    for i in range(30):
        (root / f"cat/{i}.json").write_text("{}")
    (root / "cat/labels.txt").write_text("x")
    (root / "README.md").write_text("x")
    source = folder.open(root)
    (split,) = source.splits
    assert list(split.paths) == ["cat/1.jpg", "dog/1.jpg"]
    assert list(split.rejected) == [("stray.png", "it lies beside the class folders, in none of them")]
    assert source.notes == ["folder: passed over files whose names are of no images: .json (30), .txt (1)"]
    convert(str(root), tmp_path / "out", options=ConvertOptions(max_rejected=0.5), workers=1)
    assert "stray.png,it lies beside" not in (tmp_path / "out/train.meta/notes.csv").read_text()
    assert '"it lies beside the class folders, in none' in (tmp_path / "out/train.meta/rejected.csv").read_text()


@pytest.mark.parametrize(("train", "val", "test"), [("Training", "valid", "Testing"), ("TRAIN", "Dev", "test set")])
def test_splits_by_the_words_that_people_use(tmp_path: Path, train: str, val: str, test: str) -> None:
    make(tmp_path, f"{train}/a/1.jpg", f"{train}/b/1.jpg", f"{val}/a/1.jpg", f"{test}/b/1.jpg", "__MACOSX/x.jpg")
    source = folder.open(tmp_path)
    assert source.class_names == ["a", "b"]
    assert [split.name for split in source.splits] == ["train", "val", "test"]
    assert source.splits[2].paths[0] == f"{test}/b/1.jpg"
    make(tmp_path, "train/a/9.jpg")
    with pytest.raises(FastnoisyError, match="which are both train"):
        folder.open(tmp_path)


def test_words_of_splits_in_other_places(tmp_path: Path) -> None:
    make(tmp_path / "a", "train/1.jpg", "test/1.jpg")  # images in them, and no classes
    assert folder.open(tmp_path / "a").notes == [
        "folder: the classes are called test and train; splits have class folders in them"
    ]
    make(tmp_path / "b", "train/a/1.jpg", "train/b/1.jpg", "test/1.jpg", "test/2.jpg")
    assert folder.open(tmp_path / "b").notes == ["folder: test/ is left out: its 2 files lie in no class folders"]
    make(tmp_path / "c", "val/a/1.jpg", "test/a/1.jpg")
    with pytest.raises(FastnoisyError, match="test and val with class folders, and no train"):
        folder.open(tmp_path / "c")


def test_whole_numbers_are_ordered_by_number(tmp_path: Path) -> None:
    make(tmp_path / "a", *(f"{i}/1.jpg" for i in range(12)))
    assert folder.open(tmp_path / "a").class_names == [str(i) for i in range(12)]
    make(tmp_path / "b", *(f"{i}/1.jpg" for i in (10, 9, "x")))
    assert folder.open(tmp_path / "b").class_names == ["10", "9", "x"]


def test_names_that_look_alike_are_one_class_over_splits_and_an_error_within_one(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    make(tmp_path / "a", f"train/{composed}/1.jpg", "train/tea/1.jpg", f"val/{apart}/2.jpg")
    source = folder.open(tmp_path / "a")
    assert source.class_names == [composed, "tea"]
    assert source.splits[1].given_labels.tolist() == [0]
    assert source.splits[1].read(0) == picture(2, 2)
    make(tmp_path / "b", f"{composed}/1.jpg", f"{apart}/1.jpg")
    with pytest.raises(FastnoisyError, match=r"two class folders .* that look alike"):
        folder.open(tmp_path / "b")


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\x1b]0;x\x07", b"a\nb", "a\u202eb".encode(), b"\x9b31m"])
def test_a_class_name_that_is_no_text_is_refused(tmp_path: Path, name: bytes) -> None:
    make(tmp_path, "cat/1.jpg")
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    place.mkdir()
    (place / "1.jpg").write_bytes(picture(1, 1))
    with pytest.raises(FastnoisyError, match="whose name is no plain text") as caught:
        folder.open(tmp_path)
    assert str(caught.value).isprintable()


def test_joiners_of_persian_and_emoji_are_letters(tmp_path: Path) -> None:
    names = ["می\u200cخواهم", "👩\u200d🚒"]
    make(tmp_path, *(f"{name}/1.jpg" for name in names))
    assert folder.open(tmp_path).class_names == sorted(names)


def test_a_link_to_the_data_set_itself_gives_no_image_a_second_label(tmp_path: Path) -> None:
    """Neither as a class, nor within a class that is itself a link to elsewhere."""
    root = make(tmp_path / "in", "cat/1.jpg", "dog/2.jpg")
    make(tmp_path, "away/3.jpg")
    (root / "all").symlink_to(".")
    (root / "cow").symlink_to(tmp_path / "away")
    (tmp_path / "away/back").symlink_to(root)
    (split,) = folder.open(root).splits
    assert list(split.paths) == ["cat/1.jpg", "cow/3.jpg", "dog/2.jpg"]
    assert list(split.rejected) == [(name, "a link to a folder that it lies in") for name in ("all", "cow/back")]


def test_links_that_multiply_are_an_error(tmp_path: Path) -> None:
    """Two links in each of 40 folders lead to the last one in 2 ** 40 ways, none of them a circle."""
    for i in range(40):
        (tmp_path / f"cat/{i}").mkdir(parents=True)
        for name in "ab":
            (tmp_path / f"cat/{i}/{name}").symlink_to(f"../{i + 1}")
    make(tmp_path, "cat/40/x.jpg")
    with pytest.raises(FastnoisyError, match="in more than 100 ways"):
        folder.open(tmp_path)


def test_images_in_hidden_folders_are_told_of(tmp_path: Path) -> None:
    make(
        tmp_path, "train/cat/1.jpg", "train/cat/.old/2.jpg", "train/.cow/deep/3.png", ".val/cat/4.jpg", "val/cat/5.jpg"
    )
    (tmp_path / "train/cat/.old/notes.txt").write_text("x")
    source = folder.open(tmp_path)
    assert [list(split.paths) for split in source.splits] == [["train/cat/1.jpg"], ["val/cat/5.jpg"]]
    assert source.notes == ["folder: passed over hidden files that are named as images: 3"]


def test_splits_below_the_classes_are_told_of(tmp_path: Path) -> None:
    make(tmp_path, "cat/Training/1.jpg", "cat/Testing/2.jpg", "dog/Training/3.jpg")
    assert folder.open(tmp_path).notes == [
        "folder: Testing and Training within class folders are no splits: those have the class folders in them;"
        " their images are all train"
    ]
    make(tmp_path / "b", "cat/test/1.jpg", "dog/side/2.jpg")  # one such word may be anything
    assert folder.open(tmp_path / "b").notes == []


def test_a_folder_around_the_classes_is_told_of(tmp_path: Path) -> None:
    make(tmp_path, "pets/cat/1.jpg", "pets/dog/2.jpg", "pets/dog/deep/3.jpg")
    assert folder.open(tmp_path).notes == [
        "folder: the one class is pets; if the folders in it are the classes (cat, dog), give its path"
    ]
    assert folder.open(tmp_path / "pets").notes == []
