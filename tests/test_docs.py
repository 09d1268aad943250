"""What the documentation says is what the program does."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from fastnoisy import recipes
from fastnoisy.training import setup

ROOT = Path(__file__).resolve().parent.parent


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_readme_are_the_measured_ones() -> None:
    text = (ROOT / "README.md").read_text()
    assert text == tool("readme_tables").render(text), "run: python tools/readme_tables.py"
    assert text.count("<!-- table ") >= 2


def test_the_configuration_page_is_what_the_types_say() -> None:
    module = tool("config_reference")
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == module.render(), "run: python tools/config_reference.py"


def train_lines() -> list[str]:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"]
    text = "\n".join(p.read_text() for p in pages).replace("\\\n", " ")
    return sorted({line.strip() for line in text.splitlines() if re.match(r"\s*fastnoisy train [a-z0-9]+-", line)})


@pytest.mark.parametrize("line", train_lines())
def test_every_train_command_of_the_documentation_resolves(line: str) -> None:
    words = shlex.split(line, comments=True)[2:]
    recipe = words.pop(0)
    overrides = [w for w in words if "=" in w and not w.startswith("--")]
    settings = setup.resolve(recipe, overrides)
    assert settings.recipe.split("-")[0] in recipes.data_names()


def test_readme_names_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for path in re.findall(r"`((?:benchmarks|tools|docs|tests)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
