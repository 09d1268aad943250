"""WebDataset shards: what makes a sample, which files a path means, and archives that are damaged or hostile."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from fastnoisy.data.conversion.convert import ConvertOptions, convert, hold_out_test, merge
from fastnoisy.data.conversion.shards import Shard
from fastnoisy.data.sources import base, wds
from fastnoisy.data.sources._example import picture
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError

cifar10 = base.find("cifar10")

JPEG = picture(0, 0)


def shard(path: Path, *members: tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(*keys: str, label: str = "0") -> list[tuple[str, bytes]]:
    return [
        (f"{key}.{suffix}", content) for key in keys for suffix, content in (("jpg", JPEG), ("cls", label.encode()))
    ]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_makes_a_sample(tmp_path: Path, form: int) -> None:
    long = "deep/" * 30 + "f" * 90
    members = [
        ("a.jpg", JPEG),
        ("a.cls", b" 2\n"),
        ("b/c.x/0.JPEG", JPEG),
        ("b/c.x/0.json", json.dumps({"label": 1, "width": 3}).encode()),
        ("d.cls", b"0"),
        ("d.seg.png", b"not the image"),
        ("d.webp", JPEG + b"!"),
        ("._e.jpg", b"left by a desktop"),
        ("README", b"no sample"),
        (f"{long}.jpg", JPEG),
        (f"{long}.cls", b"1"),
    ]
    if form == tarfile.USTAR_FORMAT:
        members = members[:-2]
    source = wds.open(shard(tmp_path / "data.tar", *members, form=form))
    (train,) = source.splits
    paths = ["data.tar/a.jpg", "data.tar/b/c.x/0.JPEG", "data.tar/d.webp", f"data.tar/{long}.jpg"]
    assert list(train.paths) == paths[: len(train)]
    assert train.given_labels.tolist() == [2, 1, 0, 1][: len(train)]
    assert len(train) == (3 if form == tarfile.USTAR_FORMAT else 4)
    assert source.class_names == ["0", "1", "2"]
    assert [train.read(i) for i in range(3)] == [JPEG, JPEG, JPEG + b"!"]
    assert source.notes == ["wds: samples with more than one image, of which the first is taken: 1"]


def test_labels_as_names_and_names_for_numbers(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", *samples("0", label="dog"), *samples("1", label="cat"))
    assert wds.open(path).class_names == ["cat", "dog"]
    assert wds.open(path).splits[0].given_labels.tolist() == [1, 0]
    (tmp_path / "classes.txt").write_text("dog\ncat\nowl\n")
    source = wds.open(path)
    assert source.splits[0].given_labels.tolist() == [0, 1]
    assert source.notes == ["wds: 1 of 3 classes have no image: owl"]


def test_samples_without_image_or_label_are_left_out_and_noted(tmp_path: Path) -> None:
    members = [*samples("0", "1"), ("2.cls", b"0"), ("3.jpg", JPEG), ("4.jpg", JPEG), ("4.json", b"{not json")]
    members += [("5.jpg", JPEG), ("5.json", b'{"label": null}'), ("6.jpg", JPEG), ("6.cls", b" ")]
    source = wds.open(shard(tmp_path / "a.tar", *members))
    assert len(source.splits[0]) == 2
    assert source.notes == [
        "wds: samples left out since they have no image: 1; the first begins with a.tar/2.cls",
        "wds: samples left out since they have no label in .cls or under 'label' in .json: 4; the first begins with "
        "a.tar/3.jpg",
    ]
    with pytest.raises(
        FastnoisyError, match=r"no sample with an image and a label .wds: samples left out since they have no label"
    ):
        wds.open(shard(tmp_path / "b.tar", ("3.jpg", JPEG)))


def test_unlabelled_images_are_listed_as_rejected_whoever_converts_them(tmp_path: Path) -> None:
    for split, names in (("train", "abcdefgh"), ("val", "xyz")):
        more = [("4.jpg", JPEG), ("5.png", JPEG), ("5.json", b"{}"), ("6.cls", b"0")] if split == "train" else []
        shard(tmp_path / f"in/{split}-0.tar", *samples(*names, label="0"), *more, *samples("q", label="1"))
    (tmp_path / "in/classes.txt").write_text("cat\ndog\n")
    source, out = f"wds:{tmp_path / 'in'}", tmp_path / "out"
    with pytest.raises(
        FastnoisyError, match=r"train: more than 5\.0% of 11 images cannot be stored; for example"
    ) as caught:
        convert(source, out, progress=lambda status: pytest.fail("it is known before the first image"))
    assert (
        "train-0.tar/4.jpg: it has no label; train-0.tar/5.png: it has no label; all 2 so far" in caught.value.message
    )
    options = ConvertOptions(max_rejected=0.2)
    summary = convert(source, out, options=options)
    assert [(split.stored, split.rejected, split.lost) for split in summary.splits] == [(9, 2, 0), (4, 0, 0)]
    with open_store(out) as store:
        listed = [("train-0.tar/4.jpg", "it has no label"), ("train-0.tar/5.png", "it has no label")]
        assert list(store.split("train").listed("rejected")) == listed
        assert store.split("train").info["num_rejected"] == 2
    for index in range(3):
        convert(source, tmp_path / "merged", options=options, shard=Shard(index, 3))
    again = convert(source, tmp_path / "merged", options=options, shard=Shard(0, 3))
    assert again.splits[0].rejected == 0  # the shard's own; those without a label are the whole's
    assert merge(tmp_path / "merged").splits == summary.splits
    for path in sorted(out.rglob("*")):
        if path.is_file():
            assert (tmp_path / "merged" / path.relative_to(out)).read_bytes() == path.read_bytes(), path


def test_unlabelled_images_stay_with_the_rest_when_a_test_set_is_held_out(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", *samples("0", "1", "2", "3"), *samples("4", "5", label="1"), ("6.jpg", JPEG))
    rest, test = hold_out_test(wds.open(path).splits, 0.5)
    assert (list(rest.rejected), list(test.rejected)) == ([("a.tar/6.jpg", "it has no label")], [])


def test_a_key_that_comes_twice_is_two_samples(tmp_path: Path) -> None:
    source = wds.open(shard(tmp_path / "a.tar", *samples("0"), *samples("0")))
    assert len(source.splits[0]) == 2


def test_links_and_folders_in_an_archive_are_no_images(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", *samples("0"))
    with tarfile.open(path, "a") as archive:
        for name, kind in (("1.jpg", tarfile.SYMTYPE), ("2.jpg", tarfile.LNKTYPE), ("3.jpg", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
            label = tarfile.TarInfo(name.replace("jpg", "cls"))
            label.size = 1
            archive.addfile(label, io.BytesIO(b"0"))
    source = wds.open(path)
    assert list(source.splits[0].paths) == ["a.tar/0.jpg"]
    assert "have no image: 3;" in source.notes[0]


# Which shards


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number in range(12):
        shard(tmp_path / f"s/train-{number:03d}.tar", *samples(f"{number}"))
    shard(tmp_path / "s/val-000.tar", *samples("v"))
    return tmp_path / "s"


@pytest.mark.parametrize(
    ("pattern", "counts"),
    [
        ("", {"train": 12, "val": 1}),
        ("train-000.tar", {"train": 1}),
        ("train-{000..009}.tar", {"train": 10}),
        ("train-{3,10}.tar", None),
        ("{train,val}-000.tar", {"train": 1, "val": 1}),
        ("val-*.tar", {"val": 1}),
        ("train-00?.tar", {"train": 10}),
        ("{train-00[01],val-*}.tar", {"train": 2, "val": 1}),
        ("train-{000..020}.tar", None),
        ("none-*.tar", None),
        ("none.tar", None),
        ("train-{9..1}.tar", None),
        ("train-{0..999999999}.tar", None),
        ("{0..999}{0..999}.tar", None),
    ],
)
def test_which_shards_a_path_means(shards: Path, pattern: str, counts: dict[str, int] | None) -> None:
    if counts is None:
        with pytest.raises(
            FastnoisyError, match=r"missing: .*tar|fits no file|does not exist|is no range|means 1,000,000"
        ):
            base.open_source(f"wds:{shards}/{pattern}")
        return
    source, name = base.open_source(f"wds:{shards}/{pattern}")
    assert name.startswith(f"wds:{shards}")
    assert {split.name: len(split) for split in source.splits} == counts
    assert source.splits[0].read(0) == JPEG
    assert list(source.splits[0].paths) == sorted(source.splits[0].paths)


def test_folders_called_train_and_val(tmp_path: Path) -> None:
    shard(tmp_path / "train/0.tar", *samples("0"))
    shard(tmp_path / "val/0.tar", *samples("0"))
    source = wds.open(tmp_path)
    assert [(split.name, list(split.paths)) for split in source.splits] == [
        ("train", ["train/0.tar/0.jpg"]),
        ("val", ["val/0.tar/0.jpg"]),
    ]


def test_what_is_recognised(shards: Path, tmp_path: Path) -> None:
    assert base.resolve(str(shards)) == ("wds", shards)
    assert base.resolve(str(shards / "val-000.tar"))[0] == "wds"
    published = Path(cifar10.make_example(tmp_path / "c"))
    with tarfile.open(tmp_path / "cifar-10-python.tar", "w") as archive:
        archive.add(published / "cifar-10-batches-py", "cifar-10-batches-py")
    assert base.resolve(str(tmp_path / "cifar-10-python.tar"))[0] == "cifar10"


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar"])
def test_compressed_shards_are_refused(tmp_path: Path, name: str) -> None:
    plain = shard(tmp_path / "plain.tar", *samples("0")).read_bytes()
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / name).write_bytes(gzip.compress(plain))
    for path in (tmp_path / "packed", tmp_path / "packed" / name):
        with pytest.raises(FastnoisyError, match=r"is compressed.*gunzip"):
            wds.open(path)


# Damage and attack


def test_every_cut_is_found(tmp_path: Path) -> None:
    data = shard(tmp_path / "a.tar", *samples("0", "1", "2")).read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        end = archive.getmembers()[-1].offset_data + 512
        starts = {member.offset for member in archive.getmembers()}
    for keep in [*range(0, end, 100), *starts, end - 512, end]:
        (tmp_path / "a.tar").write_bytes(data[:keep])
        if keep == end or keep in starts - {0, 1536}:  # 1536: after the first image, before its label
            notes = wds.open(tmp_path / "a.tar").notes
            assert any("has no end mark; it may have been cut off" in note for note in notes), keep
        else:
            with pytest.raises(
                FastnoisyError, match=r"is no \.tar, or damaged|ends within|has something|has no end mark"
            ):
                wds.open(tmp_path / "a.tar")


def test_a_broken_header_is_not_the_end(tmp_path: Path) -> None:
    data = bytearray(shard(tmp_path / "a.tar", *samples("0", "1")).read_bytes())
    with tarfile.open(tmp_path / "a.tar") as archive:
        place = archive.getmember("1.jpg").offset
    for flip in range(0, 512, 8):
        broken = bytearray(data)
        broken[place + flip] ^= 0x55
        (tmp_path / "a.tar").write_bytes(broken)
        with pytest.raises(FastnoisyError, match=rf"something that is no header at byte {place}|damaged"):
            wds.open(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(data * 2)
    with pytest.raises(FastnoisyError, match="archives joined"):
        wds.open(tmp_path / "a.tar")


def patched(path: Path, name: str, start: int, value: bytes) -> None:
    """Change a field of a member's header, with a right checksum."""
    with tarfile.open(path) as archive:
        place = archive.getmember(name).offset
    data = bytearray(path.read_bytes())
    data[place + start : place + start + len(value)] = value
    data[place + 148 : place + 156] = b" " * 8
    data[place + 148 : place + 156] = b"%06o\0 " % sum(data[place : place + 512])
    path.write_bytes(data)


@pytest.mark.parametrize(
    "size",
    [
        b"77777777777\0",
        b"\xff" * 12,
        b"\xff" * 10 + b"\xf0\x00",
        b"\x80" + b"\x7f" * 11,
        b"\xff" * 4 + b"\x80" + b"\0" * 7,
    ],
)
def test_sizes_that_lead_out_of_the_file_or_round_in_it(tmp_path: Path, size: bytes) -> None:
    path = shard(tmp_path / "a.tar", *samples("0", "1", "2"))
    patched(path, "1.jpg", 124, size)
    with pytest.raises(FastnoisyError, match=r"a\.tar"):
        wds.open(path)


@pytest.mark.parametrize("name", ["/etc/passwd.jpg", "../../etc/passwd.jpg", "a/../../b.jpg"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FastnoisyError, match=r"a\.tar has a member '.*must stay within"):
        wds.open(shard(tmp_path / "a.tar", *samples("0"), (name, JPEG)))


def test_a_gigantic_member_is_rejected_when_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = wds.open(shard(tmp_path / "a.tar", *samples("0")))
    monkeypatch.setattr(wds, "MAX_FILE_BYTES", len(JPEG) - 1)
    with pytest.raises(FastnoisyError, match="more than 1 GiB"):
        source.splits[0].read(0)


def test_a_gigantic_label_is_not_read(tmp_path: Path) -> None:
    members = [*samples("0"), ("1.jpg", JPEG), ("1.cls", b"0" * ((1 << 20) + 1))]
    assert "in .json: 1;" in wds.open(shard(tmp_path / "a.tar", *members)).notes[0]


@pytest.mark.parametrize("label", [b"\xff\xfe", b"caf\xe9", b"a\0b", b"a\x1b[31m", b"-3"])
def test_labels_that_mean_nothing_name_shard_and_sample(tmp_path: Path, label: bytes) -> None:
    path = shard(tmp_path / "a.tar", ("0.jpg", JPEG), ("0.cls", label))
    with pytest.raises(FastnoisyError, match=r"a\.tar: 0\.jpg has the label"):
        wds.open(path)


def test_a_shard_that_shrinks_or_goes_after_it_was_opened(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", *samples("0", "1"))
    split = wds.open(path).splits[0]
    os.truncate(path, 600)
    with pytest.raises(OSError, match="has become shorter"):
        split.read(1)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        split.read(0)


def test_images_whose_names_have_dots_are_rejected_with_the_cause(tmp_path: Path) -> None:
    """A sample's key ends at the first dot, as webdataset itself has it: the others are lost, and must be counted."""
    keys = [f"{i:03}" if i % 2 else f"img.{i:03}" for i in range(80)]
    path = shard(tmp_path / "a.tar", *samples(*keys))
    source = wds.open(path)
    (split,) = source.splits
    assert len(split) == 40
    assert len(split.rejected) == 40
    assert split.rejected[0] == (
        "a.tar/img.000.jpg",
        "its name has dots: a sample's is what stands before the first, here 'img', and '000.jpg' is no kind of image",
    )
    with pytest.raises(FastnoisyError, match=r"more than 5\.0% of 80 images cannot be stored"):
        convert(str(path), tmp_path / "out", workers=1)


def test_a_dotted_name_with_a_label_of_its_own_is_no_second_image(tmp_path: Path) -> None:
    """7.jpg, 7.cls, 7.5.jpg and 7.5.cls are two samples to whoever named them; 7.seg.png is a mask of the first."""
    keys = [key for i in range(4) for key in (f"shot{i}", f"shot{i}.5")]
    path = shard(tmp_path / "a.tar", *samples(*keys), ("m.jpg", JPEG), ("m.seg.png", JPEG), ("m.cls", b"0"))
    source = wds.open(path)
    (split,) = source.splits
    assert len(split) == 5
    assert [name for name, _ in split.rejected] == [f"a.tar/shot{i}.5.jpg" for i in range(4)]
    assert "its name has dots" in split.rejected[0][1]
    assert source.notes[0] == "wds: samples with more than one image, of which the first is taken: 1"


def test_a_split_of_which_nothing_can_be_used_is_an_error_or_a_note(tmp_path: Path) -> None:
    shard(tmp_path / "train.tar", *samples("a", "b"))
    shard(tmp_path / "val.tar", *samples("v1.0", "v1.1"))
    with pytest.raises(FastnoisyError, match=r"val: not one of 2 images can be used; for example val\.tar/v1\.0\.jpg"):
        wds.open(tmp_path)
    shard(tmp_path / "val.tar", ("0.jpg", JPEG), ("1.jpg", JPEG))
    assert "wds: val is left out: none of its 2 images has a label" in wds.open(tmp_path).notes


def test_links_and_sparse_images_in_shards_are_rejected(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", *samples("a", "b"))
    with tarfile.open(path, "a") as archive:
        for name, kind in (("c.jpg", tarfile.SYMTYPE), ("d.png", tarfile.LNKTYPE), ("e.cls", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a.jpg"
            archive.addfile(member)
        member = tarfile.TarInfo("f.jpg")
        member.type = tarfile.GNUTYPE_SPARSE
        archive.addfile(member)
    assert list(wds.open(path).splits[0].rejected) == [
        ("a.tar/c.jpg", "a link within the archive"),
        ("a.tar/d.png", "a link within the archive"),
        ("a.tar/f.jpg", "packed with holes (sparse)"),
    ]


def test_folders_of_shards_are_listed_as_all_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "in"
    for name in ("Training/0.tar", "valid/0.tar", "extra/0.tar", "@eaDir/0.tar", "Training/._0.tar"):
        shard(root / name, *samples("a", "b"))
    source = wds.open(root)
    assert [split.name for split in source.splits] == ["train", "val"]
    assert source.notes == [
        "wds: folders that are not called as splits are left out: extra",
        "wds: passed over what the system keeps for itself: ._* (1), @eaDir (1)",
    ]
    assert base.resolve(str(root / "Training"))[0] == "wds"
    (root / "valid/1.tar").symlink_to("gone.tar")
    with pytest.raises(FastnoisyError, match=r"valid/1\.tar is a link to what is not there"):
        wds.open(root)
    (root / "valid/1.tar").unlink()
    scandir = os.scandir

    def scan(path: str) -> object:
        if str(path).endswith("valid"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(FastnoisyError, match=r"cannot list .*valid: .*permission denied"):
        wds.open(root)
    with pytest.raises(FastnoisyError, match=r"cannot read .*valid: Permission denied"):
        base.open_source(f"wds:{root}/*/*.tar")


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def pax(text: bytes) -> bytes:
    return header("x", len(text), tarfile.XHDTYPE) + text.ljust(-(-len(text) // 512) * 512, b"\0")


END = bytes(1024)
HOSTILE = {
    "long names in a chain": b"".join(
        header("././@LongLink", 512, tarfile.GNUTYPE_LONGNAME) + bytes(512) for _ in range(3000)
    ),
    "a name of 3 GiB": header("././@LongLink", 3 << 30, tarfile.GNUTYPE_LONGNAME),
    "an extended header of 3 GiB": header("x", 3 << 30, tarfile.XHDTYPE),
    "a sparse map that is none": pax(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n")
    + header("0.jpg", 512)
    + b"x" * 512,
    "sparse numbers that are none": pax(b"28 GNU.sparse.map=0,x,1,2\n\n") + header("0.jpg", 0),
    "a size that is none": pax(b"12 size=abc\n") + header("0.jpg", 3) + b"abc".ljust(512, b"\0"),
    "a size below zero": pax(b"11 size=-9\n") + header("0.jpg", 3) + b"abc".ljust(512, b"\0"),
    "a length that is none": pax(b"xx path=0.jpg\n") + header("0.jpg", 3),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_clear_errors(tmp_path: Path, name: str) -> None:
    for kind, folder in (("wds", tmp_path), ("cifar10", tmp_path / "cifar")):
        folder.mkdir(exist_ok=True)
        path = folder / ("a.tar" if kind == "wds" else "cifar-10-python.tar.gz")
        content = HOSTILE[name] + END
        path.write_bytes(content if kind == "wds" else gzip.compress(content))
        with pytest.raises(FastnoisyError) as caught:
            base.open_source(f"{kind}:{path}")
        assert str(path) in str(caught.value)
