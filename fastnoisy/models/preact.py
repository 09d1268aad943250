"""Pre-activation residual networks for small images.

`gjs_preact34` is the narrow three-stage net that the GJS code calls PreActResNet-34 and that produced the baseline rows
of NRD's Table 2 (decision N11). `preact_small` is the same shape with a free depth and width, for tests, quick looks
and CPUs. `preact_resnet18` and `preact_resnet34` have the full width; `dividemix_preact18` is the variant that
DivideMix and ELR+ train; `wrn_28_4` is a Wide ResNet (ALASCA's Table 8).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fastnoisy.models.base import Backbone, backbone


class PreActBlock(nn.Module):
    """BN, ReLU, conv 3x3, BN, ReLU, dropout, conv 3x3, plus the input (He et al. 2016, identity mappings).

    Where the shape changes, the shortcut is a 1x1 convolution without BN, fed by the pre-activated input.

    Args:
        dropout: rate of the dropout between the convolutions.
        active_identity: the shortcut carries the pre-activated input where the shape stays, too.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, dropout: float = 0.0, active_identity: bool = False) -> None:
        super().__init__()
        self.dropout, self.active_identity = dropout, active_identity
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.shortcut = None if stride == 1 and c_in == c_out else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) to (B, c_out, H / stride, W / stride)."""
        active = F.relu(self.bn1(x))
        if self.shortcut is not None:
            x = self.shortcut(active)
        elif self.active_identity:
            x = active
        y = F.relu(self.bn2(self.conv1(active)))
        if self.dropout:
            y = F.dropout(y, self.dropout, self.training)
        return self.conv2(y) + x


class PreActResNet(Backbone):
    """3x3 stem, stages of `PreActBlock`, global average pool, linear; PyTorch's default init.

    Args:
        depths: blocks per stage; every stage but the first starts with stride 2.
        widths: channels per stage.
        stem_stride: 2 halves every stage's height and width.
        stem_width: channels of the stem; the first stage's where None.
        norm: where BN and ReLU stand outside of the blocks: `last`, before pooling, or `stem`, after the stem.
        dropout, active_identity: see `PreActBlock`.
    """

    def __init__(
        self,
        num_classes: int,
        depths: Sequence[int],
        widths: Sequence[int],
        stem_stride: int = 1,
        stem_width: int | None = None,
        norm: str = "last",
        dropout: float = 0.0,
        active_identity: bool = False,
    ) -> None:
        super().__init__()
        self.stage_channels = tuple(widths)
        self.stage_reductions = tuple(stem_stride * 2**stage for stage in range(len(widths)))
        c_in = stem_width or widths[0]
        self.stem = nn.Conv2d(3, c_in, 3, stem_stride, 1, bias=False)
        self.stem_bn = nn.BatchNorm2d(c_in) if norm == "stem" else None
        self.stages = nn.ModuleList()
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            blocks = []
            for number in range(depth):
                stride = 2 if stage and number == 0 else 1
                blocks.append(PreActBlock(c_in, width, stride, dropout, active_identity))
                c_in = width
            self.stages.append(nn.Sequential(*blocks))
        self.bn = nn.BatchNorm2d(c_in) if norm == "last" else None
        self.fc = nn.Linear(c_in, num_classes)

    def forward_stages(self, images: Tensor) -> Iterator[Tensor]:
        """See `Backbone.forward_stages`."""
        x = self.stem(images)
        if self.stem_bn is not None:
            x = F.relu(self.stem_bn(x))
        for stage in self.stages:
            x = stage(x)
            yield x

    def classify(self, last: Tensor) -> Tensor:
        """See `Backbone.classify`."""
        if self.bn is not None:
            last = F.relu(self.bn(last))
        return self.fc(last.mean(dim=(2, 3)))


@backbone("gjs_preact34")
def gjs_preact34(num_classes: int) -> Backbone:
    """The narrow net of the GJS code: widths 32/64/128, 5 + 5 + 5 blocks; 1,860,138 parameters at 10 classes.

    PyTorch's default init, as in that code.
    """
    return PreActResNet(num_classes, (5, 5, 5), (32, 64, 128))


@backbone("preact_small")
def preact_small(num_classes: int, width: int = 16, blocks: int = 1, stem_stride: int = 1) -> Backbone:
    """Three stages of `blocks` blocks, widths w/2w/4w; 77,850 parameters at width 16, one block, 10 classes."""
    if width < 1 or not 1 <= blocks <= 1000 or stem_stride not in (1, 2):
        raise ValueError("width must be at least 1, blocks 1 to 1,000, stem_stride 1 or 2")
    return PreActResNet(num_classes, (blocks,) * 3, (width, 2 * width, 4 * width), stem_stride)


@backbone("preact_resnet18")
def preact_resnet18(num_classes: int) -> Backbone:
    """PreActResNet-18 (He et al. 2016) for 32x32 images: widths 64 to 512, blocks 2-2-2-2, BN and ReLU before pooling.

    11,172,170 parameters at 10 classes; PyTorch's default init.
    """
    return PreActResNet(num_classes, (2, 2, 2, 2), (64, 128, 256, 512))


@backbone("preact_resnet34")
def preact_resnet34(num_classes: int) -> Backbone:
    """PreActResNet-34 at full width, what NRD cites under that name (N11): blocks 3-4-6-3, else as `preact_resnet18`.

    21,280,330 parameters at 10 classes; PyTorch's default init.
    """
    return PreActResNet(num_classes, (3, 4, 6, 3), (64, 128, 256, 512))


@backbone("dividemix_preact18")
def dividemix_preact18(num_classes: int) -> Backbone:
    """The ResNet-18 of DivideMix's and ELR+'s code; 11,171,274 parameters at 10 classes, PyTorch's default init.

    It differs from `preact_resnet18` in three ways: BN and ReLU follow the stem; none come before pooling; and every
    shortcut, identities included, carries the pre-activated input (github.com/LiJunnan1992/DivideMix, PreResNet.py).
    """
    return PreActResNet(num_classes, (2, 2, 2, 2), (64, 128, 256, 512), norm="stem", active_identity=True)


def wide_resnet(num_classes: int, depth: int, widen: int, dropout: float) -> PreActResNet:
    """Wide ResNet (Zagoruyko & Komodakis 2016): stem of 16, three stages of (depth - 4) / 6 blocks, 16/32/64 times
    `widen`.

    Init of the official code (github.com/szagoruyko/wide-residual-networks): convolutions normal with variance 2 /
    fan-out, linear bias zero.
    """
    blocks = (depth - 4) // 6
    net = PreActResNet(num_classes, (blocks,) * 3, (16 * widen, 32 * widen, 64 * widen), stem_width=16, dropout=dropout)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(net.fc.bias)
    return net


@backbone("wrn_28_4")
def wrn_28_4(num_classes: int, dropout: float = 0.0) -> Backbone:
    """Wide ResNet 28-4 with `dropout` between each block's convolutions; 5,849,050 parameters at 10 classes.

    Init: see `wide_resnet`.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}")
    return wide_resnet(num_classes, 28, 4, dropout)
