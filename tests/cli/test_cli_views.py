"""`fastnoisy views` end to end: the sheet, what it shows by default, wrong input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Call = Callable[..., tuple[int, str, str]]


def test_the_sheet_is_the_same_every_time(call: Call, store: Path, tmp_path: Path) -> None:
    words = ["views", "digits-nrd", "threads=1", "--data", store, "--count", 3]
    code, out, err = call(*words, "--out", tmp_path / "a.png")
    assert code == 0, err
    with Image.open(tmp_path / "a.png") as sheet:
        size = f"{sheet.width}x{sheet.height}"
    assert out == f"wrote {tmp_path / 'a.png'}: 3 images, student, teacher in epochs 0 to 2, {size} pixels\n"
    first = (tmp_path / "a.png").read_bytes()
    assert call(*words, "--out", tmp_path / "a.png")[0] == 0  # replaced
    assert (tmp_path / "a.png").read_bytes() == first
    for changed in (["--epoch", 1], ["seed=2"], ["--rows", "1,2,3"]):
        assert call(*words, *changed, "--out", tmp_path / "b.png")[0] == 0
        assert (tmp_path / "b.png").read_bytes() != first


def test_a_method_of_many_views_gets_two_epochs(call: Call, store: Path, tmp_path: Path) -> None:
    words = ["threads=1", "method.views=3", "--data", store, "--rows", "4", "--epoch", 9, "--out", tmp_path / "a.png"]
    code, out, err = call("views", "digits-gjs", *words)
    assert code == 0, err
    assert "1 image, student, student_2, student_3 in epochs 9 to 10, " in out


def test_a_file_of_one_s_own(call: Call, store: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(call("recipes", "show", "digits-ce", "threads=1", f"data.store={store}")[1])
    code, out, err = call("views", own, "--count", 1, "--out", tmp_path / "a.png")
    assert code == 0, err
    assert "student in epochs 0 to 2" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digits-nrf"], "did you mean digits-nrd"),
        (["digits-nrd", "sed=2"], "did you mean seed"),
        (["digits-nrd", "views.student=rotat(3) | normalize"], "rotate"),
        (["digits-nrd", "--rows", "3,600"], "there is no row 600 in the train split"),
        (["digits-nrd", "--rows", "3,x"], "'x' is not the number of a row"),
        (["digits-nrd", "--rows", "3,-1"], "'-1' is not the number of a row"),
        (["digits-nrd", "--rows", ""], "'' is not the number of a row"),
        (["digits-nrd", "--count", "0"], "--count"),
        (["digits-nrd", "--epoch", "-1"], "--epoch"),
        (["digits-nrd", "data.subset=601"], "exceeds the 600 training images"),
        (["digits-nrd", "--out", "sheet.jpg"], "ends in .png"),
        (["digits-nrd", "--out", "no/such/folder/sheet.png"], "no/such/folder"),
        (["digits-nrd", "--out", "folder.png"], "folder.png is a folder"),
        (["digits-nrd", "--out", "file.txt/sheet.png"], "file.txt"),
        (["digits-nrd", "--data", "none"], "does not exist"),
        (["digits-nrd", "--data", "folder.png"], "is not a converted data set"),
        (["digits-nrd", "--data", ""], "add --data STORE"),
    ],
)
def test_wrong_input_is_one_clear_error(
    call: Call, store: Path, words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    code, _, err = call("views", "--data", store, "--out", "sheet.png", *words)
    assert code == 2
    assert message in err
    assert err.startswith("error:") or "Usage:" in err
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_sheet_that_may_not_be_written_is_refused_before_any_work(
    call: Call, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastnoisy.analysis.drawing.os.access", lambda path, mode: path != tmp_path)
    code, _, err = call("views", "digits-nrd", "--data", store, "--out", tmp_path / "a.png")
    assert code == 2
    assert err == f"error: the sheet {tmp_path / 'a.png'} cannot be written: permission denied. give another name\n"


def test_a_store_without_a_training_split(call: Call, store: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    for name in ("test.beton", "test.meta"):
        (half / name).symlink_to(store / name)
    code, _, err = call("views", "digits-nrd", "--data", half, "--out", tmp_path / "a.png")
    assert code == 2
    assert "unknown split" in err


def test_help_imports_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys\nfrom fastnoisy.cli import cli\ncli.main(['views', '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout
