"""ImageNet's validation images in their three layouts, whole and the first fifty classes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fastnoisy.data.sources import _imagenet, base, folder
from fastnoisy.errors import FastnoisyError

imagenet_val = base.find("imagenet-val")
imagenet_val_mini = base.find("imagenet-val-mini")

LABELS = (0, 1, 2, 49, 50, 999)
EXPECTED = [label for label in LABELS for _ in range(2)]


def arrange(tmp_path: Path, layout: str) -> Path:
    """The example, rearranged; every file keeps its name."""
    root = Path(imagenet_val.make_example(tmp_path))
    if layout == "wnid":
        return root
    lines = []
    for label in LABELS:
        source = root / "val" / _imagenet.synsets()[label][0]
        if layout == "index":
            source.rename(root / "val" / str(label))
            continue
        for path in sorted(source.iterdir()):
            path.rename(root / ("val" if layout == "list, val" else ".") / path.name)
            lines.append(f"{path.name} {label}")
        source.rmdir()
    if lines:
        (root / "imagenet_val.txt").write_text("\n".join(lines) + "\n")
    return root


LAYOUTS = ["wnid", "index", "list, val", "list, root"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same(tmp_path: Path, layout: str) -> None:
    root = arrange(tmp_path, layout)
    assert base.resolve(str(root)) == ("imagenet-val", root)
    for path in (root, tmp_path):  # the folder itself, or the one that holds `imagenet/`
        source = imagenet_val.open(path)
        (val,) = source.splits
        assert val.name == "val"
        assert val.given_labels.tolist() == EXPECTED
        assert val.clean_labels is not None
        assert source.class_names == _imagenet.class_names(1000)
        assert [Path(name).name for name in val.paths] == [
            f"ILSVRC2012_val_{LABELS.index(label) + 1 + 6 * i:08d}.JPEG" for label in LABELS for i in range(2)
        ]
        assert val.read(3) == next(tmp_path.rglob(Path(val.paths[3]).name)).read_bytes()
        assert source.notes[0] == "imagenet-val: 12 validation images, the published set has 50,000"
        assert source.notes[1].startswith("imagenet-val: 994 of 1,000 classes have no image: tiger shark, ")
    mini = imagenet_val_mini.open(root)
    assert mini.splits[0].given_labels.tolist() == EXPECTED[:8]
    assert mini.class_names == _imagenet.class_names(50)
    assert mini.notes[0] == "imagenet-val-mini: 8 validation images, the published set has 2,500"


@pytest.mark.parametrize("layout", ["wnid", "index"])
def test_the_folder_of_class_folders_itself(tmp_path: Path, layout: str) -> None:
    root = arrange(tmp_path, layout)
    assert imagenet_val.open(root / "val").splits[0].given_labels.tolist() == EXPECTED
    assert base.resolve(str(root / "val"))[0] == "imagenet-val"


def test_imagenet_with_its_training_images_is_class_folders(tmp_path: Path) -> None:
    root = arrange(tmp_path, "wnid")
    shutil.copytree(root / "val", root / "train")
    assert base.resolve(str(root))[0] == "folder"
    assert [split.name for split in folder.open(root).splits] == ["train", "val"]
    assert base.open_source(f"imagenet-val:{root}")[0].splits[0].name == "val"


def test_class_folders_of_others_are_not_taken_for_imagenet(tmp_path: Path) -> None:
    for name in ("0", "1"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "cat.jpg").write_bytes(b"x")
    assert base.resolve(str(tmp_path))[0] == "folder"
    (tmp_path / "more" / "n01440764").mkdir(parents=True)
    (tmp_path / "more" / "n01440764" / "n01440764_1.JPEG").write_bytes(b"x")
    assert base.resolve(str(tmp_path / "more"))[0] == "folder"


def test_a_store_is_not_written_among_the_classes(tmp_path: Path) -> None:
    assert imagenet_val.open(arrange(tmp_path / "a", "wnid")).root == tmp_path / "a/imagenet/val"
    assert imagenet_val.open(arrange(tmp_path / "b", "list, val")).root is None


@pytest.mark.parametrize(
    ("layout", "missing", "message"),
    [
        (
            "wnid",
            "val",
            r"has neither val/ with a folder per class nor imagenet_val\.txt; looked for in .*imagenet and ",
        ),
        ("index", "val", r"has neither val/ with a folder per class nor imagenet_val\.txt"),
        ("list, val", "imagenet_val.txt", r"has images in val/ but no imagenet_val\.txt that says their labels"),
        ("list, root", "imagenet_val.txt", r"has neither val/"),
        ("list, val", "val", r"images elsewhere: none of the first (12|8) in .*looked for at .*/val/ILSVRC.* or "),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, layout: str, missing: str, message: str) -> None:
    root = arrange(tmp_path, layout)
    place = root / missing
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    for module in (imagenet_val, imagenet_val_mini):
        with pytest.raises(FastnoisyError, match=message) as caught:
            module.open(root)
        assert caught.value.remedy == f"expected: {imagenet_val.layout}"


def test_a_class_folder_that_is_missing_or_empty_is_a_note(tmp_path: Path) -> None:
    root = arrange(tmp_path, "index")
    shutil.rmtree(root / "val/49")
    for path in (root / "val/1").iterdir():
        path.unlink()
    source = imagenet_val_mini.open(root)
    assert source.splits[0].given_labels.tolist() == [0, 0, 2, 2]
    assert "48 of 50 classes have no image: goldfish" in source.notes[1]


def test_folders_and_files_that_do_not_belong(tmp_path: Path) -> None:
    root = arrange(tmp_path / "a", "wnid")
    (root / "val/.cache").mkdir()
    (root / "val/n01440764/.hidden").write_bytes(b"")
    (root / "val/readme.txt").write_text("x")
    assert len(imagenet_val.open(root).splits[0]) == 12
    (root / "val/n99999999").mkdir()
    with pytest.raises(FastnoisyError, match="has the folder n99999999, which is none of the 1,000 classes"):
        imagenet_val.open(root)
    root = arrange(tmp_path / "b", "index")
    (root / "val/cats").mkdir()
    with pytest.raises(FastnoisyError, match="has the folder cats"):
        imagenet_val.open(root)


def test_class_folders_are_walked_as_all_folders(tmp_path: Path) -> None:
    root = arrange(tmp_path, "wnid")
    (root / "val/n01440764/ILSVRC2012_val_00000099.JPEG").symlink_to("gone.JPEG")
    (root / "val/@eaDir").mkdir()
    (root / "val/n01440764/Thumbs.db").write_bytes(b"x")
    assert base.resolve(str(root))[0] == "imagenet-val"
    source = imagenet_val.open(root)
    (split,) = source.splits
    assert len(split) == 12
    assert list(split.rejected) == [("n01440764/ILSVRC2012_val_00000099.JPEG", "a link to what is not there")]
    assert source.notes[1] == "imagenet-val: passed over what the system keeps for itself: @eaDir (1), Thumbs.db (1)"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a.JPEG\n", r"imagenet_val\.txt, line 1, is 'a\.JPEG'"),
        ("a.JPEG 1000\n", "line 1, has the label 1000"),
        ("../../a.JPEG 1\n", "line 1, has the path"),
        ("", "is empty"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, lines: str, message: str) -> None:
    root = arrange(tmp_path, "list, val")
    (root / "imagenet_val.txt").write_text(lines)
    with pytest.raises(FastnoisyError, match=message):
        imagenet_val.open(root)


def test_mini_of_a_list_without_its_classes(tmp_path: Path) -> None:
    root = arrange(tmp_path, "list, val")
    (root / "imagenet_val.txt").write_text("ILSVRC2012_val_00000006.JPEG 999\n")
    with pytest.raises(FastnoisyError, match=r"has no image of the first 50 classes in imagenet_val\.txt"):
        imagenet_val_mini.open(root)
