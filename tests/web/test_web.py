"""WebVision, ImageNet's validation images, Clothing1M, tar shards and lists in miniature, through the commands a user
types: converted, trained on for an epoch of their recipe, evaluated; and what is said where a file is missing.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fastnoisy.data.store import open_store
from fastnoisy.data.store.digests import write_sums
from fastnoisy.data.store.meta import META_FILES

SMALL = ["views.size=32", "model=preact_small(width=4)", "batch_size=8", "epochs=1", "threads=1", "amp=off"]


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def stores(trees: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every tree converted, as the README says."""
    from fastnoisy.data.conversion.convert import ConvertOptions, convert

    out = tmp_path_factory.mktemp("stores")
    kinds = {"webvision": "webvision-mini", "clothing1m": "clothing1m", "shards": "wds"}
    for name, tree in trees.items():
        kind = "imagenet-val-mini" if name.startswith("imagenet") else kinds.get(name, "csv")
        path = tree / "list.csv" if name == "csv" else tree
        options = ConvertOptions(resize="none" if name == "csv" else "shorter=48")
        convert(f"{kind}:{path}", out / name, options=options, progress=None)
    convert(f"clothing1m-clean:{trees['clothing1m']}", out / "clean", options=ConvertOptions(resize="shorter=48"))
    return {name: out / name for name in (*trees, "clean")}


def test_what_is_converted(stores: dict[str, Path]) -> None:
    counts = {name: {s.name: s.num_samples for s in open_store(path).splits.values()} for name, path in stores.items()}
    assert counts == {
        "webvision": {"train": 32, "val": 8},
        "imagenet-wnid": {"val": 8},
        "imagenet-index": {"val": 8},
        "imagenet-list": {"val": 8},
        "clothing1m": {"train": 56, "val": 14, "test": 28},
        "clean": {"train": 28, "val": 14, "test": 28},
        "shards": {"train": 48, "val": 16},
        "csv": {"train": 40, "test": 16},
    }
    imagenet = [open_store(stores[f"imagenet-{layout}"]).split("val") for layout in ("wnid", "index", "list")]
    for split in imagenet:
        assert split.given_labels.tolist() == [0, 0, 7, 7, 23, 23, 49, 49]
        assert [split.read_bytes(i) for i in range(8)] == [imagenet[0].read_bytes(i) for i in range(8)]
        assert split.class_names == open_store(stores["webvision"]).class_names


@pytest.mark.parametrize("recipe", ["ce", "nrd", "alasca", "alasca suite=nrd", "nrd suite=alasca"])
def test_webvision(recipe: str, stores: dict[str, Path], tmp_path: Path, fastnoisy: Any) -> None:
    method, *suite = recipe.split()
    words = [*SMALL, *suite, f"eval.imagenet={stores['imagenet-wnid']}", "--data", stores["webvision"]]
    run = tmp_path / "run"
    said = fastnoisy.done("train", f"webvision-{method}", *words, "--out", run)
    assert "50 classes, noise none" in said
    assert "select=" not in said
    final = lines(run)[-1]
    assert set(final["eval"]) == {"val", "imagenet"}
    for numbers in final["eval"].values():
        assert set(numbers[final["reported"]]) == {"accuracy", "top5", "ece"}
    assert not (run / "checkpoints/best").exists()
    for store, name in (("webvision", "val"), ("imagenet-list", "imagenet")):
        said = fastnoisy.done("evaluate", run, "--data", stores[store])
        assert "top-5 %" in said
        assert f"{100 * final['eval'][name][final['reported']]['top5']:.2f}" in said
    assert "probability" in fastnoisy.done("predict", run, _one(stores))


def _one(stores: dict[str, Path]) -> Path:
    """A photograph as a file of its own."""
    path = stores["webvision"].parent / "one.jpg"
    path.write_bytes(open_store(stores["imagenet-wnid"]).split("val").read_bytes(0))
    return path


@pytest.mark.parametrize("method", ["ce", "nrd", "alasca"])
def test_clothing1m(method: str, stores: dict[str, Path], tmp_path: Path, fastnoisy: Any) -> None:
    run = tmp_path / "run"
    words = [*SMALL, "data.draw=28", "epochs=3", "optim.lr=0.05", "--data", stores["clothing1m"], "--out", run]
    said = fastnoisy.done("train", f"clothing1m-{method}", *words)
    assert "every epoch trains on a fresh draw of 28 images, as many of each class" in said
    assert "the reported model is that of the epoch best on val (select=val), not the last epoch's" in said
    *epochs, final = lines(run)
    assert [line["epoch"] for line in epochs] == [0, 1, 2]
    reported = final["reported"]
    accuracies = [line["eval"]["val"][reported]["accuracy"] for line in epochs]
    best = max(range(3), key=lambda epoch: (accuracies[epoch], -epoch))
    assert final["selected"] == {"by": "val", "epoch": best, "accuracy": accuracies[best]}
    assert final["eval"] == epochs[best]["eval"]
    assert f"reported is epoch {best + 1}, chosen by its" in said
    said = fastnoisy.done("evaluate", run)
    assert f"{100 * final['eval']['test'][reported]['ece']:.2f}" in said, "evaluate takes the chosen epoch's model"
    assert "(test)" in said
    assert not any("memory" in name for name in _state(run)), "nothing is kept per sample"


def _state(run: Path) -> list[str]:
    from fastnoisy.training import checkpoint

    found = checkpoint.load_newest(run / "checkpoints")
    return [*found.state["method"]]


def test_clothing1ms_clean_list(stores: dict[str, Path], tmp_path: Path, fastnoisy: Any) -> None:
    run = tmp_path / "run"
    fastnoisy.done("train", "clothing1m-ce", *SMALL, "data.draw=14", "--data", stores["clean"], "--out", run)
    assert set(lines(run)[-1]["eval"]) >= {"val"}
    train = open_store(stores["clean"]).split("train")
    assert train.clean_labels is not None
    assert train.clean_labels.tolist() == [label for label in range(14) for _ in range(2)]


@pytest.mark.parametrize(("name", "split"), [("shards", "val"), ("csv", "test")])
@pytest.mark.parametrize("method", ["nrd", "alasca"])
def test_shards_and_lists(
    name: str, split: str, method: str, stores: dict[str, Path], tmp_path: Path, fastnoisy: Any
) -> None:
    run = tmp_path / "run"
    fastnoisy.done("train", f"folder-{method}", *SMALL, "--data", stores[name], "--out", run)
    assert set(lines(run)[-1]["eval"]) == {split}
    assert f"({split})" in fastnoisy.done("evaluate", run)


MISSING = [
    ("webvision-mini", "webvision", "info/train_filelist_google.txt", "has no info/train_filelist_google.txt"),
    ("webvision", "webvision", "google", "has no google/"),
    ("imagenet-val-mini", "imagenet-wnid", "val", "has neither val/ with a folder per class nor imagenet_val.txt"),
    ("imagenet-val-mini", "imagenet-index", "imagenet/val", "has neither val/ with a folder per class"),
    ("imagenet-val-mini", "imagenet-list", "imagenet/imagenet_val.txt", "has images in val/ but no imagenet_val.txt"),
    *(
        ("clothing1m", "clothing1m", file, f"has no {file} (")
        for file in (
            "noisy_train_key_list.txt", "clean_val_key_list.txt", "clean_test_key_list.txt", "noisy_label_kv.txt",
            "clean_label_kv.txt", "category_names_eng.txt",
        )
    ),
    ("clothing1m-clean", "clothing1m", "clean_train_key_list.txt", "has no clean_train_key_list.txt ("),
    ("clothing1m", "clothing1m", "images", "images elsewhere"),
    ("wds", "shards", "train-001.tar", "train-001.tar"),
    ("csv", "csv", "list.csv", "does not exist"),
    ("csv", "csv", "photos", "images elsewhere"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "missing", "part"), MISSING)
def test_a_missing_file_is_named_with_the_layout(
    kind: str, name: str, missing: str, part: str, trees: dict[str, Path], tmp_path: Path, fastnoisy: Any
) -> None:
    tree = Path(shutil.copytree(trees[name], tmp_path / "tree"))
    place = tree / missing
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    path = {"wds": f"{tree}/train-{{000..002}}.tar", "csv": tree / "list.csv"}.get(kind, tree)
    code, _, said = fastnoisy("convert", f"{kind}:{path}", tmp_path / "store")
    assert code == 2
    assert "Traceback" not in said
    assert part in " ".join(said.split())
    assert not (tmp_path / "store").exists()


def test_other_classes_are_refused_by_number_and_by_name(
    trees: dict[str, Path], stores: dict[str, Path], tmp_path: Path, fastnoisy: Any
) -> None:
    whole = tmp_path / "whole"
    fastnoisy.done("convert", f"imagenet-val:{trees['imagenet-wnid']}", whole, "--resize", "shorter=48")
    words = [*SMALL, "--data", stores["webvision"], "--out", tmp_path / "run"]
    code, _, said = fastnoisy("train", "webvision-ce", f"eval.imagenet={whole}", *words)
    assert code == 2
    assert f"eval.imagenet={whole} has 1000 classes, the run 50" in said
    assert "imagenet-val-mini:PATH" in said
    renamed = Path(shutil.copytree(stores["imagenet-wnid"], tmp_path / "renamed"))
    meta = renamed / "val.meta/meta.json"
    meta.write_text(meta.read_text().replace('"tench"', '"trench"'))
    write_sums(meta.parent, META_FILES)
    code, _, said = fastnoisy("train", "webvision-ce", f"eval.imagenet={renamed}", *words)
    assert code == 2
    assert "class 0 is 'trench' there, 'tench' here" in said
    fastnoisy.done("train", "webvision-ce", *words)
    code, _, said = fastnoisy("evaluate", tmp_path / "run", "--data", renamed)
    assert code == 2
    assert "class 0 is 'trench' there" in said
