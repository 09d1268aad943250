"""Write the list of a view's steps into docs/views.md, from the steps themselves; a test holds the file to it.

python tools/views_reference.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the checkout, however this script was started

GROUPS = (
    ("policy", "Policies, which draw operations per sample"),
    ("uint8", "Crops, flips and sizes"),
    ("operation", "Single operations, the same value for every image"),
    ("normalize", "To floats"),
    ("float", "After `normalize`"),
)


def _group(name: str) -> str:
    from fastnoisy.augment.ops import op_names
    from fastnoisy.augment.policies import Policy
    from fastnoisy.augment.registry import STEPS
    from fastnoisy.augment.steps import get_step

    if name in op_names():
        return "operation"
    factory: Any = STEPS[name].factory
    return "policy" if issubclass(factory, Policy) else get_step(name).stage


def _limits(parameter: Any) -> str:
    """An argument in words: `n` integer 1 to 16."""
    words = [f"`{parameter.name}` {parameter.kind}"]
    if parameter.choices:
        words.append("one of " + ", ".join(map(repr, parameter.choices)) if len(parameter.choices) > 1 else "only 1")
    else:
        words += [f"from {parameter.low:g}"] * (parameter.low > -1e9) + [f"to {parameter.high:g}"] * (
            parameter.high < 1e9
        )
    return " ".join(words) + (f" ({parameter.note})" if parameter.note else "")


def steps() -> str:
    """All steps, in groups."""
    from fastnoisy.augment.steps import get_step, step_names

    parts = []
    for group, title in GROUPS:
        lines = []
        for kind in map(get_step, (name for name in step_names() if _group(name) == group)):
            arguments = "; ".join(map(_limits, kind.parameters)) or "none"
            lines.append(f"| `{kind.signature}` | {arguments} | {kind.doc} |")
        parts.append(f"### {title}\n\n| step | arguments | what it does |\n|---|---|---|\n" + "\n".join(lines))
    return "\n\n".join(parts)


def render(text: str) -> str:
    """The page with its list of steps brought up to date."""
    marked = re.compile(r"<!-- steps -->\n.*?<!-- end -->", re.DOTALL)
    return marked.sub(lambda _: f"<!-- steps -->\n{steps()}\n<!-- end -->", text)


if __name__ == "__main__":
    path = ROOT / "docs" / "views.md"
    path.write_text(render(path.read_text()))
