"""`fastnoisy export`: what it prints, and errors in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fastnoisy

Call = Callable[..., tuple[int, str, str]]


def test_export_from_the_command_line(call: Call, store: Path, tmp_path: Path) -> None:
    words = ["model.width=4", "data.subset=60", "epochs=1", "batch_size=30", "threads=1", "device=cpu"]
    fastnoisy.train("digits-nrd", *words, data=store, out=tmp_path / "run", progress=lambda event: None)
    code, out, err = call("export", tmp_path / "run", "--to", "torch", "--out", tmp_path / "out")
    assert code == 0, err
    assert out == f"wrote {tmp_path / 'out'}: README.md, classes.txt, model.pt2, preprocessing.json\n"
    assert "the main classifier of the network: largest difference of a logit from the run's 0" in err
    for to, where, said in (("torch", "out", "is not empty"), ("timm", "new", "none of timm's")):
        code, out, err = call("export", tmp_path / "run", "--to", to, "--out", tmp_path / where)
        assert (code, out) == (2, "")
        assert said in err
        assert len(err.splitlines()) == 1
    code, _, err = call("export", tmp_path / "run", "--to", "keras", "--out", tmp_path / "new")
    assert code == 2
    assert "timm" in err
    assert not (tmp_path / "new").exists()
