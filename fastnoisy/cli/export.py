"""Export a run's network for timm, ONNX or torch, with a model card."""

from __future__ import annotations

from pathlib import Path

import click

from fastnoisy import signals
from fastnoisy.cli._group import say, warn

_EPILOG = """\b
Examples:
  fastnoisy export runs/a --to timm --out exported
  fastnoisy export runs/a --to onnx --out exported
"""


@click.command(epilog=_EPILOG)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to", type=click.Choice(["timm", "onnx", "torch"]), required=True, help="timm: for networks of timm's alone."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder.")
def command(run: Path, to: str, out: Path) -> None:
    """Write the network that RUN reports to files that need no fastnoisy.

    timm: model.safetensors and config.json, for timm.create_model(..., checkpoint_path=...). onnx: model.onnx. torch:
    model.pt2, for torch.export.load. Beside them lie preprocessing.json (how a file becomes the network's input),
    classes.txt and README.md, a model card. The file is read back and compared with the run.
    """
    from fastnoisy import api

    with signals.handled(signals.leaving("stopped; nothing was written")):
        done = api.export(api.load(run, warn), to, out, say=warn)
    say(f"wrote {done.out}: {', '.join(done.files)}")
