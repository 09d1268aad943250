"""`fastnoisy verify` end to end: what it says, and its exit codes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

Call = Callable[..., tuple[int, str, str]]


def test_it_ends_with_0_for_whole_1_for_damaged_and_2_for_no_store(call: Call, store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    assert call("verify", copy)[:2] == (0, f"{copy}: whole\n")
    with open(copy / "train.meta/labels.npz", "r+b") as file:
        file.seek(100)
        file.write(b"damaged")
    code, out, err = call("verify", copy, "--workers", 1)
    assert code == 1
    assert f"{copy}/train.meta/labels.npz has changed" in out
    assert err.startswith(f"{copy}: ")
    code, out, err = call("verify", tmp_path / "nothing")
    assert (code, out) == (2, "")
    assert "does not exist" in err


def test_files_of_another_writer_become_a_store_only_where_that_is_asked_for(
    call: Call, store: Path, tmp_path: Path
) -> None:
    place = tmp_path / "in"
    place.mkdir()
    shutil.copy(store / "train.beton", place)
    code, out, err = call("verify", place)
    assert (code, out) == (2, "")
    assert f"fastnoisy verify {place} --adopt" in err
    code, out, err = call("verify", place, "--adopt")
    assert (code, out.splitlines()[-1]) == (0, f"{place}: whole")
