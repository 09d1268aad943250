"""The whole split decoded as uint8 on the device: an epoch costs no decoding, no copies and no workers.

CIFAR is 154 MB this way. Images of one size lie in one array and a batch is one gather; images of differing size lie in one
flat buffer with offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from fastnoisy.batch import Batch
from fastnoisy.data.store import Split
from fastnoisy.pipelines.base import Pipeline


class ResidentPipeline(Pipeline):
    """See the module and `Pipeline`. Every record's checksum is checked while loading."""

    def __init__(self, split: Split, labels: np.ndarray, device: torch.device, workers: int = 0) -> None:
        super().__init__(split, labels, device, workers)
        height, width = self.canvas
        self.uniform = bool((split.sizes == (height, width)).all())
        self.pixels, self.offsets = self._load()

    @classmethod
    def bytes_needed(cls, split: Split) -> int:
        """Three bytes a valid pixel."""
        return int(3 * split.sizes.astype(np.int64).prod(axis=1).sum())

    def _load(self) -> tuple[Tensor, Tensor]:
        sizes = self.split.sizes.astype(np.int64)
        lengths = 3 * sizes.prod(axis=1)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        whole = self.split.read_all_raw() if self.uniform else None
        flat = np.empty(offsets[-1], np.uint8) if whole is None else whole.reshape(-1)
        if whole is None:
            for row in range(self.split.num_samples):
                flat[offsets[row] : offsets[row + 1]] = self.split.read_image(row).reshape(-1)
        pixels = torch.from_numpy(flat).to(self.device)
        return pixels, torch.from_numpy(offsets[:-1].astype(np.int64)).to(self.device)

    def gather(self, rows: Tensor, out: Tensor) -> Tensor:
        """Write the images of `rows` (B,) int64 into `out`, uint8 (B, H, W, 3): a pure function of tensors, without host
        synchronisation on a GPU, so that it can be captured. Pixels beyond an image's size become 0.
        """
        height, width = self.canvas
        if self.uniform:
            images = self.pixels.view(-1, height * width * 3)
            return torch.index_select(images, 0, rows, out=out.view(len(rows), -1)).view(out.shape)
        if self.device.type == "cpu":  # a copy per image beats an index per pixel by far on a CPU
            out.zero_()
            for slot, row in enumerate(rows.tolist()):
                valid_h, valid_w = self.sizes[row].tolist()
                first = int(self.offsets[row])
                image = self.pixels[first : first + 3 * valid_h * valid_w]
                out[slot, :valid_h, :valid_w] = image.view(valid_h, valid_w, 3)
            return out
        sizes = self.sizes.index_select(0, rows).long()
        h, w = sizes[:, 0].view(-1, 1, 1), sizes[:, 1].view(-1, 1, 1)
        y = torch.arange(height, device=self.device).view(1, -1, 1)
        x = torch.arange(width, device=self.device).view(1, 1, -1)
        valid = (y < h) & (x < w)
        pixel = (
            self.offsets.index_select(0, rows).view(-1, 1, 1) // 3 + y * w + x
        )  # of the flat buffer, three bytes each
        found = self.pixels.view(-1, 3)[torch.where(valid, pixel, 0)]
        return torch.mul(found, valid.unsqueeze(3), out=out)

    def iterate(self, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        """See `Pipeline.iterate`."""
        height, width = self.canvas
        for rows in batches:
            indices = torch.from_numpy(np.ascontiguousarray(rows, np.int64))
            if self.device.type == "cuda":
                indices = indices.pin_memory().to(self.device, non_blocking=True)
            out = torch.empty(len(rows), height, width, 3, dtype=torch.uint8, device=self.device)
            yield self._label(self.gather(indices, out).permute(0, 3, 1, 2), indices)


PIPELINE = ResidentPipeline
