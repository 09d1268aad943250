"""The notebook from a folder to a classifier, executed cell by cell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

NOTEBOOK = Path(__file__).parent.parent / "docs" / "own_folder.ipynb"


def test_the_notebook_runs_from_the_audit_to_the_export(tmp_path: Path) -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    source = "\n\n".join("".join(cell["source"]) for cell in cells)
    (tmp_path / "cells.py").write_text(f'if __name__ == "__main__":\n{_indented(source)}\n')
    done = subprocess.run([sys.executable, "cells.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "wrong labels are flagged" in done.stdout
    accuracy = float(done.stdout.partition("set aside: ")[2].partition("%")[0])
    assert accuracy > 60
    assert (tmp_path / "demo" / "store-audit" / "audit.html").is_file()
    assert "model.safetensors" in done.stdout


def _indented(source: str) -> str:
    return "\n".join(f"    {line}" for line in source.splitlines())
