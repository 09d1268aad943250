"""The precision that a step computes in; gradients of depthwise convolutions in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastnoisy.training import precision, setup

CPU = torch.device("cpu")


def gradients(images: Tensor, weight: Tensor, options: dict[str, Any], bf16: bool) -> tuple[Tensor, Tensor, Tensor]:
    images, weight = images.clone().requires_grad_(), weight.clone().requires_grad_()
    with precision.training_autocast(CPU, torch.bfloat16 if bf16 else None):
        out = F.conv2d(images, weight, None, *options.values())
    of_images, of_weight = torch.autograd.grad(out.float().sin().sum(), (images, weight))
    return out, of_images, of_weight


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("groups", [6, 2, 1])
def test_gradients_are_those_of_float32_to_the_precision_of_bf16(stride: int, size: int, groups: int) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 6, 12, 12).to(memory_format=torch.channels_last)
    weight = torch.randn(6, 6 // groups, size, size) / size
    options = {"stride": stride, "padding": size // 2, "dilation": 1, "groups": groups}
    exact, rounded = (gradients(images, weight, options, bf16) for bf16 in (False, True))
    assert rounded[0].dtype == torch.bfloat16
    for found, wanted in zip(rounded, exact, strict=True):
        assert (found.float() - wanted).norm() / wanted.norm() < 0.03
    assert rounded[1].dtype == rounded[2].dtype == torch.float32


def test_only_depthwise_ones_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    own = precision._Depthwise.apply

    def apply(images: Tensor, *others: Any) -> Any:
        taken.append(images.shape[1])
        return own(images, *others)

    monkeypatch.setattr(precision._Depthwise, "apply", apply)
    images = torch.randn(2, 4, 8, 8)
    with precision.training_autocast(CPU, torch.bfloat16):
        F.conv2d(images, torch.randn(4, 1, 3, 3), None, 1, 1, 1, 4)
        F.conv2d(images, torch.randn(4, 2, 3, 3), None, 1, 1, 1, 2)
        F.conv2d(images, torch.randn(4, 4, 3, 3))
        torch.nn.Conv2d(4, 4, 3, groups=4)(images)  # with a bias
        torch.nn.Conv2d(4, 4, 3, groups=4, bias=False)(images)
    assert taken == [4, 4]
    with precision.training_autocast(CPU, None):
        assert F.conv2d(images, torch.randn(4, 1, 3, 3), None, 1, 1, 1, 4).dtype == torch.float32
    assert taken == [4, 4]


def test_of_what_needs_no_gradient_there_is_none() -> None:
    weight = torch.randn(4, 1, 3, 3, requires_grad=True)
    with precision.training_autocast(CPU, torch.bfloat16):
        out = F.conv2d(torch.randn(2, 4, 8, 8), weight, None, (1, 1), (1, 1), (1, 1), 4)
    out.float().sum().backward()
    assert weight.grad is not None
    assert weight.grad.shape == weight.shape
    with torch.no_grad(), precision.training_autocast(CPU, torch.bfloat16):
        assert not F.conv2d(torch.randn(2, 4, 8, 8), weight, None, 1, 1, 1, 4).requires_grad


def test_a_networks_gradients_are_no_further_from_float32_than_before() -> None:
    import timm

    torch.manual_seed(0)
    net: Any = timm.create_model("test_efficientnet", num_classes=3).to(memory_format=torch.channels_last)
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    found = {}
    for name, context, dtype in (
        ("exact", precision.autocast, None),
        ("mixed", precision.training_autocast, torch.bfloat16),
        ("plain", precision.autocast, torch.bfloat16),
    ):
        net.zero_grad()
        with context(CPU, dtype):
            F.cross_entropy(net(images).float(), labels).backward()
        found[name] = torch.cat([p.grad.flatten() for p in net.parameters()])
    mixed, plain = ((found[name] - found["exact"]).norm() / found["exact"].norm() for name in ("mixed", "plain"))
    assert mixed < 0.3
    assert mixed < 1.1 * plain


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize(
    ("words", "native", "elsewhere"),
    [
        ([], "bf16, channels-last", "float32, channels-last"),
        (["amp=off"], "float32, channels-last", "float32, channels-last"),
        (["amp=bf16"], "bf16, channels-last", "bf16, channels-last"),
        (["amp=fp16"], "fp16, channels-last", "fp16, channels-last"),
        (["compile=true"], "bf16, channels-last", "float32, channels-last"),
        (["channels_last=off"], "bf16, contiguous", "float32, contiguous"),
        (["dtype=float64"], "float64, contiguous", "float64, contiguous"),
    ],
)
def test_auto_goes_by_what_the_processor_does_natively(
    words: list[str], native: str, elsewhere: str, bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda device: bf16)
    assert precision.told(setup.resolve("digits-ce", words).config, CPU) == (native if bf16 else elsewhere)
