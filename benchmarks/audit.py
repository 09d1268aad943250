"""How well and how fast `fastnoisy audit` finds wrong labels, and copies, in folders whose truth is known.

    python benchmarks/audit.py folders/uniform-0 folders/uniform-1 folders/confused-0 --out benchmarks/results

Each FOLDER holds `photos/CLASS/...` and `truth.csv` with columns path, given, true. What its name has before the last
hyphen is its kind; folders of a kind are of one kind of wrong labels, drawn with several seeds. A folder is audited by
the command itself, in a fresh process, cold imports included, in bf16 (where the processor has it) and in fp32; wall
time is that of the command, from the folder to its files. Then copies of 200 images of the first folder are planted
into it: mirrored, JPEG of quality 30, half the size, 90 % of either side; a third of them in a random class.

* AUC: how well the scores tell wrong labels from right ones. *P@wrong*: precision among as many as are wrong.
* Flags: precision and recall of what is flagged. *Count*: how far the estimated number is from the true one.
* Copies: a group is right if each planted copy in it is there with its original; groups without a planted copy are of
  the folder's own images and are counted apart.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from _report import command, markdown, run, write
from PIL import Image, ImageOps

from fastnoisy.errors import FastnoisyError

COPIES = 200


def cropped(image: Image.Image, draw: random.Random) -> Image.Image:
    """90 % of either side, from anywhere."""
    width, height = round(0.9 * image.width), round(0.9 * image.height)
    x, y = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
    return image.crop((x, y, x + width, y + height))


KINDS: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "mirrored": lambda image, draw: ImageOps.mirror(image),
    "JPEG 30": lambda image, draw: image,
    "half size": lambda image, draw: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "90 % crop": cropped,
}


def table_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def audited(photos: Path, out: Path, *words: str) -> float:
    """Audit a folder in a fresh process; wall seconds."""
    began = time.perf_counter()
    command("audit", photos, "--out", out, *words)
    return time.perf_counter() - began


def measured(folder: Path, out: Path) -> dict[str, Any]:
    """What an audit of a folder is worth, against its truth."""
    from sklearn.metrics import roc_auc_score

    wrong_of = {row["path"]: row["given"] != row["true"] for row in table_of(folder / "truth.csv")}
    rows = table_of(out / "issues.csv")
    wrong = np.array([wrong_of[row["path"]] for row in rows])
    score = np.array([float(row["label_score"]) for row in rows])
    flagged = np.array([row["is_label_issue"] == "True" for row in rows])
    summary = json.loads((out / "summary.json").read_text())
    found: dict[str, Any] = {
        "images": len(rows), "wrong": int(wrong.sum()), "estimated": summary["estimated_wrong"],
        "flagged": int(flagged.sum()), "seconds": summary["seconds"],
    }  # fmt: skip
    if wrong.any():
        most = np.argsort(score, kind="stable")[: wrong.sum()]
        found |= {
            "auc": float(roc_auc_score(wrong, -score)),
            "precision_at_wrong": float(wrong[most].mean()),
            "precision": float(wrong[flagged].mean()) if flagged.any() else 1.0,
            "recall": float(flagged[wrong].mean()),
        }
    return found


def planted(folder: Path, work: Path, count: int) -> tuple[Path, dict[str, tuple[str, str]]]:
    """A copy of a folder with copies planted: where it is, and each copy's original and kind by its path."""
    photos, draw = work / "photos", random.Random(5)
    shutil.copytree(folder / "photos", photos)
    originals = sorted(str(path.relative_to(photos)) for path in photos.rglob("*") if path.is_file())
    classes = sorted(path.name for path in photos.iterdir())
    copies = {}
    for number, original in enumerate(draw.sample(originals, min(count, len(originals)))):
        kind = list(KINDS)[number % len(KINDS)]
        with Image.open(photos / original) as opened:
            made = KINDS[kind](opened.convert("RGB"), draw)
        place = draw.choice(classes) if draw.random() < 1 / 3 else original.partition("/")[0]
        path = f"{place}/planted-{number:04}.jpg"
        made.save(photos / path, quality=30 if kind == "JPEG 30" else 90)
        copies[path] = original, kind
    return photos, copies


def copies_found(out: Path, copies: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Recall by kind, and precision of the groups that hold a planted copy."""
    groups: dict[str, set[str]] = {}
    for row in table_of(out / "issues.csv"):
        if row["duplicate_kind"] in ("same bytes", "near copy"):
            groups.setdefault(row["duplicate_group"], set()).add(row["path"])
    at = {path: number for number, members in groups.items() for path in members}
    recall = {
        kind: statistics.fmean(at.get(p, "-") == at.get(o, "+") for p, (o, k) in copies.items() if k == kind)
        for kind in KINDS
    }
    touched = [members for members in groups.values() if members & set(copies)]
    right = [all(copies[path][0] in members for path in members & set(copies)) for members in touched]
    found = [at.get(path, "-") == at.get(original, "+") for path, (original, _) in copies.items()]
    return {
        "planted": len(copies), "recall": statistics.fmean(found), "recall_by_kind": recall,
        "groups_with_a_copy": len(touched), "precision": statistics.fmean(right) if right else 1.0,
        "groups_of_the_folder_itself": len(groups) - len(touched),
    }  # fmt: skip


def tiny_folder(place: Path, kind: str) -> Path:
    """Two patterns, 20 images each, of which 4 are moved (none where `kind` is "clean")."""
    y, x = np.mgrid[:48, :48]
    rows = [("path", "given", "true")]
    for number, (name, on) in enumerate((("dots", (x % 12 < 5) & (y % 12 < 5)), ("stripes", x % 12 < 6))):
        for i in range(20):
            given = ("dots", "stripes")[(number + (i < 4 and kind != "clean")) % 2]
            clouds = np.random.default_rng(100 * number + i).integers(0, 100, (5, 5, 3)).astype(np.uint8)
            noise = np.asarray(Image.fromarray(clouds).resize((48, 48), Image.Resampling.BICUBIC), np.int64)
            path = place / "photos" / given / f"{name}-{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((on[..., None] * 150 + noise).astype(np.uint8)).save(path)
            rows.append((f"{given}/{path.name}", given, name))
    with (place / "truth.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return place


def span(values: list[float], digits: int) -> str:
    """The mean, and the worst and best of several."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def table(results: dict[str, dict[str, Any]]) -> str:
    """A row per kind of folder and precision."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for name, by_precision in results.items():
        for precision, numbers in by_precision.items():
            kinds.setdefault(f"{name.rpartition('-')[0] or name}, {precision}", []).append(numbers)
    rows = []
    for kind, found in kinds.items():
        cells = [f"{span([float(one['wrong']) for one in found], 0)}"]
        for key, digits in (("auc", 4), ("precision_at_wrong", 3), ("precision", 3), ("recall", 3)):
            cells.append(span([one[key] for one in found], digits) if key in found[0] else "-")
        cells.append(span([float(one["flagged"]) for one in found], 0))
        off = [100 * (one["estimated"] / one["wrong"] - 1) for one in found if one["wrong"]]
        cells += [span(off, 1) if off else "-", span([one["wall_seconds"] for one in found], 0)]
        rows.append([kind, *cells])
    header = ["folders", "wrong", "AUC", "P@wrong", "precision", "recall", "flagged", "count, % off", "seconds"]
    return markdown(header, rows)


def copies_table(found: dict[str, Any]) -> str:
    """Recall by kind of copy, and precision."""
    recall = [f"{found['recall']:.2f}", *(f"{found['recall_by_kind'][kind]:.2f}" for kind in KINDS)]
    row = ["share found", *recall, f"{found['precision']:.2f}"]
    return markdown([f"{found['planted']} planted copies", "all", *KINDS, "precision"], [row])


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path), help="Folder for audit.json.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--precision", "precisions", default="bf16,fp32", show_default=True, help="Which to run.")
@click.option("--tiny", is_flag=True, help="Two made-up folders, a few seconds.")
def main(folders: tuple[Path, ...], out: Path, device: str, precisions: str, tiny: bool) -> None:
    """See the module."""
    if not folders and not tiny:
        raise FastnoisyError("no folder to audit", "Name some, each with photos/ and truth.csv, or give --tiny")
    words = ["--device", device, *(["--size", "64", "--threads", "1", "--workers", "1"] if tiny else [])]
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        if tiny:
            folders = tuple(tiny_folder(work / f"{kind}-0", kind) for kind in ("moved", "clean"))
        for folder in folders:
            for precision in precisions.split(",") if not tiny else ["fp32"]:
                place = work / "audit"
                seconds = audited(folder / "photos", place, "--precision", precision, *words)
                numbers = measured(folder, place) | {"wall_seconds": seconds}
                results.setdefault(folder.name, {})[precision] = numbers
                shutil.rmtree(place)
                print(f"{folder.name}, {precision}: {json.dumps(numbers)}", flush=True)
        photos, copies = planted(folders[0], work / "planted", 8 if tiny else COPIES)
        audited(photos, work / "planted-audit", *words)
        found = copies_found(work / "planted-audit", copies)
    shown = f"{table(results)}\n\n{copies_table(found)}"
    write(out, "audit", {"results": results, "copies": found, "table": shown})
    print(shown)


if __name__ == "__main__":
    run(main)
