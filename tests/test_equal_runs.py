"""The tool that holds two commits' runs against each other: what it finds, what it lets pass, and what it leaves
behind.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = "checkpoints/epoch-0002-pass-0-step-000000"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("equal_runs", ROOT / "tools" / "equal_runs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def make_run(run: Path) -> Path:
    (run / CHECKPOINT).mkdir(parents=True)
    weights = {"conv.weight": torch.arange(12.0).reshape(3, 4), "bn.num_batches_tracked": torch.tensor(36)}
    save_file(weights, run / CHECKPOINT / "model.safetensors")
    memory = torch.tensor([1.0, float("nan"), -0.0], dtype=torch.bfloat16)
    momentum = {"state": {0: {"momentum_buffer": torch.ones(2)}}}
    torch.save(
        {"method": {"memory": memory, "none": torch.zeros(0)}, "optimizer": momentum}, run / CHECKPOINT / "state.pt"
    )
    lines = [
        {"epoch": 0, "train": {"loss": 0.5}, "time": {"seconds": 1.5}},
        {"epoch": 1, "train": {"loss": float("nan")}, "eval": {"test": {"net": {"accuracy": 0.25}}}},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    np.savez(run / "labels.npz", given=np.arange(5), spec=np.array("symmetric:0.4"), holdout=np.zeros(0, np.int64))
    with (run / "issues.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["index", "label_score"], [3, "0.125000"]])
    return run


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return make_run(tmp_path / "base"), make_run(tmp_path / "new")


def said(tool: ModuleType, runs: tuple[Path, Path]) -> list[str]:
    return [str(difference) for difference in tool.compare_runs(*runs).differences]


def test_equal_runs_are_equal_whatever_their_times(tool: ModuleType, runs: tuple[Path, Path]) -> None:
    metrics = runs[1] / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("1.5", "99.0"))
    result = tool.compare_runs(*runs)
    assert result.differences == []
    assert result.counts == {"metrics": 5, "labels": 3, "issues.csv": 1, "checkpoints": 1, "tensors": 5}
    assert tool.verdict(result, []).startswith("equal (5 metrics")


def edit_weights(run: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = run / CHECKPOINT / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def flip_a_bit(weights: dict[str, torch.Tensor]) -> None:
    weights["conv.weight"].view(torch.int32)[1, 1] ^= 1


def test_one_bit_of_a_weight(tool: ModuleType, runs: tuple[Path, Path]) -> None:
    edit_weights(runs[1], flip_a_bit)
    (difference,) = tool.compare_runs(*runs).differences
    assert (difference.file, difference.name) == (f"{CHECKPOINT}/model.safetensors", "conv.weight")
    assert difference.size == pytest.approx(2**-21), "the last bit of 5.0"
    assert str(difference).endswith("conv.weight: float32 (3, 4) -> float32 (3, 4) (at most 4.77e-07 apart)")
    assert tool.sort_out([difference], tool.INTENDED)[0] == [difference]


def test_the_sign_of_a_zero_in_the_methods_memory(tool: ModuleType, runs: tuple[Path, Path]) -> None:
    path = runs[1] / CHECKPOINT / "state.pt"
    state = torch.load(path, weights_only=True)
    state["method"]["memory"][2] = 0.0
    torch.save(state, path)
    (line,) = said(tool, runs)
    assert "state.pt: method.memory: bfloat16 (3,)" in line


def test_tensors_of_the_method_are_found_wherever_they_stand(tool: ModuleType, runs: tuple[Path, Path]) -> None:
    path = runs[1] / CHECKPOINT / "state.pt"
    state = torch.load(path, weights_only=True)
    torch.save({"format": 2, "train": {"position": [1, 2], **state}}, path)
    assert said(tool, runs) == []
    state["optimizer"]["state"][0]["momentum_buffer"] += 1
    torch.save({"train": state}, path)
    (line,) = said(tool, runs)
    assert line.endswith("optimizer.state.0.momentum_buffer: float32 (2,) -> float32 (2,) (at most 1 apart)")


def test_a_number_of_the_metrics(tool: ModuleType, runs: tuple[Path, Path]) -> None:
    metrics = runs[1] / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("0.25", "0.75"))
    assert said(tool, runs) == ["metrics.jsonl: line 1.eval.test.net.accuracy: 0.25 -> 0.75 (at most 0.5 apart)"]
    metrics.write_text(metrics.read_text().splitlines()[0] + "\n")
    assert "metrics.jsonl: line 1.epoch: 1 -> absent" in said(tool, runs)


def test_labels_and_issues(tool: ModuleType, runs: tuple[Path, Path]) -> None:
    np.savez(
        runs[1] / "labels.npz", given=np.arange(5) % 4, spec=np.array("symmetric:0.5"), holdout=np.zeros(0, np.int64)
    )
    issues = runs[1] / "issues.csv"
    issues.write_bytes(issues.read_bytes().replace(b"0.125000", b"0.125001"))
    labels, spec, table = said(tool, runs)
    assert labels == "labels.npz: given: int64 (5,) -> int64 (5,) (at most 4 apart)"
    assert spec.startswith("labels.npz: spec: ")
    assert table.startswith("issues.csv: byte 28: 31 bytes, b'0")


@pytest.mark.parametrize("name", ["metrics.jsonl", "labels.npz", "issues.csv", f"{CHECKPOINT}/state.pt", CHECKPOINT])
@pytest.mark.parametrize("tree", [0, 1])
def test_what_is_missing(name: str, tree: int, tool: ModuleType, runs: tuple[Path, Path]) -> None:
    path = runs[tree] / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    lines = said(tool, runs)
    assert lines
    assert all("absent" in line.split(" -> ")[tree] for line in lines)
    assert all(line.startswith(name) for line in lines)


def test_an_intended_change_passes_and_is_counted(tool: ModuleType, runs: tuple[Path, Path]) -> None:
    entry = sys.modules["_comparison"].Intended(
        "num_batches_tracked is absent or stays 0",
        "a step no longer counts batches",
        lambda d: d.name.endswith("num_batches_tracked") and d.new in ("absent", 0),
    )
    found = tool.compare_runs(*runs).differences
    assert tool.sort_out(found, [entry]) == ([], {entry.what: 0}), "met nowhere"
    edit_weights(runs[1], lambda weights: weights.pop("bn.num_batches_tracked"))
    found = tool.compare_runs(*runs).differences
    assert [str(one) for one in found] == [f"{CHECKPOINT}/model.safetensors: bn.num_batches_tracked: 36 -> absent"]
    assert tool.sort_out(found, [entry]) == ([], {entry.what: 1})
    assert tool.sort_out(found, []) == (found, {})
    edit_weights(runs[1], lambda weights: weights.update({"bn.num_batches_tracked": torch.tensor(35)}))
    found = tool.compare_runs(*runs).differences
    assert tool.sort_out(found, [entry])[0] == found, "it counts, but otherwise"


def test_where_a_run_was_interrupted_is_left_to_chance(tool: ModuleType, runs: tuple[Path, Path]) -> None:
    for run, step in zip(runs, (7, 9), strict=True):
        shutil.copytree(run / CHECKPOINT, run / f"checkpoints/epoch-0001-pass-0-step-{step:06d}")
    assert tool.compare_runs(*runs).counts["checkpoints"] == 1
    assert said(tool, runs) == []
    shutil.copytree(runs[1] / CHECKPOINT, runs[1] / "checkpoints/best")
    assert said(tool, runs) == ["checkpoints/best: absent -> present"]


def test_an_intended_change_may_be_one_of_some_runs_alone(tool: ModuleType) -> None:
    entry = sys.modules["_comparison"].Intended("all", "a test", lambda difference: True, ("nrd",))
    difference = tool.Difference("issues.csv", "", "present", "absent")
    assert tool.sort_out([difference], [entry], "nrd") == ([], {"all": 1})
    assert tool.sort_out([difference], [entry], "mixup") == ([difference], {"all": 0})


def test_every_intended_change_gives_its_reason_and_is_told_from_the_others(tool: ModuleType) -> None:
    assert len({entry.what for entry in tool.INTENDED}) == len(tool.INTENDED)
    for entry in tool.INTENDED:
        assert entry.reason
        assert not entry.matches(
            tool.Difference("x/model.safetensors", "conv.weight", "float32 (1,)", "float32 (1,)", 1.0)
        )


def test_stores_are_compared_byte_by_byte(tool: ModuleType, tmp_path: Path) -> None:
    stores = (tmp_path / "base", tmp_path / "new")
    for store in stores:
        (store / "train.meta").mkdir(parents=True)
        (store / "train.beton").write_bytes(bytes(range(100)))
        (store / "train.meta/meta.json").write_text("{}")
    result = tool.compare_stores(*stores)
    assert (result.differences, result.counts) == ([], {"files": 2})
    (stores[1] / "train.beton").write_bytes(bytes([*range(60), 7, *range(61, 100)]))
    (stores[0] / "train.meta/meta.json").unlink()
    missing, bytes_ = tool.compare_stores(*stores).differences
    assert str(missing) == "train.meta/meta.json: absent -> present"
    assert str(bytes_).startswith("train.beton: byte 60: 100 bytes, b'<=>")


def test_the_made_up_photographs_differ_in_size_mode_and_format(tool: ModuleType, tmp_path: Path) -> None:
    tool.make_data(tmp_path)
    seen: dict[str, set[object]] = {"mode": set(), "format": set(), "size": set(), "orientation": set()}
    for path in (tmp_path / "photographs").rglob("*.*"):
        with Image.open(path) as image:
            for name in ("mode", "format", "size"):
                seen[name].add(getattr(image, name))
            seen["orientation"].add(image.getexif().get(0x0112))
    assert seen["mode"] == {"RGB", "L", "RGBA", "CMYK"}
    assert seen["format"] == {"JPEG", "PNG"}
    assert len(seen["size"]) > 20
    assert 6 in seen["orientation"]


def test_a_renamed_key_is_written_as_either_tree_has_it(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "RENAMED", {"pipeline": "pipeline.name"})
    base, new = (tool.Tree(name, ROOT, tmp_path) for name in ("base", "new"))
    assert base.spelt("pipeline=resident") == "pipeline=resident"
    assert new.spelt("pipeline=resident") == "pipeline.name=resident"
    assert new.spelt("views.student=a(b=1)") == "views.student=a(b=1)"


def test_each_tree_runs_its_own_code_or_none(tool: ModuleType, tmp_path: Path) -> None:
    tool.Tree("new", ROOT, tmp_path).check()
    (tmp_path / "empty").mkdir()
    with pytest.raises(tool.Failed, match="base: "):
        tool.Tree("base", tmp_path / "empty", tmp_path).check()


def test_a_worktree_is_gone_afterwards_also_where_the_work_fails(tool: ModuleType, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "--quiet", str(repository)], check=True)
    (repository / "file").write_text("of the commit")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "one"], check=True)
    (repository / "file").write_text("of the working tree")
    found = []

    def look() -> None:
        with tool.worktree(repository, tool.commit_of(repository, "HEAD"), tmp_path / "other") as path:
            found.append((path / "file").read_text())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look()
    assert found == ["of the commit"]
    assert not (tmp_path / "other").exists()
    listed = subprocess.run([*git, "worktree", "list"], check=True, capture_output=True, text=True).stdout
    assert len(listed.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["no-such-commit"], "'no-such-commit' is no commit"),
        ([], "Missing argument 'BASE'"),
        (["HEAD", "--only", "nrd,nothing"], "--only 'nothing' is unknown; known: digits, photographs"),
        (["HEAD", "--keep", "."], "--keep . exists"),
    ],
)
def test_bad_usage(words: list[str], part: str, tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    if words != ["no-such-commit"]:
        monkeypatch.setattr(tool, "commit_of", lambda repository, base: "0" * 40)
    done = CliRunner().invoke(tool.main, words)
    assert done.exit_code == 2
    assert part in done.output


def test_what_is_asked_for_brings_its_store_along(tool: ModuleType) -> None:
    assert tool.needed(tool.chosen("resident,nrd")) == ["digits", "photographs", "nrd", "resident"]
    assert tool.needed(tool.chosen("")) == [*tool.STORES, *tool.RUNS]


def test_small_texts_of_a_store_are_told_by_entry_and_line(tool: ModuleType, tmp_path: Path) -> None:
    texts = {
        "meta.json": ('{"num_noted": 0, "num": 2}', '{"num_noted": 1, "num": 2}'),
        "notes.csv": ("path,note\n", 'path,note\na.jpg,"CMYK colours, encoded anew"\nb.jpg,cut off\n'),
        "SHA256SUMS": ("00  meta.json\n11  labels.npz\n", "22  meta.json\n11  labels.npz\n"),
        "verified.json": ('{"a": 1}', '{"a":1}'),
    }
    for side, folder in enumerate(("base", "new")):
        (tmp_path / folder).mkdir()
        for name, pair in texts.items():
            (tmp_path / folder / name).write_text(pair[side])
    found = tool.compare_stores(tmp_path / "base", tmp_path / "new").differences
    assert {(d.file, d.name) for d in found} == {
        ("meta.json", ".num_noted"),
        ("notes.csv", 'a.jpg,"CMYK colours, encoded anew"'),
        ("notes.csv", "b.jpg,cut off"),
        ("SHA256SUMS", "meta.json"),
        ("verified.json", ""),
    }
    left, met = tool.sort_out(found, tool.INTENDED, "photographs")
    assert {(d.file, d.name) for d in left} == {("notes.csv", "b.jpg,cut off"), ("verified.json", "")}
    assert met == {"notes on CMYK files": 3}
