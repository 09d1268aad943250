"""Post-activation residual networks with a 3x3 stem for 32x32 images (He et al. 2015; kuangliu's CIFAR variant).

`resnet34_cifar` is the trunk of ALASCA's tables (21,282,122 parameters at 10 classes), `resnet18_cifar` its smaller
sister; `resnet32_cifar` is the narrow net of three stages of ALASCA's Table 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    """Stem conv 3x3, BN, ReLU; stages, all but the first at stride 2; global average pool; linear.

    Args:
        depths: blocks per stage.
        widths: channels per stage; the stem has the first stage's.
    """

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

    def forward_stages(self, images: Tensor) -> Iterator[Tensor]:
        """See `Backbone.forward_stages`."""
        x = F.relu(self.bn(self.conv(images)))
        for stage in self.stages:
            x = stage(x)
            yield x

    def classify(self, last: Tensor) -> Tensor:
        """See `Backbone.classify`."""
        return self.fc(last.mean(dim=(2, 3)))


@backbone("resnet18_cifar")
def resnet18_cifar(num_classes: int) -> Backbone:
    """ResNet-18 for 32x32 images: blocks 2-2-2-2, widths 64 to 512; 11,173,962 parameters at 10 classes.

    Init: see `resnet34_cifar`.
    """
    return _kaiming_everywhere(ResNetCifar(num_classes, (2, 2, 2, 2)))


@backbone("resnet34_cifar")
def resnet34_cifar(num_classes: int) -> Backbone:
    """Blocks 3-4-6-3, widths 64 to 512: ResNet-34 for 32x32 images, the net of ALASCA's tables.

    Init of ALASCA's code: Kaiming normal (fan-in, gain sqrt 2) for convolutions and linear, as in its sub-classifiers.
    """
    return _kaiming_everywhere(ResNetCifar(num_classes, (3, 4, 6, 3)))


@backbone("resnet32_cifar")
def resnet32_cifar(num_classes: int) -> Backbone:
    """The narrow ResNet-32: three stages of five blocks, widths 16/32/64, shortcuts with BN; 466,906 parameters at 10.

    Init of ALASCA's code: Kaiming normal of fan-out for convolutions, PyTorch's default for linear.
    """
    net = ResNetCifar(num_classes, (5, 5, 5), (16, 32, 64))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def _kaiming_everywhere(net: Backbone) -> Backbone:
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return net
