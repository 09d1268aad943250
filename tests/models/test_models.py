"""Parameter counts of the published nets, shapes, heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fastnoisy import models
from fastnoisy.errors import FastnoisyError
from fastnoisy.models.heads import Network, SubClassifier


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def published(golden: Callable[[str], Any], name: str) -> int:
    return int(next(m["params"] for m in golden("architectures")["models"] if m["name"] == name))


def test_gjs_preact34(golden: Callable[[str], Any]) -> None:
    assert count(models.build({"name": "gjs_preact34"}, 10)) == published(golden, 'GJS "PreActResNet34" num_classes=10')
    assert count(models.build({"name": "gjs_preact34"}, 100)) == published(
        golden, 'GJS "PreActResNet34" num_classes=100'
    )


def test_resnet34_and_its_heads(golden: Callable[[str], Any]) -> None:
    trunk = models.build({"name": "resnet34_cifar"}, 10)
    parts = golden("architectures")["alasca_sdresnet34_10_param_breakdown"]
    assert count(trunk) == published(golden, "ELR ResNet34 CIFAR (10)") == 21_282_122
    network = Network(trunk, 10, (1, 2, 3))
    for number, head in enumerate(network.heads, 1):
        assert count(head) == parts[f"bottleneck{number}_1"] + parts[f"middle_fc{number}"]
    unused = sum(v for k, v in parts.items() if k.startswith("downsample"))
    assert count(network) <= published(golden, "ALASCA sdresnet34 position_all num_classes=10") - unused


@pytest.mark.parametrize("name", models.names())
def test_every_backbone_with_all_heads(name: str) -> None:
    torch.manual_seed(0)
    backbone = models.build({"name": name}, 7)
    stages = len(backbone.stage_channels)
    network = Network(backbone, 7, range(1, stages)).eval()
    images = torch.randn(2, 3, 32, 32)
    outputs = backbone.eval().forward_stages(images)
    for out, channels, reduction in zip(outputs, backbone.stage_channels, backbone.stage_reductions, strict=True):
        assert out.shape == (2, channels, 32 // reduction, 32 // reduction)
    logits, subs = network(images)
    assert logits.shape == (2, 7)
    assert [z.shape for z in subs] == [(2, 7)] * (stages - 1)
    torch.testing.assert_close(logits, backbone(images))


def test_heads_start_kaiming_and_refuse_unknown_stages() -> None:
    torch.manual_seed(0)
    head = SubClassifier(64, 512, 8, 10)
    expected = (2 / (128 * 64)) ** 0.5
    assert head.conv2.weight.std().item() == pytest.approx(expected, rel=0.05)
    with pytest.raises(FastnoisyError, match="allows 1 to 2"):
        Network(models.build({"name": "preact_small"}, 10), 10, (3,))


def test_wrong_names_and_options() -> None:
    with pytest.raises(FastnoisyError, match="did you mean resnet34_cifar"):
        models.build({"name": "resnet34_cifr"}, 10)
    with pytest.raises(FastnoisyError, match="unknown option of model preact_small 'widht'"):
        models.build({"name": "preact_small", "widht": 3}, 10)
    with pytest.raises(FastnoisyError, match="at least 1"):
        models.build({"name": "preact_small", "width": 0}, 10)
