"""The house rules that a reader of imports can check: floors, no torch in help, sizes of files."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "errors": 0, "discovery": 0, "literals": 0, "config": 0, "keyed_random": 0, "noise": 0, "losses": 0, "batch": 0,
    "files": 0, "compiler": 0, "resample_passes": 0, "extras": 0, "machine": 0, "order": 0, "distributed": 0,
    "progress": 0, "sample_memory": 0, "mixing": 0, "workers": 0, "signals": 0, "label_files": 0,
    "confident_learning": 0, "cluster": 0,
    "recipes": 1, "data": 1, "augment": 1, "models": 1,
    "pipelines": 2, "methods": 2, "features": 2,
    "training": 3,
    "analysis": 4, "label_audit": 4, "report": 4, "grids": 4, "api": 4, "model_export": 4, "doctor": 4,
    "cli": 5, "__main__": 5,
}  # fmt: skip
FILES = sorted(
    p
    for top in ("fastnoisy", "pipelines")
    for p in (ROOT / top).rglob("*.py")
    if p.parts[-2] != "pipelines" or top == "pipelines"
)


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "pipelines" if parts[0] == "pipelines" else parts[1]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "fastnoisy":
                rooms |= {alias.name for alias in node.names}
            elif node.module.startswith("fastnoisy."):
                rooms.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            rooms |= {a.name.split(".")[1] for a in node.names if a.name.startswith("fastnoisy.")}
    return rooms - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_from_its_own_floor_or_lower(path: Path) -> None:
    if path.name == "__init__.py" and path.parent.name == "fastnoisy":
        return
    own = room(path)
    assert own in FLOORS, f"{path} is in no room of the house"
    for other in imported_rooms(path):
        assert FLOORS[other] <= FLOORS[own], f"{own} (floor {FLOORS[own]}) imports {other} (floor {FLOORS[other]})"
        assert {own, other} != {"methods", "pipelines"}, "methods and pipelines never import each other"


WINGS = {"store": 0, "sources": 1, "conversion": 2}  # of data/: each imports from itself and those before it


@pytest.mark.parametrize(
    "path", sorted((ROOT / "fastnoisy/data").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_wings_of_data_lean_one_way(path: Path) -> None:
    own = WINGS.get(path.parent.name, len(WINGS))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fastnoisy.data"):
            parts = str(node.module).split(".")[2:] or [alias.name for alias in node.names]
            assert WINGS[parts[0]] <= own, f"{path} imports {node.module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_package_never_imports_what_is_around_it(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        assert not {n.split(".")[0] for n in names} & {"benchmarks", "tests", "tools", "pipelines"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_says_what_it_is_for_and_stays_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 470
    assert text.strip() == "" or ast.get_docstring(ast.parse(text)), "a file opens with what it is for"


def test_help_and_import_do_not_import_torch() -> None:
    for code in (
        "import fastnoisy",
        "from fastnoisy.cli import cli; cli.main(['--help'], standalone_mode=False)",
        "from fastnoisy.cli import cli; cli.main(['convert', '--help'], standalone_mode=False)",
        "from fastnoisy.cli import cli; cli.main(['train', '--help'], standalone_mode=False)",
    ):
        check = f"import sys\n{code}\nassert 'torch' not in sys.modules, sorted(sys.modules)"
        subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT, capture_output=True, timeout=60)


def test_no_module_has_two_names() -> None:
    code = (
        "import fastnoisy.pipelines.resident, fastnoisy.pipelines.torch_loader, sys\n"
        "files = [m.__file__ for n, m in sys.modules.items() if 'pipelines' in n.split('.')]\n"
        "import os; real = [os.path.realpath(f) for f in files]\n"
        "assert len(real) == len(set(real)) and 'pipelines' not in sys.modules, files"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


@pytest.mark.parametrize("path", sorted((ROOT / "fastnoisy/cli").glob("*.py")), ids=lambda p: p.name)
def test_commands_print_by_what_escapes_names(path: Path) -> None:
    """A name of a file or a class must not reach a terminal as it is; see fastnoisy/cli/_group.py."""
    if path.name == "_group.py":
        return
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not {"print", "click.echo", "sys.stdout.write", "sys.stderr.write"} & set(calls)
