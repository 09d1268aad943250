"""What is read back of a run is checked: damaged files, edits by hand, leftovers, copies, files of another run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastnoisy import keyed_random
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.errors import FastnoisyError
from fastnoisy.training import checkpoint, loop, setup
from fastnoisy.training.logs import Event
from fastnoisy.training.run import Run
from fastnoisy.training.run_folder import RunFolder

WORDS = [
    "model.width=4", "data.subset=120", "epochs=3", "batch_size=30", "checkpoint.every=1", "threads=1", "device=cpu",
]  # fmt: skip
NEWEST = "checkpoints/epoch-0003-pass-0-step-000000"
FLIPS = 3000


class Heard(list[str]):
    """The lines that a run says."""

    def __call__(self, event: Event | str) -> None:
        self.append(str(event))

    def has(self, text: str) -> bool:
        return any(text in line for line in self)


@pytest.fixture(scope="module")
def whole(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    loop.start(setup.resolve("digits-alasca", WORDS, str(digits)), run)
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def lines(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "time"} for line in RunFolder(run).metrics.read()[0]]


# -- bit flips --------------------------------------------------------------------------------------------------------


def values(item: Any) -> Any:
    """Nested values that compare with ==."""
    if isinstance(item, torch.Tensor):
        return str(item.dtype), tuple(item.shape), item.reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(item, np.ndarray):
        return item.dtype.str, item.shape, item.tobytes()
    if isinstance(item, dict):
        return {key: values(entry) for key, entry in item.items()}
    return [values(entry) for entry in item] if isinstance(item, list) else item


def read_labels(run: Path, say: Heard) -> Any:
    labels = RunFolder(run).read_labels()
    return values({**labels.arrays(), "origin": vars(labels.origin)})


def read_checkpoint(run: Path, say: Heard) -> Any:
    found = checkpoint.load(run / NEWEST)
    return values({**vars(found), "origin": vars(found.origin)})


READERS: dict[str, Callable[[Path, Heard], Any]] = {
    "config.toml": lambda run, say: RunFolder(run).read_config(BEGAN["config"], say),
    "labels.npz": read_labels,
    "metrics.jsonl": lambda run, say: Run(run, say).metrics,
    "issues.csv": lambda run, say: Run(run, say).issues(),
    f"{NEWEST}/manifest.json": read_checkpoint,
    f"{NEWEST}/model.safetensors": read_checkpoint,
    f"{NEWEST}/state.pt": read_checkpoint,
}
BEGAN: dict[str, Any] = {}


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_is_refused_said_or_harmless(name: str, run: Path) -> None:
    BEGAN["config"] = checkpoint.load(run / NEWEST).origin.config
    path, read = run / name, READERS[name]
    content = path.read_bytes()
    said = Heard()
    expected = read(run, said)
    assert said == []
    counts = {"refused": 0, "said": 0, "harmless": 0}
    for number in range(-(-FLIPS // len(READERS))):
        bit = keyed_random.below(keyed_random.key(7, number), 8 * len(content))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        said.clear()
        try:
            found = read(run, said)
        except FastnoisyError:
            counts["refused"] += 1
            continue
        if found == expected:
            counts["harmless"] += 1
            continue
        assert len(said) == 1, f"bit {bit} changed what is loaded, in silence"
        counts["said"] += 1
        if name == "metrics.jsonl":
            assert all(line in expected for line in found), "good lines are what was written"
            assert len(found) >= len(expected) - 2  # a flipped line end joins two
    path.write_bytes(content)
    assert counts["refused"] + counts["said"] > sum(counts.values()) * 0.8, counts


# -- checkpoints ------------------------------------------------------------------------------------------------------


def edit_manifest(path: Path, change: Callable[[dict[str, Any]], object], sign: bool = True) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    if sign:
        manifest["digest"] = checkpoint._digest(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["position"].update(epoch=1),
        lambda m: m["position"].update(step=77),
        lambda m: m["position"].update(epoch="3"),
        lambda m: m.update(position=3),
        lambda m: m.update(files=[]),
        lambda m: m.update(name=None),
        lambda m: m["files"].clear(),
        lambda m: m["files"]["state.pt"].update(bytes="many"),
    ],
)
def test_a_manifest_that_says_otherwise_is_refused(change: Any, sign: bool, run: Path) -> None:
    """Signed anew too: whoever edits it by hand must not train two epochs again on the third one's weights."""
    edit_manifest(run / NEWEST, change, sign)
    with pytest.raises(FastnoisyError, match=f"checkpoint {run / NEWEST}"):
        checkpoint.load(run / NEWEST)
    said = Heard()
    loop.resume(run, observe=said)
    assert said.has("trying the one before")
    assert said.has("at epoch 2, step 0")
    assert said.has(f"is kept as {Path(NEWEST).name}.damaged")
    assert (run / f"{NEWEST}.damaged/state.pt").exists(), "what is damaged is never deleted"


def test_a_renamed_checkpoint_is_refused(run: Path) -> None:
    (run / NEWEST).rename(run / "checkpoints/epoch-0001-pass-0-step-000000")
    with pytest.raises(FastnoisyError, match="was written as epoch-0003-pass-0-step-000000"):
        checkpoint.load(run / "checkpoints/epoch-0001-pass-0-step-000000")


def test_copies_and_files_of_the_users_stay_and_disturb_nothing(run: Path, whole: Path) -> None:
    names = [f"{NEWEST} (copy)", f"{NEWEST}-backup", "checkpoints/epoch-3", "checkpoints/.mine.partial", ".probe"]
    for name in names:
        shutil.copytree(run / NEWEST, run / name)
    assert Run(run).evaluate().predictors == Run(whole).evaluate().predictors
    loop.resume(run, ["epochs=6"])
    assert all((run / name / "state.pt").exists() for name in names)
    assert len(checkpoint.listing(run / "checkpoints")) == 2


# -- metrics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [b"x", b"\xff\xfe", b"[" * 100_000, b"null", b'{"epoch": 0}'])
def test_good_lines_of_damaged_metrics_are_kept(bad: bytes, run: Path, whole: Path) -> None:
    path = run / "metrics.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    damaged = bad + first[1:] + b"".join(rest)
    path.write_bytes(damaged)
    said = Heard()
    loop.resume(run, observe=said)
    assert said.has("metrics.jsonl is damaged (line 1 cannot be used); it is kept as metrics.jsonl.damaged")
    assert lines(run) == lines(whole)[1:]
    assert (run / "metrics.jsonl.damaged").read_bytes() == damaged


@pytest.mark.parametrize(
    ("order", "problem", "left"),
    [
        ([0, 1, 2, 3, 2, 3], "line 5, 6 cannot be used", [0, 1, 2, 3]),
        ([0, 0, 1, 2, 3], "line 2 cannot be used", [0, 1, 2, 3]),
        ([1, 0, 2, 3], "line 2 cannot be used; the line of epoch 1 is missing", [1, 2, 3]),
        ([1, 2, 3], "the line of epoch 1 is missing", [1, 2, 3]),
        ([0, 1], "the line of epoch 3 is missing", [0, 1]),
        ([3, 0, 1, 2], "line 2, 3, 4 cannot be used; the line of epoch 1, 2, 3 is missing", [3]),
        ([], "the line of epoch 1, 2, 3 is missing", []),
    ],
)
def test_whole_lines_that_were_doubled_lost_or_moved_are_said(
    order: list[int], problem: str, left: list[int], run: Path, whole: Path
) -> None:
    """Each is right by its checksum; together they are not what the run wrote."""
    written = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    assert len(written) == 4, "three epochs and the final one"
    (run / "metrics.jsonl").write_bytes(b"".join(written[i] for i in order))
    said: list[str] = []
    found = Run(run, said.append).metrics
    assert said == [f"warning: {run / 'metrics.jsonl'} is damaged: {problem}"]
    assert found == [Run(whole).metrics[i] for i in left]


def test_metrics_that_were_deleted_are_said(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    said = Heard()
    loop.resume(run, observe=said)
    assert said.has("metrics.jsonl is damaged (lines are missing)")


# -- leftovers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["checkpoints", "labels.npz", "metrics.jsonl", "issues.csv"])
def test_a_new_run_refuses_what_is_left_of_another(left: str, run: Path, digits: Path) -> None:
    """`rm RUN/*` leaves the checkpoints: a run killed before its first one would go on from the old weights."""
    for path in run.iterdir():
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = sorted(run.rglob("*"))
    with pytest.raises(FastnoisyError, match=rf"left of another run \({left}\)"):
        loop.start(setup.resolve("digits-alasca", [*WORDS, "seed=2"], str(digits)), run)
    assert sorted(run.rglob("*")) == before


class UnpluggedError(Exception):
    """What a test raises."""


def test_what_raises_before_anything_was_trained_leaves_no_run(digits: Path, tmp_path: Path) -> None:
    settings = setup.resolve("digits-ce", WORDS, str(digits))

    def unplugged(event: Event) -> None:
        if event.kind == "step":
            raise UnpluggedError

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("the user's")
    for out in (tmp_path / "a/b/run", tmp_path / "mine"):
        with pytest.raises(UnpluggedError):
            loop.start(settings, out, unplugged)
    assert not (tmp_path / "a").exists()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]


def test_what_raises_later_leaves_a_run_that_goes_on(digits: Path, tmp_path: Path) -> None:
    settings = setup.resolve("digits-ce", WORDS, str(digits))

    def unplugged(event: Event) -> None:
        if event.kind == "step" and event.text.startswith("epoch 2"):
            raise UnpluggedError

    with pytest.raises(UnpluggedError):
        loop.start(settings, tmp_path / "run", unplugged)
    assert loop.resume(tmp_path / "run") == loop.start(settings, tmp_path / "other")


# -- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("seed = 1", "seed = 2", "seed"),
        ("batch_size = 30", "batch_size = 20", "batch_size"),
        ("lam = ", "lam = 1", "method.lam"),
    ],
)
def test_an_edited_configuration_is_refused_as_overrides_are(old: str, new: str, key: str, run: Path) -> None:
    path = run / "config.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    for work in (lambda: loop.resume(run), lambda: Run(run).evaluate()):
        with pytest.raises(FastnoisyError, match=rf"config.toml was edited: {key} is .*, the run was trained with"):
            work()
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_an_edit_of_what_may_change_is_followed_and_said(run: Path) -> None:
    path = run / "config.toml"
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 4", 1))
    said = Heard()
    assert loop.resume(run, observe=said)["epochs"] == 4
    assert said.has("has changed since the last checkpoint: epochs 3 -> 4")


def test_an_edit_before_the_first_checkpoint_counts_too(digits: Path, tmp_path: Path) -> None:
    """labels.npz were drawn under the old one."""
    run, settings = tmp_path / "run", setup.resolve("digits-ce", WORDS, str(digits))
    loop.start(settings, run)
    shutil.rmtree(run / "checkpoints")
    (run / "config.toml").write_text((run / "config.toml").read_text().replace("seed = 1", "seed = 2", 1))
    with pytest.raises(FastnoisyError, match=r"was edited: seed is 2"):
        loop.resume(run)
    RunFolder(run).write_config(settings)
    said = Heard()
    assert loop.resume(run, ["epochs=2"], observe=said)["epochs"] == 2
    assert said.has("no checkpoint yet")
    assert not said.has("has changed since")


# -- labels and stores ------------------------------------------------------------------------------------------------


def test_the_labels_of_another_run_are_refused(run: Path, digits: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    loop.start(setup.resolve("digits-alasca", [*WORDS, "seed=2", "epochs=1"], str(digits)), other)
    shutil.copy(other / "labels.npz", run / "labels.npz")
    with pytest.raises(FastnoisyError, match=r"labels\.npz is not what checkpoint epoch-0003.* was trained on"):
        loop.resume(run)
    with pytest.raises(FastnoisyError, match=r"labels\.npz is not what checkpoint"):
        _ = Run(run).labels


def test_lost_labels_are_refused_where_something_was_trained(run: Path) -> None:
    (run / "labels.npz").unlink()
    with pytest.raises(FastnoisyError, match=r"labels\.npz are damaged: .*No such file"):
        loop.resume(run)


def test_other_pixels_behind_the_same_names_get_a_note(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        path = tmp_path / "source/train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
    convert(f"folder:{tmp_path / 'source'}", tmp_path / "store", options=ConvertOptions(), progress=None)
    words = ["model=preact_small(width=4)", "views.size=32", "epochs=1", "batch_size=10", "threads=1", "device=cpu"]
    loop.start(setup.resolve("folder-ce", words, str(tmp_path / "store")), tmp_path / "run")
    said = Heard()
    loop.resume(tmp_path / "run", ["epochs=2"], observe=said)
    assert not said.has("in other bytes than when it began")
    shutil.rmtree(tmp_path / "store")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "source/train/a/0.png")
    convert(f"folder:{tmp_path / 'source'}", tmp_path / "store", options=ConvertOptions(), progress=None)
    loop.resume(tmp_path / "run", ["epochs=3"], observe=said)
    assert said.has("store/train.beton holds the run's images in other bytes than when it began")


def test_edited_issues_are_refused_and_written_again(run: Path, whole: Path) -> None:
    path = run / "issues.csv"
    path.write_text(path.read_text().replace("True", "False", 1))
    with pytest.raises(FastnoisyError, match=r"issues.csv is not what the run wrote.*--resume"):
        Run(run).issues()
    loop.resume(run)
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256((whole / "issues.csv").read_bytes()).digest()
    assert [issue.index for issue in Run(run).issues()] == [issue.index for issue in Run(whole).issues()]
