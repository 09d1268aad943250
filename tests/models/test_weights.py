"""Pretrained weights: a file of one's own, timm's caches, or one clear line; and the network of ALASCA's WebVision
code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from fastnoisy import models
from fastnoisy.errors import FastnoisyError
from fastnoisy.models.heads import Network


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Whatever would open a connection fails the test; the caches are empty folders. Gives Hugging Face's."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


def halves(path: Path) -> Path:
    """Weights of test_resnet with 1000 classes, all 0.5."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    state = timm.create_model("test_resnet").state_dict()
    save_file({k: torch.full_like(v, 0.5 if v.is_floating_point() else 1) for k, v in state.items()}, path)
    return path


def is_halves(net: Any) -> bool:
    return all(bool(p.eq(0.5).all()) for name, p in net.model.named_parameters() if not name.startswith("fc"))


def test_weights_from_a_file_of_ones_own(no_network: Path, tmp_path: Path) -> None:
    file = halves(tmp_path / "mine.safetensors")
    assert is_halves(models.build({"name": "test_resnet", "pretrained": True, "weights": str(file)}, 7))
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "mine.pth")
    table = {"name": "test_resnet", "pretrained": True, "weights": str(tmp_path / "mine.pth")}
    assert not is_halves(models.build(table, 7))
    assert not is_halves(models.build({**table, "weights": "/gone"}, 7, restored=True))


def test_weights_from_the_caches(no_network: Path, tmp_path: Path) -> None:
    cfg: Any = timm.get_pretrained_cfg("test_resnet.r160_in1k")
    repository = no_network / ("models--" + cfg.hf_hub_id.replace("/", "--"))
    halves(repository / "snapshots/0123/model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0123")
    for name in ("test_resnet.r160_in1k", "test_resnet"):
        assert is_halves(models.build({"name": name, "pretrained": True}, 7))


def test_weights_that_are_nowhere_are_one_line_and_no_wait(no_network: Path, tmp_path: Path) -> None:
    with pytest.raises(FastnoisyError) as caught:
        models.build({"name": "resnet50.tv_in1k", "pretrained": True}, 14)
    said = str(caught.value)
    assert "\n" not in said
    for part in (
        "resnet50.tv_in1k are not on this machine",
        str(no_network),
        "model.weights=FILE",
        "model.download=true",
    ):
        assert part in said
    assert "model.safetensors of https://huggingface.co/timm/resnet50.tv_in1k" in said
    with pytest.raises(FastnoisyError, match=r"the pretrained weights /gone of test_resnet are not there"):
        models.build({"name": "test_resnet", "pretrained": True, "weights": "/gone"}, 7)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(halves(tmp_path / "whole.safetensors").read_bytes()[:-9])
    with pytest.raises(FastnoisyError, match=r"test_resnet cannot start from .*broken.safetensors: .* Copy it again"):
        models.build({"name": "test_resnet", "pretrained": True, "weights": str(broken)}, 7)
    with pytest.raises(FastnoisyError, match=r"test_resnet cannot start from .*broken.safetensors"):
        models.build({"name": "test_resnet", "weights": str(broken)}, 7)  # which implies pretrained


def test_inception_resnet_v2_has_alascas_three_branches() -> None:
    """methods.md 2.5: from 320, 1088 and 2080 channels to 1536 with a 3x3 convolution of stride 3; maps of 25, 12 and
    5.
    """
    backbone = models.build({"name": "inception_resnet_v2"}, 5)
    net = Network(backbone, 5, backbone.default_taps)
    assert backbone.stage_channels == (320, 1088, 2080, 1536)
    assert net.taps == (1, 2, 3)
    heads: Any = net.heads
    for head, channels in zip(heads, (320, 1088, 2080), strict=True):
        assert (head.conv1.in_channels, head.conv1.out_channels, head.conv3.out_channels) == (channels, 384, 1536)
        assert (head.conv2.kernel_size, head.conv2.stride) == ((3, 3), (3, 3))
    net.eval()
    with torch.no_grad():
        images = torch.randn(1, 3, 224, 224)
        maps = list(backbone.forward_stages(images))
        assert [tuple(m.shape[1:]) for m in maps] == [(320, 25, 25), (1088, 12, 12), (2080, 5, 5), (1536, 5, 5)]
        outputs = net(images)
        torch.testing.assert_close(outputs.logits, backbone.model(images))
    assert [z.shape for z in outputs.sub_logits] == [(1, 5)] * 3
