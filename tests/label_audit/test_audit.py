"""`fastnoisy audit` from a folder to its files."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import fastnoisy
from fastnoisy.cli import cli
from fastnoisy.data.conversion.convert import convert
from fastnoisy.errors import FastnoisyError

PATTERNS = ("dots", "rings", "stripes")
MOVED = 4  # of each class's 24 images


def picture(pattern: str, number: int) -> Image.Image:
    y, x = np.mgrid[:48, :48]
    radius = np.hypot(y - 24, x - 24 + number % 3)
    on = {"stripes": x % 12 < 6, "rings": radius % 12 < 6, "dots": (x % 12 < 5) & (y % 12 < 5)}[pattern]
    noise = np.random.default_rng(number).integers(0, 60, (48, 48, 3))
    return Image.fromarray((on[..., None] * (150 + number) + noise).astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes; of each, MOVED images lie in the next one."""
    folder = tmp_path_factory.mktemp("audit") / "photos"
    for number, pattern in enumerate(PATTERNS):
        for i in range(24):
            place = folder / PATTERNS[(number + (i < MOVED)) % 3]
            place.mkdir(parents=True, exist_ok=True)
            picture(pattern, i).save(place / f"{pattern}-{i:02}.png")
    return folder


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["audit", "--size", "64", "--threads", "1", "--workers", "1", *words])


@pytest.fixture(scope="module")
def audited(photos: Path) -> Path:
    result = run(str(photos))
    assert result.exit_code == 0, result.output
    assert "12 of 72 labels are wrong by estimate (16.7%); 12 are flagged" in result.output
    assert "photos-audit/audit.html, issues.csv, suggestions.csv, probabilities.npz and summary.json" in result.output
    return photos.with_name("photos-audit")


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_moved_images_are_flagged_with_the_class_they_show(audited: Path) -> None:
    rows = rows_of(audited / "issues.csv")
    assert len(rows) == 72
    assert list(rows[0]) == [
        "index", "path", "split", "given_label", "predicted_label", "label_score", "is_label_issue",
        "duplicate_group", "duplicate_kind", "oddity",
    ]  # fmt: skip
    flagged = [row for row in rows if row["is_label_issue"] == "True"]
    assert rows[: len(flagged)] == flagged
    assert {row["path"] for row in flagged} == {
        f"{PATTERNS[(n + 1) % 3]}/{p}-{i:02}.png" for n, p in enumerate(PATTERNS) for i in range(MOVED)
    }
    for row in flagged:
        assert row["predicted_label"] == row["path"].split("/")[1].split("-")[0]
        assert row["given_label"] == row["path"].split("/")[0]
    scores = [float(row["label_score"]) for row in flagged]
    assert scores == sorted(scores)


def test_the_probabilities_are_cleanlabs_to_read(audited: Path) -> None:
    with np.load(audited / "probabilities.npz", allow_pickle=False) as found:
        labels, probabilities, names = found["labels"], found["pred_probs"], found["class_names"]
        paths = [path.decode() for path in found["path"].tolist()]
    assert probabilities.shape == (72, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    rows = {row["path"]: row for row in rows_of(audited / "issues.csv")}
    for path, label, p in zip(paths, labels, probabilities, strict=True):
        assert rows[path]["given_label"] == names[label]
        assert float(rows[path]["label_score"]) == pytest.approx(float(p[label]), abs=1e-6)
    filters = pytest.importorskip("cleanlab.filter", reason="cleanlab is not installed: pip install cleanlab")
    assert filters.find_label_issues(labels=labels, pred_probs=probabilities).sum() >= 8


def test_the_summary(audited: Path) -> None:
    found = json.loads((audited / "summary.json").read_text())
    assert (found["images"], found["judged"], found["estimated_wrong"], found["flagged"]) == (72, 72, 12, 12)
    assert found["weights_sha256"].startswith("579344248a93")
    assert [row["class"] for row in found["classes"]] == list(PATTERNS)
    assert found["classes"][1] == {
        "class": "rings", "images": 24, "estimated_wrong": 4.0, "estimated_elsewhere": 4.0, "flagged": 4,
        "mostly": "dots",
    }  # fmt: skip
    assert np.sum(found["joint"]) == pytest.approx(72, abs=0.1)


def test_the_page_shows_the_flagged_ones_first(audited: Path) -> None:
    text = (audited / "audit.html").read_text(encoding="ascii")
    data = json.loads(text.split('id="data">', 1)[1].split("</script>", 1)[0])
    flagged = [row for row in rows_of(audited / "issues.csv") if row["is_label_issue"] == "True"]
    cards = data["cards"][: len(flagged)]
    assert [card["path"] for card in cards] == [row["path"] for row in flagged]
    assert [PATTERNS[card["likely"][0][0]] for card in cards] == [row["predicted_label"] for row in flagged]
    assert (data["title"], data["suspects"], data["flagged"]) == ("photos", 72, 12)
    assert json.loads((audited / "summary.json").read_text())["seconds"]["page"] >= 0


def test_a_second_one_takes_store_and_features_again(audited: Path, photos: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (audited / "store").rglob("*")}
    result = run(str(photos), "--json")
    assert result.exit_code == 0, result.output
    assert "the store is as an earlier audit made it" in result.stderr
    assert json.loads(result.stdout)["flagged"] == 12
    assert {path: path.stat().st_mtime_ns for path in (audited / "store").rglob("*")} == before


def test_a_folder_that_has_changed_is_converted_anew(photos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    assert run(str(copy)).exit_code == 0
    shutil.move(copy / "rings" / "dots-00.png", copy / "dots" / "dots-00.png")
    result = run(str(copy), "--json")
    assert "the source has changed since an earlier audit" in result.stderr
    assert json.loads(result.stdout)["flagged"] == 11


def test_a_store_is_audited_split_by_split_as_one(photos: Path, tmp_path: Path) -> None:
    from fastnoisy.data.conversion.convert import ConvertOptions

    convert(str(photos), tmp_path / "store", options=ConvertOptions(test_fraction=0.25))
    audit = fastnoisy.audit(tmp_path / "store", tmp_path / "out", size=64, threads=1, say=print)
    assert audit.images.split_names == ("train", "test")
    assert int(audit.flags.flagged.sum()) == 12
    rows = rows_of(tmp_path / "out" / "issues.csv")
    assert {row["split"] for row in rows if row["is_label_issue"] == "True"} == {"train", "test"}
    assert not (tmp_path / "out" / "store").exists()


def test_the_flagged_rows_correct_the_labels(audited: Path, photos: Path, tmp_path: Path) -> None:
    """issues.csv, cut to path and suggestion, is a label file."""
    flagged = [row for row in rows_of(audited / "issues.csv") if row["is_label_issue"] == "True"]
    text = "path,label\n" + "".join(f"{row['path']},{row['predicted_label']}\n" for row in flagged)
    (tmp_path / "fixes.csv").write_text(text)
    fastnoisy.convert(photos, tmp_path / "fixed", labels=tmp_path / "fixes.csv", say=print)
    audit = fastnoisy.audit(tmp_path / "fixed", size=64, threads=1, say=print)
    assert audit.out == tmp_path / "fixed-audit"
    assert audit.flags.count == 0


def test_the_whole_table_with_a_column_of_labels_corrects_them(audited: Path, tmp_path: Path) -> None:
    rows = rows_of(audited / "issues.csv")
    for row in rows:
        row["label"] = row["predicted_label"] if row["is_label_issue"] == "True" else ""
    with (tmp_path / "looked-at.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines: list[str] = []
    fastnoisy.convert(
        audited.with_name("photos"), tmp_path / "fixed", labels=tmp_path / "looked-at.csv", say=lines.append
    )
    assert any("12 changed, 60 unchanged, 0 dropped" in line for line in lines)


def test_what_it_would_do_itself_is_a_label_file(audited: Path, tmp_path: Path) -> None:
    flagged = [row for row in rows_of(audited / "issues.csv") if row["is_label_issue"] == "True"]
    rows = rows_of(audited / "suggestions.csv")
    assert [row["path"] for row in rows] == [row["path"] for row in flagged]
    with np.load(audited / "probabilities.npz") as found:
        likeliest = dict(zip(found["path"].tolist(), found["pred_probs"].max(axis=1).tolist(), strict=True))
    for row in rows:
        sure = likeliest[row["path"].encode()] >= 0.5
        assert row["label"] == (row["predicted_label"] if sure else "drop")
    lines: list[str] = []
    fastnoisy.correct(audited / "store", audited / "suggestions.csv", out=tmp_path / "mended", say=lines.append)
    sure_ones = sum(row["label"] != "drop" for row in rows)
    assert any(f"{sure_ones} changed, 0 unchanged, {12 - sure_ones} dropped" in line for line in lines)


def test_copies_and_oddities_are_columns(photos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    noise = np.random.default_rng(7).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    for place in ("dots/noise.png", "rings/again.png"):
        Image.fromarray(noise).save(copy / place)
    Image.new("RGB", (48, 48)).save(copy / "rings" / "night.png")
    result = run(str(copy))
    assert "same bytes: 1 groups (1 with several labels, 0 in several splits)" in result.output
    (odd,) = (line for line in result.output.splitlines() if line.startswith("odd images: "))
    assert "1 black" in odd
    rows = {row["path"]: row for row in rows_of(tmp_path / "photos-audit" / "issues.csv")}
    both = rows["dots/noise.png"], rows["rings/again.png"]
    assert {row["duplicate_kind"] for row in both} == {"same bytes"}
    assert both[0]["duplicate_group"] == both[1]["duplicate_group"] != ""
    assert rows["rings/night.png"]["oddity"] == "black"
    assert sum(row["duplicate_kind"] == "same bytes" for row in rows.values()) == 2
    found = json.loads((tmp_path / "photos-audit" / "summary.json").read_text())
    assert found["duplicates"]["same bytes"] == {"groups": 1, "several_labels": 1, "several_splits": 0}
    assert found["oddities"]["black"] == 1


def test_too_small_classes_are_not_judged(photos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    (copy / "rare").mkdir()
    for i in range(3):
        picture("dots", 90 + i).save(copy / "rare" / f"{i}.png")
    result = run(str(copy))
    assert "3 images are of classes with too few to be judged; none of them is flagged" in result.output
    assert "12 of 72 labels are wrong by estimate" in result.output
    assert len(rows_of(tmp_path / "photos-audit" / "issues.csv")) == 75


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tmp}/nothing"], "does not exist"),
        (["{photos}", "--out", "{tmp}/full"], "is not empty and holds no earlier audit"),
        (["{photos}", "--out", "{tmp}/full/note.txt"], "is a file, not a folder"),
        (["{photos}", "--out", "{photos}/in"], "lies within the source"),
        (["{photos}", "--model", "resnet51"], "unknown model 'resnet51'"),
        (["{photos}", "--model", "resnet18", "--weights", "{tmp}/no.pth"], "are not there"),
        (["{photos}", "--device", "mps"], "device 'mps' is none. Choose auto, cpu, cuda or cuda:N"),
        (["{photos}", "--folds", "0", "--out", "{tmp}/none"], "0 folds: they must be at least 2"),
        (["{photos}", "--folds", "1", "--out", "{tmp}/one"], "1 folds: they must be at least 2"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    result = run(*(word.format(tmp=tmp_path, photos=photos) for word in words))
    assert isinstance(result.exception, FastnoisyError), result.output
    assert message in str(result.exception)
    assert (
        "\n" not in str(result.exception)
        or "these are known" in str(result.exception)
        or "KIND is" in str(result.exception)
    )
    assert (tmp_path / "full" / "note.txt").read_text() == "mine"
