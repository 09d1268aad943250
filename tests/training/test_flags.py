"""Evaluation on labels that nobody has checked: it says so, and has the numbers without what an audit flags."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastnoisy
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_audit import output
from fastnoisy.training.eval_sets import evaluated_split
from fastnoisy.training.flags import COLUMNS, read_flags

SMALL = ["model=preact_small(width=4)", "epochs=1", "batch_size=8", "threads=1", "device=cpu", "views.size=32"]
FLAGGED = {"test/cat/0.png", "test/owl/1.png"}
SAID = "labels of test are as unchecked as the training labels"


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit's folder with `store` and `issues.csv`, beside the photographs and a run."""
    folder, rng = tmp_path_factory.mktemp("flags") / "photos-audit", np.random.default_rng(3)
    source = folder.with_name("photos")
    for split, count in (("train", 8), ("test", 4)):
        for name in ("cat", "dog", "owl"):
            (source / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(source / split / name / f"{i}.png")
    fastnoisy.convert(source, folder / "store", workers=1)
    write(folder / "issues.csv", folder / "store")
    fastnoisy.train("folder-ce", *SMALL, data=folder / "store", out=folder.with_name("run"), progress=unheard)
    return folder


def unheard(event: fastnoisy.Event) -> None:
    """An observer that shows nothing."""


def write(file: Path, store: Path) -> None:
    """What an audit writes, with other numbers."""
    with open_store(store) as opened, file.open("w", newline="") as text:
        lines = csv.writer(text)
        lines.writerow(output.COLUMNS)
        rows = [(split, row) for split in opened.splits.values() for row in range(split.num_samples)]
        for split, row in reversed(rows):
            path, given = split.sources[row], opened.class_names[split.given_labels[row]]
            lines.writerow([row, path, split.name, given, "dog", "0.500000", path in FLAGGED])


def edit(audit: Path, place: Path, change: Callable[[str], str]) -> Path:
    file = place / "edited.csv"
    file.write_text(change((audit / "issues.csv").read_text()))
    return file


def run_of(audit: Path, said: list[str] | None = None) -> fastnoisy.Run:
    return fastnoisy.load(audit.with_name("run"), None if said is None else said.append)


def test_an_audits_columns_are_known() -> None:
    assert set(COLUMNS) <= set(output.COLUMNS)


def test_flags_beside_the_store_are_found_and_left_out(audit: Path) -> None:
    report = run_of(audit).evaluate()
    assert (report.split, report.unchecked, report.images, report.flagged) == ("test", True, 12, 2)
    assert report.flags == str(audit / "issues.csv")
    # what drops the same rows has the same numbers
    fixes = audit.with_name("fixes.csv")
    fixes.write_text("path,label\n" + "".join(f"{path},drop\n" for path in sorted(FLAGGED)))
    without = run_of(audit).evaluate(labels=fixes)
    assert without.images == 10
    assert report.unflagged["main"] == pytest.approx(without.predictors["main"])
    assert (without.unchecked, without.flags, without.unflagged) == (False, "", {})
    both = run_of(audit).evaluate(labels=fixes, flags=audit / "issues.csv")
    assert (both.images, both.flagged) == (10, 0)
    assert run_of(audit).evaluate(split="train").flagged == 0


def test_a_store_elsewhere_has_none_but_those_that_are_named(audit: Path, tmp_path: Path) -> None:
    shutil.copytree(audit / "store", tmp_path / "photos")
    report = run_of(audit).evaluate(tmp_path / "photos")
    assert (report.unchecked, report.flags, report.flagged, report.unflagged) == (True, "", 0, {})
    named = run_of(audit).evaluate(tmp_path / "photos", flags=audit / "issues.csv")
    assert named.flagged == 2
    assert named.unflagged == run_of(audit).evaluate().unflagged


def test_labels_that_were_corrected_are_not_unchecked(audit: Path, tmp_path: Path) -> None:
    (tmp_path / "fixes.csv").write_text("path,label\ntest/cat/1.png,dog\n")
    fastnoisy.correct(audit / "store", tmp_path / "fixes.csv", out=tmp_path / "new")
    assert not run_of(audit).evaluate(tmp_path / "new").unchecked
    assert run_of(audit).evaluate(tmp_path / "new", split="train").unchecked


def test_flags_of_other_labels_are_refused_or_passed_over_with_a_line(audit: Path, tmp_path: Path) -> None:
    (tmp_path / "fixes.csv").write_text("path,label\ntrain/cat/1.png,dog\ntrain/cat/2.png,drop\n")
    fastnoisy.correct(audit / "store", tmp_path / "fixes.csv", out=tmp_path / "other/store")
    shutil.copy(audit / "issues.csv", tmp_path / "other")
    said: list[str] = []
    report = run_of(audit, said).evaluate(tmp_path / "other/store", split="test")  # of which nothing was changed
    assert (report.flagged, said) == (2, [])
    (tmp_path / "other/issues.csv").write_text((audit / "issues.csv").read_text().replace("cat/1.png", "cat/9.png"))
    report = run_of(audit, said).evaluate(tmp_path / "other/store", split="test")
    assert (report.unchecked, report.flags) == (True, "")
    assert len(said) == 1
    assert said[0].startswith("note: ")
    assert "its flags are not used" in said[0]
    shutil.copy(audit.with_name("run") / "issues.csv", tmp_path / "other")  # of a run that has seen the labels
    assert run_of(audit, said).evaluate(tmp_path / "other/store", split="test").flags == ""
    assert len(said) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("test/dog/0.png", "test/dog/7.png"), "has the path 'test/dog/7.png' for row 4"),
        (lambda text: text.replace("test,owl", "test,cat"), "has the label 'cat'"),
        (lambda text: text.replace("\n0,test", "\n12,test"), "has the index '12', where test has 12 rows"),
        (lambda text: text.replace("0,test/cat/0.png", "x,test/cat/0.png"), "has the index"),
        (lambda text: "".join(text.splitlines(True)[:-30]), "lists 6 of the 12 images of test"),
        (lambda text: text + text.splitlines()[1] + "\n", "names row 11 again"),
        (lambda text: text.replace("True", "maybe"), "has 'maybe' as is_label_issue"),
        (lambda text: text.replace("split", "part", 1), "has no column split; the issues.csv of a run"),
        (lambda text: "", "has no column index"),
        (lambda text: text.splitlines()[0] + "\n0,test\n", "lists 0 of the 12"),
    ],
)
def test_what_is_no_audit_of_this_store_is_refused(
    audit: Path, tmp_path: Path, change: Callable[[str], str], said: str
) -> None:
    file = edit(audit, tmp_path, change)
    with open_store(audit / "store") as store, pytest.raises(FastnoisyError, match="flags: ") as caught:
        read_flags(file, store.split("test"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flags_as_a_spreadsheet_saves_them(audit: Path, tmp_path: Path) -> None:
    file = edit(audit, tmp_path, lambda text: "\ufeff" + text.replace("True", "TRUE").replace("False", "FALSE"))
    with open_store(audit / "store") as store:
        split = store.split("test")
        flags = read_flags(file, split)
        assert {split.sources[row] for row in np.flatnonzero(flags.rows)} == FLAGGED
        with pytest.raises(FastnoisyError, match="cannot read"):
            read_flags(tmp_path / "none.csv", split)


def test_the_command_says_it(audit: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from fastnoisy.cli import cli

    run = str(audit.with_name("run"))
    found = CliRunner().invoke(cli, ["evaluate", run], catch_exceptions=False)
    assert found.exit_code == 0
    assert SAID in found.output
    assert f"2 of 12 labels are flagged in {audit / 'issues.csv'}; top-1 without them: main " in found.output
    everything = edit(audit, tmp_path, lambda text: text.replace("False", "True"))
    found = CliRunner().invoke(cli, ["evaluate", run, "--flags", str(everything)], catch_exceptions=False)
    assert "12 of 12 labels are flagged" in found.output
    assert "none is left without them" in found.output
    (tmp_path / "fixes.csv").write_text("path,label\ntest/cat/1.png,cat\n")
    words = ["evaluate", run, "--labels", str(tmp_path / "fixes.csv")]
    found = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert SAID not in found.output
    assert "flagged" not in found.output


def test_labels_that_are_known_to_be_right_are_not_unchecked(digits: Path, tmp_path: Path) -> None:
    words = ["model.width=4", "data.subset=60", "epochs=1", "batch_size=30", "threads=1", "device=cpu"]
    run = fastnoisy.train("digits-ce", *words, data=digits, out=tmp_path / "run", progress=unheard)
    report = run.evaluate()
    assert (report.unchecked, report.flags) == (False, "")


def test_a_folder_kept_aside_has_but_one_split(audit: Path, tmp_path: Path) -> None:
    """Which nobody should have to name; of the run's own store the training split is not meant by saying nothing."""
    fastnoisy.convert(audit.with_name("photos") / "test", tmp_path / "aside", workers=1)
    report = run_of(audit).evaluate(tmp_path / "aside")
    assert (report.split, report.images) == ("train", 12)
    config = run_of(audit).config
    own = config.model_copy(update={"data": config.data.model_copy(update={"store": str(tmp_path / "aside")})})
    with (
        open_store(tmp_path / "aside") as store,
        pytest.raises(FastnoisyError, match=r"aside has no split 'test', only train.*--data STORE.*--split NAME"),
    ):
        evaluated_split(own, store)
