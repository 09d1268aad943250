"""VGG-19 with BN for 32x32 images (Simonyan & Zisserman 2015; github.com/kuangliu/pytorch-cifar's variant)."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from fastnoisy.errors import FastnoisyError
from fastnoisy.models.base import Backbone, backbone

_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions and channels


class VggCifar(Backbone):
    """Five blocks of (conv 3x3, BN, ReLU), each ended by 2x2 max pooling; global average pool; one linear.

    A stage is a block with its pooling. PyTorch's default init. On 32x32 images the last map is 1x1.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stage_channels = tuple(width for _, width in _BLOCKS)
        self.stage_reductions = tuple(2**number for number in range(1, len(_BLOCKS) + 1))
        self.stages = nn.ModuleList()
        c_in = 3
        for depth, width in _BLOCKS:
            layers: list[nn.Module] = []
            for _ in range(depth):
                layers += [nn.Conv2d(c_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                c_in = width
            self.stages.append(nn.Sequential(*layers))
        self.fc = nn.Linear(c_in, num_classes)

    def forward_stages(self, images: Tensor) -> Iterator[Tensor]:
        """See `Backbone.forward_stages`.

        Raises:
            FastnoisyError: images below 32x32, of which the five poolings leave nothing.
        """
        if min(images.shape[-2:]) < self.stage_reductions[-1]:
            height, width = images.shape[-2:]
            raise FastnoisyError(
                f"{self.name} takes images of at least 32 x 32, got {height} x {width}", "Resize them in the view"
            )
        x = images
        for stage in self.stages:
            x = F.max_pool2d(stage(x), 2)
            yield x

    def classify(self, last: Tensor) -> Tensor:
        """See `Backbone.classify`."""
        return self.fc(last.mean(dim=(2, 3)))


@backbone("vgg19_cifar")
def vgg19_cifar(num_classes: int) -> Backbone:
    """VGG-19 with BN for 32x32 images (ALASCA's Table 8): 16 convolutions, one linear; 20,040,522 parameters at 10.

    PyTorch's default init, as in kuangliu's code.
    """
    return VggCifar(num_classes)
