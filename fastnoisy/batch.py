"""What every pipeline hands on: one batch of decoded images with the rows they came from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch on the training device. Clean labels are not here: no method can reach them.

    Attributes:
        images: uint8 (B, 3, H, W), channels-last in memory, on the store's canvas; pixels beyond `sizes` are undefined.
        sizes: int32 (B, 2): valid (height, width) at the canvas's top left; None where every image of the split fills
            it.
        labels: int64 (B,), the given label.
        indices: int64 (B,), the row in the data set.
    """

    images: Tensor
    sizes: Tensor | None
    labels: Tensor
    indices: Tensor

    def split(self, counts: list[int]) -> list[Batch]:
        """Consecutive micro-batches of so many samples."""
        images, labels, indices = (f.split(counts) for f in (self.images, self.labels, self.indices))
        sizes = [None] * len(counts) if self.sizes is None else self.sizes.split(counts)
        return [Batch(*piece) for piece in zip(images, sizes, labels, indices, strict=True)]
