"""The page of an audit as a file: what is in it, and what hostile names cannot do to it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy.confident_learning import Flags
from fastnoisy.data.conversion.convert import convert
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.label_audit import duplicates
from fastnoisy.label_audit import page as selection
from fastnoisy.label_audit.audit import Audit
from fastnoisy.label_audit.judgement import Images, Judgement
from fastnoisy.report import page as report
from fastnoisy.report.page import Card, ClassRow, Group, Page, Remark
from fastnoisy.report.thumbnails import SIDE, thumbnail, thumbnails

HOSTILE = ("</script><img src=x onerror=alert(1)>", "<!--", 'quote" and, comma', "\u202egnp.exe", "&lt;b&gt;{{ 1 }}")


def a_page(**changes: object) -> Page:
    cards = tuple(
        Card(0, f"{name}/line\nfeed-\udcff.jpg", i, 0.01, True, (((i + 1) % len(HOSTILE), 0.9),))
        for i, name in enumerate(HOSTILE)
    )
    page = Page(
        title=HOSTILE[0], class_names=HOSTILE, splits=("train",), classes=(ClassRow(9, 1.0, 1),) * len(HOSTILE),
        cards=cards, suspects=len(cards), images=50, judged=45, wrong=5, rate=0.1, flagged=5, network=HOSTILE[1],
        store="a store", groups=(Group(HOSTILE[0], (0, 1), 2),), remarks=(Remark(2, HOSTILE[0]),),
    )  # fmt: skip
    return replace(page, **changes)  # type: ignore[arg-type]


@pytest.fixture
def text(tmp_path: Path) -> str:
    report.write(tmp_path / "audit.html", a_page(), ["QUJD"] * len(HOSTILE))
    assert list(tmp_path.iterdir()) == [tmp_path / "audit.html"]
    return (tmp_path / "audit.html").read_text(encoding="ascii")


def block(text: str, start: str) -> str:
    return text.split(start, 1)[1].split("</script>", 1)[0]


def test_names_stand_in_the_data_alone_and_cannot_leave_them(text: str) -> None:
    data = block(text, '<script type="application/json" id="data">')
    assert not set("<>&") & set(data)
    content = json.loads(data)
    assert tuple(content["class_names"]) == HOSTILE
    assert content["cards"][0]["path"] == f"{HOSTILE[0]}/line\nfeed-\udcff.jpg"
    rest = text.replace(data, "")
    assert not [name for name in (*HOSTILE, "onerror", "gnp.exe") if name in rest]


def test_its_policy_lets_nothing_out_and_no_other_script_in(text: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    script = block(text, "<script>")
    style = text.split("<style>", 1)[1].split("</style>", 1)[0]
    for kind, found in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(found.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not re.findall(
        r"https?:|//[a-z]|url\(|@import|\b(?:fetch|eval|innerHTML|outerHTML|insertAdjacentHTML)\b", script + style
    )
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) == {"data:,"}


def test_thumbnails_stand_in_blocks_behind_the_script(tmp_path: Path) -> None:
    card = a_page().cards[0]
    page = a_page(cards=(card,) * 250, suspects=250)
    report.write(tmp_path / "audit.html", page, [f"image{i}" for i in range(250)])
    text = (tmp_path / "audit.html").read_text()
    blocks = re.findall(r'<script type="text/plain" id="thumbnails-(\d)">([^<]*)</script>', text)
    assert [number for number, _ in blocks] == ["0", "1", "2"]
    assert [len(content.split(",")) for _, content in blocks] == [100, 100, 50]
    assert all(content.endswith(";") for _, content in blocks)
    assert blocks[2][1].startswith("image200,")
    assert text.index("<script>") < text.index("thumbnails-0")


def test_the_digest_tells_audits_apart() -> None:
    digest = a_page().content()["digest"]
    assert digest == a_page().content()["digest"]
    moved = replace(a_page().cards[0], given=3)
    assert digest != a_page(cards=(moved, *a_page().cards[1:])).content()["digest"]
    assert digest != a_page(groups=()).content()["digest"]


@pytest.mark.parametrize(
    ("names", "column", "mislead"),
    [
        (("cat", "dog"), False, False),
        (("Drop", "dog"), True, False),
        (("1", "2"), False, True),
        (("0", "1"), False, False),
    ],
)
def test_what_the_reader_of_corrections_needs(names: tuple[str, ...], column: bool, mislead: bool) -> None:
    content = a_page(class_names=names).content()
    assert (content["drop_column"], content["numbers_mislead"]) == (column, mislead)


# Thumbnails


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of JPEGs: wide and large, grey and tall, and one that is smaller than a thumbnail."""
    folder = tmp_path_factory.mktemp("photos")
    ramp = np.linspace(0, 255, 400 * 500).reshape(400, 500).astype(np.uint8)
    images = {
        "a": Image.fromarray(np.stack([ramp, ramp[::-1], ramp], -1)),
        "b": Image.fromarray(ramp[:, :130]),
        "c": Image.fromarray(np.full((70, 90, 3), (200, 30, 60), np.uint8)),
    }
    for name, image in images.items():
        (folder / "in" / name).mkdir(parents=True)
        image.save(folder / "in" / name / "image.jpg", quality=95)
    convert(str(folder / "in"), folder / "store")
    return folder / "store"


def test_thumbnails_are_small_and_show_the_image(photos: Path) -> None:
    with open_store(photos) as store:
        split = store.splits["train"]
        sizes = []
        for row in range(3):
            small = Image.open(BytesIO(thumbnail(split, row)))
            sizes.append(small.size)
            full = Image.fromarray(split.read_image(row)).resize(small.size, Image.Resampling.BOX)
            assert np.abs(np.asarray(small, float) - np.asarray(full, float)).mean() < 4
        assert sizes == [(SIDE, 102), (42, SIDE), (90, 70)]
        many = thumbnails([(split, row) for row in (2, 0, 1, 2)], threads=2)
        assert many == [base64.b64encode(thumbnail(split, row)).decode() for row in (2, 0, 1, 2)]


def test_a_reduced_image_has_what_was_asked_for(photos: Path) -> None:
    with open_store(photos) as store:
        split = store.splits["train"]
        assert split.read_reduced(0, 100, 125).shape == (100, 125, 3)
        assert split.read_reduced(0, 101, 125).shape == (200, 250, 3)
        assert split.read_reduced(2, 500, 500).shape == (70, 90, 3)


def test_tiny_images_keep_their_size(tmp_path: Path) -> None:
    convert("digits", tmp_path / "digits")
    with open_store(tmp_path / "digits") as store:
        split = store.splits["train"]
        assert split.mode(0) == "raw"
        small = np.asarray(Image.open(BytesIO(thumbnail(split, 0))).convert("RGB"), float)
        assert np.abs(small - split.read_image(0)).mean() < 4


def test_a_damaged_record_is_an_error_that_names_it(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "store")
    with open_store(tmp_path / "store") as store:
        split = store.splits["train"]
        data = (tmp_path / "store" / "train.beton").read_bytes()
        at = data.index(split.read_bytes(1)) + 300
        (tmp_path / "store" / "train.beton").write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
        with pytest.raises(FastnoisyError, match=r"record 1 \(b/image.jpg\) is damaged"):
            thumbnails([(split, row) for row in range(3)], threads=2)


# What is chosen


def an_audit(
    flagged: int,
    others: int,
    unjudged: int = 0,
    classes: int = 3,
    groups: Sequence[tuple[str, tuple[int, ...]]] = (),
    oddities: Sequence[tuple[int, str]] = (),
) -> Audit:
    """Flagged images with falling suspicion, then others, then some of which nothing is said."""
    n = flagged + others + unjudged
    given = np.zeros(n, np.int64)
    probabilities = np.full((n, classes), 0.02, np.float32)
    probabilities[:flagged, 1] = 0.9
    probabilities[flagged:, 0] = 0.9
    score = np.linspace(0, 1, n)
    is_flagged, judged = np.arange(n) < flagged, np.arange(n) < flagged + others
    return Audit(
        out=Path("photos-audit"), store=Path("it's/store"),
        images=Images(
            ("train",), np.zeros(n, np.int64), np.arange(n), tuple(f"{i}.jpg" for i in range(n)), given,
            tuple(f"class{i}" for i in range(classes)),
        ),
        judgement=Judgement(probabilities, score, judged, judged, {}),
        flags=Flags(np.diag([float(n), *[0.0] * (classes - 1)]), flagged, is_flagged),
        groups=[duplicates.Group(*group) for group in groups], oddities=list(oddities),
        network="net", digest="", seconds={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flagged", "others", "shown", "of_them_flagged"),
    [(30, 1000, 130, 30), (300, 1000, 600, 300), (1500, 1000, 2000, 1500), (2500, 1000, 2500, 2500), (0, 40, 40, 0)],
)
def test_flagged_images_first_then_about_as_many_others(
    flagged: int, others: int, shown: int, of_them_flagged: int
) -> None:
    page, numbers = selection.build(an_audit(flagged, others, unjudged=50), "photos")
    assert (page.suspects, len(numbers)) == (shown, shown)
    assert [card.flagged for card in page.cards] == [True] * of_them_flagged + [False] * (shown - of_them_flagged)
    assert numbers == list(range(shown))
    assert (page.flagged, page.judged, page.images) == (flagged, flagged + others, flagged + others + 50)


def test_no_more_than_the_page_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MOST_FLAGGED", 40)
    monkeypatch.setattr(selection, "MOST", 20)
    page, _ = selection.build(an_audit(50, 50), "photos")
    assert (page.suspects, page.flagged) == (40, 50)
    monkeypatch.setattr(selection, "MOST_IN_GROUPS", 5)
    page, _ = selection.build(
        an_audit(5, 5, groups=[("same bytes", (0, 1)), ("near copy", (2, 3)), ("x", (4, 5))]), "p"
    )
    assert ([group.cards for group in page.groups], page.groups_left_out) == ([(0, 1), (2, 3)], 1)
    monkeypatch.setattr(selection, "MOST_IN_GROUP", 3)
    odd = [(i, "black") for i in range(7)]
    page, _ = selection.build(an_audit(5, 5, groups=[("same bytes", tuple(range(10)))], oddities=odd), "p")
    assert (page.groups, page.groups_left_out) == ((Group("same bytes", (0, 1, 2), 10),), 0)
    assert (len(page.remarks), page.remarks_left_out) == (5, 2)


def test_images_of_groups_and_remarks_are_there_too() -> None:
    pairs = [("same bytes", (0, 205)), ("near copy", (205, 1))]
    audit = an_audit(2, 200, unjudged=10, groups=pairs, oddities=[(150, "black")])
    page, numbers = selection.build(audit, "p")
    assert (page.suspects, numbers[102:]) == (102, [205, 150])
    assert [group.cards for group in page.groups] == [(0, 102), (102, 1)]
    assert page.remarks == (Remark(103, "black"),)
    assert (page.cards[102].score, page.cards[102].likely) == (None, ())
    assert page.cards[0].likely == ((1, 0.9), (2, 0.02))
    faint = replace(
        audit,
        groups=[],
        oddities=[],
        judgement=replace(audit.judgement, probabilities=audit.judgement.probabilities / 500),
    )
    assert [card.likely for card in selection.build(faint, "p")[0].cards[:2]] == [((1, 0.002),)] * 2
    assert page.store == "'it'\"'\"'s/store'"
