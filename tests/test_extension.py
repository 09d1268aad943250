"""The promise that one file adds a method, a source, a pipeline or a command, and one function an op: each is dropped
into a copy of the package, where contract tests, help and generated reference take it up without another edit.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

METHOD = '''"""Cross-entropy, scaled: an example of a method."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from fastnoisy import losses
from fastnoisy.config import Table
from fastnoisy.methods.base import Progress, SingleNetwork


class Zebra(SingleNetwork):
    """Cross-entropy times a number: an example.

    loss = scale * -log softmax(z)_y. Nobody, 2030.
    """

    class Options(Table):
        """Options of the example."""

        scale: float = Field(1.0, gt=0, description="how striped the loss is")

    options: Options

    def loss(self, logits: Tensor, labels: Tensor, indices: Tensor, progress: Progress) -> Tensor:
        """Scaled cross-entropy."""
        return self.options.scale * losses.cross_entropy(logits, labels)


METHOD = Zebra
'''

SOURCE = '''"""Scans of zebras and horses, the class before the dash in each file's name: an example."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fastnoisy.data.sources.base import Source, SourceSplit, layout_error, read_file
from fastnoisy.errors import FastnoisyError

LAYOUT = "a folder of files CLASS-NUMBER.zebra.png"
NEEDS_PATH = True
FALLBACK = False


def recognises(path: Path) -> bool:
    """Whether the folder has such files."""
    return path.is_dir() and any(path.glob("*.zebra.png"))


def open(path: Path | None) -> Source:
    """List the files."""
    if path is None:
        raise FastnoisyError("zebra-scans needs a path", f"write zebra-scans:PATH, where PATH is {LAYOUT}")
    if not recognises(path):
        raise layout_error("zebra-scans", path, "has no such files")
    files = sorted(file.name for file in path.glob("*.zebra.png"))
    names = sorted({name.partition("-")[0] for name in files})
    labels = np.array([names.index(name.partition("-")[0]) for name in files], np.int64)
    return Source(names, [SourceSplit("train", files, labels, None, lambda i: read_file(path / files[i]))], root=path)


def make_example(folder: Path) -> str:
    """Eight small images."""
    folder.mkdir(parents=True)
    for number in range(8):
        image = Image.new("RGB", (20, 16), (30 * number, 90, 10))
        image.save(folder / f"{('horse', 'zebra')[number % 2]}-{number}.zebra.png")
    return str(folder)
'''

PIPELINE = '''"""One image after another, read by this process: an example of a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from pydantic import Field

from fastnoisy.batch import Batch
from fastnoisy.config import Table
from fastnoisy.data.store import Split
from fastnoisy.pipelines.base import Pipeline


class ZebraPipeline(Pipeline):
    """See `Pipeline`."""

    class Options(Table):
        """Options of the example."""

        stripes: int = Field(3, ge=1, description="stripes of a zebra, which change nothing")

    options: Options

    @classmethod
    def bytes_needed(cls, split: Split) -> int:
        """Nothing is kept."""
        return 0

    def iterate(self, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        """See `Pipeline.iterate`."""
        for rows in batches:
            canvas = np.zeros((len(rows), *self.canvas, 3), np.uint8)
            for slot, row in enumerate(rows):
                image = self.split.read_image(int(row))
                canvas[slot, : image.shape[0], : image.shape[1]] = image
            images = torch.from_numpy(canvas).permute(0, 3, 1, 2).to(self.device)
            yield self._label(images, torch.from_numpy(np.array(rows, np.int64)).to(self.device))


PIPELINE = ZebraPipeline
'''

COMMAND = '''"""Say what a zebra says."""

from __future__ import annotations

import click

from fastnoisy.cli._group import say


@click.command()
def command() -> None:
    """Say what a zebra says."""
    say("the zebra is silent")
'''

OP = '''

@op("table")
def zebra_shade(images: Tensor, values: Tensor, sizes: Tensor | None) -> Tensor:
    """Halve every level: an example."""
    return ((_levels(images) + 0 * values.long()[:, None, None]) >> 1).to(torch.uint8)
'''

KEY = '    zebra: int = Field(0, ge=0, description="stripes of a run, which change nothing")\n'


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with an example of each kind."""
    house = tmp_path_factory.mktemp("house") / "fastnoisy-copy"
    house.mkdir()
    skip = shutil.ignore_patterns("__pycache__", "*.pyc", "results", "images")
    for name in ("fastnoisy", "pipelines", "tests", "tools", "docs"):
        shutil.copytree(ROOT / name, house / name, symlinks=True, ignore=skip)
    for name in ("setup.py", "pyproject.toml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, house / name)
    (house / "fastnoisy" / "methods" / "zebra_loss.py").write_text(METHOD)
    (house / "fastnoisy" / "data" / "sources" / "zebra_scans.py").write_text(SOURCE)
    (house / "pipelines" / "zebra_loader.py").write_text(PIPELINE)
    (house / "fastnoisy" / "cli" / "zebra.py").write_text(COMMAND)
    ops = house / "fastnoisy" / "augment" / "ops.py"
    ops.write_text(ops.read_text() + OP)
    types = house / "fastnoisy" / "config" / "types.py"
    before, place, after = types.read_text().partition("    seed: int =")
    types.write_text(before + KEY + place + after)
    return house


def run(house: Path, *words: str) -> str:
    """Run Python within the copy; gives its output, and fails with it where the program does."""
    environment = {**os.environ, "PYTHONPATH": str(house), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *words], cwd=house, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_copy_is_what_is_run(house: Path) -> None:
    assert str(house) in run(house, "-c", "import fastnoisy; print(fastnoisy.__file__)")


def test_the_contract_tests_take_them_up(house: Path) -> None:
    files = ["tests/contract", "tests/test_floors.py", "tests/cli/test_cli_methods.py"]
    chosen = [
        "-k",
        "zebra",
        "-m",
        "not slow and not compiler and not gpu",
        "-p",
        "no:cacheprovider",
    ]
    said = run(house, "-m", "pytest", "-v", *files, *chosen)
    for part in (
        "test_every_trained_parameter_gets_a_gradient[zebra-loss]",
        "test_every_trained_parameter_gets_a_gradient[alasca(base=zebra-loss)]",
        "test_a_method_is_shown_in_full[zebra-loss]",
        "test_the_example_becomes_a_sound_store[zebra-scans]",
        "test_batches_are_the_rows_asked_for[raw, one size-zebra-loader]",
        "test_sees_the_valid_area_only[zebra_shade]",
        "test_a_file_imports_from_its_own_floor_or_lower[fastnoisy/cli/zebra.py]",
    ):
        assert any(part in line and "PASSED" in line for line in said.splitlines()), (part, said[-3000:])


def test_the_reference_has_them(house: Path) -> None:
    for tool in ("config_reference", "views_reference"):
        run(house, f"tools/{tool}.py")
    page = (house / "docs" / "configuration.md").read_text()
    for part in (
        "| `zebra` | int | `0` |  | stripes of a run, which change nothing |",
        "## `method=zebra-loss`\n\nCross-entropy times a number: an example.",
        "| `method.scale` | float | `1.0` | how striped the loss is |",
        "| `zebra-loader` | One image after another, read by this process: an example of a pipeline. |",
        "| `pipeline.stripes` | int | `3` | stripes of a zebra, which change nothing |",
    ):
        assert part in page, part
    assert (
        "| `zebra_shade(" in (house / "docs" / "views.md").read_text()
        or "| `zebra_shade`" in (house / "docs" / "views.md").read_text()
    )


def test_the_command_line_has_them(house: Path) -> None:
    assert re.search(r"^ +zebra +Say what a zebra says\.$", run(house, "-m", "fastnoisy", "--help"), re.MULTILINE)
    assert "the zebra is silent" in run(house, "-m", "fastnoisy", "zebra")
    words = ["pipeline=zebra-loader(stripes=5)", "views.student=zebra_shade | normalize", "zebra=2"]
    said = run(house, "-m", "fastnoisy", "recipes", "show", "digits-zebra-loss", "method.scale=2", *words)
    for part in (
        "zebra = 2\n",
        'name = "zebra-loss"\nscale = 2.0',
        'name = "zebra-loader"\nstripes = 5',
        "zebra_shade",
    ):
        assert part in said, said
