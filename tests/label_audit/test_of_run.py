"""`fastnoisy audit RUN`: by the run's own network, and out of sample by its recipe trained on the other folds."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import fastnoisy
from fastnoisy.cli import cli
from fastnoisy.data.conversion.convert import convert
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.training.run import Run

WORDS = [
    "epochs=2", "model.width=4", "optim.lr=0.05", "batch_size=50", "device=cpu", "threads=1", "eval_every=2",
    "optim.milestones=[1]",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("of-run")
    convert("digits", folder / "digits")
    words = [*WORDS, "noise=symmetric:0.2", "data.holdout=0.1"]
    fastnoisy.train("digits-ce", *words, data=folder / "digits", out=folder / "run")
    return folder / "run"


def audit(*words: str) -> Result:
    return CliRunner().invoke(cli, ["audit", "--size", "32", "--threads", "1", "--device", "cpu", *words])


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_its_own_network_judges_all_splits(run: Path, tmp_path: Path) -> None:
    result = audit(str(run), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "note: the run's own network judges the images that it was trained on" in result.output
    rows = rows_of(tmp_path / "out" / "issues.csv")
    opened = Run(run)
    trained = {issue.index: issue for issue in opened.issues()}
    assert {row["split"] for row in rows} == {"train", "test"}
    for row in rows:
        if row["split"] == "train" and int(row["index"]) in trained:
            issue = trained[int(row["index"])]
            assert float(row["label_score"]) == pytest.approx(issue.label_score, abs=2e-6)
            assert (row["given_label"], row["path"]) == (issue.given_label, issue.path), "with the noise of the run"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["judged_by"] == {"run": str(run), "in_sample": True}


def test_folds_train_the_recipe_on_the_runs_labels(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = audit(str(run), "--out", str(out), "--folds", "2")
    assert result.exit_code == 0, result.output
    labels = Run(run).labels
    parts = []
    for number in (1, 2):
        fold = Run(out / "folds" / f"fold-{number}-of-2")
        kept = fold.labels.train
        parts.append(kept)
        assert np.isin(kept, labels.train).all()
        assert (fold.labels.given[kept] == labels.given[kept]).all()
        assert fold.config.epochs == 2
        assert fold.config.method == Run(run).config.method
    assert sorted(np.concatenate(parts).tolist()) == labels.train.tolist(), "each image is left out once"
    with np.load(out / "probabilities.npz") as found:
        train = found["split"] == "train"
        p = found["pred_probs"][train]
        assert (found["labels"][train] == labels.given).all()
    first = Run(out / "folds" / "fold-1-of-2")
    with open_store(first.config.data.store) as store:
        theirs = first.probabilities(store.split("train"), device="cpu")
    left_out = np.setdiff1d(labels.train, first.labels.train)
    np.testing.assert_allclose(p[left_out], theirs[left_out], atol=1e-6)
    assert (p[first.labels.train] != theirs[first.labels.train]).any()
    before = {path: path.stat().st_mtime_ns for path in (out / "folds").rglob("*") if path.is_file()}
    again = audit(str(run), "--out", str(out), "--folds", "2")
    assert again.exit_code == 0, again.output
    assert before == {path: path.stat().st_mtime_ns for path in (out / "folds").rglob("*") if path.is_file()}
    store = Run(run).config.data.store
    words = ["optim.lr=0.04", "noise=symmetric:0.2", "data.holdout=0.1"]
    fastnoisy.train("digits-ce", *WORDS, *words, data=store, out=tmp_path / "other")
    for changed in ([run, "--seed", "2"], [tmp_path / "other"]):
        refused = audit(*map(str, changed), "--out", str(out), "--folds", "2")
        assert "was trained by an audit of another run, or with other folds or another seed" in str(refused.exception)
    assert before == {path: path.stat().st_mtime_ns for path in (out / "folds").rglob("*") if path.is_file()}


class fastnoisy_store:  # noqa: N801
    """The training split of a run's store."""

    def __init__(self, run: Path) -> None:
        from fastnoisy.data.store import open_store

        self.store = open_store(Run(run).config.data.store)

    def __enter__(self):
        return self.store.split("train")

    def __exit__(self, *_: object) -> None:
        self.store.close()


@pytest.mark.slow
def test_a_method_that_must_know_the_rate_is_told_the_runs(run: Path, tmp_path: Path) -> None:
    words = [*WORDS, "noise=symmetric:0.2"]
    store = Run(run).config.data.store
    fastnoisy.train("digits-co-teaching", *words, data=store, out=tmp_path / "run")
    result = audit(str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--folds", "2")
    assert result.exit_code == 0, result.output
    rate = Run(tmp_path / "out" / "folds" / "fold-1-of-2").config.method["noise_rate"]
    assert rate == pytest.approx(0.18, abs=0.04)


@pytest.mark.parametrize(
    ("words", "message"), [(["--folds", "1"], "1 folds: they must be at least 2"), (["--folds", "9999"], "9999 folds")]
)
def test_mistakes_are_one_line(run: Path, tmp_path: Path, words: list[str], message: str) -> None:
    result = audit(str(run), "--out", str(tmp_path / "out"), *words)
    assert isinstance(result.exception, FastnoisyError), result.output
    assert message in str(result.exception)
