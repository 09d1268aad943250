"""`noise=file:`: labels of one's own as noise. How files are read is tested in tests/label_files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastnoisy import noise
from fastnoisy.errors import FastnoisyError

NAMES = ["cat", "dog", "owl, snowy"]
LABELS = [2, 0, 1, 1]
STORED = np.array([0, 0, 1, 2])
PATHS = ["a.png", "b.png", "c.png", "d.png"]


def read(path: Path, names: list[str] | None = None, **given: object) -> tuple[list[int], list[str]]:
    said: list[str] = []
    reading = noise.FileReading(lambda: PATHS, say=said.append, **given)  # type: ignore[arg-type]
    return noise.from_file(path, STORED, names or NAMES, reading).tolist(), said


def test_all_rows_by_position_and_the_line_that_counts_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(LABELS, np.uint8))
    assert read(tmp_path / "a.npy") == (
        LABELS,
        [
            f"noise file {tmp_path}/a.npy: train: 2 changed, 2 unchanged, 0 dropped (by position: it has neither paths "
            "nor an index)"
        ],
    )
    assert noise.from_file(tmp_path / "a.npy", STORED, NAMES).dtype == np.int64


def test_issues_of_a_run_with_corrections_in_some_rows(tmp_path: Path) -> None:
    """The run's labels are those of given_label; where the user has written a label, it goes before."""
    path = tmp_path / "issues.csv"
    path.write_text(
        "index,path,given_label,predicted_label,label_score,is_label_issue,label\n2,c.png,cat,cat,0.1,True,dog\n"
        '0,a.png,"owl, snowy",cat,0.4,True,\n1,b.png,cat,cat,0.9,False,\n3,d.png,dog,dog,0.9,False,\n'
    )
    labels, said = read(path)
    assert labels == LABELS
    assert "2 changed, 2 unchanged" in said[0]
    assert "label is column 'label' before 'given_label'" in said[0]


def test_some_rows_only(tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("path,label\nd.png,cat\nb.png,\n")
    assert read(tmp_path / "some.csv")[0] == [0, 0, 1, 0]


def test_numbers_that_could_be_names(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([2, 0, 1, 1]))
    with pytest.raises(FastnoisyError, match=r"class named '2' \(number 1\) or class number 2 \(named '0'\)"):
        read(tmp_path / "a.npy", ["1", "2", "0"])
    assert read(tmp_path / "a.npy", ["1", "2", "0"], labels_as="index")[0] == LABELS
    assert read(tmp_path / "a.npy", ["1", "2", "0"], labels_as="name")[0] == [1, 2, 0, 0]


@pytest.mark.parametrize("text", ["path,label\na.png,drop\n", "path,label,drop\na.png,cat,true\n"])
def test_noise_drops_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(FastnoisyError, match=r"line 2, drops its row.*labels=FILE"):
        read(tmp_path / "a.csv")


def test_what_cannot_be_matched(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label\na.png,cat\n")
    with pytest.raises(FastnoisyError, match="paths of these rows are not known"):
        noise.from_file(tmp_path / "a.csv", STORED, NAMES)
    with pytest.raises(FastnoisyError, match="does not exist"):
        noise.from_file(tmp_path / "none.npy", STORED, NAMES)
