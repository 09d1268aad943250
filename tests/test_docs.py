"""What the documentation says is what the program does."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

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


@pytest.mark.parametrize("page", tool("readme_tables").PAGES)
def test_the_tables_of_a_page_are_the_measured_ones(page: str) -> None:
    text = (ROOT / page).read_text()
    assert text == tool("readme_tables").render(text), "run: python tools/readme_tables.py"
    assert text.count("<!-- table ") == text.count("<!-- end -->") - text.count("<!-- steps -->") >= 1


def test_a_table_that_is_still_to_be_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its place says so until the result lies there, and any other name without a result is an error."""
    module = tool("readme_tables")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    page = "<!-- table decode -->\nold\n<!-- end -->\n"
    assert "Not measured" in module.render(page)
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    machine = {"gpu": None, "cpu": "a CPU", "cores": 2, "torch": "2", "date": "today"}
    content = {"environment": machine, "note": "Ratios.", "table": "| a |"}
    (tmp_path / "benchmarks" / "results" / "decode.json").write_text(json.dumps(content))
    shown = module.render(page)
    assert "| a |\n\nRatios. (`benchmarks/results/decode.json`: a CPU, 2 cores, torch 2, today)\n<!-- end -->" in shown
    with pytest.raises(FileNotFoundError):
        module.render(page.replace("table decode", "table vdecode"))


def test_the_list_of_steps_is_what_the_steps_say() -> None:
    from fastnoisy.augment import step_names

    page = (ROOT / "docs" / "views.md").read_text()
    assert page == tool("views_reference").render(page), "run: python tools/views_reference.py"
    listed = re.findall(
        r"^\| `(\w+)[(`]", page.partition("<!-- steps -->")[2].partition("<!-- end -->")[0], re.MULTILINE
    )
    assert sorted(listed) == step_names()


def test_the_views_page_names_images_that_exist() -> None:
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / "docs" / "views.md").read_text())
    assert len(images) == 2
    assert all((ROOT / "docs" / path).exists() for path in images)


def test_the_snippet_for_kornia_runs() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "views.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(snippet, "docs/views.md", "exec"), names)
    assert names["student_view"].shape == names["teacher_view"].shape == (8, 3, 32, 32)
    assert names["same_labels"].tolist() == list(range(8))


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
    settings = setup.resolve(recipe, overrides).config
    assert settings.recipe.split("-")[0] in recipes.data_names()


MARKDOWN = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_names_files_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for path in re.findall(r"`((?:benchmarks|tools|docs|tests|fastnoisy)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        assert (page.parent / link).exists(), link


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 90
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in text, page.name
