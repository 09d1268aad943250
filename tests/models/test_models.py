"""Our own networks: parameter counts of the published nets, stages, heads, init, errors."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fastnoisy import models
from fastnoisy.errors import FastnoisyError
from fastnoisy.models.heads import Network, Outputs, SubClassifier
from fastnoisy.models.preact import PreActBlock, wide_resnet

TAPS = {
    "dividemix_preact18": (1, 2, 3),
    "gjs_preact34": (1, 2),
    "preact_resnet18": (1, 2, 3),
    "preact_resnet34": (1, 2, 3),
    "preact_small": (1, 2),
    "resnet18_cifar": (1, 2, 3),
    "resnet32_cifar": (1, 2),
    "resnet34_cifar": (1, 2, 3),
    "vgg19_cifar": (2, 3, 4),
    "wrn_28_4": (1, 2),
}
COUNTS = {
    "preact_resnet18": 11_172_170,
    "preact_resnet34": 21_280_330,
    "resnet18_cifar": 11_173_962,
    "resnet32_cifar": 466_906,
    "vgg19_cifar": 20_040_522,
    "wrn_28_4": 5_849_050,
}

# What the official objects hold beside what they use: 1x1 convolutions with BN to the last width, one per tap ...
DOWNSAMPLE_34 = (64 * 512 + 2 * 512) + (128 * 512 + 2 * 512) + (256 * 512 + 2 * 512)
DOWNSAMPLE_32 = (16 * 64 + 2 * 64) + (32 * 64 + 2 * 64)
# ... or a fourth branch, on the last stage: 1x1, 1x1 and 1x1 convolution with biases and BN, and a linear of 50.
MIDDLE = 2048 // 4
BRANCH_4 = (
    (2048 * MIDDLE + MIDDLE + 2 * MIDDLE)
    + (MIDDLE * MIDDLE + MIDDLE + 2 * MIDDLE)
    + (MIDDLE * 2048 + 2048 + 2 * 2048)
    + (2048 * 50 + 50)
)
PUBLISHED = {  # name in the golden file: our name, classes, with heads?, parameters that we leave out
    'GJS "PreActResNet34" num_classes=10': ("gjs_preact34", 10, False, 0),
    'GJS "PreActResNet34" num_classes=100': ("gjs_preact34", 100, False, 0),
    "ALASCA sdresnet34 position_all num_classes=10": ("resnet34_cifar", 10, True, DOWNSAMPLE_34),
    "ALASCA sdresnet34 position_all num_classes=100": ("resnet34_cifar", 100, True, DOWNSAMPLE_34),
    "ALASCA sdresnet34 position_all=False": ("resnet34_cifar", 10, True, DOWNSAMPLE_34),
    "ALASCA sdresnet32 (3-stage)": ("resnet32_cifar", 10, True, DOWNSAMPLE_32),
    "ALASCA sdresnet50 (pretrained=False, 50 classes)": ("resnet50", 50, True, BRANCH_4),
    "ELR ResNet34 CIFAR (10)": ("resnet34_cifar", 10, False, 0),
    'DivideMix "PreAct ResNet18" (10)': ("dividemix_preact18", 10, False, 0),
    "ELR+ PreActResNet18 (10)": ("dividemix_preact18", 10, False, 0),
    "BYOT unofficial multi_resnet18_kd (100)": ("resnet18_cifar", 100, True, DOWNSAMPLE_34),
}
NOT_A_BACKBONE = {"ONE resnet32 3 branches (100)"}  # ONE's branches and gate belong to that method


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def network(name: str, num_classes: int, taps: tuple[int, ...] | None = None, device: str = "cpu") -> Network:
    """With the default heads, or those named; on `meta` nothing is drawn or computed, only shapes are."""
    with torch.device(device):
        backbone = models.build({"name": name}, num_classes)
        return Network(backbone, num_classes, backbone.default_taps if taps is None else taps)


def test_every_published_net_is_accounted_for(golden: Callable[[str], Any]) -> None:
    assert {m["name"] for m in golden("architectures")["models"]} == set(PUBLISHED) | NOT_A_BACKBONE


@pytest.mark.parametrize("entry", PUBLISHED)
def test_published_parameter_counts(entry: str, golden: Callable[[str], Any]) -> None:
    name, num_classes, heads, left_out = PUBLISHED[entry]
    expected = next(m["params"] for m in golden("architectures")["models"] if m["name"] == entry)
    assert count(network(name, num_classes, None if heads else (), "meta")) + left_out == expected


def test_each_sub_classifier_of_resnet34(golden: Callable[[str], Any]) -> None:
    parts = golden("architectures")["alasca_sdresnet34_10_param_breakdown"]
    for number, head in enumerate(network("resnet34_cifar", 10, device="meta").heads, 1):
        assert count(head) == parts[f"bottleneck{number}_1"] + parts[f"middle_fc{number}"]
    assert sum(v for k, v in parts.items() if k.startswith("downsample")) == DOWNSAMPLE_34


@pytest.mark.parametrize("name", COUNTS)
def test_further_parameter_counts(name: str) -> None:
    assert count(network(name, 10, (), "meta")) == COUNTS[name]


def test_wide_resnets_count() -> None:
    with torch.device("meta"):
        assert count(wide_resnet(10, 28, 10, 0.0)) == 36_479_194  # WRN-28-10, the paper's 36.5 M


def test_the_table_of_this_file_is_complete() -> None:
    assert sorted(TAPS) == models.names()


@pytest.mark.parametrize("name", TAPS)
@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize("size", [32, 33, 64])
def test_shapes_of_logits_and_stages(name: str, num_classes: int, size: int) -> None:
    net = network(name, num_classes, device="meta")
    assert net.taps == net.backbone.default_taps == TAPS[name]
    images = torch.zeros(2, 3, size, size, device="meta")
    outputs = list(net.backbone.forward_stages(images))
    stages = zip(outputs, net.backbone.stage_channels, net.backbone.stage_reductions, strict=True)
    for out, channels, reduction in stages:
        rounded = size // reduction if name == "vgg19_cifar" else -(-size // reduction)  # pooling floors, strides ceil
        assert out.shape == (2, channels, rounded, rounded)
    logits, subs = net(images)
    assert [z.shape for z in (logits, *subs)] == [(2, num_classes)] * (1 + len(TAPS[name]))


@pytest.mark.parametrize("name", TAPS)
def test_every_net_trains_a_step_with_heads(name: str, check_a_step_and_the_state: Callable[..., None]) -> None:
    check_a_step_and_the_state(lambda: network(name, 7), 32)


def test_the_shortcuts_of_both_preactivation_blocks() -> None:
    """With the residual branch switched off, a block is its shortcut."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    active = torch.relu(x / (1 + 1e-5) ** 0.5)  # BN in its initial state, evaluating
    for active_identity, expected in ((False, x), (True, active)):
        same = PreActBlock(4, 4, 1, active_identity=active_identity).eval()
        other = PreActBlock(4, 8, 2, active_identity=active_identity).eval()
        assert other.shortcut is not None
        for block in (same, other):
            torch.nn.init.zeros_(block.conv2.weight)
        torch.testing.assert_close(same(x), expected)
        torch.testing.assert_close(other(x), other.shortcut(active))
    blocks = [m for m in network("dividemix_preact18", 10, (), "meta").modules() if isinstance(m, PreActBlock)]
    assert len(blocks) == 8
    assert all(block.active_identity for block in blocks)


def test_dropout_is_for_training_alone() -> None:
    torch.manual_seed(0)
    net = models.build({"name": "wrn_28_4", "dropout": 0.3}, 5)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert not torch.equal(net.train()(images), net(images))
        assert torch.equal(net.eval()(images), net(images))


def test_init_follows_the_official_codes() -> None:
    torch.manual_seed(0)

    def spread(name: str, key: str) -> float:
        return float(models.build({"name": name}, 10).get_parameter(key).detach().std())

    widest = "stages.2.0.conv1.weight"  # it changes the width, so that fan-in and fan-out differ
    assert spread("gjs_preact34", widest) == pytest.approx((1 / (3 * 9 * 64)) ** 0.5, rel=0.03)  # PyTorch's default
    assert spread("resnet18_cifar", widest) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.03)  # fan-in
    assert spread("resnet18_cifar", "fc.weight") == pytest.approx((2 / 512) ** 0.5, rel=0.05)
    assert spread("resnet32_cifar", widest) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)  # fan-out
    assert spread("wrn_28_4", widest) == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.03)  # fan-out
    assert not models.build({"name": "wrn_28_4"}, 10).get_parameter("fc.bias").any()


def test_heads_start_kaiming_and_refuse_unknown_stages() -> None:
    torch.manual_seed(0)
    head = SubClassifier(64, 512, 8, 10)
    expected = (2 / (128 * 64)) ** 0.5
    assert head.conv2.weight.std().item() == pytest.approx(expected, rel=0.05)
    with pytest.raises(FastnoisyError, match="preact_small allows 1 to 2"):
        Network(models.build({"name": "preact_small"}, 10), 10, (3,))


def test_heads_say_when_images_are_too_small() -> None:
    net = network("resnet18_cifar", 10, device="meta")
    with pytest.raises(FastnoisyError, match="stride 8 got a map of 7 x 9"):
        net(torch.zeros(2, 3, 7, 9, device="meta"))
    with pytest.raises(FastnoisyError, match="vgg19_cifar takes images of at least 32 x 32, got 28 x 28"):
        network("vgg19_cifar", 10, device="meta")(torch.zeros(2, 3, 28, 28, device="meta"))


def heads_twice() -> tuple[Network, Network]:
    """The same network twice, the second computing its heads again in the backward."""
    torch.manual_seed(0)
    plain = network("preact_small", 5, None)
    again = copy.deepcopy(plain)
    again.recompute = True
    return plain, again


def train_step(net: Network, run: Callable[[torch.Tensor], Outputs], scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(8, 3, 16, 16, generator=generator), torch.arange(8) % 5
    out = run(scale * images)
    torch.stack([F.cross_entropy(z, labels) for z in (out.logits, *out.sub_logits)]).sum().backward()


def test_heads_computed_again_give_the_same_numbers_and_move_their_statistics_once() -> None:
    plain, again = heads_twice()
    for scale in (1.0, 3.0):
        for net in (plain, again):
            train_step(net, net, scale)
    for one, two in zip(plain.parameters(), again.parameters(), strict=True):
        assert one.grad is not None
        assert torch.equal(one.grad, two.grad)  # type: ignore[arg-type]
    for one, two in zip(plain.buffers(), again.buffers(), strict=True):
        assert torch.equal(one, two)
    assert dict(again.named_buffers()).keys() == dict(plain.named_buffers()).keys()


def test_compiled_heads_computed_again_move_their_statistics_once() -> None:
    plain, again = heads_twice()
    torch._dynamo.reset()
    train_step(plain, plain)
    train_step(again, torch.compile(again, backend="aot_eager", fullgraph=True))
    torch._dynamo.reset()
    for one, two in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
    for one, two in zip(plain.buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(one, two)


def test_heads_computed_again_keep_less_and_go_back_after_the_later_stages() -> None:
    def kept(net: Network) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(torch.randn(8, 3, 16, 16))
        return sum(sizes.values())

    plain, again = heads_twice()
    assert kept(again) < kept(network("preact_small", 5, ())) * 1.2 < kept(plain)

    order: list[str] = []
    for number, stage in enumerate(plain.backbone.stages, 1):  # type: ignore[arg-type, union-attr]
        stage.register_full_backward_pre_hook(lambda module, grads, n=number: order.append(f"stage {n}"))
    for tap, head in zip(plain.taps, plain.heads, strict=True):
        head.register_full_backward_pre_hook(lambda module, grads, n=tap: order.append(f"head {n}"))
    train_step(plain, plain)
    assert order == ["stage 3", "head 2", "stage 2", "head 1", "stage 1"]


def test_wrong_names_and_options() -> None:
    with pytest.raises(FastnoisyError, match="unknown option of model preact_small 'widht'"):
        models.build({"name": "preact_small", "widht": 3}, 10)
    with pytest.raises(FastnoisyError, match="at least 1"):
        models.build({"name": "preact_small", "width": 0}, 10)
    with pytest.raises(FastnoisyError, match=r"dropout must be at least 0 and below 1, got 1\.5"):
        models.build({"name": "wrn_28_4", "dropout": 1.5}, 10)
    assert models.defaults("wrn_28_4") == {"dropout": 0.0}
    assert models.option_names("resnet34_cifar") == []


def test_timm_is_not_imported_for_our_own_nets() -> None:
    code = (
        "import sys; from fastnoisy import models\n"
        "assert not models.problems({'name': 'preact_small'}); models.build({'name': 'preact_small'}, 3)\n"
        "assert 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
