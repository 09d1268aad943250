"""`fastnoisy inspect` end to end: what it says of a store, the sheet, wrong input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy.analysis import drawing, inspection
from fastnoisy.data.conversion.convert import ConvertOptions, convert

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 classes of unlike size, upright and landscape JPEGs, one of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(40):
        place = folder / "source" / f"class {number:02d}"
        place.mkdir(parents=True)
        for i in range(2 + (number == 7) * 5):
            pixels = np.full((40 + i, 60, 3) if number % 2 else (60, 40 + i, 3), 6 * number, np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.jpg")
    (folder / "source" / "class 00" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    convert(
        str(folder / "source"), folder / "store", options=ConvertOptions(max_rejected=0.2, resize="max=64", store="jpg")
    )
    return folder / "store"


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_what_is_said_of_digits(call: Call, store: Path) -> None:
    code, out, err = call("inspect", store)
    assert code == 0, err
    lines = squeezed(out)
    assert lines[0].startswith(f"{store}: train, test; 10 classes, ")
    for line in (
        "images 600 in 10 classes",
        "balance 60 in every class",
        "balance smallest 114 (8), largest 123 (3), ratio 1.08",
        "sizes all 16x16",
        "rejected 0",
        "verified yes",
        "labels 0 wrong (0.00 %)",
        "source digits",
        "class train test",
        "3 60 123",
    ):
        assert line in lines
    assert any(line.startswith("stored 600 raw, 0 jpg; ") for line in lines)
    assert any("resize=none store=raw" in line for line in lines)
    assert "1,197 in 10 classes" not in call("inspect", store, "--split", "train")[1]


def test_what_is_said_of_photographs_of_unlike_size(call: Call, photos: Path) -> None:
    code, out, err = call("inspect", photos)
    assert code == 0, err
    lines = squeezed(out)
    for line in (
        "images 85 in 40 classes",
        "balance smallest 2 (class 00), largest 7 (class 07), ratio 3.50",
        f"rejected 1: {photos / 'train.meta' / 'rejected.csv'}",
        "labels which are right is not known",
        "... 24 more: --all-classes",
    ):
        assert line in lines
    sizes = next(line for line in lines if line.startswith("sizes"))
    assert "9 sizes; width 40 / 60 / 60, height 40 / 44 / 60 (min / median / max)" in sizes
    assert "upright 47.1 %, landscape 52.9 %" in sizes
    assert any(line.startswith("stored 0 raw, 85 jpg; ") for line in lines)
    assert any(line.startswith("class 00/broken.jpg: ") for line in lines)
    assert "images of each size" in lines
    assert f"60x40 20 {'█' * 40}" in lines
    assert f"46x60 1 {'█' * 2}" not in lines
    assert "class 20 2" not in lines
    assert "class 20 2" in squeezed(call("inspect", photos, "--all-classes")[1])


def test_noise_is_counted_on_the_training_split_alone(call: Call, store: Path) -> None:
    code, out, err = call("inspect", store, "--noise", "symmetric:0.4", "--seed", 1)
    assert code == 0, err
    lines = squeezed(out)
    assert "labels noise symmetric:0.4 (seed 1): 215 wrong (35.83 %)" in lines
    assert "labels 0 wrong (0.00 %)" in lines
    assert "class train wrong wrong % test" in lines
    assert "0 61 26 42.6 118" in lines


def test_labels_of_a_file_are_not_taken_for_noise_where_the_truth_is_not_known(
    call: Call, photos: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "labels.npy", np.zeros(85, np.int64))
    code, out, err = call("inspect", photos, "--noise", f"file:{tmp_path / 'labels.npy'}")
    assert code == 0, err
    assert "97.65 % differ from the store's labels; which are right is not known" in out
    assert "39 of them without an image" in out
    assert "no ratio: it is empty" in out


def test_the_sheet_frames_wrong_labels(call: Call, store: Path, tmp_path: Path) -> None:
    code, out, err = call("inspect", store, "--sheet", tmp_path / "a.png", "--noise", "symmetric:0.4", "--per-class", 6)
    assert code == 0, err
    with Image.open(tmp_path / "a.png") as sheet:
        assert f"wrote {tmp_path / 'a.png'}: up to 6 pictures of each class, {sheet.width}x{sheet.height} pixels" in out
        pixels = np.asarray(sheet)
    assert (pixels == drawing.WRONG).all(axis=2).sum() > 1000
    first = (tmp_path / "a.png").read_bytes()
    call("inspect", store, "--sheet", tmp_path / "a.png", "--noise", "symmetric:0.4", "--per-class", 6)
    assert (tmp_path / "a.png").read_bytes() == first
    assert call("inspect", store, "--sheet", tmp_path / "b.png", "--split", "test")[0] == 0
    with Image.open(tmp_path / "b.png") as sheet:
        assert not (np.asarray(sheet) == drawing.WRONG).all(axis=2).any()


def test_the_sheet_of_photographs(call: Call, photos: Path, tmp_path: Path) -> None:
    code, _, err = call("inspect", photos, "--sheet", tmp_path / "a.png")
    assert code == 0, err
    with Image.open(tmp_path / "a.png") as sheet:
        assert min(sheet.size) > 300


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "tset"], "did you mean test"),
        (["--noise", "symetric:0.4"], "did you mean symmetric"),
        (["--noise", "symmetric:4"], "between 0 and 1"),
        (["--noise", "symmetric:0.4", "--split", "test"], "leave out one of the two"),
        (["--noise", "asymmetric:0.4"], "CIFAR-10"),
        (["--sheet", "sheet.jpg"], "ends in .png"),
        (["--sheet", "no/such/folder/sheet.png"], "no/such/folder"),
        (["--per-class", "0"], "--per-class"),
    ],
)
def test_wrong_input_is_one_clear_error(
    call: Call, store: Path, words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call("inspect", store, *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_store(call: Call, tmp_path: Path) -> None:
    code, _, err = call("inspect", tmp_path / "none")
    assert code == 2
    assert "does not exist" in err


@pytest.mark.parametrize("command", ["inspect", "noise"])
def test_help_imports_neither_torch_nor_matplotlib(command: str) -> None:
    code = (
        "import sys\nfrom fastnoisy.cli import cli\n"
        f"cli.main([{command!r}, '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout


def test_a_sheet_that_cannot_be_written_is_refused_before_any_work(call: Call, store: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for sheet, part in ((tmp_path / "none" / "a.png", "does not exist"), (tmp_path / "folder.png", "is a folder")):
        code, out, err = call("inspect", store, "--sheet", sheet)
        assert code == 2
        assert part in err
        assert not out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png"]


def test_a_histogram_of_resolutions_counts_every_image() -> None:
    sizes = np.array([(100 + i, 40) for i in range(90)] + [(100, 130)] * 10, np.int32)
    bins = inspection.resolutions(sizes)
    assert bins == [
        ("100 to 108", 9), ("109 to 117", 9), ("118 to 126", 9), ("127 to 135", 19), ("136 to 144", 9),
        ("145 to 153", 9), ("154 to 162", 9), ("163 to 171", 9), ("172 to 180", 9), ("181 to 189", 9),
    ]  # fmt: skip
    lines = inspection.histogram(sizes)
    assert lines[0] == "images by longer side, in pixels"
    assert lines[4] == f"127 to 135  19  {'█' * 40}"
    assert lines[1] == f"100 to 108   9  {'█' * 19}"
    assert inspection.histogram(sizes[-10:]) == []


def test_the_first_of_many_rejected_files_are_named(call: Call, tmp_path: Path) -> None:
    place = tmp_path / "source/ant"
    place.mkdir(parents=True)
    Image.fromarray(np.zeros((70, 80, 3), np.uint8)).save(place / "sound.png")
    for i in range(13):
        (place / f"{i:02}.png").write_bytes(b"")
    convert(str(tmp_path / "source"), tmp_path / "out", options=ConvertOptions(max_rejected=1.0))
    lines = squeezed(call("inspect", tmp_path / "out")[1])
    assert [line for line in lines if "empty file" in line] == [f"ant/{i:02}.png: empty file" for i in range(10)]
    assert "... 3 more" in lines
