"""Data sets in miniature, laid out as published (methods.md 4.7 to 4.9), of photographs: drawn ones, and real ones.

The trees are written out here, not by the sources' own examples, so that a source is held against its layout's
description.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fastnoisy import cli
from fastnoisy.data.sources import _imagenet

Photograph = Callable[[int, int], bytes]
"""(class, number) -> the bytes of a JPEG."""

MINI = (0, 7, 23, 49)  # classes of the first fifty that have images here
OTHERS = (50, 999)  # classes that mini-WebVision leaves out


def drawn(label: int, number: int) -> bytes:
    """Blurred noise about the class's colour, with the edges, sizes and compression of a photograph."""
    random = np.random.default_rng([label, number])
    width, height = int(random.integers(60, 120)), int(random.integers(60, 120))
    base = np.random.default_rng(label).integers(40, 215, 3)
    noise = random.integers(-60, 60, (height, width, 1)) + random.integers(-25, 25, (height, width, 3))
    image = Image.fromarray((base + noise).clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))
    target = io.BytesIO()
    image.save(target, "JPEG", quality=85)
    return target.getvalue()


@pytest.fixture(scope="module", params=["drawn", pytest.param("real", marks=pytest.mark.data)])
def photograph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Photograph:
    if request.param == "drawn":
        return drawn
    folder = tmp_path_factory.mktemp("real")
    unpack = request.getfixturevalue("real_data") / "unpack.py"
    subprocess.run([sys.executable, unpack, folder, "caltech101"], check=True)
    classes = [sorted(path.glob("*.jpg")) for path in sorted((folder / "caltech101").iterdir())]
    return lambda label, number: classes[label % len(classes)][number].read_bytes()


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def webvision_tree(root: Path, photograph: Photograph, each: int = 8) -> Path:
    """WebVision 1.0: lists under info/, google/qNNNN/NAME.jpg, val_images_256/NAME.jpg."""
    train, val = [], []
    for label in (*MINI, *OTHERS):
        for number in range(each):
            name = f"google/q{2 * label + 1 + number % 2:04d}/{label:03d}x{number}.jpg"  # two queries a class
            put(root / name, photograph(label, number))
            train.append(f"{name} {label}")
        for number in range(2):
            name = f"val{label:04d}{number:02d}.jpg"
            put(root / "val_images_256" / name, photograph(label, each + number))
            val.append(f"{name} {label}")
    put(root / "info/train_filelist_google.txt", "\n".join([*train, ""]).encode())
    put(root / "info/val_filelist.txt", "\n".join([*val, ""]).encode())
    return root


def imagenet_tree(root: Path, photograph: Photograph, layout: str) -> Path:
    """ImageNet's validation images: `wnid`: val/n01440764/, `index`: imagenet/val/0/, `list`:
    imagenet/imagenet_val.txt.
    """
    lines = []
    for label in (*MINI, *OTHERS):
        for number in range(2):
            name = f"ILSVRC2012_val_{label * 50 + number + 1:08d}.JPEG"
            place = {
                "wnid": f"val/{_imagenet.synsets()[label][0]}", "index": f"imagenet/val/{label}",
                "list": "imagenet/val",
            }[layout]  # fmt: skip
            put(root / place / name, photograph(label, 10 + number))
            lines.append(f"{name} {label}")
    if layout == "list":
        put(root / "imagenet/imagenet_val.txt", "\n".join([*lines, ""]).encode())
    return root


def clothing1m_tree(root: Path, photograph: Photograph, each: int = 4) -> Path:
    """Clothing1M: images/D/DD/NAME.jpg, key lists and `key label` files at the root; a third of the noisy labels is
    wrong.
    """
    keys: dict[str, list[str]] = {"noisy_train": [], "clean_val": [], "clean_test": [], "clean_train": []}
    labels: dict[str, list[str]] = {"noisy": [], "clean": []}
    for label in range(14):
        for number in range(each + 5):
            key = f"images/{number % 10}/{label * 7 % 100}/{label}{number},{label * 1000 + number}.jpg"
            put(root / key, photograph(label, number))
            part = [*["noisy_train"] * each, "clean_val", *["clean_test"] * 2, *["clean_train"] * 2][number]
            keys[part].append(key)
            wrong = part == "noisy_train" and (label + number) % 3 == 0
            labels["noisy" if part == "noisy_train" else "clean"].append(f"{key} {(label + wrong) % 14}")
    for part, names in keys.items():
        put(root / f"{part}_key_list.txt", "\n".join([*names, ""]).encode())
    for kind, lines in labels.items():
        put(root / f"{kind}_label_kv.txt", "\n".join([*lines, ""]).encode())
    names = "T-Shirt Shirt Knitwear Chiffon Sweater Hoodie Windbreaker Jacket Downcoat Suit Shawl Dress Vest Underwear"
    put(root / "category_names_eng.txt", (names.replace(" ", "\n") + "\n").encode())
    return root


def shards_tree(root: Path, photograph: Photograph) -> Path:
    """WebDataset shards: train-000.tar to train-002.tar and val-000.tar, each sample a .jpg and a .cls."""
    root.mkdir(parents=True)
    for shard, first in (("train-000", 0), ("train-001", 4), ("train-002", 8), ("val-000", 12)):
        with tarfile.open(root / f"{shard}.tar", "w") as archive:
            for label in range(4):
                for number in range(first, first + 4):
                    for suffix, content in (("jpg", photograph(label, number)), ("cls", str(label).encode())):
                        member = tarfile.TarInfo(f"{label}_{number}.{suffix}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
    return root


def csv_tree(root: Path, photograph: Photograph) -> Path:
    """A list of path, label and split beside the images it names."""
    lines = ["path,label,split"]
    for label in range(4):
        for number in range(14):
            put(root / f"photos/{label}/{number}.jpg", photograph(label, number))
            lines.append(f"photos/{label}/{number}.jpg,class {label},{'train' if number < 10 else 'test'}")
    put(root / "list.csv", "\n".join([*lines, ""]).encode())
    return root


@pytest.fixture(scope="module")
def trees(photograph: Photograph, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every tree, by name."""
    root = tmp_path_factory.mktemp("trees")
    made = {"webvision": webvision_tree(root / "webvision", photograph)}
    for layout in ("wnid", "index", "list"):
        made[f"imagenet-{layout}"] = imagenet_tree(root / f"imagenet-{layout}", photograph, layout)
    made["clothing1m"] = clothing1m_tree(root / "clothing1m", photograph)
    made["shards"] = shards_tree(root / "shards", photograph)
    made["csv"] = csv_tree(root / "csv", photograph)
    return made


class Command:
    """`fastnoisy` in this process, as a user types it."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capfd, self.monkeypatch = capfd, monkeypatch

    def __call__(self, *words: object) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self.monkeypatch.setattr(sys, "argv", ["fastnoisy", *map(str, words)])
        self.capfd.readouterr()
        code: Any = 0
        try:
            cli.main()
        except SystemExit as leave:
            code = leave.code or 0
        return int(code), *self.capfd.readouterr()

    def done(self, *words: object) -> str:
        """Both outputs of a command that must succeed."""
        code, out, err = self(*words)
        assert code == 0, err
        return out + err


@pytest.fixture
def fastnoisy(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capfd, monkeypatch)
