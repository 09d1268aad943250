"""Pre-activation residual networks for small images.

`gjs_preact34` is the narrow three-stage net that the GJS code calls PreActResNet-34 and that produced the baseline rows of
NRD's Table 2 (decision N11). `preact_small` is the same shape with a free depth and width, for tests, quick looks and CPUs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fastnoisy.models.base import Backbone, backbone


class PreActBlock(nn.Module):
    """BN, ReLU, conv 3x3, BN, ReLU, conv 3x3, plus the input (He et al. 2016, identity mappings).

    Where the shape changes, the shortcut is a 1x1 convolution without BN, fed by the pre-activated input.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.shortcut = None if stride == 1 and c_in == c_out else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) to (B, c_out, H / stride, W / stride)."""
        active = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + shortcut


class PreActResNet(Backbone):
    """3x3 stem without BN, stages of `PreActBlock`, BN, ReLU, global average pool, linear; PyTorch's default init.

    Args:
        depths: blocks per stage; every stage but the first starts with stride 2.
        widths: channels per stage; the stem has the first stage's.
        stem_stride: 2 halves every stage's height and width.
    """

    def __init__(self, num_classes: int, depths: Sequence[int], widths: Sequence[int], stem_stride: int = 1) -> None:
        super().__init__()
        self.stage_channels = tuple(widths)
        self.stage_reductions = tuple(stem_stride * 2**stage for stage in range(len(widths)))
        self.stem = nn.Conv2d(3, widths[0], 3, stem_stride, 1, bias=False)
        self.stages = nn.ModuleList()
        c_in = widths[0]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            blocks = [PreActBlock(c_in if i == 0 else width, width, 2 if stage and i == 0 else 1) for i in range(depth)]
            self.stages.append(nn.Sequential(*blocks))
            c_in = width
        self.bn = nn.BatchNorm2d(c_in)
        self.fc = nn.Linear(c_in, num_classes)

    def forward_stages(self, images: Tensor) -> list[Tensor]:
        """See `Backbone.forward_stages`."""
        x, outputs = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def classify(self, last: Tensor) -> Tensor:
        """See `Backbone.classify`."""
        return self.fc(F.relu(self.bn(last)).mean(dim=(2, 3)))


@backbone("gjs_preact34")
def gjs_preact34(num_classes: int) -> Backbone:
    """The narrow net of the GJS code: widths 32/64/128, 5 + 5 + 5 blocks; 1,860,138 parameters at 10 classes."""
    return PreActResNet(num_classes, (5, 5, 5), (32, 64, 128))


@backbone("preact_small")
def preact_small(num_classes: int, width: int = 16, blocks: int = 1, stem_stride: int = 1) -> Backbone:
    """Three stages of `blocks` blocks, widths w/2w/4w; 77,850 parameters at width 16, one block, 10 classes."""
    if width < 1 or blocks < 1 or stem_stride not in (1, 2):
        raise ValueError("width and blocks must be at least 1, stem_stride 1 or 2")
    return PreActResNet(num_classes, (blocks,) * 3, (width, 2 * width, 4 * width), stem_stride)
