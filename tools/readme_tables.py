"""Copy the tables of benchmarks/results/*.json between their marks in the pages; a test holds them to it.

python tools/readme_tables.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = tuple(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if "<!-- table " in path.read_text()
)
PENDING = {
    "decode": "Not measured yet: `python benchmarks/decode.py STORE --device cuda --out benchmarks/results` measures "
    "it.",
}


def table(name: str) -> str:
    """The table of a result file, with a line saying what it was measured on; for a pending one, that there is none."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    if name in PENDING and not path.exists():
        return PENDING[name]
    content = json.loads(path.read_text())
    machine = content["environment"]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores"
    made = f"{where}, torch {machine['torch']}, {machine['date']}"
    note = f"{content.get('note', '')} (`benchmarks/results/{name}.json`: {made})"
    return f"{content['table']}\n\n{note.strip()}"


def render(text: str) -> str:
    """A page with every table brought up to date."""
    marked = re.compile(r"<!-- table ([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)
    return marked.sub(lambda found: f"<!-- table {found[1]} -->\n{table(found[1])}\n<!-- end -->", text)


if __name__ == "__main__":
    for page in PAGES:
        path = ROOT / page
        path.write_text(render(path.read_text()))
