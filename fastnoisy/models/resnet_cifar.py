"""Post-activation residual networks with a 3x3 stem for 32x32 images (He et al. 2015; kuangliu's CIFAR variant).

`resnet34_cifar` is the trunk of ALASCA's tables (21,282,122 parameters at 10 classes).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fastnoisy.models.base import Backbone, backbone


class BasicBlock(nn.Module):
    """conv 3x3, BN, ReLU, conv 3x3, BN, plus a shortcut (1x1 conv and BN where the shape changes), ReLU."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) to (B, c_out, H / stride, W / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNetCifar(Backbone):
    """Stem conv 3x3, BN, ReLU; four stages, the last three at stride 2; global average pool; linear."""

    def __init__(self, num_classes: int, depths: Sequence[int], widths: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        self.stage_channels = tuple(widths)
        self.stage_reductions = tuple(2**stage for stage in range(len(widths)))
        self.conv = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        self.stages = nn.ModuleList()
        c_in = widths[0]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            blocks = [BasicBlock(c_in if i == 0 else width, width, 2 if stage and i == 0 else 1) for i in range(depth)]
            self.stages.append(nn.Sequential(*blocks))
            c_in = width
        self.fc = nn.Linear(c_in, num_classes)

    def forward_stages(self, images: Tensor) -> list[Tensor]:
        """See `Backbone.forward_stages`."""
        x, outputs = F.relu(self.bn(self.conv(images))), []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def classify(self, last: Tensor) -> Tensor:
        """See `Backbone.classify`."""
        return self.fc(last.mean(dim=(2, 3)))


@backbone("resnet34_cifar")
def resnet34_cifar(num_classes: int) -> Backbone:
    """Blocks 3-4-6-3, widths 64 to 512: ResNet-34 for 32x32 images, the net of ALASCA's tables."""
    return ResNetCifar(num_classes, (3, 4, 6, 3))
