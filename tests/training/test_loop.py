"""Runs from start to end, in this process: what is written, what is refused, that a resumed run is the same run."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastnoisy import machine
from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Record
from fastnoisy.sample_memory import SampleMemory
from fastnoisy.training import checkpoint, loop, preflight, setup
from fastnoisy.training.evaluate import Evaluator
from fastnoisy.training.logs import Display
from fastnoisy.training.run import Run
from fastnoisy.training.run_folder import RunFolder
from fastnoisy.training.state import load_method
from fastnoisy.training.step import Stepper
from fastnoisy.training.stop import on_signals

TINY = [
    "model.width=4",
    "data.subset=200",
    "epochs=2",
    "batch_size=20",
    "eval_every=1",
    "checkpoint.every=1",
    "threads=1",
]


def resolve(recipe: str, store: Path, *words: str) -> Any:
    return setup.resolve(recipe, [*TINY, *words], str(store))


def lines(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "crc32")} for line in found]


@pytest.mark.parametrize("method", ["ce", "nrd", "alasca"])
def test_a_run_writes_exactly_its_folder(method: str, digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said: list[str] = []
    final = loop.start(
        resolve(f"digits-{method}", digits, "data.holdout=0.1"), run, lambda event: said.append(str(event))
    )
    found = sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file())
    steps = ["epoch-0001-pass-0-step-000000", "epoch-0002-pass-0-step-000000"]
    files = ("manifest.json", "model.safetensors", "state.pt")
    expected = [f"checkpoints/{s}/{f}" for s in steps for f in files]
    assert found == sorted([*expected, "config.toml", "issues.csv", "labels.npz", "metrics.jsonl"])
    metrics = lines(run)
    assert [line.get("epoch", line.get("event")) for line in metrics] == [0, 1, "final"]
    assert set(metrics[0]["eval"]) == {"test", "holdout"}
    predictors = {"ce": {"main"}, "nrd": {"student", "teacher"}, "alasca": {"main", "ensemble"}}[method]
    assert set(final["eval"]["test"]) == predictors
    assert 0 <= final["suspects_found"] <= 1
    assert 0 <= final["train"][final["reported"]]["memorised"] <= 1

    with np.load(run / "labels.npz") as labels:
        wrong = labels["given"] != labels["clean"]
        rows = np.concatenate([labels["train"], labels["holdout"]])
        assert len(rows) == 200
        assert wrong[rows].mean() == pytest.approx(0.36, abs=0.06)
        assert not wrong[np.setdiff1d(np.arange(len(wrong)), rows)].any()
    table = list(csv.DictReader((run / "issues.csv").read_text().splitlines()))
    assert [*table[0]] == ["index", "path", "given_label", "predicted_label", "label_score", "is_label_issue"]
    assert len(table) == 200
    scores = [float(row["label_score"]) for row in table]
    assert scores == sorted(scores)
    flagged = [row for row in table if row["is_label_issue"] == "True"]
    assert len(flagged) == final["issues"]["flagged"] <= final["issues"]["estimated_wrong"]
    assert all(row["given_label"] != row["predicted_label"] for row in flagged)
    others = [float(r["label_score"]) for r in table if r not in flagged and r["given_label"] != r["predicted_label"]]
    assert max((float(row["label_score"]) for row in flagged), default=0) <= min(others, default=1)
    (told,) = (line for line in said if "labels are wrong by estimate" in line)
    assert told.startswith(f"{final['issues']['estimated_wrong']} of 200 labels are wrong by estimate (")
    state = torch.load(run / "checkpoints" / steps[1] / "state.pt", weights_only=True)
    assert "optimizer" in state
    with pytest.raises(FastnoisyError, match=r"already holds a run.*--resume"):
        loop.start(resolve(f"digits-{method}", digits), run)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("ce", ()),
        ("nrd", ("drop_last=false",)),
        ("nrd", ("amp=bf16", "channels_last=on")),
        ("nrd", ("amp=off", "channels_last=on")),
        ("nrd", ("amp=off", "channels_last=off")),
        ("alasca", ("accumulate=3",)),
        ("elr", ()),
        ("mixup", ()),
        ("cdr", ()),
        ("co-teaching", ("method.warmup=2",)),
        ("elr-plus", ()),
        ("dividemix", ("method.warmup=1",)),
        ("alasca", ("method.base=dividemix", "method.base.warmup=1", "method.lca_start=1")),
    ],
)
def test_stopped_anywhere_and_resumed_is_the_same_run(
    method: str, words: tuple[str, ...], digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*words, "batch_size=23", "data.holdout=0.05")
    whole = loop.start(resolve(f"digits-{method}", digits, *words), tmp_path / "whole")
    original = Stepper.__call__
    for stop_at in (3, 8, 11) if "dividemix" not in f"{method} {words}" else (3, 6, 11, 15):  # in each of its passes
        run, calls = tmp_path / f"stopped-{stop_at}", 0

        def counted(self: Stepper, *args: Any) -> None:
            nonlocal calls
            original(self, *args)
            calls += 1
            if calls == stop_at:  # noqa: B023
                signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr(Stepper, "__call__", counted)
        with pytest.raises(loop.Interrupted), on_signals() as stop:
            loop.start(resolve(f"digits-{method}", digits, *words), run, stop=stop)
        monkeypatch.setattr(Stepper, "__call__", original)
        assert loop.resume(run) == whole
        assert lines(run) == lines(tmp_path / "whole")
        same_state(tmp_path / "whole", run)


def dying(monkeypatch: pytest.MonkeyPatch, number: signal.Signals | None = None) -> None:
    """Let a process that decodes be gone after two batches of a pass; `number`: a signal that this process gets,
    too.
    """
    original = loop._next
    given: dict[Any, int] = {}

    def dies(job: loop.Job, supply: Any) -> Any:
        given[supply] = given.get(supply, 0) + 1
        if given[supply] <= 2:
            return original(job, supply)

        def gone() -> Iterator[Any]:
            if number is not None:
                signal.raise_signal(number)
            raise FastnoisyError("a process that decodes was killed")
            yield

        return original(job, gone())

    monkeypatch.setattr(loop, "_next", dies)


def test_what_was_learnt_is_kept_where_the_data_fail(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = resolve("digits-ce", digits, "batch_size=23")
    whole = loop.start(settings, tmp_path / "whole")
    dying(monkeypatch)
    with pytest.raises(FastnoisyError, match="was killed"):
        loop.start(settings, tmp_path / "run", Display())
    assert f"go on with 'fastnoisy train --resume {tmp_path / 'run'}'" in capsys.readouterr().err
    with pytest.raises(FastnoisyError, match="was killed"):
        loop.resume(tmp_path / "run")  # after two steps more
    monkeypatch.undo()
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").position.step == 4
    assert loop.resume(tmp_path / "run") == whole
    same_state(tmp_path / "whole", tmp_path / "run")


def test_a_store_that_was_adopted_trains_and_predicts(digits: Path, tmp_path: Path) -> None:
    from PIL import Image

    from fastnoisy.data.conversion.adopt import adopt

    place = tmp_path / "from-ffcv"
    place.mkdir()
    for name in ("train", "test"):
        shutil.copy(digits / f"{name}.beton", place)
    assert adopt(place) == []
    loop.start(resolve("digits-alasca", place, "epochs=1", "noise=none"), tmp_path / "run")
    Image.fromarray(open_store(place).split("test").read_image(0)).save(tmp_path / "0.png")
    (found,) = Run(tmp_path / "run").predict(tmp_path / "0.png")
    assert found.problem == ""


def test_predictions_leave_what_is_remembered_of_samples_where_it_is(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be larger than the memory of the device that predicts."""
    moved: list[tuple[int, ...]] = []
    run = tmp_path / "run"
    loop.start(resolve("digits-alasca", digits, "epochs=1", "method.base=nrd"), run)
    original = torch.nn.Module.to

    def to(self: torch.nn.Module, *args: Any, **options: Any) -> torch.nn.Module:
        moved.extend(tuple(m.rows.shape) for m in self.modules() if isinstance(m, SampleMemory))
        return original(self, *args, **options)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    Run(run).evaluate()
    assert moved[-1] == (0, 10)


def test_a_signal_that_also_ends_the_pipelines_processes_keeps_the_state(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch systems send it to the whole group: while a batch is waited for, the processes that decode are gone."""
    settings = resolve("digits-ce", digits, "batch_size=23")
    whole = loop.start(settings, tmp_path / "whole")
    dying(monkeypatch, signal.SIGTERM)
    with pytest.raises(loop.Interrupted), on_signals() as stop:
        loop.start(settings, tmp_path / "run", stop=stop)
    monkeypatch.undo()
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").position.step == 2
    assert loop.resume(tmp_path / "run") == whole
    same_state(tmp_path / "whole", tmp_path / "run")


def same_state(one: Path, two: Path) -> None:
    a, b = (checkpoint.load_newest(run / "checkpoints") for run in (one, two))
    assert a.position == b.position
    for name in a.state["method"]:
        assert torch.equal(a.state["method"][name], b.state["method"][name]), name
    momenta = [[s["momentum_buffer"] for s in c.state["optimizer"]["state"].values()] for c in (a, b)]
    assert all(torch.equal(x, y) for x, y in zip(*momenta, strict=True))
    assert (one / "issues.csv").read_text() == (two / "issues.csv").read_text()


def test_a_truncated_checkpoint_is_refused_and_the_one_before_used(
    digits: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    final = loop.start(resolve("digits-alasca", digits, "epochs=3"), run)
    newest = checkpoint.listing(run / "checkpoints")[-1]
    path = newest / "state.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FastnoisyError, match=r"damaged: state.pt has \d+ bytes, \d+ were written"):
        checkpoint.load(newest)
    assert loop.resume(run, observe=Display()) == final
    said = capfd.readouterr().err
    assert "is damaged" in said
    assert "at epoch 2, step 0" in said
    for path in checkpoint.listing(run / "checkpoints"):
        (path / "model.safetensors").write_bytes(b"")
    with pytest.raises(FastnoisyError, match="no whole checkpoint"):
        loop.resume(run)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(FastnoisyError, match=r"NaN or infinite at epoch \d, step \d+ of 10.*last good checkpoint is"):
        loop.start(resolve("digits-ce", digits, "optim.lr=1e4", "optim.momentum=0.99"), tmp_path / "run")


def test_micro_batches_keep_the_global_batch(digits: Path, tmp_path: Path) -> None:
    """Without batch statistics, cutting the batch changes nothing but rounding."""
    runs = {}
    for parts in (1, 3):
        settings = resolve("digits-ce", digits, f"accumulate={parts}", "dtype=float64", "epochs=1")
        job = loop.Job.of(setup.prepare(settings), RunFolder(tmp_path / str(parts)), loop.silent)
        method = job.state.method
        method.train = lambda mode=True, m=method: torch.nn.Module.train(m, False)  # type: ignore[method-assign]
        (tmp_path / str(parts)).mkdir()
        with loop.opened(job):
            loop.train(job)
        runs[parts] = method.state_dict()
    for name, tensor in runs[1].items():
        torch.testing.assert_close(runs[3][name], tensor, rtol=1e-9, atol=1e-11)


def test_what_cannot_fit_is_refused_before_the_first_step(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = setup.prepare(resolve("digits-alasca", digits))
    said = " ".join(preflight.check(prepared, "resident", tmp_path))
    for item in ("networks", "per-sample memory", "canvas slots", "checkpoints"):
        assert item in said
    rows = preflight.estimate(prepared, "resident").device["per-sample memory"]
    assert rows == prepared.split.num_samples * 10 * 4
    monkeypatch.setattr(machine, "available_host", lambda: 10_000)
    with pytest.raises(FastnoisyError, match=r"needs .* of host memory .* are free"):
        loop.start(resolve("digits-ce", digits, "pipeline=resident"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_may_change_in_a_run_that_goes_on_is_kept_and_the_rest_refused(digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    loop.start(resolve("digits-alasca", digits), run)
    for word in ("batch_size=10", "noise=symmetric:0.1", "method.lam=1", "data.holdout=0.1", "seed=2", "model.width=8"):
        with pytest.raises(FastnoisyError, match=r"cannot change in a run that goes on"):
            loop.resume(run, [word])
    longer = loop.resume(run, ["epochs=4", "optim.weight_decay=0.5", "optim.lr=0.01"])
    assert longer["epochs"] == 4
    again = loop.resume(run)
    assert again == longer, "the run's configuration was rewritten, so a plain resume is the same run"
    state = checkpoint.load_newest(run / "checkpoints").state
    assert state["optimizer"]["param_groups"][0]["weight_decay"] == 0.5
    assert lines(run)[-2]["lr"] == pytest.approx(0.01)
    with pytest.raises(FastnoisyError, match=r"already done 4 epochs"):
        loop.resume(run, ["epochs=3"])


def test_a_run_says_all_of_itself(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(digits.parent)
    settings = setup.resolve("digits-alasca", [*TINY, "method.base=nrd(ema_decay=0.9)"], digits.name)
    assert settings.config.method["sharpening"] == 3.0
    assert settings.config.model == {"name": "preact_small", "width": 4, "blocks": 1, "stem_stride": 1}
    assert settings.config.data.store == str(digits)
    assert setup.check(settings.config.model_dump()) == settings


def test_a_stop_during_evaluation_and_during_the_last_stage(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loop.start(resolve("digits-nrd", digits), tmp_path / "whole")
    original = Evaluator.logits
    for stop_at in (1, 2, 3):  # after either epoch, and while the training set is predicted at the end
        calls = 0

        def counted(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == stop_at:  # noqa: B023
                signal.raise_signal(signal.SIGINT)
            return original(*args)

        run = tmp_path / f"stopped-{stop_at}"
        monkeypatch.setattr(Evaluator, "logits", counted)
        with pytest.raises(loop.Interrupted), on_signals() as stop:
            loop.start(resolve("digits-nrd", digits), run, stop=stop)
        monkeypatch.setattr(Evaluator, "logits", original)
        assert not (run / "issues.csv").exists()
        assert loop.resume(run) == whole
        assert lines(run) == lines(tmp_path / "whole")
        same_state(tmp_path / "whole", run)


def test_a_full_disk_gives_one_line_and_keeps_the_older_checkpoint(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = torch.save, 0

    def full(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("[enforce fail at inline_container.cc] . unexpected pos 64 vs 0")  # torch's word for it
        original(*args)

    run = tmp_path / "run"
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FastnoisyError, match=r"could not be written.*--resume"):
        loop.start(resolve("digits-ce", digits), run)
    monkeypatch.setattr(torch, "save", original)
    assert [p.name[:10] for p in (run / "checkpoints").iterdir()] == ["epoch-0001"]
    assert loop.resume(run) == loop.start(resolve("digits-ce", digits), tmp_path / "other")


def test_two_processes_cannot_work_in_one_folder(digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    loop.start(resolve("digits-ce", digits), run)
    with RunFolder(run).locked(print), pytest.raises(FastnoisyError, match=r"another process .* is at work"):
        loop.resume(run)


def test_a_bfloat16_memory_stays_one(digits: Path) -> None:
    prepared = setup.prepare(resolve("digits-alasca", digits, "method.memory_dtype=bfloat16"))
    assert prepared.method.memories[0].rows.dtype == torch.bfloat16  # type: ignore[index, union-attr]
    assert preflight.estimate(prepared, "resident").device["per-sample memory"] == prepared.split.num_samples * 10 * 2


def test_the_three_methods_start_from_the_same_weights(digits: Path) -> None:
    starts = [setup.prepare(resolve(f"digits-{m}", digits)).method.primary_network() for m in ("ce", "nrd", "alasca")]
    for other in starts[1:]:
        for a, b in zip(starts[0].backbone.parameters(), other.backbone.parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_skipped_first_step_leaves_no_garbage_in_the_momentum() -> None:
    from fastnoisy.config import OptimConfig
    from fastnoisy.training import optim

    net = torch.nn.Linear(2, 2)
    optimizer = optim.build(net, OptimConfig(lr=0.1), torch.device("cpu"))
    assert all((optimizer.state[p]["momentum_buffer"] == 0).all() for p in net.parameters())


def test_evaluate_and_predict(digits: Path, tmp_path: Path) -> None:
    from PIL import Image

    run = tmp_path / "run"
    final = loop.start(resolve("digits-alasca", digits, "epochs=4", "noise=none"), run)
    report = Run(run).evaluate()
    assert report.images == 1197
    assert sum(row["images"] for row in report.classes) == 1197
    for name, numbers in final["eval"]["test"].items():
        assert report.predictors[name]["accuracy"] == pytest.approx(numbers["accuracy"])
        assert report.predictors[name]["ece"] == pytest.approx(numbers["ece"], abs=1e-5)
    split = open_store(digits).split("test")
    folder = tmp_path / "files" / "deeper"
    folder.mkdir(parents=True)
    for row in range(70):
        Image.fromarray(split.read_image(row)).save(folder / f"{row:03d}.png")
    (folder / "050x.png").write_bytes(b"not an image")
    results = list(Run(run).predict([tmp_path / "files", folder / "000.png"]))
    assert len(results) == 72
    broken = [r for r in results if r.problem]
    assert [r.path.name for r in broken] == ["050x.png"]
    good = [r for r in results if not r.problem]
    right = np.mean([r.class_name == split.class_names[split.given_labels[i]] for i, r in enumerate(good[:70])])
    assert final["reported"] == "ensemble"
    logits = Run(run).evaluate().predictors["ensemble"]["accuracy"]
    assert abs(logits - right) < 0.2
    assert all(0 < r.probability <= 1 for r in good)
    with pytest.raises(FastnoisyError, match="does not exist"):
        list(Run(run).predict([tmp_path / "none"]))
    with pytest.raises(FastnoisyError, match="holds no run"):
        Run(tmp_path).evaluate()


def test_predict_asks_both_networks_of_a_method_that_has_two(digits: Path, tmp_path: Path) -> None:
    from PIL import Image

    run = tmp_path / "run"
    loop.start(resolve("digits-co-teaching", digits, "epochs=2"), run)
    report = Run(run).evaluate().predictors
    split = open_store(digits).split("test")
    (tmp_path / "files").mkdir()
    for row in range(split.num_samples):
        Image.fromarray(split.read_image(row)).save(tmp_path / "files" / f"{row:05d}.png")
    found = Run(run).predict([tmp_path / "files"])
    right = np.mean([r.class_name == split.class_names[split.given_labels[i]] for i, r in enumerate(found)])
    assert right == pytest.approx(report["both"]["accuracy"], abs=1e-9)
    assert right != pytest.approx(report["net1"]["accuracy"], abs=1e-9)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["batch_size=199", "drop_last=false"], "the last batch of 200 images has 1 samples.*less than two each"),
        (["batch_size=20", "accumulate=11"], "leaves less than two images a micro-batch"),
    ],
)
def test_batches_too_small_for_batch_statistics_are_refused(
    words: list[str], said: str, digits: Path, tmp_path: Path
) -> None:
    with pytest.raises(FastnoisyError, match=said):
        loop.start(resolve("digits-ce", digits, *words), tmp_path / "run")


def test_memory_and_disk_by_the_moments_of_the_optimiser(digits: Path) -> None:
    def needs(*words: str) -> tuple[int, int]:
        need = preflight.estimate(
            setup.prepare(resolve("digits-ce", digits, "optim.milestones=[]", "checkpoint.keep=1", *words)), "resident"
        )
        return need.device["networks, gradients and moments"], need.disk["checkpoints"]

    none, one = needs("optim.nesterov=false", "optim.momentum=0"), needs()
    two = needs("optim.name=adamw", "optim.lr=0.001")
    size = one[0] - none[0]
    assert size > 0
    assert (two[0] - one[0], two[1] - one[1], one[1] - none[1]) == (size, 2 * size, 2 * size)


def test_amp_on_the_cpu_trains(digits: Path, tmp_path: Path) -> None:
    for kind in ("bf16", "fp16"):
        final = loop.start(resolve("digits-nrd", digits, f"amp={kind}", "epochs=1"), tmp_path / kind)
        assert final["eval"]["test"]["student"]["accuracy"] >= 0


def test_an_older_state_of_other_shape_is_refused(digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    loop.start(resolve("digits-ce", digits), run)
    config = run / "config.toml"
    config.write_text(config.read_text().replace("width = 4", "width = 8"))
    with pytest.raises(FastnoisyError, match=r"was edited: model.width is 8, the run was trained with 4"):
        loop.resume(run)
    state = checkpoint.load_newest(run / "checkpoints").state["method"]
    other = setup.prepare(resolve("digits-ce", digits, "model.width=8")).method
    with pytest.raises(FastnoisyError, match=r"mine does not fit: .* has shape .* this run needs"):
        load_method(other, state, "mine")


def test_the_meter_gives_metrics_without_the_method_seeing_clean_labels(digits: Path) -> None:
    from fastnoisy.methods.base import Forward
    from fastnoisy.training.meter import Meter

    clean = torch.tensor([0, 1, 2, 0])
    meter = Meter(clean, torch.device("cpu"))
    logits = torch.eye(3)[[0, 2, 2, 1]]
    forward = Forward(0, logits, (), torch.tensor([0, 2, 2, 2]), torch.arange(4))
    meter.observe(Record(torch.tensor(2.0), [forward], {"x": torch.tensor(4.0)}), 1.0)
    summary = meter.summary()
    assert summary == {"loss": 2, "accuracy_given": 0.75, "accuracy_clean": 0.5, "memorised": 0.5, "x": 4}
    again = Meter(clean, torch.device("cpu"))
    again.load(meter.state())
    assert again.summary() == summary


def test_a_recipe_of_one_cifar_refuses_the_other(tmp_path: Path) -> None:
    from fastnoisy.data.sources import base

    source = base.find("cifar10").make_example(tmp_path / "raw")
    convert(source, tmp_path / "store", options=ConvertOptions(), progress=None)
    with pytest.raises(FastnoisyError, match=r"is for cifar100, but .* holds cifar10.*cifar10-nrd"):
        setup.prepare(setup.resolve("cifar100-nrd", [], str(tmp_path / "store")))
    words = ["batch_size=20", "model=preact_small(width=4)"]
    assert setup.prepare(setup.resolve("cifar10-nrd", words, str(tmp_path / "store"))).split.num_samples == 100


def test_a_selection_is_in_the_checkpoint_and_changes_with_the_epoch(digits: Path, tmp_path: Path) -> None:
    """Each of DivideMix's nets trains on the split that the other made, of the rows trained on and no others."""
    words = ("method.warmup=1", "epochs=3", "data.holdout=0.1", "method.threshold=0.5", "checkpoint.keep=3")
    loop.start(resolve("digits-dividemix", digits, *words), tmp_path / "run")
    with np.load(tmp_path / "run" / "labels.npz") as labels:
        train = labels["train"]
    found = checkpoint.listing(tmp_path / "run" / "checkpoints")
    states = [checkpoint.load(path).state["populations"] for path in found]
    assert states[0] == {}
    for state in states[1:]:
        for net in ("1", "2"):
            parts = [state[f"{part}_{net}"].numpy() for part in ("labelled", "unlabelled")]
            assert np.array_equal(np.sort(np.concatenate(parts)), train)
            assert min(map(len, parts)) >= 20
    assert any(not torch.equal(states[1][name], states[2][name]) for name in states[1])


@pytest.mark.parametrize("method", ["mixup", "co-teaching", "jocor", "decoupling", "dividemix", "elr-plus"])
def test_what_runs_over_the_global_batch_refuses_micro_batches(method: str, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(FastnoisyError, match=rf"accumulate=2 does not work with method {method}: .*Set accumulate=1"):
        loop.start(resolve(f"digits-{method}", digits, "accumulate=2"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
