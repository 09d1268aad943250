"""What list-made sources share: long lists in little memory, labels that turn out to be numbers or names,
recognition.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fastnoisy.cli import cli
from fastnoisy.data.sources import _lists, base
from fastnoisy.data.sources._example import write_picture
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files.words import split_in_name


def test_texts_are_a_sequence_of_what_was_added() -> None:
    texts = _lists.Texts()
    words = ["a/b.jpg", "", "ä ö.jpg", os.fsdecode(b"\xff\xfe.jpg"), "a/b.jpg"]
    for word in words:
        texts.append(os.fsencode(word))
    assert list(texts) == words == [texts[i] for i in range(len(texts))]
    assert (texts[-1], texts[1:3], texts[np.int64(2)]) == (words[-1], words[1:3], words[2])
    assert texts.raw(3) == b"\xff\xfe.jpg"
    assert len(np.unique(texts.hashes())) == 4
    assert "a/b.jpg" in texts
    with pytest.raises(IndexError):
        texts[5]


def test_a_list_is_read_whatever_made_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa.jpg 1\r\n\r\nb c/d.jpg\t2  \r\n   \n\xff.jpg   0")
    listing = _lists.read_list("kind", path, 3, keep=3)
    assert list(listing.names) == ["a.jpg", "b c/d.jpg", os.fsdecode(b"\xff.jpg")]
    assert listing.labels.tolist() == [1, 2, 0]
    assert list(_lists.read_list("kind", path, 3, keep=2).names) == ["a.jpg", os.fsdecode(b"\xff.jpg")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.jpg 1\nb.jpg\n", r"line 2, is 'b\.jpg'.*path, a space and the label"),
        (b"a.jpg 1\nb.jpg one\n", r"line 2, is 'b\.jpg one'"),
        (b"a.jpg -1\n", r"line 1, is 'a\.jpg -1'"),
        (b"a.jpg 1_0\n", r"line 1, is"),
        (b"\n\na.jpg 3\n", r"line 3, has the label 3.*from 0 to 2.*another data set"),
        (b"a.jpg 99999999999999999999999999\n", r"line 1, has the label 9999"),
        (b"/etc/passwd 1\n", r"line 1, has the path '/etc/passwd'.*relative"),
        (b"a/../../b.jpg 1\n", r"line 1, has the path"),
        (b"a\0.jpg 1\n", r"line 1, has the path"),
        (b"", r"list\.txt is empty"),
        (b"\r\n \n", r"list\.txt is empty"),
        (b"a.jpg 1\n" + b"x" * 70_000, r"line 2, has more than 65536 bytes.*no list"),
        ("a.jpg 1\n".encode("utf-16"), r"line 1, "),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(FastnoisyError, match=message) as caught:
        _lists.read_list("kind", tmp_path / "list.txt", 3, keep=3)
    assert str(tmp_path / "list.txt") in caught.value.message
    assert caught.value.remedy


def test_dots_in_a_name_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a..b/c...jpg 1\n")
    assert list(_lists.read_list("kind", tmp_path / "list.txt", 3, keep=3).names) == ["a..b/c...jpg"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-000.tar", "train"),
        ("imagenet-val-0003", "val"),
        ("VALIDATION/0001", "val"),
        ("cifar_test", "test"),
        ("testing_2", "test"),
        ("testset", "test"),
        ("trainval", "train"),
        ("contest-1", "train"),
        ("valley", "train"),
        ("latest", "train"),
        ("000017", "train"),
    ],
)
def test_the_split_that_a_name_tells_of(name: str, split: str) -> None:
    assert split_in_name(name) == split


def test_duplicates_are_counted_within_and_between_splits() -> None:
    splits = {name: _lists.Texts() for name in ("train", "val")}
    for text in (b"a", b"b", b"a", b"a"):
        splits["train"].append(text)
    for text in (b"b", b"c"):
        splits["val"].append(text)
    assert _lists.duplicate_notes("kind", splits) == [
        "kind: lines of train that name an image once more: 2; all are kept",
        "kind: images both in train and in val: 1",
    ]


# What all sources share


def test_a_pipe_or_a_folder_is_no_image_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("pipe", ".", "missing"):
        with pytest.raises(OSError, match=r"not a regular file|No such file"):
            base.read_file(tmp_path / name)
    assert len(os.listdir("/proc/self/fd")) == before


def test_more_than_a_gibibyte_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "big").write_bytes(b"x" * 11)
    monkeypatch.setattr(base, "MAX_FILE_BYTES", 10)
    with pytest.raises(FastnoisyError, match="more than 1 GiB"):
        base.read_file(tmp_path / "big")


def test_the_help_of_convert_lists_every_kind() -> None:
    text = CliRunner().invoke(cli, ["convert", "--help"]).output
    for kind in base.kinds():
        assert f"  {kind} " in text


def test_archives_beside_unpacked_folders_do_not_confuse(tmp_path: Path) -> None:
    """People keep what they downloaded."""
    tree = Path(base.find("webvision").make_example(tmp_path))
    (tree / "google_resized_256.tar").write_bytes(b"")
    (tree / "list.csv").write_text("x")
    assert base.resolve(str(tree))[0] == "webvision"
    photos = tmp_path / "photos"
    for name in ("cat", "dog"):
        write_picture(photos / name / "1.jpg", 0, 0)
    (photos / "photos.tar").write_bytes(b"")
    assert base.resolve(str(photos))[0] == "folder"
    shards = tmp_path / "shards"
    for name in ("train", "val"):
        (shards / name).mkdir(parents=True)
        (shards / name / "0.tar").write_bytes(b"")
    with pytest.raises(FastnoisyError, match="could be folder or wds"):
        base.resolve(str(shards))


def test_a_file_without_an_end_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of the system's own have no size and no end, and one that is being written may outgrow every bound."""
    (tmp_path / "grows").write_bytes(b"")
    monkeypatch.setattr(base, "MAX_FILE_BYTES", 1 << 22)
    monkeypatch.setattr(os, "read", lambda descriptor, size: bytes(size))
    with pytest.raises(FastnoisyError, match="more than 1 GiB in one file"):
        base.read_file(tmp_path / "grows")
