"""`correct`: a store of the same records with other labels, class folders, a list; all of it or nothing."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy.data.conversion import correct as correct_module
from fastnoisy.data.conversion.convert import ConvertOptions, LabelOptions, convert
from fastnoisy.data.conversion.correct import correct
from fastnoisy.data.conversion.journal import Part
from fastnoisy.data.store import Split, open_store
from fastnoisy.data.store.verify import verify
from fastnoisy.errors import FastnoisyError

CLASSES = ("cat", "dog", "owl")
FIXES = "path,label\ntrain/owl/3.jpg,cat\ntrain/cat/0.jpg,drop\ntrain/dog/1.jpg,dog\ntest/owl/0.jpg,cat\n"


def photos(root: Path, side: int = 90, kind: str = "jpg", count: int = 5) -> Path:
    """Two splits of three classes."""
    rng = np.random.default_rng(3)
    for split, number in (("train", count), ("test", 2)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 255, (side, side + i, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.{kind}")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photos` of JPEGs converted as `store`, small PNGs converted as `raw`, and corrections."""
    folder = tmp_path_factory.mktemp("correct")
    photos(folder / "photos")
    (folder / "photos/train/cat/broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    convert(str(folder / "photos"), folder / "store", options=ConvertOptions(max_rejected=0.2), workers=1)
    photos(folder / "small", 20, "png")
    convert(str(folder / "small"), folder / "raw", workers=1)
    (folder / "fixes.csv").write_text(FIXES)
    (folder / "small.csv").write_text(FIXES.replace(".jpg", ".png"))
    return folder


def labels_of(store: Path, name: str) -> dict[str, str]:
    with open_store(store) as opened:
        split = opened.split(name)
        return {
            path: opened.class_names[label]
            for path, label in zip(split.sources, split.given_labels.tolist(), strict=True)
        }


def in_folder(root: Path) -> dict[str, str]:
    """The class of each image of a class folder, by the digest of its bytes."""
    return {
        hashlib.sha256(path.read_bytes()).hexdigest(): path.parent.name for path in root.rglob("*") if path.is_file()
    }


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def left_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("store", "fixes", "kind"), [("store", "fixes.csv", "jpg"), ("raw", "small.csv", "raw")])
def test_a_new_store_has_the_same_records_and_the_corrected_labels(
    place: Path, tmp_path: Path, store: str, fixes: str, kind: str
) -> None:
    old, new, said = place / store, tmp_path / "deep/new", []
    before = contents(old)
    seen: list[int] = []
    result = correct(old, place / fixes, out=new, progress=lambda status: seen.append(status.done), say=said.append)
    assert contents(old) == before
    line = "train: 1 changed, 1 unchanged, 1 dropped; test: 1 changed, 0 unchanged, 0 dropped (by path)"
    assert said == [f"labels {place / fixes}: {line}"] == [result.line]
    assert (result.out, result.images) == (new, {"train": 14, "test": 6})
    assert seen == list(range(1, 21))
    assert left_of(tmp_path / "deep") == ["new"]
    end = "jpg" if kind == "jpg" else "png"
    with open_store(old) as a, open_store(new) as b:
        assert a.class_names == b.class_names
        for name in ("train", "test"):
            x, y = a.split(name), b.split(name)
            rows = [row for row, path in enumerate(x.sources) if path != f"train/cat/0.{end}"]
            assert y.sources == [x.sources[row] for row in rows]
            assert [y.read_bytes(i) for i in range(len(rows))] == [x.read_bytes(row) for row in rows]
            assert {y.mode(i) for i in range(len(rows))} == {kind}
            assert (y.sizes == x.sizes[rows]).all()
            assert (y.checksums == x.checksums[rows]).all()
            assert y.listed("rejected") == x.listed("rejected")
            assert y.listed("notes") == x.listed("notes")
            assert y.clean_labels is None
            changed = {f"train/owl/3.{end}": 0, f"test/owl/0.{end}": 0}
            expected = [changed.get(x.sources[row], x.given_labels[row]) for row in rows]
            assert y.given_labels.tolist() == expected
            assert y.verified
            (note,) = y.info["corrections"]
            assert note["labels"] == str(place / fixes)
            assert note["sha256"] == hashlib.sha256((place / fixes).read_bytes()).hexdigest()
            assert note["splits"]["train"] == {"changed": 1, "unchanged": 1, "dropped": 1}
            kept = {key: y.info[key] for key in ("source", "options", "canvas", "fastnoisy", "format")}
            assert kept == {key: x.info[key] for key in kept}
    assert verify(new, workers=1) == []


def test_rows_may_be_named_by_index_and_split(place: Path, tmp_path: Path) -> None:
    (tmp_path / "fixes.csv").write_text("index,split,label\n0,train,owl\n1,test,drop\n14,,cat\n")
    result = correct(place / "store", tmp_path / "fixes.csv", out=tmp_path / "new")
    assert result.images == {"train": 15, "test": 5}
    train, test = labels_of(tmp_path / "new", "train"), labels_of(tmp_path / "new", "test")
    assert (train["train/cat/0.jpg"], train["train/owl/4.jpg"]) == ("owl", "cat")
    assert "test/cat/1.jpg" not in test


def test_a_split_that_is_not_named_is_copied_as_it_is(place: Path, tmp_path: Path) -> None:
    (tmp_path / "fixes.csv").write_text("path,label\ntrain/cat/1.jpg,drop\n")
    correct(place / "store", tmp_path / "fixes.csv", out=tmp_path / "new")
    assert (tmp_path / "new/test.beton").read_bytes() == (place / "store/test.beton").read_bytes()
    assert labels_of(tmp_path / "new", "test") == labels_of(place / "store", "test")


def test_it_is_the_store_that_a_conversion_with_these_corrections_makes(place: Path, tmp_path: Path) -> None:
    correct(place / "raw", place / "small.csv", out=tmp_path / "corrected")
    labels = LabelOptions(labels=str(place / "small.csv"))
    convert(str(place / "small"), tmp_path / "converted", workers=1, labels=labels)
    one, other = contents(tmp_path / "corrected"), contents(tmp_path / "converted")
    for name in ("meta.json", "SHA256SUMS"):  # which tell how it was made
        for split in ("train", "test"):
            del one[f"{split}.meta/{name}"], other[f"{split}.meta/{name}"]
    assert one == other


def test_known_clean_labels_stay_and_a_correction_is_clean(tmp_path: Path) -> None:
    for i in range(4):
        Image.new("RGB", (20, 20), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "list.csv").write_text(
        "path,label,clean_label\n0.png,a,a\n1.png,a,b\n2.png,b,b\n3.png,b,a\n"
    )  # fmt: skip
    convert(str(tmp_path / "list.csv"), tmp_path / "store", workers=1)
    (tmp_path / "fixes.csv").write_text("path,label\n0.png,b\n2.png,drop\n3.png,b\n")
    correct(tmp_path / "store", tmp_path / "fixes.csv", out=tmp_path / "new")
    with open_store(tmp_path / "new") as store:
        split = store.split("train")
        assert split.given_labels.tolist() == [1, 0, 1]
        assert split.clean_labels is not None
        assert split.clean_labels.tolist() == [1, 1, 0]


def test_what_was_corrected_twice_says_so_and_a_stamp_is_not_made_up(place: Path, tmp_path: Path) -> None:
    correct(place / "raw", place / "small.csv", out=tmp_path / "one")
    (tmp_path / "one/train.meta/verified.json").unlink()
    (tmp_path / "more.csv").write_text("path,label\ntrain/dog/0.png,owl\n")
    correct(tmp_path / "one", tmp_path / "more.csv", out=tmp_path / "two")
    with open_store(tmp_path / "two") as store:
        assert [Path(note["labels"]).name for note in store.split("test").info["corrections"]] == [
            "small.csv", "more.csv"
        ]  # fmt: skip
        assert not store.split("train").verified
        assert store.split("test").verified
    assert verify(tmp_path / "two", workers=1) == []


def test_a_list_gives_the_same_labels_however_it_is_handed_in(place: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    shutil.copytree(place / "photos", source)
    convert(str(source), tmp_path / "store", options=ConvertOptions(max_rejected=0.2), workers=1)
    listed = source / "list.csv"
    correct(tmp_path / "store", place / "fixes.csv", out=tmp_path / "new", to_csv=listed)
    rows = list(csv.DictReader(listed.read_text().splitlines()))
    assert list(rows[0]) == ["index", "path", "split", "label", "drop"]
    assert rows[0] == {"index": "0", "path": "train/cat/0.jpg", "split": "train", "label": "", "drop": "true"}
    assert rows[-1] == {"index": "5", "path": "test/owl/1.jpg", "split": "test", "label": "owl", "drop": ""}
    assert len(rows) == 21
    correct(tmp_path / "store", listed, out=tmp_path / "again")
    convert(str(listed), tmp_path / "from-list", workers=1)
    options = ConvertOptions(max_rejected=0.2)
    convert(str(source), tmp_path / "with-list", options=options, workers=1, labels=LabelOptions(labels=str(listed)))
    for name in ("train", "test"):
        expected = labels_of(tmp_path / "new", name)
        for store in ("again", "from-list", "with-list"):
            assert labels_of(tmp_path / store, name) == expected, store


def test_a_list_without_drops_has_four_columns(place: Path, tmp_path: Path) -> None:
    (tmp_path / "fixes.csv").write_text("path,label\ntrain/owl/3.png,cat\n")
    correct(place / "raw", tmp_path / "fixes.csv", to_csv=tmp_path / "list.csv")
    lines = (tmp_path / "list.csv").read_text().splitlines()
    assert lines[0] == "index,path,split,label"
    assert lines[1] == "0,train/cat/0.png,train,cat"
    assert "13,train/owl/3.png,train,cat" in lines


def test_names_that_are_no_text_and_a_class_called_drop_survive(tmp_path: Path) -> None:
    names = ["plain", 'comma, quote"', "line\nfeed", "caf\udce9"]  # the last is a byte that is no UTF-8
    for number, name in enumerate(names):
        (tmp_path / "in" / ("drop", "keep")[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (number, 0, 0)).save(
            tmp_path / "in" / ("drop", "keep")[number % 2] / f"{name}.png", "PNG"
        )
    convert(str(tmp_path / "in"), tmp_path / "store", workers=1)
    (tmp_path / "fixes.csv").write_text("index,label,drop\n0,keep,\n3,,yes\n")
    correct(
        tmp_path / "store", tmp_path / "fixes.csv", out=tmp_path / "new", to_csv=tmp_path / "list.csv",
        to_folder=tmp_path / "folder",
    )  # fmt: skip
    correct(tmp_path / "store", tmp_path / "list.csv", out=tmp_path / "again")
    convert(str(tmp_path / "folder"), tmp_path / "from-folder", workers=1)
    expected = labels_of(tmp_path / "new", "train")
    assert len(expected) == 3
    assert labels_of(tmp_path / "again", "train") == expected
    found = labels_of(tmp_path / "from-folder", "train")
    assert {path.rpartition("/")[2]: label for path, label in found.items()} == {
        path.rpartition("/")[2]: label for path, label in expected.items()
    }


def test_class_folders_are_links_and_convert_into_the_same_labels(place: Path, tmp_path: Path) -> None:
    result = correct(place / "store", place / "fixes.csv", to_folder=tmp_path / "folder", out=tmp_path / "new")
    assert (result.linked, result.written) == (20, 0)
    link = tmp_path / "folder/train/cat/3-2.jpg"
    assert sorted(path.name for path in link.parent.iterdir()) == ["1.jpg", "2.jpg", "3-2.jpg", "3.jpg", "4.jpg"]
    assert os.readlink(link) == str(place / "photos/train/owl/3.jpg")
    assert left_of(tmp_path) == ["folder", "new"]
    convert(str(tmp_path / "folder"), tmp_path / "again", workers=1)
    for name in ("train", "test"):
        with open_store(tmp_path / "new") as a, open_store(tmp_path / "again") as b:
            x, y = a.split(name), b.split(name)
            assert sorted(zip(x.checksums.tolist(), x.given_labels.tolist(), strict=True)) == sorted(
                zip(y.checksums.tolist(), y.given_labels.tolist(), strict=True)
            )
            assert a.class_names == b.class_names


@pytest.mark.parametrize(("kind", "ending"), [("store", "jpg"), ("raw", "png")])
def test_without_the_originals_the_images_of_the_store_are_written(
    place: Path, tmp_path: Path, kind: str, ending: str
) -> None:
    source = tmp_path / "photos"
    photos(source, 90 if kind == "store" else 20, "png")  # of both kinds the original files are PNG
    convert(str(source), tmp_path / "store", workers=1)
    shutil.move(source, tmp_path / "moved")
    (tmp_path / "photos/train/dog").mkdir(parents=True)
    shutil.copy(tmp_path / "moved/train/dog/2.png", tmp_path / "photos/train/dog")
    result = correct(
        tmp_path / "store", place / "small.csv", to_folder=tmp_path / "folder", out=tmp_path / "new"
    )  # fmt: skip
    assert (result.linked, result.written) == (1, 19)
    assert (tmp_path / "folder/train/dog/2.png").is_symlink()
    assert (tmp_path / f"folder/test/cat/0.{ending}").is_file()
    (tmp_path / "folder/train/dog/2.png").unlink()
    convert(str(tmp_path / "folder"), tmp_path / "again", workers=1)
    with open_store(tmp_path / "new") as a, open_store(tmp_path / "again") as b:
        for name in ("train", "test"):
            x, y = a.split(name), b.split(name)
            there = {hashlib.sha256(y.read_image(i).tobytes()).digest() for i in range(y.num_samples)}
            labels = {
                hashlib.sha256(x.read_image(i).tobytes()).digest(): int(x.given_labels[i])
                for i in range(x.num_samples)
                if x.sources[i] != "train/dog/2.png"
            }
            assert there == set(labels)
            for i in range(y.num_samples):
                assert labels[hashlib.sha256(y.read_image(i).tobytes()).digest()] == y.given_labels[i]


def test_one_split_has_no_folder_of_its_own_and_empty_classes_stay(tmp_path: Path) -> None:
    for number, name in enumerate(("10", "9", "train", "test")):
        for place in ("", "deep/", "deep/er/")[: 1 if name in ("train", "test") else 3]:
            (tmp_path / "in" / name / place).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (number, len(place), 0)).save(tmp_path / "in" / name / place / "A.png")
    Image.new("RGB", (20, 20), (99, 0, 0)).save(tmp_path / "in/9/a.PNG")
    Image.new("RGB", (20, 20), (98, 0, 0)).save(tmp_path / "in/9/a-2.png")
    convert(f"folder:{tmp_path / 'in'}", tmp_path / "store", workers=1)
    (tmp_path / "fixes.csv").write_text("path,label\n10/A.png,9\n10/deep/A.png,9\n10/deep/er/A.png,9\n")
    correct(tmp_path / "store", tmp_path / "fixes.csv", to_folder=tmp_path / "folder", out=tmp_path / "new")
    names = sorted(path.name for path in (tmp_path / "folder/9").iterdir())
    assert len(names) == len({name.lower() for name in names}) == 8
    assert (tmp_path / "folder/10").is_dir()
    opened = convert(f"folder:{tmp_path / 'folder'}", tmp_path / "again", workers=1)
    assert opened.splits[0].stored == 10
    with open_store(tmp_path / "new") as a, open_store(tmp_path / "again") as b:
        assert a.class_names == b.class_names
        x, y = a.split("train"), b.split("train")
        found = dict(zip(y.checksums.tolist(), y.given_labels.tolist(), strict=True))
        assert found == dict(zip(x.checksums.tolist(), x.given_labels.tolist(), strict=True))


def test_files_of_a_list_are_found_wherever_it_says_they_are(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "lists").mkdir()
    for i in range(2):
        Image.new("RGB", (20, 20), (i, 0, 0)).save(tmp_path / f"images/{i}.tmp", "PNG")
    lines = f"path,label\n../images/0.tmp,a\n{tmp_path}/images/1.tmp,b\n"
    (tmp_path / "lists/list.csv").write_text(lines)
    convert(str(tmp_path / "lists/list.csv"), tmp_path / "store", workers=1)
    (tmp_path / "fixes.csv").write_text("index,label\n0,b\n")
    result = correct(tmp_path / "store", tmp_path / "fixes.csv", to_folder=tmp_path / "folder")
    assert (result.linked, result.written) == (2, 0)
    convert(str(tmp_path / "folder"), tmp_path / "again", workers=1)  # .tmp itself would be passed over
    assert set(labels_of(tmp_path / "again", "train").values()) == {"b"}


def edited(store: Path, out: Path, edit: Callable[[dict[str, object], list[str]], None]) -> Path:
    """A store with other class names or paths, with digests as they should be: of a hostile hand."""
    from fastnoisy.data.store.digests import write_sums
    from fastnoisy.data.store.meta import META_FILES, read_paths, write_json, write_paths

    shutil.copytree(store, out)
    for meta in out.glob("*.meta"):
        info, paths = json.loads((meta / "meta.json").read_text()), read_paths(meta / "sources.txt")
        edit(info, paths)
        write_json(meta / "meta.json", info)
        write_paths(meta / "sources.txt", paths)
        write_sums(meta, META_FILES)
    return out


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", "", "/etc", "a/b", "a\\b", "a\0b", ".git", "@eaDir", "é", "x" * 300]
)
def test_a_class_that_can_have_no_folder_is_refused(place: Path, tmp_path: Path, name: str) -> None:
    def edit(info: dict[str, object], paths: list[str]) -> None:
        info["class_names"] = ["cat", "e\u0301", name]

    store = edited(place / "raw", tmp_path / "in" / "store", edit)
    (tmp_path / "fixes.csv").write_text("index,label\n0,cat\n")
    with pytest.raises(FastnoisyError, match="cannot have a folder"):
        correct(store, tmp_path / "fixes.csv", to_folder=tmp_path / "out/folder", to_csv=tmp_path / "out/list.csv")
    assert left_of(tmp_path) == ["fixes.csv", "in"]


def test_a_disk_that_takes_two_names_for_one(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def edit(info: dict[str, object], paths: list[str]) -> None:
        info["class_names"] = ["Cat", "cat", "dog"]

    store, make = edited(place / "raw", tmp_path / "in" / "store", edit), Path.mkdir

    def mkdir(path: Path, *words: bool, **options: bool) -> None:
        make(path.with_name(path.name.lower()), *words, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    (tmp_path / "fixes.csv").write_text("index,label\n0,Cat\n")
    with pytest.raises(FastnoisyError, match=r"class 'cat' cannot have a folder: this disk .*write a list"):
        correct(store, tmp_path / "fixes.csv", to_folder=tmp_path / "folder")
    assert left_of(tmp_path) == ["fixes.csv", "in"]


def test_a_path_leads_nowhere_but_into_its_class(place: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    hostile = ["../../up.png", "/etc/passwd", "..", "a/..", ".", "", "a\0b.png", ".hidden.png", "x" * 300 + ".png"]

    def edit(info: dict[str, object], paths: list[str]) -> None:
        info["source"] = f"folder:{tmp_path}/in"
        paths[: len(hostile)] = hostile[: len(paths)]
        paths[-1] = "../secret.png"

    store = edited(place / "raw", tmp_path / "in" / "store", edit)
    (tmp_path / "fixes.csv").write_text("index,label\n0,cat\n")
    result = correct(store, tmp_path / "fixes.csv", to_folder=tmp_path / "out/folder")
    assert (result.linked, result.written) == (0, 21)
    assert left_of(tmp_path) == ["fixes.csv", "in", "out", "secret.png"]
    assert left_of(tmp_path / "out") == ["folder"]
    assert len([path for path in (tmp_path / "out/folder").rglob("*") if path.is_file()]) == 21
    assert sum(split.stored for split in convert(str(tmp_path / "out/folder"), tmp_path / "again", workers=1).splits)


@pytest.mark.parametrize(
    ("fixes", "said"),
    [
        ("path,label\ntrain/cat/0.jpg,cow\n", "'cow', which is no class"),
        ("path,label\ntrain/cat/99.jpg,cat\n", "none of this data set's"),
        ("index,label\n15,cat\n", "from 0 to 14"),
        ("index,split,label\n" + "".join(f"{i},test,drop\n" for i in range(6)), "drops all 6 images of test"),
    ],
)
def test_a_file_that_is_not_meant_for_the_store_leaves_nothing(
    place: Path, tmp_path: Path, fixes: str, said: str
) -> None:
    (tmp_path / "fixes.csv").write_text(fixes)
    with pytest.raises(FastnoisyError, match=said):
        correct(
            place / "store", tmp_path / "fixes.csv", out=tmp_path / "new", to_folder=tmp_path / "folder",
            to_csv=tmp_path / "list.csv",
        )  # fmt: skip
    assert left_of(tmp_path) == ["fixes.csv"]


def test_outputs_are_new_and_lie_in_nothing_else(place: Path, tmp_path: Path) -> None:
    store, fixes = tmp_path / "store", place / "fixes.csv"
    shutil.copytree(place / "store", store)
    (tmp_path / "there").mkdir()
    (tmp_path / "there.csv").write_text("mine")
    before = contents(tmp_path)
    places: dict[str, dict[str, Path]] = {
        "exists already": {"out": tmp_path / "there"},
        "exists already. remove": {"to_folder": tmp_path / "there"},
        "there.csv exists": {"to_csv": tmp_path / "there.csv"},
        "within the store": {"out": store / "new"},
        "--to-csv .* within the store": {"to_csv": store / "list.csv"},
        "within the source": {"to_folder": place / "photos/corrected"},
        "lie in each other": {"out": tmp_path / "new", "to_folder": tmp_path / "new"},
        "and --to-folder lie": {"out": tmp_path / "new/store", "to_folder": tmp_path / "new"},
        "does not end in .csv": {"to_csv": tmp_path / "list"},
        "nothing is to be written": {},
    }
    for said, given in places.items():
        with pytest.raises(FastnoisyError, match=said):
            correct(store, fixes, **given)  # type: ignore[arg-type]
    assert contents(tmp_path) == before
    assert left_of(tmp_path) == ["store", "there", "there.csv"]


def test_an_unfinished_conversion_is_left_alone(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Part, "append", stop)
        with pytest.raises(KeyboardInterrupt):
            convert(str(place / "small"), tmp_path / "new", workers=1)
    before = contents(tmp_path)
    with pytest.raises(FastnoisyError, match="holds an unfinished conversion"):
        correct(place / "raw", place / "small.csv", out=tmp_path / "new")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("where", ["_write_store", "write_folder", "_write_list", "flush"])
def test_what_is_stopped_leaves_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, where: str
) -> None:
    real = getattr(correct_module, where)

    def fail(*words: object) -> None:
        real(*words)
        raise error

    monkeypatch.setattr(correct_module, where, fail)
    expected = KeyboardInterrupt if error is KeyboardInterrupt else FastnoisyError
    outputs = {"to_folder": tmp_path / "out/folder", "to_csv": tmp_path / "out/list.csv", "out": tmp_path / "out/new"}
    if where == "flush":  # of the list alone, which is the last to get its name
        del outputs["out"], outputs["to_folder"]
    with pytest.raises(expected) as caught:
        correct(place / "raw", place / "small.csv", **outputs)  # type: ignore[arg-type]
    if expected is FastnoisyError:
        assert "No space left on device" in str(caught.value)
        assert "MB are free" in str(caught.value)
    assert left_of(tmp_path / "out") == []


def test_a_damaged_record_is_named_and_nothing_is_left(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "raw", tmp_path / "store")
    with open_store(tmp_path / "store") as store:
        start = int(store.split("test")._reader.starts[3])
    with open(tmp_path / "store/test.beton", "r+b") as file:
        file.seek(start)
        file.write(b"damaged")
    with pytest.raises(FastnoisyError, match=r"record 3 \(test/dog/1.png\) is damaged"):
        correct(tmp_path / "store", place / "small.csv", out=tmp_path / "new", to_csv=tmp_path / "list.csv")
    assert left_of(tmp_path) == ["store"]


def test_nothing_is_decoded(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Split, "read_image", never)
    monkeypatch.setattr("fastnoisy.data.store.split.decode_jpeg", never)
    correct(place / "store", place / "fixes.csv", out=tmp_path / "new", to_folder=tmp_path / "folder")
