"""Fine-tuning: AdamW, warm-up and cosine, a higher rate for the head, a frozen network, a head that starts fitted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fastnoisy import config, models
from fastnoisy.config import OptimConfig
from fastnoisy.errors import FastnoisyError
from fastnoisy.features.out_of_sample import linear_heads
from fastnoisy.methods.base import AveragedBackbone
from fastnoisy.models.heads import Network
from fastnoisy.models.timm_nets import TimmBackbone
from fastnoisy.training import loop, optim, setup
from fastnoisy.training.run import Run
from fastnoisy.training.stop import Interrupted, Stop

CPU = torch.device("cpu")
WORDS = [
    "batch_size=30", "device=cpu", "threads=1", "optim.milestones=[]", "optim.momentum=0.9", "eval_every=2",
]  # fmt: skip
LITE = ["model=tf_efficientnet_lite0(pretrained=true)", 'views.eval="resize_shorter(36) | center_crop(32) | normalize"']
TUNE = ["optim.name=adamw", "optim.schedule=cosine", "optim.warmup=0.5", "optim.lr=0.001", "optim.head_lr=10"]


def resolve(store: Path, *words: str, recipe: str = "digits-ce") -> Any:
    return setup.resolve(recipe, [*WORDS, *words], str(store))


def test_the_factor_rises_and_then_follows_a_cosine() -> None:
    schedule = optim.Schedule(warmup=1.0, epochs=5)
    assert schedule(0.0) == pytest.approx(0.01)
    assert schedule(0.5) == pytest.approx(0.505)
    for time in (1.0, 2.5, 4.0, 4.99):
        assert schedule(time) == pytest.approx(0.5 * (1 + math.cos(math.pi * time / 5)), abs=1e-6)
    assert optim.Schedule(0.0, 1)(0.5) == pytest.approx(0.5)


def network(head: bool = False) -> nn.Module:
    torch.manual_seed(0)
    backbone = models.build({"name": "test_resnet"}, 5)
    return Network(backbone, 5, (1,) if head else ())


def test_adamw_decays_neither_biases_nor_norms_and_the_head_has_a_rate_of_its_own() -> None:
    net = network(head=True)
    optimizer = optim.build(net, OptimConfig(name="adamw", lr=0.001, weight_decay=0.1, head_lr=10), CPU)
    rates = {p: (float(g["lr"]), g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert set(rates) == set(net.parameters())
    for name, p in net.named_parameters():
        head = ".fc." in name or name.startswith("heads.")
        assert rates[p] == (pytest.approx(0.01 if head else 0.001), 0.1 if p.dim() > 1 else 0.0), name
    optim.set_lr(optimizer, 0.5)
    assert {float(g["lr"]) for g in optimizer.param_groups} == {0.5, 5.0}


def test_its_steps_are_those_of_torchs_adamw_and_a_flag_leaves_one_out() -> None:
    ours, theirs = network(), network()
    mine = optim.build(ours, OptimConfig(name="adamw", lr=0.01, weight_decay=0.1), CPU)
    groups = [[p for p in theirs.parameters() if (p.dim() < 2) == plain] for plain in (False, True)]
    other = torch.optim.AdamW(
        [{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}], lr=0.01, weight_decay=0.1, fused=True
    )
    for step in range(3):
        for net, optimizer in ((ours, mine), (theirs, other)):
            for number, p in enumerate(net.parameters()):
                p.grad = torch.sin(torch.arange(p.numel()) * (step + number + 1.0)).view_as(p)
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    before = [p.detach().clone() for p in ours.parameters()]
    mine.found_inf = torch.ones(())  # type: ignore[attr-defined]
    mine.step()
    assert all(torch.equal(a, b) for a, b in zip(before, ours.parameters(), strict=True))


def test_a_head_that_is_not_known_is_said() -> None:
    class Bare(models.Backbone):
        stage_channels, stage_reductions = (3,), (1,)

    with pytest.raises(FastnoisyError, match="the classifier of this network is not known"):
        optim.build(Network(Bare(), 5), OptimConfig(lr=0.1, head_lr=2), CPU)


def test_a_head_that_starts_from_a_regression_has_no_rate_of_its_own() -> None:
    net = network(head=True)
    net.backbone.fresh_head = False  # type: ignore[union-attr]
    optimizer = optim.build(net, OptimConfig(lr=0.1, head_lr=10), CPU)
    rates = {p: g["lr_scale"] for g in optimizer.param_groups for p in g["params"]}
    assert {name: rates[p] == 10 for name, p in net.named_parameters()} == {
        name: name.startswith("heads.") for name, _ in net.named_parameters()
    }


@pytest.mark.parametrize("method", ["ce", "dividemix"])
def test_stopped_and_resumed_it_is_the_same_run(method: str, digits: Path, tmp_path: Path) -> None:
    words = [*TUNE, "model=preact_small(width=4)", "epochs=2", *(["method.warmup=1"] if method == "dividemix" else [])]
    settings = resolve(digits, *words, recipe=f"digits-{method}")
    loop.start(settings, tmp_path / "whole")
    stop = Stop()

    def observe(event: Any) -> None:
        if event.kind == "step" and event.done == 7:
            stop.ask()

    with pytest.raises(Interrupted):
        loop.start(settings, tmp_path / "part", observe, stop)
    loop.resume(tmp_path / "part")
    whole, part = (Run(tmp_path / name).checkpoint.state["method"] for name in ("whole", "part"))
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_what_the_state_depends_on_may_not_change_in_a_run_that_goes_on() -> None:
    assert config.may_change("optim.lr")
    assert config.may_change("optim.warmup")
    assert not config.may_change("optim.name")
    assert not config.may_change("optim.head_lr")
    assert "optim.*" in config.changeable()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optim.schedule=cosine", "optim.milestones=[1]"], "schedule=cosine goes without milestones and decay"),
        (["optim.warmup=2"], "warmup=2 is of schedule=cosine"),
        (["optim.name=lion"], "Input should be 'sgd' or 'adamw'"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, digits: Path) -> None:
    with pytest.raises(FastnoisyError, match=message):
        resolve(digits, *words)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": True}, "it needs pretrained=true"),
        ({"freeze_norms": True}, "it needs pretrained=true"),
        ({"head": "regression"}, "set pretrained=true"),
        ({"head": "fitted", "pretrained": True}, "head must be fresh or regression, got 'fitted'"),
    ],
)
def test_mistakes_of_the_network_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FastnoisyError, match=message):
        models.build({"name": "tf_efficientnet_lite0", **options}, 5)


def test_a_file_of_weights_implies_pretrained(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(1)
    saved = models.build({"name": "test_resnet"}, 1000).model.state_dict()  # type: ignore[union-attr]
    save_file(saved, tmp_path / "w.safetensors")
    net = models.build({"name": "test_resnet", "weights": str(tmp_path / "w.safetensors")}, 5)
    assert torch.equal(net.model.state_dict()["layer1.0.conv1.weight"], saved["layer1.0.conv1.weight"])  # type: ignore[union-attr]


def test_of_a_frozen_network_the_classifier_alone_trains(digits: Path, tmp_path: Path) -> None:
    words = ["model=tf_efficientnet_lite0(pretrained=true,freeze=true)", LITE[1], *TUNE, "epochs=2"]
    prepared = setup.prepare(resolve(digits, *words))
    before = {name: tensor.clone() for name, tensor in prepared.method.state_dict().items()}
    loop.start(resolve(digits, *words), tmp_path / "run")
    after = Run(tmp_path / "run").checkpoint.state["method"]
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {name for name in before if "classifier." in name}
    (net,) = (m for m in Run(tmp_path / "run").method("cpu").modules() if isinstance(m, TimmBackbone))
    assert net.frozen
    net.train()
    assert not net.model.bn1.training
    assert net.head.training
    assert [p.requires_grad for p in net.parameters()].count(True) == 2


@pytest.mark.parametrize("method", ["ce", "nrd"])
def test_the_head_starts_from_a_regression(method: str, digits: Path) -> None:
    words = ["model=tf_efficientnet_lite0(pretrained=true,head=regression)", LITE[1], "noise=symmetric:0.2"]
    prepared = setup.prepare(resolve(digits, *words, "epochs=1", recipe=f"digits-{method}"))
    assert "the classifier starts from a regression on the features of 600 training images" in prepared.notes
    networks = [m for m in prepared.method.modules() if isinstance(m, TimmBackbone)]
    assert len(networks) == {"ce": 1, "nrd": 2}[method]
    heads = [net.head.weight for net in networks]
    assert all(torch.equal(head, heads[0]) for head in heads), "the average starts there, too"
    net, labels = networks[0].eval(), prepared.labels
    images = torch.from_numpy(prepared.split.read_rows(np.arange(600))).permute(0, 3, 1, 2)
    with torch.no_grad():
        guess = net(prepared.eval_view(images, None, torch.arange(600), 0)).argmax(1).numpy()
    assert labels.clean is not None
    assert (guess == labels.clean).mean() > 0.75


def test_a_last_batch_of_one_image_where_no_statistics_are_taken(digits: Path) -> None:
    words = ["data.subset=31", "drop_last=false", LITE[1]]
    prepared = setup.prepare(resolve(digits, "model=tf_efficientnet_lite0(pretrained=true,freeze_norms=true)", *words))
    assert len(prepared.labels.train) == 31
    with pytest.raises(FastnoisyError, match="the last batch of 31 images has 1 samples"):
        setup.prepare(resolve(digits, *LITE, *words))


def test_frozen_norms_keep_their_statistics_and_train_their_scales(digits: Path, tmp_path: Path) -> None:
    words = ["model=tf_efficientnet_lite0(pretrained=true,freeze_norms=true)", LITE[1], *TUNE, "epochs=1"]
    prepared = setup.prepare(resolve(digits, *words, recipe="digits-nrd"))
    before = {name: tensor.clone() for name, tensor in prepared.method.state_dict().items()}
    prepared.method.train()
    nets = [m for m in prepared.method.modules() if isinstance(m, TimmBackbone)]
    assert len(nets) == 2, "the teacher, too"
    for net in nets:
        norms = [m for m in net.modules() if isinstance(getattr(m, "running_var", None), torch.Tensor)]
        assert norms
        assert not any(norm.training for norm in norms)
        assert net.model.training
    loop.start(resolve(digits, *words, recipe="digits-nrd"), tmp_path / "run")
    after = Run(tmp_path / "run").checkpoint.state["method"]
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) == ("running_" in name), name
    (restored, *_) = (m for m in Run(tmp_path / "run").method("cpu").modules() if isinstance(m, TimmBackbone))
    assert restored.norms_frozen


def test_the_first_step_of_a_frozen_norm_sees_what_the_regression_saw(digits: Path) -> None:
    model = "model=tf_efficientnet_lite0(pretrained=true,head=regression,freeze_norms=true)"
    prepared = setup.prepare(resolve(digits, model, LITE[1], "epochs=1"))
    images = torch.from_numpy(prepared.split.read_rows(np.arange(64))).permute(0, 3, 1, 2)
    seen = prepared.eval_view(images, None, torch.arange(64), 0)
    (network,) = (m for m in prepared.method.modules() if isinstance(m, Network))
    with torch.no_grad():
        one, other = network.train()(seen).logits, network.eval()(seen).logits
    torch.testing.assert_close(one, other)


def test_two_networks_start_with_eyes_of_their_own(digits: Path) -> None:
    words = ["model=tf_efficientnet_lite0(pretrained=true,head=regression)", LITE[1], "noise=symmetric:0.2", "epochs=1"]
    prepared = setup.prepare(resolve(digits, *words, recipe="digits-elr-plus"))
    heads = [m.head.weight for m in prepared.method.modules() if isinstance(m, TimmBackbone)]
    assert len(heads) == 4, "two networks and their averages"
    alike = [[torch.equal(one, other) for other in heads] for one in heads]
    assert [sum(row) for row in alike] == [2, 2, 2, 2], "each with its average"


def test_a_frozen_teacher_keeps_its_classifier(digits: Path, tmp_path: Path) -> None:
    taught = ["model=tf_efficientnet_lite0(pretrained=true)", LITE[1], *TUNE, "epochs=1"]
    loop.start(resolve(digits, *taught), tmp_path / "taught")
    (weights,) = (tmp_path / "taught" / "checkpoints").rglob("model.safetensors")
    model = "model=tf_efficientnet_lite0(pretrained=true,head=regression)"
    words = [model, LITE[1], "epochs=1", f"method.teacher=frozen:{weights}"]
    prepared = setup.prepare(resolve(digits, *words, recipe="digits-nrd"))
    (teacher,) = (m.average for m in prepared.method.modules() if isinstance(m, AveragedBackbone))
    saved = Run(tmp_path / "taught").method("cpu").primary_network().backbone
    assert torch.equal(teacher.head.weight, saved.head.weight)
    assert not torch.equal(prepared.method.primary_network().backbone.head.weight, saved.head.weight)


def test_the_regression_is_in_the_precision_of_the_run(digits: Path) -> None:
    model = "model=tf_efficientnet_lite0(pretrained=true,head=regression)"
    prepared = setup.prepare(resolve(digits, model, LITE[1], "epochs=1", "dtype=float64"))
    assert prepared.method.primary_network().backbone.head.weight.dtype == torch.float64


def test_labels_that_no_regression_can_be_fitted_to(digits: Path, tmp_path: Path) -> None:
    rows = "\n".join(f"{row},train,," + ("" if row in (0, 1) else "true") for row in range(600))
    (tmp_path / "labels.csv").write_text(f"index,split,label,drop\n{rows}\n")
    model = "model=tf_efficientnet_lite0(pretrained=true,head=regression)"
    words = [model, LITE[1], f"labels={tmp_path / 'labels.csv'}", "batch_size=2"]
    with pytest.raises(FastnoisyError, match=r"model.head=regression: .* Set model.head=fresh"):
        setup.prepare(resolve(digits, *words))


def test_sub_classifiers_begin_by_saying_nothing(digits: Path) -> None:
    words = ["model=tf_efficientnet_lite0(pretrained=true,head=regression)", "epochs=1"]
    view = 'views.eval="resize_shorter(72) | center_crop(64) | normalize"'
    prepared = setup.prepare(resolve(digits, *words, view, recipe="digits-alasca"))
    images = torch.from_numpy(prepared.split.read_rows(np.arange(8))).permute(0, 3, 1, 2)
    (network,) = (m for m in prepared.method.modules() if isinstance(m, Network))
    with torch.no_grad():
        out = network.eval()(prepared.eval_view(images, None, torch.arange(8), 0))
    assert out.sub_logits
    assert all(not logits.any() for logits in out.sub_logits)
    assert torch.equal(out.ensemble.argmax(1), out.logits.argmax(1))


def test_a_run_says_what_it_started_from_and_takes_nothing_else(digits: Path, tmp_path: Path) -> None:
    words = [*LITE, "epochs=1", "data.subset=60"]
    loop.start(resolve(digits, *words), tmp_path / "run")
    digest = Run(tmp_path / "run").config.model["sha256"]
    assert digest == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    loop.start(setup.resolve(str(tmp_path / "run" / "config.toml"), ["seed=2"]), tmp_path / "again")
    other = "model.sha256=" + "0" * 64
    with pytest.raises(FastnoisyError, match=rf"is another file than {other} names: its sha256 is {digest}"):
        loop.start(resolve(digits, *words, other), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_linear_head_is_for_features_as_they_are() -> None:
    draw = np.random.default_rng(0)
    true = np.arange(300) % 3
    features = (draw.normal(0, 1, (4, 20))[true] * 2 + draw.normal(0, 1, (300, 20)) + 5).astype(np.float32)
    ((weight, bias),) = linear_heads(features, true, 4, seed=1)  # nothing is of the fourth
    assert ((features @ weight.T + bias).argmax(axis=1) == true).mean() > 0.97
    two = np.minimum(true, 1)
    ((weight, bias),) = linear_heads(features, two, 2, seed=1)
    assert ((features @ weight.T + bias).argmax(axis=1) == two).mean() > 0.97
