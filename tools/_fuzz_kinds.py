"""The kinds of things that tools/fuzz.py damages: for each the samples, and how they are read.

A kind is a function from an empty folder's path to samples. What a sample is read to must compare with ==.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.conversion.encode import Plan, Resize, encode, upright_size
from fastnoisy.data.conversion.outcome import Stored
from fastnoisy.data.sources import base
from fastnoisy.data.store import beton, open_store
from fastnoisy.data.store.jpeg import decode_jpeg
from fastnoisy.errors import FastnoisyError, one_line


class Heard(list[str]):
    """The lines that a reader says, which count as a word."""

    def __call__(self, line: object) -> None:
        self.append(str(line))


Read = Callable[[Path, Heard], Any]


@dataclass
class Sample:
    """Something sound that is read.

    Attributes:
        root: the folder it lies in.
        files: those that are changed, within it.
        read: reads it, from another folder.
        guarded: whether a changed value is a fault, unless the reader says a line.
        value: what it holds.
    """

    root: Path
    files: list[str]
    read: Read
    guarded: bool
    value: Any = None

    def __post_init__(self) -> None:
        self.value = self.read(self.root, Heard())


KINDS: dict[str, Callable[[Path], list[Sample]]] = {}


def kind(make: Callable[[Path], list[Sample]]) -> Callable[[Path], list[Sample]]:
    """Register a kind under its function's name."""
    KINDS[make.__name__.replace("_", "-")] = make
    return make


def values(item: Any) -> Any:
    """Nested values that compare with ==."""
    if isinstance(item, np.ndarray):
        return item.dtype.str, item.shape, item.tobytes()
    if hasattr(item, "untyped_storage"):
        return str(item.dtype), tuple(item.shape), item.contiguous().view(-1).numpy().tobytes()
    if isinstance(item, dict):
        return {key: values(entry) for key, entry in item.items()}
    return [values(entry) for entry in item] if isinstance(item, (list, tuple)) else item


def picture(number: int) -> Image.Image:
    """A small image, told apart by its number."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (9, 11, 3), np.uint8)).resize((44, 36))


def saved(number: int, form: str, **options: Any) -> bytes:
    """The same as a file."""
    file = BytesIO()
    image = picture(number)
    image.convert(options.pop("mode", "RGB")).save(file, form, **options)
    return file.getvalue()


def read_source(name: str) -> Read:
    """Opens a source by kind and path within the sample, and reads labels, names and every image."""

    def read(root: Path, heard: Heard) -> Any:
        kind_, _, path = name.partition(":")
        source, _ = base.open_source(f"{kind_}:{root / path}")
        found: list[Any] = [source.class_names]
        for split in source.splits:
            found += [split.name, list(split.paths), values(split.given_labels), values(split.clean_labels)]
            for row in range(len(split)):
                try:
                    content = split.read(row)
                    found.append(values(content))
                    upright_size(content)
                except (OSError, FastnoisyError) as error:
                    found.append(str(error))
        return found

    return read


# -- what fastnoisy writes --------------------------------------------------------------------------------------------


@kind
def store(folder: Path) -> list[Sample]:
    """A store's small files, header and tables, which are checked when it is opened; records by their checksums."""
    images = folder / "images"
    for i in range(24):
        place = images / ("train", "test")[i % 4 == 3] / f"class {i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.jpg").write_bytes(saved(i, "JPEG"))
    (images / "train/class 0/broken.jpg").write_bytes(b"nothing")
    convert(str(images), folder / "store", options=ConvertOptions(max_rejected=0.5), workers=1)
    small = [str(path.relative_to(folder / "store")) for path in (folder / "store").glob("*.meta/*")]
    small = [name for name in small if not name.endswith("verified.json")]
    shutil.rmtree(images)

    def read_small(root: Path, heard: Heard) -> Any:
        with open_store(root) as opened:
            return [
                [s.name, s.class_names, s.canvas, s.sources, s.info, s.listed("rejected"), s.listed("notes")]
                + [values(column) for column in (s.given_labels, s.clean_labels, s.sizes, s.checksums)]
                for s in opened.splits.values()
            ]

    def read_records(root: Path, heard: Heard) -> Any:
        with open_store(root) as opened:
            return [values(s.read_image(i)) for s in opened.splits.values() for i in range(s.num_samples)]

    betons = ["train.beton", "test.beton"]
    return [
        Sample(folder / "store", small, read_small, guarded=True),
        Sample(folder / "store", betons, read_records, guarded=True),
    ]


@kind
def run(folder: Path) -> list[Sample]:
    """A run's files: labels, numbers, list of suspects, configuration, checkpoint."""
    import fastnoisy
    from fastnoisy.training.run import Run

    fastnoisy.convert("digits", folder / "digits")
    words = ["model.width=4", "data.subset=60", "epochs=2", "batch_size=30", "threads=1", "device=cpu"]
    fastnoisy.train("digits-ce", *words, data=folder / "digits", out=folder / "run", progress=lambda event: None)

    def read_run(root: Path, heard: Heard) -> Any:
        opened = Run(root, heard)
        found = opened.checkpoint
        return values(
            [opened.labels.arrays(), opened.metrics, [vars(issue) for issue in opened.issues()], found.state,
             found.metadata, vars(found.position), opened.config.model_dump()]
        )  # fmt: skip

    root = folder / "run"
    names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and ".lock" not in path.name]
    used = ("labels.npz", "metrics.jsonl", "issues.csv", "config.toml", "manifest.json", "safetensors", "state.pt")
    return [Sample(root, [name for name in names if name.endswith(used)], read_run, guarded=True)]


# -- labels -----------------------------------------------------------------------------------------------------------


@kind
def label_files(folder: Path) -> list[Sample]:
    """Corrections in every form that `labels=` takes, of two splits."""
    import json

    import pyarrow as pa
    import torch
    from pyarrow import parquet

    from fastnoisy.label_files.corrections import Rows, correct

    folder.mkdir(parents=True)
    names, labels = ["cat", "dog", "horse"], np.arange(40) % 3
    paths = [f"train/a, {i}.jpg" for i in range(40)]
    objects = [{"path": path, "label": names[label]} for path, label in zip(paths, labels.tolist(), strict=True)]
    texts = {
        "plain.txt": "".join(f"{label}\n" for label in labels),
        "index.csv": "index,label\n" + "".join(f"{39 - i},{labels[39 - i]}\n" for i in range(40)),
        "issues.csv": "index,path,given_label,label\n"
        + "".join(f'{i},"{paths[i]}",{names[labels[i]]},{"drop" if i == 7 else ""}\n' for i in range(40))
        + "3,test/3.jpg,,dog\n",
        "objects.json": json.dumps(objects),
        "lines.jsonl": "\n".join(map(json.dumps, objects)),
        "by path.json": json.dumps({item["path"]: item["label"] for item in objects}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    np.save(folder / "labels.npy", labels)
    np.savez(folder / "labels.npz", given=labels)
    torch.save({"index": torch.arange(40), "label": labels.tolist()}, folder / "labels.pt")
    parquet.write_table(pa.table({"path": paths, "label": labels}), folder / "labels.parquet")
    splits = {
        "train": Rows(np.zeros(40, np.int64), paths),
        "test": Rows(np.zeros(5, np.int64), [f"test/{i}.jpg" for i in range(5)]),
    }

    def reader(name: str) -> Read:
        def read(root: Path, heard: Heard) -> Any:
            found, _ = correct(root / name, splits, names, "folder:/data")
            return [[split, values(one.labels), values(one.dropped), one.unchanged] for split, one in found.items()]

        return read

    arrays = ("labels.npy", "labels.npz", "labels.pt", "labels.parquet")
    return [Sample(folder, [name], reader(name), guarded=False) for name in (*texts, *arrays)]


@kind
def cifar_n(folder: Path) -> list[Sample]:
    """CIFAR-N's file, whose zip has checksums."""
    import torch

    from fastnoisy.noise import human

    folder.mkdir(parents=True)
    labels = {key: np.arange(500) % 10 for key in ("clean_label", "aggre_label", "worse_label")}
    torch.save(labels, folder / "CIFAR-10_human.pt")
    np.savez(folder / "CIFAR-10_human.npz", **labels)

    def reader(name: str) -> Read:
        return lambda root, heard: values([human(root / name, key) for key in ("worse", "aggre")])

    names = ("CIFAR-10_human.pt", "CIFAR-10_human.npz")
    return [Sample(folder, [name], reader(name), guarded=True) for name in names]


# -- lists and archives -----------------------------------------------------------------------------------------------


@kind
def lists(folder: Path) -> list[Sample]:
    """Lists of paths and labels, with class names beside them."""
    import pyarrow as pa
    from pyarrow import parquet

    made = []
    rows = [(f"images/{i}.jpg", ("cat", "dog", "sea horse")[i % 3], ("train", "test")[i % 5 == 4]) for i in range(15)]
    for form in ("csv", "tsv", "utf16.csv", "parquet"):
        root = folder / form
        (root / "images").mkdir(parents=True)
        for i in range(15):
            (root / f"images/{i}.jpg").write_bytes(saved(i, "JPEG"))
        name = f"list.{form}"
        if form == "parquet":
            columns = dict(zip(("path", "label", "split"), map(list, zip(*rows, strict=True)), strict=True))
            parquet.write_table(pa.table(columns), root / name)
        else:
            mark = {"csv": ",", "tsv": "\t", "utf16.csv": ";"}[form]
            text = "".join(mark.join(row) + "\r\n" for row in [("path", "label", "split"), *rows])
            (root / name).write_text(text, encoding="utf-16" if "utf16" in form else "utf-8", newline="")
        (root / "classes.txt").write_text("cat\ndog\nsea horse\n")
        made.append(Sample(root, [name, name, "classes.txt"], read_source(f"csv:{name}"), guarded=False))
    return made


@kind
def archives(folder: Path) -> list[Sample]:
    """CIFAR's archives, WebDataset shards, ffcv's files, the Hub's Parquet."""
    made = []
    for name in ("wds", "hub", "beton"):
        path = Path(base.find(name).make_example(folder / name))
        root = path.parent if path.is_file() else path
        files = [str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()]
        inner = path.name if path.is_file() else ""
        made.append(Sample(root, files, read_source(f"{name}:{inner}"), guarded=False))
    for form in ("zip", "tar", "tar.gz", "tar.xz"):
        root = folder / f"folders-{form}"
        root.mkdir()
        files = {f"pets/{name}/{i}.jpg": saved(i, "JPEG") for i in range(4) for name in ("cat", "dog")}
        if form == "zip":
            with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
        else:
            with tarfile.open(root / f"a.{form}", {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[form]) as archive:
                for name, content in files.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, BytesIO(content))
        made.append(Sample(root, [f"a.{form}"], read_source(f"archive:a.{form}"), guarded=False))
    for name in ("cifar10", "cifar100"):
        plain = Path(base.find(name).make_example(folder / f"{name}-plain"))
        inner = next(path.name for path in plain.iterdir() if path.is_dir())
        for form, ending in (("w:gz", "tar.gz"), ("w", "tar")):
            root = folder / f"{name}-{ending}"
            root.mkdir()
            with tarfile.open(root / f"a.{ending}", form) as archive:
                archive.add(plain / inner, inner)
            made.append(Sample(root, [f"a.{ending}"], read_source(f"{name}:a.{ending}"), guarded=False))
        files = [str(file.relative_to(plain)) for file in plain.rglob("*") if file.is_file()]
        made.append(Sample(plain, files, read_source(f"{name}:"), guarded=False))
    return made


# -- images -----------------------------------------------------------------------------------------------------------


def image_files() -> Iterator[tuple[str, bytes]]:
    """Sound images of every format and of several modes."""
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "a.jpg", saved(1, "JPEG")
    yield "progressive.jpg", saved(2, "JPEG", progressive=True, icc_profile=b"profile" * 20)
    yield "turned.jpg", saved(3, "JPEG", exif=exif)
    yield "cmyk.jpg", saved(4, "JPEG", mode="CMYK")
    yield "grey.jpg", saved(5, "JPEG", mode="L", restart_marker_blocks=2)
    yield "a.png", saved(6, "PNG")
    yield "palette.png", saved(7, "PNG", mode="P")
    yield "wide.png", saved(8, "PNG", mode="I;16")
    yield "a.gif", saved(9, "GIF", save_all=True, append_images=[picture(10)])
    yield "a.bmp", saved(11, "BMP")
    yield "a.ppm", saved(12, "PPM")
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "jpeg"):
        yield f"{compression}.tif", saved(13, "TIFF", compression=compression)
    yield "a.webp", saved(14, "WEBP")
    if features.check("jpg_2000"):
        yield "a.jp2", saved(15, "JPEG2000")
    if features.check("avif"):
        yield "a.avif", saved(16, "AVIF", speed=10)


@kind
def images(folder: Path) -> list[Sample]:
    """Images of all formats: what is stored decodes to the size that is noted, whatever the file held."""
    plans = (
        Plan(Resize("max", 512), (512, 512), "jpg", 90, 1 << 21),
        Plan(Resize("max", 20), (20, 20), "jpg", 90, 1 << 21),
        Plan(Resize("square", 16), (16, 16), "raw", 90, 1 << 21),
    )

    def reader(name: str) -> Read:
        def read(root: Path, heard: Heard) -> Any:
            data, found = (root / name).read_bytes(), []
            size = upright_size(data)
            for plan in plans:
                result = encode(lambda: data, plan)
                if isinstance(result, Stored):
                    if result.mode == beton.JPG:
                        assert decode_jpeg(result.data).shape == (result.height, result.width, 3), "another size"
                    else:
                        assert len(result.data) == result.height * result.width * 3, "another size"
                    assert size is not None, "stored, though its size is not told"
                elif not result.reason or one_line(result.reason) != result.reason:
                    raise AssertionError(f"the reason is no plain line: {result.reason!r}")
                found.append(result)
            return found

        return read

    folder.mkdir(parents=True)
    made = []
    for name, content in image_files():
        (folder / name).write_bytes(content)
        made.append(Sample(folder, [name], reader(name), guarded=False))
    return made


# -- texts ------------------------------------------------------------------------------------------------------------


@kind
def texts(folder: Path) -> list[Sample]:
    """Configuration files, view programs, noise specs and overrides."""
    from fastnoisy import config, recipes
    from fastnoisy.augment import parse_view
    from fastnoisy.noise import NoiseSpec

    folder.mkdir(parents=True)
    (folder / "run.toml").write_text(
        'recipe = "digits-nrd"\nepochs = 3\nnoise = "symmetric:0.4"\n[optim]\nlr = 0.1\nmilestones = [2]\n'
        '[views]\nstudent = "randaugment(n=1, m=3) | hflip | normalize | cutout(5)"\n[method]\nname = "nrd"\n'
    )
    (folder / "view.txt").write_text(
        "randaugment(n=1, m=3) | random_crop(32, padding=4) | hflip | normalize | cutout(5)"
    )
    (folder / "noise.txt").write_text("symmetric:0.4:exclude_true")
    (folder / "words.txt").write_text(
        'optim.lr=0.1\nmethod="alasca(base=gce(q=0.7))"\noptim.milestones=[1,2]\neval.a=b'
    )

    def text(root: Path, name: str) -> str:
        return (root / name).read_text(encoding="utf-8", errors="surrogateescape")

    def toml(root: Path, heard: Heard) -> Any:
        return json.dumps(recipes.from_file(root / "run.toml"), default=str)

    readers: dict[str, Read] = {
        "run.toml": toml,
        "view.txt": lambda root, heard: str(parse_view(text(root, "view.txt"))),
        "noise.txt": lambda root, heard: str(NoiseSpec.parse(text(root, "noise.txt"))),
        "words.txt": lambda root, heard: str(config.parse_overrides(text(root, "words.txt").split("\n"))),
    }
    return [Sample(folder, [name], read, guarded=False) for name, read in readers.items()]
