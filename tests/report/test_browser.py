"""The page of an audit in a real Chromium: filters, matrix, keys, verdicts, export, requests, speed."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastnoisy
from fastnoisy.label_files.corrections import Corrected, Rows, correct
from fastnoisy.report import page as report
from fastnoisy.report.page import Card, ClassRow, Group, Page, Remark

CLASSES = ("cat", "dog", 'the "owl", <b>', "newt")
PATHS = (
    "cat/a.jpg", "cat/with, comma;.jpg", 'cat/with "quotes".jpg', "cat/line\nfeed\r.jpg", "cat/\udcff\udce9.jpg",
    " cat/spaces.jpg ", "cat/\u202egpj.exe", "=cat/\u00e4\U0001f600.jpg", "cat/<img src=x onerror=alert(1)>.jpg",
)  # fmt: skip
SHOWN = "#grid .card"


def jpeg(colour: tuple[int, int, int]) -> str:
    out = BytesIO()
    Image.new("RGB", (64, 48), colour).save(out, "JPEG")
    return base64.b64encode(out.getvalue()).decode()


def a_page(**changes: Any) -> Page:
    """Nine flagged images of classes 0, 1, 2 in turn, each suggested to be of the next; two others; two beside them."""
    cards = [
        Card(0, path, i % 3, 0.02, True, ((i % 3 + 1, 0.7), (3 if i % 3 < 2 else 0, 0.2)))
        for i, path in enumerate(PATHS)
    ]
    cards += [Card(1, f"dog/other{i}.jpg", 1, 0.4, False, ((0, 0.3),)) for i in range(2)]
    cards += [Card(0, "copy/1.jpg", 0, 0.9, False, ()), Card(1, "copy/2.jpg", 0, None, False, ())]
    page = Page(
        title="photos", class_names=CLASSES, splits=("train", "test"), classes=(ClassRow(30, 6.0, 3),) * 4,
        cards=tuple(cards), suspects=11, images=120, judged=100, wrong=9, rate=0.09, flagged=9, network="a net",
        store="photos-audit/store", groups=(Group("same bytes", (11, 12), 2), Group("near copy", (0, 11), 7)),
        remarks=(Remark(12, "black"), Remark(1, "a page of text"), Remark(0, "black")),
    )  # fmt: skip
    return replace(page, **changes)


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Callable[..., Any]:
    """Write a page and open it."""

    def open_page(page: Page | None = None, **looks: Any) -> Any:
        page = page or a_page()
        report.write(tmp_path / "audit.html", page, [jpeg((i * 20 % 256, 90, 160)) for i in range(len(page.cards))])
        browser.open(tmp_path / "audit.html", **looks)
        browser.settle()
        return browser

    return open_page


def choose(browser: Any, identity: str, value: str) -> None:
    browser.run(
        f"(e => (e.value = '{value}', e.dispatchEvent(new Event(e.type === 'search' ? 'input' : 'change'))))"
        f"(document.getElementById('{identity}'))"
    )


def paths_of(browser: Any) -> list[str]:
    return list(browser.texts(f"{SHOWN} .path b"))


def corrections(browser: Any, tmp_path: Path, page: Page) -> dict[str, Corrected]:
    """What the exported file makes of the page's images."""
    browser.click("#export")
    (tmp_path / "corrections.csv").write_bytes(browser.downloaded("corrections.csv"))
    splits = {
        name: Rows(np.array([c.given for c in cards]), [c.path for c in cards])
        for number, name in enumerate(page.splits)
        if (cards := [c for c in page.cards if c.split == number])
    }
    return correct(tmp_path / "corrections.csv", splits, page.class_names)[0]


def test_it_shows_what_was_found(opened: Callable[..., Any]) -> None:
    browser = opened()
    assert browser.texts("#found") == ["9 of 100 labels are wrong by estimate (9.0%); 9 are flagged"]
    assert browser.texts("#network") == [
        "20 images are of classes with too few to be judged. Judged by the features of a net"
    ]
    assert browser.texts("#done") == ["0 of 9 looked at"]
    assert browser.texts("#tabs button") == ["Suspects 9", "Duplicates 2", "Other 3"]
    assert browser.texts(f"{SHOWN}:nth-child(3) .words > span")[:4] == ['the "owl", <b>', "2%", "\u2192 newt", "70%"]
    assert browser.run(f"[...document.querySelectorAll('{SHOWN} img')].every(i => i.complete && i.naturalWidth === 64)")
    assert browser.texts("#classes tbody tr:first-child > *") == ["cat", "30", "6", "20%"]
    assert browser.run("document.title") == "photos: label audit"
    assert browser.problems == []


def test_names_are_texts_whatever_they_are(opened: Callable[..., Any]) -> None:
    names = ("</script><img src=x onerror=alert(1)>", "<!--", "a\u202eb", 'q"')
    browser = opened(a_page(class_names=names, title=names[0], network=names[0], store=names[0]))
    found = browser.texts(f"{SHOWN} .path b")
    assert found[3:7] == ["line\\nfeed\\u{d}.jpg", "\\xff\\xe9.jpg", "spaces.jpg ", "\\u{202e}gpj.exe"]
    assert found[8] == "<img src=x onerror=alert(1)>.jpg"
    assert browser.texts(f"{SHOWN} .given")[0] == names[0]
    assert "\u2192 a\\u{202e}b" in browser.texts(f"{SHOWN} .suggested")
    browser.press("j", "l")
    assert names[0] in browser.texts("#chooser-list button")[2]
    browser.press("Escape", "r", "r")
    browser.click("#export")
    assert browser.run("document.querySelectorAll('[onerror], img[src=x], b b').length") == 0
    assert browser.problems == []
    assert browser.texts("#title") == [names[0]]


def test_nothing_leaves_it(opened: Callable[..., Any], tmp_path: Path) -> None:
    browser = opened()
    browser.press("j", "r", "s")
    browser.click("#export")
    browser.downloaded("corrections.csv")
    assert browser.requests[0] == (tmp_path / "audit.html").as_uri()
    rest = [url for url in browser.requests[1:] if not url.startswith(("data:", "blob:file://", "blob:null"))]
    assert rest == []
    refused = browser.run(
        """Promise.all([
            fetch('https://example.org').then(() => 'went', () => 'refused'),
            new Promise(done => {
                addEventListener('securitypolicyviolation', () => done('refused'));
                new Image().src = 'https://example.org/x.png';
            }),
            new Promise(done => {
                const script = document.createElement('script');
                script.textContent = 'window.ran = 1';
                document.body.append(script);
                done(window.ran ? 'went' : 'refused');
            }),
        ])"""
    )
    assert refused == ["refused"] * 3


def test_filters_narrow_what_is_shown(opened: Callable[..., Any]) -> None:
    browser = opened()
    assert len(paths_of(browser)) == 9
    choose(browser, "given", "1")
    assert set(browser.texts(f"{SHOWN} .given")) == {"dog"}
    assert browser.texts("#count-text") == ["3 of 9 flagged, most suspect first"]
    choose(browser, "suggested", "1")
    assert paths_of(browser) == []
    browser.click("#clear")
    assert len(paths_of(browser)) == 9
    browser.click("#text")
    browser.press(*"COMMA")
    assert paths_of(browser) == ["with, comma;.jpg"]
    browser.click("#clear")
    browser.click("#all")
    assert len(paths_of(browser)) == 11
    assert browser.texts(f"{SHOWN} .other") == ["or cat", "or cat"]
    browser.click("#unticked")
    browser.press("j", "r")
    assert len(paths_of(browser)) == 10
    browser.press("u")
    assert len(paths_of(browser)) == 11


def test_the_matrix_filters_and_lets_go(opened: Callable[..., Any]) -> None:
    browser = opened()
    assert browser.texts("#matrix td button") == ["3", "3", "3"]
    browser.click('#matrix [data-given="1"][data-suggested="2"]')
    assert set(browser.texts(f"{SHOWN} .given")) == {"dog"}
    assert set(browser.texts(f"{SHOWN} .suggested")) == {'\u2192 the "owl", <b>'}
    assert browser.run("[document.getElementById('given').value, document.getElementById('suggested').value]") == [
        "1",
        "2",
    ]
    assert browser.texts("#matrix td [aria-pressed=true]") == ["3"]
    browser.click('#matrix [data-given="1"][data-suggested="2"]')
    assert len(paths_of(browser)) == 9
    browser.click('#matrix tbody [data-given="2"].name')
    assert len(paths_of(browser)) == 3
    browser.click('#classes [data-given="0"]')
    assert set(browser.texts(f"{SHOWN} .given")) == {"cat"}


def test_of_many_classes_the_pairs_that_occur_are_listed(opened: Callable[..., Any]) -> None:
    names = tuple(f"class {i}" for i in range(1000))
    cards = [Card(0, f"{i}.jpg", i % 7 * 100, 0.0, True, ((i % 2, 0.9),)) for i in range(1, 60)]
    browser = opened(a_page(class_names=names, classes=(ClassRow(5, 0.0, 0),) * 1000, cards=tuple(cards), suspects=59,
                            groups=(), remarks=()))  # fmt: skip
    pairs = browser.texts("#matrix button")
    assert len(pairs) == 14
    counts = [int(browser.texts(f"#matrix button:nth-child({k}) b")[0]) for k in range(1, 15)]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == 59
    browser.click("#matrix button:first-child")
    assert browser.texts("#count-text") == [f"{counts[0]} of 59 flagged, most suspect first"]
    assert browser.run("(b => b.scrollHeight > b.clientHeight)(document.querySelector('#classes'))")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def verdicts(browser: Any) -> list[str]:
    return list(browser.run(f"[...document.querySelectorAll('{SHOWN} .verdict')].map(e => e.textContent)"))


def test_keys_move_tick_and_undo(opened: Callable[..., Any]) -> None:
    browser = opened(width=1300)
    at = "document.activeElement.getAttribute('aria-posinset')"
    browser.press("j")
    assert browser.run(at) == "1"
    browser.press("ArrowRight", "j", "k")
    assert browser.run(at) == "2"
    columns = browser.run("grid.columns")
    browser.press("ArrowDown")
    assert browser.run(at) == str(2 + columns)
    browser.press("ArrowUp", "ArrowLeft", "r", "s", "Enter", "d", "y")
    owl = '\u2192 the "owl", <b>'
    assert verdicts(browser)[:6] == ["\u2713 right", owl, "\u2192 newt", "dropped", "\u2713 right", ""]
    assert browser.run(at) == "6"
    assert browser.texts("#done") == ["5 of 9 looked at"]
    browser.press("u", "u")
    assert verdicts(browser)[3:5] == ["", ""]
    assert browser.run(at) == "4"
    browser.press("l")
    assert browser.texts("#chooser-list button")[0] == "dog70%"
    browser.press("n", "Enter")
    assert verdicts(browser)[3] == "\u2192 newt"
    browser.press("l", "ArrowDown", "Escape")
    assert verdicts(browser)[4] == ""


def test_the_mouse_ticks_and_takes_back(opened: Callable[..., Any]) -> None:
    browser = opened()
    browser.click(f"{SHOWN} .right")
    assert verdicts(browser)[0] == "\u2713 right"
    browser.click(f"{SHOWN} .relabel")
    assert verdicts(browser)[0] == "\u2192 dog"
    browser.click(f"{SHOWN} .choose")
    browser.click("#chooser-list [data-label='3']")
    assert verdicts(browser)[0] == "\u2192 newt"
    browser.click(f"{SHOWN} .relabel")
    assert browser.texts("#done") == ["0 of 9 looked at"]
    assert browser.run("document.getElementById('export').disabled")
    browser.click(f"{SHOWN} .drop")
    assert browser.texts("#done") == ["1 of 9 looked at"]


def test_the_export_is_read_as_it_was_ticked(opened: Callable[..., Any], tmp_path: Path) -> None:
    """Whatever bytes are in a path."""
    page = a_page()
    browser = opened(page)
    browser.press("j", "r", "s", "d", "s", "s", "d", "s", "s", "s")
    browser.click("#tabs button:nth-child(2)")
    browser.click(f"{SHOWN}[aria-posinset='2'] .drop")
    found = corrections(browser, tmp_path, page)
    train = found["train"]
    assert train.labels[:9].tolist() == [0, 2, 2, 1, 2, 2, 1, 2, 3]
    assert train.changed.tolist() == [1, 3, 4, 6, 7, 8]
    assert train.dropped.tolist() == [2, 5]
    assert (train.unchanged, found["test"].dropped.tolist()) == (1, [2])
    lines = browser.downloaded("corrections.csv").split(b"\r\n")
    assert lines[:3] == [
        b"path,split,label",
        b"cat/a.jpg,train,cat",
        b'"cat/with, comma;.jpg",train,"the ""owl"", <b>"',
    ]
    assert browser.texts("#notice code") == [
        "fastnoisy train folder-nrd --data photos-audit/store labels=corrections.csv"
    ]


def test_a_class_called_drop_and_names_that_are_numbers(opened: Callable[..., Any], tmp_path: Path) -> None:
    page = a_page(class_names=("1", "2", "Drop", "3"))
    browser = opened(page)
    browser.press("j", "r", "s", "d")
    browser.click("#export")
    text = browser.downloaded("corrections.csv").decode()
    assert text == (
        'path,split,label,drop\r\ncat/a.jpg,train,1,false\r\n"cat/with, comma;.jpg",train,Drop,false\r\n'
        '"cat/with ""quotes"".jpg",train,,true\r\n'
    )
    assert browser.texts("#notice code")[0].endswith("labels=corrections.csv labels_as=name")


def test_rows_of_one_file_are_ticked_as_one(opened: Callable[..., Any], tmp_path: Path) -> None:
    twins = [Card(0, "same.jpg", given, 0.1, True, ((2, 0.8),)) for given in (0, 1)]
    page = a_page(cards=(*twins, Card(0, "b.jpg", 1, 0.1, True, ())), suspects=3, groups=(), remarks=())
    browser = opened(page)
    browser.press("j", "s")
    assert browser.texts("#done") == ["2 of 3 looked at"]
    assert corrections(browser, tmp_path, page)["train"].labels.tolist() == [2, 2, 1]
    (browser.downloads / "corrections.csv").unlink()
    browser.press("k", "r")
    found = corrections(browser, tmp_path, page)["train"]
    assert (found.labels.tolist(), found.unchanged) == ([0, 1, 1], 2)


def test_progress_is_kept_for_this_audit_alone(opened: Callable[..., Any], tmp_path: Path) -> None:
    browser = opened()
    browser.press("j", "r", "d")
    opened()
    assert browser.texts("#done") == ["2 of 9 looked at"]
    assert verdicts(browser)[:3] == ["\u2713 right", "dropped", ""]
    opened(a_page(wrong=8))
    assert browser.texts("#done") == ["0 of 9 looked at"]


def test_without_a_storage_it_says_so_and_works(opened: Callable[..., Any], tmp_path: Path) -> None:
    page = a_page()
    browser = opened(page)
    denied = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('denied') }})"
    browser.call("Page.addScriptToEvaluateOnNewDocument", source=denied)
    opened(page)
    assert "Progress is not kept" in browser.texts("#notice")[0]
    browser.press("j", "s")
    assert corrections(browser, tmp_path, page)["train"].changed.tolist() == [0]


def test_duplicates_stand_side_by_side_and_the_odd_ones_by_what_they_are(opened: Callable[..., Any]) -> None:
    browser = opened()
    browser.click("#tabs button:nth-child(2)")
    assert browser.texts("#grid .heading") == ["same bytes2 images", "near copy2 of 7 images"]
    assert [text.removesuffix(".jpg") for text in paths_of(browser)] == ["1", "2", "a", "1"]
    assert browser.texts(f"{SHOWN} .path span")[:2] == ["train: copy/", "test: copy/"]
    tops = browser.run(f"[...document.querySelectorAll('{SHOWN}')].map(e => e.style.top)")
    assert tops[0] == tops[1] != tops[2] == tops[3]
    browser.click(f"{SHOWN}[aria-posinset='1'] .drop")
    assert verdicts(browser) == ["dropped", "", "", "dropped"]
    assert browser.texts("#done") == ["0 of 9 looked at, and 1 other"]
    browser.click("#tabs button:nth-child(3)")
    assert browser.texts("#grid .heading") == ["black2 images", "a page of text1 image"]
    assert paths_of(browser) == ["2.jpg", "a.jpg", "with, comma;.jpg"]


def test_without_duplicates_there_are_no_tabs(opened: Callable[..., Any]) -> None:
    browser = opened(a_page(groups=(), remarks=()))
    assert browser.texts("#tabs button") == []


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_every_width_in_both_schemes(opened: Callable[..., Any], width: int, dark: bool) -> None:
    browser = opened(width=width, dark=dark)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("grid.columns") >= 2
    assert browser.run(
        f"[...document.querySelectorAll('{SHOWN} .actions button')].every(b => b.scrollWidth <= b.clientWidth + 1)"
    ), "a button's word is cut"
    pairs = (("body", "body"), (f"{SHOWN} .percent", SHOWN), ("#export", "#export"), ("#help", "#help"))
    for text, ground in pairs:
        browser.run("document.getElementById('export').disabled = false")
        assert contrast(browser, text, ground) >= 4.5, text
    dark_page = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert dark_page == dark


def contrast(browser: Any, text: str, ground: str) -> float:
    """As WCAG 2 defines it."""
    colours = browser.run(
        f'[getComputedStyle(document.querySelector("{text}")).color, '
        f'getComputedStyle(document.querySelector("{ground}")).backgroundColor]'
    )
    lights = []
    for colour in colours:
        rgb = np.array([int(part) for part in colour[4:-1].split(",")]) / 255
        lights.append(
            float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
        )
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_ten_thousand_images_stay_usable(opened: Callable[..., Any], browser: Any, tmp_path: Path) -> None:
    """The best of a few: what else this machine does is not the page's."""
    names = tuple(f"class {i}" for i in range(100))
    cards = [
        Card(0, f"class {i % 100}/{i:06}.jpg", i % 100, 0.01, True, (((i * 7 + 3) % 100, 0.9),)) for i in range(10_000)
    ]
    page = a_page(class_names=names, classes=(ClassRow(500, 100.0, 100),) * 100, cards=tuple(cards), suspects=10_000,
                  flagged=10_000, groups=(), remarks=())  # fmt: skip
    noise = np.random.default_rng(1).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(noise).save(out, "JPEG", quality=20)  # 4 to 5 kB, as of photographs
    small = base64.b64encode(out.getvalue()).decode()
    report.write(tmp_path / "large.html", page, [small] * 10_000)
    paints = []
    for _ in range(3):
        browser.open(tmp_path / "large.html")
        browser.settle()
        paints.append(browser.run("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    assert min(paints) < 2000, paints
    assert browser.run("document.querySelectorAll('.card img[src]').length") > 8

    def milliseconds(action: str) -> float:
        """From the action to the end of the frame that shows it."""
        end = "requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)))"
        timed = f"new Promise(done => {{ const began = performance.now(); {action}; {end} }})"
        return float(min(browser.run(timed) for _ in range(3)))

    change = "dispatchEvent(new Event('change', {bubbles: true}))"
    for action in (
        f"$('given').value = '7'; $('given').{change}",
        "$('text').value = '0012'; $('text').dispatchEvent(new Event('input'))",
        "clear()",
        f"$('unticked').checked = !$('unticked').checked; $('unticked').{change}",
        "judge(3, 'right')",
        "scrollTo(0, 300000)",
    ):
        assert milliseconds(action) < 200, action
    assert browser.run("document.querySelectorAll('*').length") < 6000
    assert browser.problems == []


# From a folder to a training


def picture(pattern: str, number: int) -> Image.Image:
    y, x = np.mgrid[:48, :48]
    on = x % 12 < 6 if pattern == "stripes" else np.hypot(y - 24, x - 24 + number % 3) % 12 < 6
    noise = np.random.default_rng(number).integers(0, 60, (48, 48, 3))
    return Image.fromarray((on[..., None] * (150 + number) + noise).astype(np.uint8))


def test_the_exported_file_trains(browser: Any, tmp_path: Path) -> None:
    """A folder with four wrong labels, its audit, a click on each, and a training with what was saved."""
    patterns = ("rings", "stripes")
    for number, pattern in enumerate(patterns):
        for i in range(24):
            place = tmp_path / "photos" / patterns[(number + (i < 2)) % 2]
            place.mkdir(parents=True, exist_ok=True)
            picture(pattern, i).save(place / f"{pattern}-{i:02}.png")
    audit = fastnoisy.audit(tmp_path / "photos", size=64, threads=1, workers=1, say=print)
    assert int(audit.flags.flagged.sum()) == 4
    assert audit.seconds["page"] > 0
    browser.open(audit.out / "audit.html")
    browser.settle()
    assert browser.texts("#title") == ["photos"]
    browser.press("j", "s", "s", "s", "s")
    browser.click("#export")
    corrected = tmp_path / "corrections.csv"
    corrected.write_bytes(browser.downloaded("corrections.csv"))
    small = ("epochs=1", "model.name=preact_small", "batch_size=16", "device=cpu")
    run = fastnoisy.train(
        "folder-ce", *small, f"labels={corrected}", data=audit.store, out=tmp_path / "run", progress=print
    )
    shown = [patterns.index(Path(path).name.partition("-")[0]) for path in audit.images.paths]
    with np.load(tmp_path / "run" / "labels.npz") as labels:
        assert labels["given"].tolist() == shown
    assert run.final is not None
