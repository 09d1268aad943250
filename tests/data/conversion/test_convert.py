"""Conversion: what is chosen where nothing is said, what is rejected, and what is left on the disk."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from fastnoisy.cli.convert import command, plain_progress
from fastnoisy.data.conversion.convert import ConvertOptions, convert, hold_out_test
from fastnoisy.data.conversion.shrink import Shrink
from fastnoisy.data.sources.base import SourceSplit
from fastnoisy.data.store import beton, open_store
from fastnoisy.data.store.verify import verify
from fastnoisy.errors import FastnoisyError
from fastnoisy.workers import Status

ROOT = Path(__file__).resolve().parents[2]


def picture(height: int = 40, width: int = 60, seed: int = 0) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 5 + seed, columns * 4, (rows + columns) * 2 + 30 * seed], axis=2)
    return Image.fromarray((pixels % 256).astype(np.uint8))


def folder(root: Path, count: int = 4, broken: int = 0, kind: str = "jpg", side: int = 90) -> Path:
    """A folder of two classes with so many images each, and some that are broken."""
    for label, name in enumerate(("ant", "bee")):
        place = root / name
        place.mkdir(parents=True)
        for i in range(count):
            picture(side, side - i, seed=10 * label + i).save(place / f"{i}.{kind}")
    for i in range(broken):
        (root / "bee" / f"x{i}.jpg").write_bytes(b"not an image")
    return root


@pytest.mark.parametrize(
    "text", ["", "512", "max", "max=", "max=1.5", "max=--3", "min=5", "MAX=5", "max=" + "9" * 5000]
)
def test_resize_texts_that_mean_nothing(text: str) -> None:
    with pytest.raises(FastnoisyError, match=r"resize '.*' is not known"):
        ConvertOptions(resize=text)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max=0", 4096),
        ("max=-3", 4096),
        ("square=4097", 4096),
        ("max=99999999", 4096),
        ("shorter=2049", 2048),
        ("shorter=1000000", 2048),
    ],
)
def test_resize_sides_outside_their_range(text: str, limit: int) -> None:
    with pytest.raises(FastnoisyError, match=f"resize '{text}': the side must be from 1 to {limit} pixels"):
        ConvertOptions(resize=text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store": "png"}, "unknown value of store 'png'.*known: auto, jpg, raw"),
        ({"quality": 0}, "quality must be from 1 to 100, got 0"),
        ({"quality": 101}, "quality must be"),
        ({"max_rejected": 1.1}, "max-rejected must be a share from 0 to 1, got 1.1"),
        ({"max_rejected": float("nan")}, "max-rejected must be"),
        ({"test_fraction": 1.0}, "test-fraction must be a share from 0 to below 1, got 1.0"),
        ({"test_fraction": -0.1}, "test-fraction must be"),
    ],
)
def test_options_outside_their_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(FastnoisyError, match=message):
        ConvertOptions(**options)  # type: ignore[arg-type]


# What is chosen where nothing is said


def test_photographs_become_jpegs_on_a_canvas_of_512(tmp_path: Path) -> None:
    convert(str(folder(tmp_path / "in")), tmp_path / "out")
    with open_store(tmp_path / "out") as store:
        split = store.split("train")
        assert (split.canvas, split.mode(0)) == ((512, 512), "jpg")
        assert split.info["options"]["resize"] == "max=512"


def test_small_images_are_raw_at_their_own_size(tmp_path: Path) -> None:
    convert(str(folder(tmp_path / "in", kind="png", side=64)), tmp_path / "out")
    with open_store(tmp_path / "out") as store:
        split = store.split("train")
        assert (split.canvas, split.mode(0), split.sizes[:3].tolist()) == (
            (64, 64),
            "raw",
            [[64, 64], [64, 63], [64, 62]],
        )


def test_one_large_image_makes_the_set_photographs_but_does_not_set_the_canvas(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", kind="png", side=30)
    picture(1500, 2000).save(source / "bee" / "huge.png")
    summary = convert(str(source), tmp_path / "out")
    assert summary.splits[0].canvas == (512, 512)
    assert summary.splits[0].num_bytes < 5_000_000


def test_kept_sizes_have_a_canvas_of_the_largest_within_reason(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", count=20)
    Image.new("L", (2100, 5)).save(source / "ant" / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(70, 120).save(source / "ant" / "turned.jpg", exif=exif.tobytes())  # shown 120 high, 70 wide
    summary = convert(str(source), tmp_path / "out", options=ConvertOptions(resize="none"))
    assert (summary.splits[0].canvas, summary.splits[0].rejected) == ((120, 90), 1)
    text = (tmp_path / "out/train.meta/rejected.csv").read_text()
    reason = "2100x5 pixels are more than the 2048 a side that --resize none keeps; --resize max=N makes it smaller"
    assert text == f"path,reason\nant/wide.png,{reason}\n"


def test_the_summary_adds_up(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", count=10, broken=1)
    (split,) = convert(str(source), tmp_path / "out").splits
    assert (split.name, split.stored, split.raw, split.rejected, split.canvas) == ("train", 20, 0, 1, (512, 512))
    assert split.num_bytes == (tmp_path / "out/train.beton").stat().st_size
    assert verify(tmp_path / "out") == []


# Rejected images


def test_rejected_images_leave_rows_labels_and_sources_in_step(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", count=3)
    (source / "ant" / "1.jpg").write_bytes(b"")
    (source / "bee" / 'odd,\n"name".jpg').write_text("x")
    convert(str(source), tmp_path / "out", options=ConvertOptions(max_rejected=0.5))
    with open_store(tmp_path / "out") as store:
        split = store.split("train")
        assert split.sources == ["ant/0.jpg", "ant/2.jpg", "bee/0.jpg", "bee/1.jpg", "bee/2.jpg"]
        assert split.given_labels.tolist() == [0, 0, 1, 1, 1]
        for i, name in enumerate(split.sources):
            assert split.read_bytes(i) == (source / name).read_bytes()
    with (tmp_path / "out/train.meta/rejected.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [
        ["ant/1.jpg", "empty file"],
        ['bee/odd,\n"name".jpg', "a text"],
    ]


# What is left on the disk


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_converting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", count=30, broken=1)
    picture(700, 900).save(source / "bee" / "large.png")
    for name in ("one", "two"):
        convert(str(source), tmp_path / name, options=ConvertOptions(test_fraction=0.2))
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one == two
    names = ["SHA256SUMS", "checksums.npy", "labels.npz", "meta.json", "notes.csv", "rejected.csv", "sizes.npy"]
    names += ["sources.txt", "verified.json"]
    assert sorted(one) == sorted(
        [f"{split}.beton" for split in ("train", "test")]
        + [f"{split}.meta/{name}" for split in ("train", "test") for name in names]
    )


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    source = folder(tmp_path / "in")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(FastnoisyError, match=r"out exists already.*choose another name"):
        convert(str(source), out)
    assert list(out.iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FastnoisyError, match="link exists already"):
        convert(str(source), tmp_path / "link")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_conversion_leaves_only_what_it_goes_on_from(tmp_path: Path, error: type[BaseException]) -> None:
    def stop(status: Status) -> None:
        assert not (tmp_path / "out").exists()
        assert (tmp_path / ".out.partial").is_dir()
        if status.done == 5:
            raise error

    source = str(folder(tmp_path / "in"))
    with pytest.raises(error):
        convert(source, tmp_path / "out", progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.partial", "in"]
    convert(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_failing_disk_is_an_error_that_names_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    source = str(folder(tmp_path / "in"))
    with monkeypatch.context() as patched:
        patched.setattr(beton.BetonWriter, "flush", fail)
        with pytest.raises(FastnoisyError, match=r"cannot write .*out: Input/output error") as caught:
            convert(source, tmp_path / "out")
    assert "give the same command again" in caught.value.remedy
    assert not (tmp_path / "out").exists()
    assert convert(source, tmp_path / "out").splits[0].stored == 8


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FastnoisyError, match=r"cannot write .*file/out: Not a directory.*another place"):
        convert(str(folder(tmp_path / "in")), tmp_path / "file" / "out")


def test_another_process_may_not_take_the_name_meanwhile(tmp_path: Path) -> None:
    def take(status: Status) -> None:
        if status.done == status.total:
            (tmp_path / "out").mkdir()

    source = str(folder(tmp_path / "in"))
    with pytest.raises(FastnoisyError, match="out exists already"):
        convert(source, tmp_path / "out", progress=take)
    (tmp_path / "out").rmdir()
    convert(source, tmp_path / "out", progress=lambda status: pytest.fail("done again") if status.done < 8 else None)


def test_parents_are_made_and_the_source_is_no_place_for_the_store(tmp_path: Path) -> None:
    source = folder(tmp_path / "in")
    convert(str(source), tmp_path / "a/b/out")
    open_store(tmp_path / "a/b/out").close()
    with pytest.raises(FastnoisyError, match="lies within the source"):
        convert(str(source), source / "out")
    assert sorted(path.name for path in source.iterdir()) == ["ant", "bee"]


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", count=1)
    name = os.fsdecode(b"bad-\xff\n.jpg")
    try:
        picture(90, 90).save(source / "ant" / name)
    except OSError:
        pytest.skip("this file system takes no such name")
    convert(str(source), tmp_path / "out")
    with open_store(tmp_path / "out") as store:
        assert f"ant/{name}" in store.split("train").sources


def test_progress_counts_every_image(tmp_path: Path) -> None:
    calls: list[Status] = []
    options = ConvertOptions(max_rejected=0.5, test_fraction=0.4)
    convert(str(folder(tmp_path / "in", count=4, broken=2)), tmp_path / "out", options=options, progress=calls.append)
    assert [(call.done, call.total) for call in calls] == [(i, 10) for i in range(1, 11)]
    assert calls[-1].bad == 2


# Holding out a test split


def split_of(labels: list[int], name: str = "train") -> SourceSplit:
    given_labels = np.array(labels, np.int64)
    return SourceSplit(name, [f"f/{i}" for i in range(len(labels))], given_labels, None, lambda i: b"%d" % i)


def test_held_out_images_are_stratified_and_disjoint() -> None:
    train, test = hold_out_test([split_of([0] * 50 + [1] * 10 + [2])], 0.2)
    assert np.bincount(test.given_labels, minlength=3).tolist() == [10, 2, 0]
    assert np.bincount(train.given_labels, minlength=3).tolist() == [40, 8, 1]
    assert sorted([*train.paths, *test.paths]) == sorted(f"f/{i}" for i in range(61))
    for part in (train, test):
        assert [part.read(i) for i in range(len(part))] == [path[2:].encode() for path in part.paths]
    again = hold_out_test([split_of([0] * 50 + [1] * 10 + [2])], 0.2)
    assert list(again[1].paths) == list(test.paths)
    assert list(test.paths) != [f"f/{i}" for i in range(10)] + ["f/50", "f/51"]  # not simply the first


def test_a_larger_share_holds_out_the_same_images_and_more() -> None:
    few, many = (set(hold_out_test([split_of([0] * 40)], share)[1].paths) for share in (0.1, 0.3))
    assert len(few) == 4
    assert len(many) == 12
    assert few < many


def test_no_class_loses_its_last_image() -> None:
    train, _ = hold_out_test([split_of([0, 1, 1])], 0.99)
    assert sorted(train.given_labels.tolist()) == [0, 1]


def test_holding_out_needs_one_split_and_enough_images() -> None:
    with pytest.raises(FastnoisyError, match="has the splits train, test already"):
        hold_out_test([split_of([0]), split_of([0], "test")], 0.1)
    with pytest.raises(FastnoisyError, match="of so few images per class is none"):
        hold_out_test([split_of([0, 1, 2])], 0.5)


# The command


def test_command_converts_and_sums_up(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", count=5, broken=1)
    arguments = [
        str(source),
        str(tmp_path / "out"),
        "--resize",
        "square=32",
        "--quality",
        "80",
        "--test-fraction",
        "0.2",
    ]
    result = CliRunner().invoke(command, [*arguments, "--max-rejected", "0.5"], catch_exceptions=False)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("train: 8 stored (8 raw, 0 jpg), 1 rejected, canvas 32x32, ")
    assert lines[1] == f"  the rejected ones and why: {tmp_path}/out/train.meta/rejected.csv"
    assert lines[2].startswith("test: 2 stored")
    assert lines[-1].startswith(f"wrote {tmp_path}/out from folder:{source} in ")
    with open_store(tmp_path / "out") as store:
        assert store.split("train").info["options"] == {
            "resize": "square=32",
            "store": "raw",
            "quality": 80,
            "max_rejected": 0.5,
            "test_fraction": 0.2,
        }


def test_command_leaves_errors_to_the_group(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path / "none"), str(tmp_path / "out")])
    assert isinstance(result.exception, FastnoisyError)


def test_help_ends_with_examples_and_imports_nothing_heavy() -> None:
    code = "from fastnoisy.cli.convert import command\nimport sys\n"
    code += "try: command(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'numpy', 'PIL', 'rich', 'sklearn'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    text, _, heavy = result.stdout.rstrip().rpartition("\n")
    assert heavy == "[]"
    assert text.rstrip().splitlines()[-1].strip().startswith("fastnoisy convert ")
    for kind in ("cifar10", "digits", "folder"):
        assert f"  {kind}" in text


def test_the_data_package_does_without_torch() -> None:
    code = (
        "import sys, fastnoisy.data.conversion.convert, fastnoisy.data.store\nfrom fastnoisy.data.sources import base\n"
    )
    code += "base.open_source('digits')\nprint('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_plain_progress_writes_a_line_now_and_then() -> None:
    now = [0.0]
    lines: list[str] = []
    show = plain_progress(lines.append, lambda: now[0], "rejected", every=10)
    now[0] = 5.0  # the source is being opened
    for done in range(500, 581):
        show(Status(done, 1000, bad=max(0, done - 560)))
        now[0] += 0.25
    assert lines == [
        "540 of 1,000 images, 4 img/s, 115 s left",
        "580 of 1,000 images, 4 img/s, 105 s left, 20 rejected",
    ]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_what_is_compiled_stores_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    source = folder(tmp_path / "in", count=20, broken=1)
    cut_off = next((tmp_path / "in").rglob("*.jpg"))
    cut_off.write_bytes(cut_off.read_bytes()[:-30])
    options = ConvertOptions(resize="max=32", max_rejected=0.1)
    convert(str(source), tmp_path / "plain", options=options, workers=2)
    found: list[bool] = []
    original = Shrink.prepare

    def noted(self: Any) -> None:
        original(self)
        found.append(self.compiled)

    monkeypatch.setattr(Shrink, "prepare", noted)
    monkeypatch.setattr("fastnoisy.data.conversion.shrink.WORTH_IMAGES", 40)
    convert(str(source), tmp_path / "compiled", options=options, workers=2, start=start)
    assert found == [True]
    for name in ("train.beton", "train.meta/checksums.npy", "train.meta/rejected.csv"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "compiled" / name).read_bytes()


def test_passes_are_not_compiled_for_images_that_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path / "in", count=20)
    monkeypatch.setattr(Shrink, "prepare", lambda shrink: pytest.fail("compiled"))
    monkeypatch.setattr("fastnoisy.data.conversion.shrink.WORTH_IMAGES", 40)
    convert(str(source), tmp_path / "kept", options=ConvertOptions(resize="max=90"), workers=2)
    convert(str(source), tmp_path / "own", options=ConvertOptions(resize="none", store="jpg"), workers=2)
