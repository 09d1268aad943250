"""Names that a terminal would obey, through the commands: escaped, and on the line that they stand in."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError, message, one_line, printable
from fastnoisy.training.logs import Event

NAME = "\x1b]0;own\x07\x1b[31m\x9b2J\u202e\u2066\nerror: all is lost\ty\r"  # of a file, a store and a run
BYTES = f"{NAME}\udcff"  # and one that is no UTF-8
SHOWN = "\\x1b]0;own\\x07\\x1b[31m\\x9b2J\\u202e\\u2066\\nerror: all is lost\\ty\\r"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 4)):
        for name in ("a[red]", "b[bold"):
            for i in range(count):
                path = tmp_path / "images" / split / name / f"{i}{BYTES}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    (tmp_path / "images/train/a[red]" / f"broken{BYTES}.png").write_bytes(b"\x1b[31m")
    (tmp_path / "images/train/a[red]" / f"link{BYTES}.png").symlink_to(f"nowhere{BYTES}")
    return tmp_path / "images"


def test_no_command_lets_a_name_reach_a_terminal(
    images: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run = tmp_path / f"store{NAME}", tmp_path / f"r[red]{NAME}"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")  # or rich has escape sequences of its own

    def said(code: int, *words: object) -> str:
        found = call(*words)
        assert found[0] == code, found
        text = found[1] + found[2]
        assert all(c == "\n" or c.isprintable() for c in text), repr(text)
        assert not [line for line in text.splitlines() if line.startswith("error: all is lost")]
        return text

    assert SHOWN in said(0, "convert", images, store, "--max-rejected", "0.5")
    assert SHOWN in said(2, "convert", images, store)  # it is there already
    assert SHOWN in said(2, "convert", f"folder:{tmp_path}/none{NAME}", tmp_path / "out")
    assert SHOWN in said(0, "verify", store)
    assert "a[red]" in said(0, "inspect", store)
    assert "b[bold" in said(0, "noise", "symmetric:0.2", "--data", store)
    words = ["model=preact_small(width=4)", "epochs=1", "batch_size=20", "device=cpu", "threads=1"]
    assert SHOWN in said(0, "train", "digits-ce", *words, "--data", store, "--out", run)
    assert "r[red]" in said(0, "evaluate", run)
    assert "a[red]" in said(0, "evaluate", run)
    assert f"broken{SHOWN}\\xff.png" in said(0, "predict", run, images)
    assert SHOWN in said(2, "predict", run, tmp_path / f"none{NAME}")
    for command in ("train", "evaluate", "predict", "inspect", "verify"):
        extra = {"train": ["--data", tmp_path / f"no{NAME}"], "predict": [images]}.get(command, [])
        first = "digits-ce" if command == "train" else tmp_path / f"no{NAME}"
        assert SHOWN in said(2, command, first, *extra)
    for words in (
        [NAME],
        ["methods", "show", NAME],
        ["recipes", "show", NAME],
        ["train", NAME],
        ["train", f"--{NAME}"],
    ):
        said(2, *words)
    with open_store(store) as opened:
        record = bytes(opened.split("train").read_bytes(0))
    beton = store / "train.beton"
    damaged = bytes((record[0] ^ 1,)) + record[1:]
    beton.write_bytes(beton.read_bytes().replace(record, damaged))
    assert f"{SHOWN}\\xff.png" in said(1, "verify", store)


def test_names_that_are_not_utf8_are_refused_where_config_toml_would_hold_them(
    store: Path, tmp_path: Path, call: Call
) -> None:
    """A run wrote a folder, a traceback, and nothing else."""
    odd = tmp_path / "store\udcff"
    shutil.copytree(store, odd)
    code, _, err = call("train", "digits-ce", "--data", odd, "--out", tmp_path / "run")
    assert (code, err.count("\n")) == (2, 1)
    assert "data.store: " in err
    assert "store\\udcff' is not UTF-8" in err
    assert not (tmp_path / "run").exists()
    for word in ("data.stage=a\udcff", "labels=\udc80.csv", "noise=file:\udc80.csv", "eval.x=\udc80", "\udcfe=3"):
        code, _, err = call("train", "digits-ce", word, "--data", store, "--out", tmp_path / "run")
        assert (code, err.count("\n")) == (2, 1), err
        assert "is not UTF-8, which config.toml holds" in err


def test_lines_are_ours_and_names_stay_in_them() -> None:
    error = FastnoisyError("2 problems in 'a\nerror: b':\n  one\n  t\two", "known:\n  x\ty")
    assert str(error) == "2 problems in 'a\\nerror: b':\n  one\n  t\\two. known:\n  x\\ty"
    assert str(Event("note", "in a\nepoch 3\x1b[0m")) == "in a\\nepoch 3\\x1b[0m"
    assert (message("a\n"), one_line("a\n  b"), printable("a\n\tb")) == ("a\\n", "a\\n  b", "a\n\tb")


@pytest.mark.parametrize(
    "c", [*map(chr, range(32)), "\x7f", *map(chr, range(0x80, 0xA0)), *"\u202a\u2028\u2069\ufeff\udc80"]
)
def test_what_a_terminal_obeys_is_escaped(c: str) -> None:
    assert one_line(f"a{c}b").isprintable()
    assert len(one_line(f"a{c}b")) > 3
