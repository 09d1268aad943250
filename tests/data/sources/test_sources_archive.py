"""Archives of class folders: read as folders are, whoever packed them; damaged and hostile ones are one line."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import subprocess
import tarfile
import tempfile
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from fastnoisy.data.conversion.convert import convert
from fastnoisy.data.sources import archive, base, folder
from fastnoisy.data.sources._example import picture, write_picture
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError

NAMES = [f"{name}/{i}.jpg" for name in ("cat", "dog") for i in range(4)]


def pack(path: Path, names: list[str], top: str = "") -> Path:
    """An archive of pictures in the form that its name says."""
    files = {f"{top}{name}": picture(len(name), i) for i, name in enumerate(names)}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name, content in files.items():
                made.writestr(name, content)
        return path
    form = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, form) as made:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("top", ["", "pets/", "./", "a/b/"])
def test_every_form_is_recognised_and_read(tmp_path: Path, form: str, top: str) -> None:
    path = pack(tmp_path / f"pets.{form}", NAMES, top)
    assert base.resolve(str(path))[0] == "archive"
    source, _ = base.open_source(str(path))
    (split,) = source.splits
    assert source.class_names == ["cat", "dog"]
    assert list(split.paths) == NAMES
    assert split.given_labels.tolist() == [0] * 4 + [1] * 4
    assert [split.read(i) for i in (7, 0, 3)] == [picture(9, 7), picture(9, 0), picture(9, 3)]
    assert list(split.rejected) == []
    assert split.stamp(0) == base.stamp_of(path)


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_it_becomes_the_store_of_the_folder(tmp_path: Path, form: str, start: str) -> None:
    names = [f"{split}/{name}/{i}.jpg" for split in ("Training", "val") for name in ("10", "9") for i in range(12)]
    path = pack(tmp_path / f"pets.{form}", names, "pets/")
    for i, name in enumerate(names):
        write_picture(tmp_path / "pets" / name, 0, 0)
        (tmp_path / "pets" / name).write_bytes(picture(len(name), i))
    convert(str(path), tmp_path / "a", workers=2, start=start)
    convert(str(tmp_path / "pets"), tmp_path / "b", workers=1)
    for name in ("train.beton", "val.beton", "train.meta/sources.txt", "val.meta/labels.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with open_store(tmp_path / "a") as store:
        assert store.class_names == ["9", "10"]


def test_what_macos_windows_and_a_nas_put_into_archives(tmp_path: Path) -> None:
    more = [
        "__MACOSX/pets/cat/._0.jpg",
        "pets/.DS_Store",
        "pets/cat/Thumbs.db",
        "pets/@eaDir/x.jpg",
        "pets/cat/._1.jpg",
    ]
    beside = ["pets/stray.png", "pets/README.txt", "pets/cat/notes.txt", "pets/dog/.hidden.jpg"]
    path = pack(tmp_path / "a.zip", [f"pets/{name}" for name in NAMES] + more + beside)
    source = archive.open(path)
    (split,) = source.splits
    assert list(split.paths) == NAMES
    assert list(split.rejected) == [("stray.png", folder.NO_CLASS)]
    told = " ".join(source.notes)
    for words in ("@eaDir (1)", "._* (1)", ".txt (1)", "hidden files that are named as images: 1", "within pets/"):
        assert words in told
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as made:
        for name in ("cat\\0.jpg", "dog\\0.jpg"):
            info = zipfile.ZipInfo("x")
            info.filename = name
            made.writestr(info, picture(0, 0))
    assert archive.open(tmp_path / "b.zip").class_names == ["cat", "dog"]


def test_names_of_other_alphabets(tmp_path: Path) -> None:
    """UTF-8 that is not said to be (macOS, many servers), and said to be."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("café/0.jpg", picture(0, 0))
        made.writestr("寿司/0.jpg", picture(0, 1))
    data = path.read_bytes()
    assert archive.open(path).class_names == ["café", "寿司"]
    unsaid = bytearray(data)
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = unsaid.find(mark)
        while at >= 0:
            unsaid[at + offset + 1] &= ~0x08 & 0xFF
            at = unsaid.find(mark, at + 1)
    path.write_bytes(unsaid)
    assert archive.open(path).class_names == ["café", "寿司"]


def test_links_within_are_rejected(tmp_path: Path) -> None:
    for i, name in enumerate(NAMES):
        write_picture(tmp_path / "in" / name, 0, i)
    (tmp_path / "in/cat/link.jpg").symlink_to("0.jpg")
    os.link(tmp_path / "in/dog/0.jpg", tmp_path / "in/dog/twice.jpg")
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        made.add(tmp_path / "in", "in")
    (split,) = archive.open(tmp_path / "a.tar").splits
    assert len(split) == 8
    reasons = dict(split.rejected)
    assert reasons["cat/link.jpg"] == "a link within the archive"
    assert len(reasons) == 2
    info = zipfile.ZipInfo("cat/link.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(pack(tmp_path / "a.zip", NAMES), "a") as made:
        made.writestr(info, "0.jpg")
    assert list(archive.open(tmp_path / "a.zip").splits[0].rejected) == [("cat/link.jpg", "a link within the archive")]


def test_samples_with_labels_are_shards_and_class_folders_are_not(tmp_path: Path) -> None:
    assert base.resolve(str(pack(tmp_path / "a.tar", NAMES)))[0] == "archive"
    shards = Path(base.find("wds").make_example(tmp_path / "wds"))
    assert base.resolve(str(shards / "train-000.tar"))[0] == "wds"


def test_annotations_beside_images_are_no_labels_of_samples(tmp_path: Path) -> None:
    """As an annotation tool leaves them, NAME.json beside NAME.jpg; a flat archive has no class folders."""
    annotated = tmp_path / "a.tar"
    with tarfile.open(annotated, "w") as made:
        for name in NAMES:
            for path, content in ((name, picture(0, 0)), (name.replace(".jpg", ".json"), b'{"shapes": []}')):
                member = tarfile.TarInfo(path)
                member.size = len(content)
                made.addfile(member, io.BytesIO(content))
    assert base.resolve(str(annotated))[0] == "archive"
    source = archive.open(annotated)
    assert list(source.splits[0].paths) == NAMES
    assert source.notes == ["archive: passed over files whose names are of no images: .json (8)"]
    assert base.resolve(str(pack(tmp_path / "b.tar", ["v1.0.jpg", "v1.0.cls"])))[0] == "wds"


def test_images_in_hidden_folders_are_told_of(tmp_path: Path) -> None:
    more = ["dog/.old/1.jpg", ".cow/deep/2.png", "cat/.x.jpg", "cat/.old/notes.txt"]
    source = archive.open(pack(tmp_path / "a.zip", NAMES + more))
    assert list(source.splits[0].paths) == NAMES
    assert source.notes == ["archive: passed over hidden files that are named as images: 3"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_of_members_of_one_name_the_last_is_taken_and_that_is_told(tmp_path: Path, form: str) -> None:
    path, content = pack(tmp_path / f"a.{form}", NAMES), picture(1, 20)
    if form == "zip":
        with zipfile.ZipFile(path, "a") as zipped:
            zipped.writestr(NAMES[2], content)
    else:
        with tarfile.open(path, "a") as made:
            member = tarfile.TarInfo(f"./{NAMES[2]}")
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    source = archive.open(path)
    assert list(source.splits[0].paths) == NAMES
    assert source.splits[0].read(2) == content
    assert source.notes == ["archive: members that another of the same name stands after, which is taken: 1"]


def test_names_in_an_unknown_code_page_are_told_of(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", ["aa/1.jpg", "bb/1.jpg"])
    data = path.read_bytes()
    for plain, name in ((b"aa/", "猫"), (b"bb/", "狗")):
        data = data.replace(plain, name.encode("gbk") + b"/")
    assert "猫".encode("gbk").decode("utf-8") == "è", "one of them is UTF-8 of another letter"
    path.write_bytes(data)
    source = archive.open(path)
    assert source.class_names == ["├¿", "╣╖"]
    (note,) = source.notes
    assert "names in a code page that the archive does not tell are read as cp437: 2" in note
    assert archive.open(pack(tmp_path / "b.zip", ["猫/1.jpg", "犬/1.jpg"])).notes == []


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_names_as_long_as_no_path_are_refused(tmp_path: Path, form: str) -> None:
    """Each part of one is a folder: a name of a MiB would take hundreds of GiB."""
    with pytest.raises(FastnoisyError, match=r"a name of 6,\d+ characters"):
        archive.open(pack(tmp_path / f"a.{form}", [*NAMES, "cat/" + "a/" * 3000 + "x.jpg"]))


def test_a_member_that_holds_more_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    path, size = tmp_path / "a.zip", 1 << 26
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("cat/1.jpg", bytes(size))
        made.writestr("cat/2.jpg", picture(0, 0))
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", size), struct.pack("<L", 10)))
    split = archive.open(path).splits[0]
    assert split.read(1) == picture(0, 0)
    tracemalloc.start()
    try:
        with pytest.raises(FastnoisyError, match="damaged within the archive"):
            split.read(0)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_whose_output_cannot_be_bounded_are_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as made:
        made.writestr("cat/1.jpg", picture(0, 0))
    with pytest.raises(FastnoisyError, match=r"has 'cat/1\.jpg' compressed by another method than deflate"):
        archive.open(tmp_path / "a.zip")


def test_an_archive_that_holds_far_more_than_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 1 << 22)
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as made:
        member = tarfile.TarInfo("cat/1.jpg")
        member.size = 1 << 24
        made.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(FastnoisyError, match=r"holds more than 250 times its size"):
        archive.open(path)


def test_no_room_to_unpack_names_the_folder_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(FastnoisyError, match=r"no room in .* to unpack .*a\.tar\.xz: No space left.*set TMPDIR"):
        archive.open(pack(tmp_path / "a.tar.xz", NAMES))


def test_sparse_and_special_members_are_rejected(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", NAMES)
    with tarfile.open(path, "a") as made:
        for name, kind in (("cat/s.jpg", tarfile.GNUTYPE_SPARSE), ("dog/p.jpg", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type = kind
            made.addfile(member)
    assert list(archive.open(path).splits[0].rejected) == [
        ("cat/s.jpg", "packed with holes (sparse)"),
        ("dog/p.jpg", "neither a file nor a folder"),
    ]


@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../out.jpg", "/etc/passwd", "cat/../../x.jpg", "C:/x.jpg"])
def test_names_that_lead_out_are_refused(tmp_path: Path, form: str, name: str) -> None:
    with pytest.raises(FastnoisyError, match=r"has a member .*names must stay within"):
        archive.open(pack(tmp_path / f"a.{form}", [*NAMES, name]))


def test_encrypted_damaged_and_cut_archives_are_one_line(tmp_path: Path) -> None:
    for form in ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz"):
        path = pack(tmp_path / f"a.{form}", NAMES)
        whole = path.read_bytes()
        for content in (b"", b"nothing", whole[: len(whole) // 2], whole[:-30]):
            path.write_bytes(content)
            with (
                pytest.raises(FastnoisyError, match=rf"a\.{form}")
                if content != whole[:-30]
                else suppress(FastnoisyError)
            ):
                archive.open(path)
    path = pack(tmp_path / "b.zip", NAMES)
    data = bytearray(path.read_bytes())
    at = data.find(picture(9, 0)[:40])
    assert at == -1, "packed"
    data[200] ^= 0xFF
    path.write_bytes(data)
    split = archive.open(path).splits[0]
    with pytest.raises(FastnoisyError, match="damaged within the archive"):
        split.read(0)
    data = bytearray(pack(tmp_path / "c.zip", NAMES).read_bytes())
    data[data.find(b"PK\1\2") + 8] |= 1
    (tmp_path / "c.zip").write_bytes(data)
    with pytest.raises(FastnoisyError, match="is encrypted"):
        archive.open(tmp_path / "c.zip")


def test_the_systems_own_zip(tmp_path: Path) -> None:
    for i, name in enumerate(NAMES):
        write_picture(tmp_path / "pets" / name, 0, i)
    try:
        subprocess.run(["zip", "-qr", "a.zip", "pets"], cwd=tmp_path, check=True)
    except OSError:
        pytest.skip("the program zip is not installed")
    assert list(archive.open(tmp_path / "a.zip").splits[0].paths) == NAMES
