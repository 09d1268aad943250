"""Archives of class folders: read as folders are, whoever packed them; damaged and hostile ones are one line."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
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
