"""The reference executor computes of a `resize_shorter` only what the `center_crop` after it keeps: the same pixels."""

from __future__ import annotations

import pytest
import torch

from fastnoisy.augment import parse_view

MEAN = (0.5, 0.5, 0.5)


@pytest.mark.parametrize("crop", [31, 32, 40, 48, 49])
@pytest.mark.parametrize("sized", [True, False])
def test_both_steps_at_once_are_both_steps(crop: int, sized: bool) -> None:
    draw = torch.Generator().manual_seed(crop)
    images = torch.randint(0, 256, (40, 3, 90, 120), dtype=torch.uint8, generator=draw)
    sizes = torch.stack([torch.randint(4, side + 1, (40,), generator=draw) for side in (90, 120)], 1) if sized else None
    rows = torch.arange(40)
    both = parse_view(f"resize_shorter(48) | center_crop({crop}) | normalize").build("eval", mean=MEAN, std=MEAN)
    first = parse_view("resize_shorter(48) | normalize").build("eval", mean=MEAN, std=MEAN)
    calls = dict(zip(("resize", "crop"), both.steps, strict=False))
    resized, valid = calls["resize"](images, sizes, rows)
    cropped, _ = calls["crop"](resized, valid, rows)
    assert torch.equal(both.uint8(images, sizes, rows, 0), cropped)
    assert first.uint8(images, sizes, rows, 0).shape == (40, 3, 96, 96)
    assert bool(both._crops) == (crop <= 48)
    one = both.uint8(images[3:4], None if sizes is None else sizes[3:4], rows[3:4], 0)
    assert torch.equal(one[0], cropped[3]), "whatever else is in the batch"
