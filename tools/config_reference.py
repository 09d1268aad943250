"""Write docs/configuration.md from the configuration's own types; a test holds the file to it.

python tools/config_reference.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the checkout, however this script was started

HEAD = """# Configuration

Every key of a run, as `config.toml` in a run folder holds it. On the command line a key is set by `key=value`, for
example `optim.lr=0.05`; a wrong key lists its near misses and all known ones, and all problems come in one message.
This page is made by `tools/config_reference.py`.

Layers, later winning: the row of the suite's table that fits data set, method and noise (learning rate, weight decay,
the method's own hyperparameters), the data set's recipe, its `[for.METHOD]`, the suite, the suite's `[for.METHOD]`,
your overrides. The suite (`suite=nrd` or `suite=alasca`) fixes what one of the two papers uses for *every* method:
net, epochs, schedule, split, augmentation, the asymmetric rule. Each method has a default suite; comparisons are made
within one suite. Where a table has no row (a rate between, your own folder, human labels), the nearest rate of the
same noise serves, else 40 % symmetric, and the log says so.

The recipes for your own folder have two set-ups: a pretrained network is fine-tuned, unless the word `pretrained=false`
is given or the network that is named starts from random weights. Where such a recipe says `auto`, the network, the
device and the number of images decide as the run starts: `views.size` is 160 on a CPU and 224 on a GPU, `epochs` as
many as show the network some 8,000 images on a CPU (at least 3 epochs, at most 30) and 60,000 on a GPU (5 to 30). The
log says it, and `config.toml` has the numbers.

A key that a run may change as it goes on (`fastnoisy train --resume RUN key=value`) says so in the column *resume*;
all others make another run.
"""


def _rows(model: Any, prefix: str, resume: Callable[[str], bool] | None = None) -> list[str]:
    rows = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and hasattr(kind, "model_fields"):
            continue
        default = "required" if info.is_required() else f"`{info.get_default(call_default_factory=True)!r}`"
        text = str(kind).replace("typing.", "").replace("<class '", "").replace("'>", "").replace("|", "or")
        changes = "" if resume is None else f" {'yes' if resume(prefix + name) else ''} |"
        rows.append(f"| `{prefix}{name}` | {text} | {default} |{changes} {info.description or ''} |")
    return rows


def _options(defaults: dict[str, Any]) -> str:
    return ", ".join(f"`{key}={value}`" for key, value in defaults.items()) or "none"


def render() -> str:
    """The whole page."""
    from fastnoisy import discovery, methods, models, pipelines
    from fastnoisy.config import Config, may_change
    from fastnoisy.noise import NoiseSpec

    parts = [HEAD]
    header = "| key | type | default | meaning |\n|---|---|---|---|\n"
    wide = "| key | type | default | resume | meaning |\n|---|---|---|---|---|\n"
    parts.append("## The run\n\n" + wide + "\n".join(_rows(Config, "", may_change)) + "\n")
    for name, info in Config.model_fields.items():
        kind: Any = info.annotation
        if isinstance(kind, type) and hasattr(kind, "model_fields"):
            title = (kind.__doc__ or "").splitlines()[0]
            parts.append(f"## `{name}`\n\n{title}\n\n" + wide + "\n".join(_rows(kind, f"{name}.", may_change)) + "\n")
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
    known = [f"| `{name}` | {discovery.summary('fastnoisy.pipelines', name)} |" for name in pipelines.names()]
    parts.append(
        "## `pipeline`\n\n"
        "A name, a call such as `pipeline=NAME(OPTION=VALUE)`, or `pipeline.OPTION=VALUE` beside a name. "
        "`auto` takes one of them and says why; an option is then used if the one that declares it is taken.\n\n"
        "| name | what it is |\n|---|---|\n" + "\n".join(known) + "\n"
    )
    for name in pipelines.names():
        if rows := _rows(pipelines.find(name).Options, "pipeline."):
            parts.append(f"## `pipeline={name}`\n\n" + header + "\n".join(rows) + "\n")
    for name in methods.names():
        cls = methods.find(name)
        title = (cls.__doc__ or "").splitlines()[0]
        rows = _rows(cls.Options, "method.")
        table = header + "\n".join(rows) + "\n" if rows else "No options.\n"
        parts.append(f"## `method={name}`\n\n{title} Default suite: `{cls.suite}`.\n\n{table}")
    return "\n".join(parts)


if __name__ == "__main__":
    (ROOT / "docs" / "configuration.md").write_text(render())
