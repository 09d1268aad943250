"""Rows of a batch and their valid areas: what every op, policy and step shares.

Shapes: B images, canvas H x W. Images are uint8 (B, 3, H, W). `sizes` is an integer tensor (B, 2), the valid (height,
width) at the canvas's top left, or None where the whole canvas is valid; pixels outside the valid area are ignored on
the way in and 0 on the way out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_CHUNK_PIXELS = {"cpu": 1 << 16, "device": 1 << 24}


def selects_rows(images: Tensor) -> bool:
    """Whether work may be confined to some rows: only where reading a mask stops nobody, that is eagerly on a CPU."""
    return images.device.type == "cpu" and not torch.compiler.is_compiling()


def on_rows(
    mask: Tensor, function: Callable[..., Tensor], images: Tensor, *per_sample: Tensor | None, out: Tensor | None = None
) -> Tensor:
    """`function(images, *per_sample)` for the rows in `mask`, the unchanged row for the others.

    Eagerly on a CPU only the rows in the mask are computed, elsewhere all rows and `torch.where`, which needs no host
    synchronisation. A row's result depends on that row alone, so both give the same bits.

    Args:
        mask: bool (B,).
        function: takes `images` and `per_sample`, each cut to n rows, and returns n rows of the shape of `out`.
        images: (B, ...).
        per_sample: tensors (B, ...), or None, handed on as None.
        out: (B, ...), what the other rows are; `images` if None.

    Returns:
        A tensor like `out`; `out` itself where no row is in the mask.
    """
    out = images if out is None else out
    if not selects_rows(images):
        return torch.where(mask.view(-1, *[1] * (out.dim() - 1)), function(images, *per_sample), out)
    rows = mask.nonzero().squeeze(1)
    if rows.numel() == 0:
        return out
    if rows.numel() == mask.numel():
        return function(images, *per_sample)
    cut = (None if tensor is None else tensor.index_select(0, rows) for tensor in per_sample)
    return out.index_copy(0, rows, function(images.index_select(0, rows), *cut))


def in_chunks(function: Callable[..., Tensor], row_pixels: int, images: Tensor, *per_sample: Tensor) -> Tensor:
    """`function(images, *per_sample)`, eagerly a few rows at a time, so that its temporaries stay small.

    On a CPU they then stay in a core's cache (2**16 pixels were the fastest of 2**12..2**20: AugMix 17 ms, not 24).

    Args:
        function: as for `on_rows`.
        row_pixels: pixels of the temporaries that it makes per row.
        images, per_sample: tensors (B, ...).
    """
    chunk = max(1, _CHUNK_PIXELS["cpu" if images.device.type == "cpu" else "device"] // row_pixels)
    if torch.compiler.is_compiling() or len(images) <= chunk:
        return function(images, *per_sample)
    parts = zip(*(tensor.split(chunk) for tensor in (images, *per_sample)), strict=True)
    return torch.cat([function(*part) for part in parts])


def extents(images: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
    """The valid height and width of each image, int64 (B,) each."""
    if sizes is not None:
        return sizes[:, 0].long(), sizes[:, 1].long()
    B, _, H, W = images.shape
    return images.new_full((B,), H, dtype=torch.int64), images.new_full((B,), W, dtype=torch.int64)


def valid_mask(images: Tensor, sizes: Tensor) -> Tensor:
    """Bool (B, 1, H, W), true inside each image's valid area."""
    height, width = extents(images, sizes)
    rows = torch.arange(images.shape[2], device=images.device) < height[:, None]
    columns = torch.arange(images.shape[3], device=images.device) < width[:, None]
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def blank_outside(images: Tensor, sizes: Tensor | None) -> Tensor:
    """The images with 0 outside their valid areas."""
    return images if sizes is None else images * valid_mask(images, sizes)


def valid_sizes(keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Tensor:
    """The valid (height, width) of each sample, int64 (B, 2), on the keys' device: of the canvas where `sizes` is
    None.
    """
    if sizes is not None:
        return sizes.long()
    return torch.cat([keys.new_full((len(keys), 1), side) for side in canvas], 1)


def take_pixels(images: Tensor, index: Tensor) -> Tensor:
    """Pixels by position: `index` int64 (B, h, w) counts along the flattened canvas; the result is (B, C, h, w)."""
    B, C = images.shape[:2]
    flat = index.flatten(1)[:, None].expand(B, C, -1)
    return images.flatten(2).gather(2, flat).view(B, C, *index.shape[1:])


def colour(images: Tensor, rgb: tuple[int, int, int]) -> Tensor:
    """A colour as uint8 (1, 3, 1, 1) on the images' device, made there (a copy from the host would synchronise)."""
    return torch.cat([images.new_full((1, 1, 1, 1), value) for value in rgb], 1)
