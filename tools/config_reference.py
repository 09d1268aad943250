"""Write docs/configuration.md from the configuration's own types; a test holds the file to it.

python tools/config_reference.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the checkout, however this script was started

HEAD = """# Configuration

Every key of a run, as `config.toml` in a run folder holds it. On the command line a key is set by `key=value`, for example
`optim.lr=0.05`; a wrong key lists its near misses and all known ones, and all problems come in one message.
This page is made by `tools/config_reference.py`.

Layers, later winning: the row of the suite's table that fits data set, method and noise (learning rate, weight decay, the
method's own hyperparameters), the data set's recipe, its `[for.METHOD]`, the suite, the suite's `[for.METHOD]`, your overrides.
The suite (`suite=nrd` or `suite=alasca`) fixes what one of the two papers uses for *every* method: net, epochs, schedule,
split, augmentation, the asymmetric rule. Each method has a default suite; comparisons are made within one suite. Where a table
has no row (a rate between, your own folder, human labels), the nearest rate of the same noise serves, else 40 % symmetric, and
the log says so.
"""


def _rows(model: Any, prefix: str) -> list[str]:
    rows = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and hasattr(kind, "model_fields"):
            continue
        default = "required" if info.is_required() else f"`{info.get_default(call_default_factory=True)!r}`"
        text = str(kind).replace("typing.", "").replace("<class '", "").replace("'>", "").replace("|", "or")
        rows.append(f"| `{prefix}{name}` | {text} | {default} | {info.description or ''} |")
    return rows


def _options(defaults: dict[str, Any]) -> str:
    return ", ".join(f"`{key}={value}`" for key, value in defaults.items()) or "none"


def render() -> str:
    """The whole page."""
    from fastnoisy import methods, models
    from fastnoisy.config import Config
    from fastnoisy.noise import NoiseSpec

    parts = [HEAD]
    header = "| key | type | default | meaning |\n|---|---|---|---|\n"
    parts.append("## The run\n\n" + header + "\n".join(_rows(Config, "")) + "\n")
    for name, info in Config.model_fields.items():
        kind: Any = info.annotation
        if isinstance(kind, type) and hasattr(kind, "model_fields"):
            title = (kind.__doc__ or "").splitlines()[0]
            parts.append(f"## `{name}`\n\n{title}\n\n" + header + "\n".join(_rows(kind, f"{name}.")) + "\n")
    forms = [f"| `{form.replace('|', chr(92) + '|')}` | {what} |" for form, what in NoiseSpec.kinds().items()]
    parts.append("## `noise`\n\n| form | what it does |\n|---|---|\n" + "\n".join(forms) + "\n")
    nets = [f"| `{name}` | {_options(models.defaults(name))} | {models.summary(name)} |" for name in models.names()]
    parts.append(
        "## `model`\n\nBesides these, any model of timm by its own name, for example `model=resnet50` or "
        '`model="resnet50(pretrained=true)"`; its options: '
        + _options(models.defaults("resnet50"))
        + ".\n\n| name | options | what it is |\n|---|---|---|\n"
        + "\n".join(nets)
        + "\n"
    )
    for name in methods.names():
        cls = methods.find(name)
        title = (cls.__doc__ or "").splitlines()[0]
        rows = _rows(cls.Options, "method.")
        table = header + "\n".join(rows) + "\n" if rows else "No options.\n"
        parts.append(f"## `method={name}`\n\n{title} Default suite: `{cls.suite}`.\n\n{table}")
    return "\n".join(parts)


if __name__ == "__main__":
    (ROOT / "docs" / "configuration.md").write_text(render())
