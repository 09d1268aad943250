"""What the documentation says is what the program does."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from PIL import Image

import fastnoisy
from fastnoisy import methods, recipes
from fastnoisy.analysis import published
from fastnoisy.cli import cli
from fastnoisy.recipes import rows
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


MARKDOWN = [path for folder in (".", "docs", "benchmarks") for path in sorted((ROOT / folder).glob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in MARKDOWN}


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """What `#...` may name in a page: its headings, as GitHub writes them in addresses."""
    titles = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: str, text: str) -> list[str]:
    """The links of a page that lead to no file of the checkout, or to no heading of it."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            found.append(link)
    return found


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_to_files_and_headings(page: str) -> None:
    assert broken_links(page, TEXTS[page]) == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    text = "## Here, `too`\n[a](#here-too) [b](concepts.md#order) [c](#there) [d](none.md) [e](concepts.md#none)"
    assert anchors(text) == {"here-too"}
    # `#...` alone is looked up in the page as it lies on the disk
    assert broken_links("docs/concepts.md", text) == ["#here-too", "#there", "none.md", "concepts.md#none"]


@pytest.mark.parametrize("page", sorted(set(TEXTS) - {"CHANGELOG.md"}))  # which may name what is gone
def test_a_page_names_files_that_exist(page: str) -> None:
    named = re.findall(r"`((?:benchmarks|tools|docs|tests|fastnoisy|pipelines)/[\w./-]+)`", prose(TEXTS[page]))
    assert [path for path in named if not (ROOT / path).exists()] == []


def command_lines() -> list[str]:
    """The lines `fastnoisy ...` of all blocks of code, by torchrun or python -m too."""
    blocks = [
        block for text in TEXTS.values() for block in re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]
    lines = [line for block in blocks for line in block.splitlines()]
    return sorted({found[1] for line in lines if (found := re.search(r"(?:^|-m )(fastnoisy [a-z].*)", line))})


@pytest.mark.parametrize("line", command_lines())
def test_a_command_and_its_options_are_there(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words[0]
        found = command.get_command(click.Context(command), name)
        if found is None and command is not cli:
            break
        assert found is not None, f"there is no command {name}"
        command, words = found, words[1:]
    command.make_parser(click.Context(command)).parse_args(words)  # an unknown option raises


def test_there_are_commands_to_check() -> None:
    named = {line.split()[1] for line in command_lines()}
    assert named >= {
        "convert",
        "evaluate",
        "inspect",
        "methods",
        "noise",
        "predict",
        "recipes",
        "train",
        "verify",
        "views",
    }


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = TEXTS["README.md"]
    assert len(text.splitlines()) <= 85
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in text, page.name


def test_the_rooms_that_contributing_lists_are_those_there_are() -> None:
    listed = re.findall(r"^\| \d \| (.+) \|$", TEXTS["CONTRIBUTING.md"], re.MULTILINE)
    rooms = [name.rstrip("/") for row in listed for name in re.findall(r"`([a-z_]+/?)`", row)]
    package = ROOT / "fastnoisy"
    there = {p.stem for p in package.glob("*.py") if not p.stem.startswith("__")}
    there |= {p.parent.name for p in package.glob("*/__init__.py")} | {"pipelines"}
    assert len(listed) == 6
    assert sorted(rooms) == sorted(there)


def test_what_the_pages_count_is_there() -> None:
    cells = published.cells()
    known = [cell for cell in cells if {cell.recipe.split("-", 1)[1], cell.base} - {None} <= set(methods.names())]
    table_5 = [row for row in rows.table("nrd").values() if row.data.startswith("cifar")]
    papers = " ".join(TEXTS["docs/papers.md"].split())
    assert f"all {len(table_5)} cells" in papers
    assert f"{len(cells)} accuracies that the papers print" in papers
    assert f"{len(known)} of them belong to methods that are here. The other {len(cells) - len(known)} are" in papers
    assert f"[{len(methods.names())} methods](methods.md)" in papers


def test_the_example_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its Python as it stands, on photographs; what the recipe would train is made small."""
    (cell,) = re.findall(r"```python\n(.*?)```", TEXTS["README.md"], re.DOTALL)
    for number in range(24):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (70 + number, 66), (200 * (number % 2), 9 * number, 90)).save(path)
    monkeypatch.chdir(tmp_path)
    small = ("model=preact_small(width=4)", "views.size=32", "epochs=1", "batch_size=8", "device=cpu")
    train = fastnoisy.train
    monkeypatch.setattr(fastnoisy, "train", lambda recipe, **given: train(recipe, *small, **given), raising=False)
    names: dict[str, Any] = {}
    exec(compile(cell, "README.md", "exec"), names)
    assert (tmp_path / "runs/photos/issues.csv").exists()
    assert len(names["run"].issues()) == 24
    assert (tmp_path / "photos-audit/audit.html").exists()
