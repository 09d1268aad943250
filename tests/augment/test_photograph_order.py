"""The order of photographs' views, as for WebVision: AugMix on the whole valid area, then the random resized crop."""

import numpy as np
import torch
from PIL import Image

from fastnoisy.augment import geometry, parse_view
from fastnoisy.keyed_random import fold, name_value


def build():
    program = parse_view("augmix | random_resized_crop(224) | hflip | normalize")
    return program.build("teacher", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def test_each_image_as_if_it_were_alone(reference):
    images = reference.random_images(6, 150, 190)
    sizes = torch.tensor([[150, 190], [30, 190], [150, 27], [81, 54], [100, 101], [9, 5]])
    view, indices = build(), torch.arange(6)
    together = view.uint8(images, sizes, indices, 3)
    assert together.shape == (6, 3, 224, 224)
    keys = [fold(fold(fold(3, indices), name_value("teacher")), position) for position in range(3)]
    augmix, crop, flip = view.steps[:3]
    for row, (height, width) in enumerate(sizes.tolist()):
        alone, one = images[row : row + 1, :, :height, :width], slice(row, row + 1)
        mixed, _ = augmix(alone, None, keys[0][one])
        assert mixed.shape == alone.shape
        top, left, tall, wide = (int(part) for part in crop.draw(keys[1][one], sizes[one], (150, 190)))
        flipped = flip.draw(keys[2], None, (224, 224)).flipped[row]
        assert top + tall <= height
        assert left + wide <= width
        picture = reference.to_pillow(mixed[0, :, top : top + tall, left : left + wide])
        # Pillow 13 takes the vertical pass first for some shapes, and then differs by a level
        expected = torch.from_numpy(np.array(picture.resize((224, 224), Image.Resampling.BILINEAR))).permute(2, 0, 1)
        expected = expected.flip(2) if flipped else expected
        assert (together[row].int() - expected.int()).abs().max() <= 1
        own = geometry.resized_crop(mixed, *(torch.tensor([part]) for part in (top, left, tall, wide)), 224)[0]
        assert torch.equal(together[row], own.flip(2) if flipped else own)


def test_translations_scale_with_the_valid_area():
    count = 400
    policy, keys = build().steps[0], fold(5, torch.arange(count))
    for height, width in ((27, 216), (216, 54), (108, 108)):
        drawn = {"translate_x": set(), "translate_y": set()}
        draws = policy.draw(keys, torch.tensor([[height, width]]).expand(count, 2), (216, 216))
        for code, value in zip(draws.chosen.flatten().tolist(), draws.values.flatten().tolist(), strict=True):
            if code >= 0 and policy.names[code] in drawn:
                drawn[policy.names[code]].add(abs(value))
        assert drawn["translate_x"] == {0, width // 27, 2 * width // 27}
        assert drawn["translate_y"] == {0, height // 27, 2 * height // 27}
