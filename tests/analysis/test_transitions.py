"""Transitions: the numbers in the tables, the heat map's picture, and a folder that is written whole or not at all."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.table import Table

from fastnoisy.analysis import text, transitions
from fastnoisy.analysis.transitions import Drawn
from fastnoisy.errors import FastnoisyError
from fastnoisy.noise import ASYMMETRIC_RULES, INSTANCE_VARIANTS, NoiseSpec, transition_counts

NAMES = ["cat", "dog", "$hare$ [b]"]
CLEAN = np.array([0] * 8 + [1] * 4 + [2] * 4)
GIVEN = np.array([0] * 6 + [1, 2] + [1] * 4 + [0] * 4)
COUNTS = transition_counts(CLEAN, GIVEN, 3)
DRAWN = Drawn(NoiseSpec.parse("symmetric:0.4"), 7, GIVEN, CLEAN, True, COUNTS)


def lines(table: Table) -> list[list[str]]:
    """The cells of each printed line, those apart by two blanks or more."""
    out = StringIO()
    Console(file=out, width=300).print(table)
    return [line.split() for line in out.getvalue().splitlines() if line.strip() and "─" not in line]


def many(num_classes: int) -> tuple[np.ndarray, list[str]]:
    clean = np.arange(50 * num_classes) % num_classes
    given = np.where(np.arange(len(clean)) < 7 * num_classes, (clean + 1) % num_classes, clean)
    given[0] = 5  # class 0 loses one more to 5 than to 1
    return transition_counts(clean, given, num_classes), [f"class_{i}" for i in range(num_classes)]


def test_rates_per_class() -> None:
    assert DRAWN.rate == 6 / 16
    assert transitions.rates(COUNTS).tolist() == [0.25, 0.0, 1.0]
    assert np.isnan(transitions.rates(np.array([[0, 0], [1, 3]]))[0])


def test_the_matrix_reads_as_percent_of_the_clean_class() -> None:
    assert lines(transitions.matrix_table(COUNTS, NAMES)) == [
        ["clean", "\\", "given", "0", "1", "2"],
        ["0", "cat", "75.0", "12.5", "12.5"],
        ["1", "dog", ".", "100.0", "."],
        ["2", "$hare$", "[b]", "100.0", ".", "."],
    ]
    assert lines(transitions.matrix_table(COUNTS, NAMES, "stored"))[0][0] == "stored"


def test_many_classes_are_summed_up() -> None:
    counts, names = many(100)
    rows = lines(transitions.summary_table(counts, names))
    assert rows[1] == ["class_0", "50", "50", "14.0", "14.0", "class_1", "12.0", "%"]
    assert len(rows) == 101
    flows = lines(transitions.flows_table(counts, names))
    assert len(flows) == 21
    assert flows[1] == ["class_1", "class_2", "7", "14.0"]
    rows = lines(transitions.summary_table(*many(300)))
    assert len(rows) == 102
    assert ["...", "200", "more"] in rows


def test_classes_without_images_have_no_numbers() -> None:
    rows = lines(transitions.summary_table(np.array([[0, 0], [0, 3]]), ["none", "all"]))
    assert rows[1] == ["none", "0", "0", "-", "-", "-"]
    transitions.heat_map(np.array([[0, 0], [0, 3]]), ["none", "all"], "title")


@pytest.mark.parametrize("num_classes", [1, 3, 30, 100])
def test_the_heat_map_is_a_picture_that_names_every_class(num_classes: int, tmp_path: Path) -> None:
    counts, names = many(num_classes) if num_classes > 5 else (COUNTS[:num_classes, :num_classes], NAMES[:num_classes])
    figure = transitions.heat_map(counts, names, "digits / train: $symmetric:0.4 (seed 1)\neffective rate 37.50 %")
    transitions.save_figure(figure, tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        assert 500 <= min(picture.size) <= max(picture.size) <= 3000
        pixels = np.asarray(picture.convert("RGB"))
    border = [pixels[:6], pixels[-6:], pixels[:, :6], pixels[:, -6:]]
    assert all((edge == 255).all() for edge in border)  # nothing is cut off
    assert len(np.unique(pixels.astype(np.int64) @ (65536, 256, 1))) > 20
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert "37.50 %" in axes.get_title()
    assert len(axes.texts) == (np.count_nonzero(counts) if num_classes <= 20 else 0)


def test_a_thousand_classes_are_named_as_far_as_names_can_be_read() -> None:
    counts, names = many(1000)
    labels = transitions.heat_map(counts, names, "t").axes[0].get_yticklabels()
    assert 100 < len(labels) < 1000
    assert labels[0].get_fontsize() >= 5


def test_faint_is_not_white() -> None:
    counts = np.array([[99_999, 1], [0, 100_000]])
    image = transitions.heat_map(counts, ["a", "b"], "t").axes[0].images[0]
    colours = image.cmap(image.norm(image.get_array()))
    assert (colours[0, 1, :3] < 1).any()
    assert colours[1, 0, 3] == 0  # nothing there: transparent on white


def test_names_in_scripts_without_letters_here_are_no_warning(tmp_path: Path) -> None:
    transitions.save_figure(transitions.heat_map(COUNTS, ["猫", "a\udcff\n", "_x"], "犬"), tmp_path / "map.png")


def test_the_folder_holds_labels_and_counts(tmp_path: Path) -> None:
    figure = transitions.heat_map(COUNTS, NAMES, "t")
    transitions.write_folder(tmp_path / "deep" / "out", DRAWN, NAMES, figure)
    out = tmp_path / "deep" / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "labels.csv", "labels.npy", "transitions.csv", "transitions.png",
    ]  # fmt: skip
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    labels = np.load(out / "labels.npy")
    assert labels.dtype == np.int64
    assert (labels == GIVEN).all()
    with (out / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[6]) == ["index", "given_label", "clean_label"]
    assert list(rows[6].values()) == ["6", "dog", "cat"]
    with (out / "transitions.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["clean \\ given", *NAMES]
    assert table[1:] == [[name, *map(str, row)] for name, row in zip(NAMES, COUNTS.tolist(), strict=True)]


def test_clean_labels_that_are_not_known_are_not_written(tmp_path: Path) -> None:
    drawn = Drawn(NoiseSpec.parse("file:x.npy"), 1, GIVEN, CLEAN, False, COUNTS)
    transitions.write_folder(tmp_path / "out", drawn, NAMES, transitions.heat_map(COUNTS, NAMES, "t"))
    assert (tmp_path / "out" / "labels.csv").read_text().splitlines()[1] == "0,cat,"
    assert (tmp_path / "out" / "transitions.csv").read_text().startswith("stored \\ given,")


def test_an_existing_folder_is_left_alone_and_an_empty_one_filled(tmp_path: Path) -> None:
    figure = transitions.heat_map(COUNTS, NAMES, "t")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(FastnoisyError, match="exists already"):
            transitions.write_folder(tmp_path / name, DRAWN, NAMES, figure)
    (tmp_path / "empty").mkdir()
    transitions.write_folder(tmp_path / "empty", DRAWN, NAMES, figure)
    assert (tmp_path / "empty" / "labels.npy").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_nothing_is_left_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(transitions, "save_figure", fail)
    with pytest.raises(OSError, match="disk full"):
        transitions.write_folder(tmp_path / "out", DRAWN, NAMES, transitions.heat_map(COUNTS, NAMES, "t"))
    assert list(tmp_path.iterdir()) == []


SPECS = [
    "none", "symmetric:0.4", "symmetric:0.4:exclude_true", "symmetric:0.4:dividemix", "pairflip:0.2", "human:worse",
    "file:x",
    *(f"asymmetric:0.4:{rule}" for rules in ASYMMETRIC_RULES.values() for rule in rules),
    *(f"instance:0.4:{variant}" for variant in INSTANCE_VARIANTS),
]  # fmt: skip


def test_every_rule_is_put_into_words_of_its_own() -> None:
    words = [Drawn(NoiseSpec.parse(spec), 1, GIVEN, CLEAN, True, COUNTS).rule for spec in SPECS]
    assert len(set(words)) == len(SPECS)
    assert all(10 < len(word) < 100 for word in words)


def test_a_long_name_keeps_both_ends() -> None:
    assert text.shorten_to("German_shepherd_dog", 9) == "Germ…_dog"
    assert text.shorten_to("cat", 9) == "cat"
    assert text.printable("a\nb\udcff ") == "a\\nb\\xff"
