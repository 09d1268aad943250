"""BatchNorm counts no steps: nothing of it in a state, weights with and without counts load both ways."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fastnoisy import models
from fastnoisy.models.base import without_step_counts
from fastnoisy.models.heads import Network


@pytest.fixture
def network() -> Network:
    """With heads; its statistics are those of two steps."""
    torch.manual_seed(0)
    net = Network(models.build({"name": "preact_small", "width": 4}, 5), 5, (1, 2)).train()
    for _ in range(2):
        net(torch.randn(4, 3, 16, 16))
    return net


def with_counts(net: nn.Module) -> dict[str, Tensor]:
    """The same weights as torch's own BatchNorm keeps them, after three steps."""
    counts = {
        f"{name}.num_batches_tracked": torch.tensor(3)
        for name, module in net.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    return {**net.state_dict(), **counts}


@pytest.mark.parametrize("name", ["gjs_preact34", "resnet18_cifar", "vgg19_cifar", "resnet18", "mobilenetv3_small_050"])
def test_no_network_counts(name: str) -> None:
    net = Network(models.build({"name": name}, 5), 5, ())
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert not [key for key in net.state_dict() if "num_batches" in key]
    assert not [key for key, _ in copy.deepcopy(net).named_buffers() if "num_batches" in key]


def test_heads_count_nothing_and_statistics_move(network: Network) -> None:
    assert not [key for key in network.state_dict() if "num_batches" in key]
    means = [buffer for key, buffer in network.named_buffers() if key.endswith("running_mean")]
    assert len(means) > 6
    assert all(mean.any() for mean in means)


def test_weights_with_counts_load_strictly(network: Network, tmp_path: Path) -> None:
    """As a dictionary with torch's own metadata, as one without, and from a file."""
    save_file(with_counts(network), tmp_path / "weights.safetensors")
    for weights in (with_counts(network), load_file(tmp_path / "weights.safetensors"), dict(network.state_dict())):
        for other in (
            Network(models.build({"name": "preact_small", "width": 4}, 5), 5, (1, 2)),
            copy.deepcopy(network),
        ):
            assert not other.load_state_dict(weights, strict=True).missing_keys
            assert all(
                torch.equal(a, b)
                for a, b in zip(other.state_dict().values(), network.state_dict().values(), strict=True)
            )
            assert not [key for key in other.state_dict() if "num_batches" in key]


def test_a_stranger_among_the_weights_is_still_refused(network: Network) -> None:
    with pytest.raises(RuntimeError, match="Unexpected key"):
        network.load_state_dict({**with_counts(network), "backbone.more": torch.zeros(1)})


def test_our_weights_load_strictly_into_a_plain_timm_model(tmp_path: Path) -> None:
    import timm

    ours = models.build({"name": "resnet18"}, 5).train()
    ours(torch.randn(4, 3, 64, 64))
    save_file(ours.state_dict(), tmp_path / "model.safetensors")
    weights = {key.removeprefix("model."): value for key, value in load_file(tmp_path / "model.safetensors").items()}
    plain = timm.create_model("resnet18", num_classes=5)
    plain.load_state_dict(weights, strict=True)  # torch fills in counts of zero
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), ours.eval()(images))


def test_a_forward_in_training_is_torchs_own() -> None:
    torch.manual_seed(0)
    own, other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    without_step_counts(own)
    for _ in range(3):
        images = torch.randn(4, 3, 5, 5)
        assert torch.equal(own(images), other(images))
    assert torch.equal(own.running_mean, other.running_mean)  # type: ignore[arg-type]
    assert torch.equal(own.running_var, other.running_var)  # type: ignore[arg-type]
