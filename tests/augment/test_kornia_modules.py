"""Our operations and policies inside kornia's containers."""

import copy
import pickle

import kornia.augmentation
import pytest
import torch
from kornia.augmentation import AugmentationSequential

from fastnoisy.augment import KorniaAugMix, KorniaOp, KorniaRandAugment, KorniaView, apply_op, op_names, parse_view
from fastnoisy.augment.ops import get_op
from fastnoisy.augment.steps import get_step
from fastnoisy.errors import FastnoisyError
from fastnoisy.keyed_random import fold, name_value

MODULES = {
    "view": lambda **options: KorniaView("augmix(depth=1) | hflip | cutout_abs(6)", **options),
    "randaugment": lambda **options: KorniaRandAugment(2, 9, **options),
    "augmix": lambda **options: KorniaAugMix(**options),
    "op": lambda **options: KorniaOp("rotate", (-30, 30), bilinear=True, **options),
}


def pixels_and_images(reference, count=12, dtype=torch.float32):
    pixels = reference.random_images(count, 20, 24)
    return pixels, (pixels.float() / 255).to(dtype)


@pytest.fixture(params=MODULES, ids=list(MODULES))
def make(request):
    return MODULES[request.param]


class TestEveryModule:
    def test_the_seed_reproduces_and_params_replay(self, make, reference):
        _, images = pixels_and_images(reference)
        pipeline = AugmentationSequential(make(), kornia.augmentation.RandomHorizontalFlip(p=0.5))
        torch.manual_seed(3)
        first = pipeline(images)
        replayed = pipeline(images, params=pipeline._params)
        other = pipeline(images)
        torch.manual_seed(3)
        assert torch.equal(first, pipeline(images))
        assert torch.equal(first, replayed)
        assert not torch.equal(first, other)

    def test_every_sample_draws_for_itself(self, make, reference):
        _, images = pixels_and_images(reference, 1)
        images = images.expand(12, -1, -1, -1)
        torch.manual_seed(0)
        assert len(make()(images).flatten(1).unique(dim=0)) > 6
        assert len(make(same_on_batch=True)(images).flatten(1).unique(dim=0)) == 1

    def test_a_sample_does_not_depend_on_its_batch(self, make, reference):
        _, images = pixels_and_images(reference)
        module = make()
        whole = module(images)
        params = module._params
        for row in (0, 5):
            one = {name: value[row : row + 1] for name, value in params.items() if name != "forward_input_shape"}
            assert torch.equal(module(images[row : row + 1], params=one), whole[row : row + 1])

    def test_probability(self, make, reference):
        _, images = pixels_and_images(reference, 40)
        images = images + 0.001  # not on a level: what is left out must not be rounded either
        module = make(p=0.5)
        torch.manual_seed(1)
        result = AugmentationSequential(module)(images)
        applied = module._params["batch_prob"] > 0.5
        assert 8 < applied.sum() < 32
        assert torch.equal(result[~applied], images[~applied])
        levels = (result[applied] * 255).round() / 255
        assert torch.equal(levels, result[applied])
        assert torch.equal(make(p=0.0)(images), images)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_types(self, make, dtype, reference):
        _, images = pixels_and_images(reference, dtype=dtype)
        module = make()
        result = module(images)
        assert result.dtype == dtype
        expected = module(images.float(), params=module._params)
        assert torch.equal((result.float() * 255).round(), (expected * 255).round())

    def test_shapes(self, make, reference):
        _, images = pixels_and_images(reference, 1)
        assert make()(images[0]).shape == (1, 3, 20, 24)
        assert make(keepdim=True)(images[0]).shape == (3, 20, 24)
        assert AugmentationSequential(make(), keepdim=True)(images[0]).shape == (3, 20, 24)

    def test_labels_pass_and_masks_are_refused(self, make, reference):
        _, images = pixels_and_images(reference)
        labels = torch.arange(12)
        _, kept = AugmentationSequential(make(), data_keys=["input", "class"])(images, labels)
        assert torch.equal(kept, labels)
        boxes, points = torch.ones(12, 1, 4), torch.ones(12, 1, 2)
        for name, thing in (("mask", images[:, :1]), ("bbox_xyxy", boxes), ("keypoints", points)):
            with pytest.raises(FastnoisyError, match="moves, mixes or hides pixels"):
                AugmentationSequential(make(), data_keys=["input", name])(images, thing)

    def test_copies_and_pickles(self, make, reference):
        _, images = pixels_and_images(reference)
        module = make()
        expected = module(images)
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(twin(images, params=module._params), expected)
        assert module.state_dict() == {}


def test_masks_stay_where_no_pixel_moves(reference):
    _, images = pixels_and_images(reference)
    for module in (
        KorniaOp("color", (0.1, 1.9)),
        KorniaOp("hue", (-0.5, 0.5)),
        KorniaView("equalize | posterize(4) | hue(0.1) | color_jitter"),
    ):
        _, mask = AugmentationSequential(module, data_keys=["input", "mask"])(images, images[:, :1])
        assert torch.equal(mask, images[:, :1])


@pytest.mark.parametrize(
    ("module", "policy"),
    [
        (KorniaRandAugment(2, 9), get_step("randaugment").build(n=2, m=9)),
        (KorniaAugMix(5, 2, 3), get_step("augmix").build(severity=5, width=2, depth=3)),
    ],
)
def test_equals_our_policy_under_the_same_keys(module, policy, reference):
    pixels, images = pixels_and_images(reference, 32)
    result = module(images)
    keys = fold(fold(fold(0, module._params["keys"]), name_value("kornia")), 0)  # of the first step
    assert torch.equal(result, policy(pixels, None, keys)[0].float() / 255)


@pytest.mark.parametrize(
    "program", ["randaugment(1, 3) | random_crop(16, padding=4) | hflip", "augmix | random_resized_crop(16)"]
)
def test_equals_the_view_under_the_same_keys(program, reference):
    pixels, images = pixels_and_images(reference, 16)
    module = KorniaView(program)
    result = module(images)
    view = parse_view(f"{program} | normalize").build("kornia", mean=(0, 0, 0), std=(1, 1, 1))
    assert result.shape == (16, 3, 16, 16)
    assert torch.equal(result, view.uint8(pixels, None, module._params["keys"], 0).float() / 255)


def test_a_program_with_normalize_gives_its_floats(reference):
    pixels, images = pixels_and_images(reference, 16)
    program = "hflip | normalize(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2)) | cutout(6)"
    module = KorniaView(program)
    result = module(images)
    assert torch.equal(result, parse_view(program).build("kornia")(pixels, None, module._params["keys"], 0))
    with pytest.raises(FastnoisyError, match="no mean"):
        KorniaView("hflip | normalize")


@pytest.mark.parametrize("name", op_names())
def test_every_operation_with_drawn_values(name, reference):
    pixels, images = pixels_and_images(reference, 16)
    low, high = reference.values.get(name, (0.0, 1.0))
    module = KorniaOp(name, (low, high))
    result = module(images)
    values = module._params["values"]
    assert values.dtype == torch.float64
    assert low <= values.min() < values.max() <= high
    if get_op(name).family != "box":
        assert torch.equal(result, apply_op(name, pixels, values).float() / 255)
    else:
        assert 0 < (result != images).float().mean() < 1


def test_fill_and_fixed_values(reference):
    pixels, images = pixels_and_images(reference)
    result = KorniaOp("translate_x", 5, fill=(1, 2, 3))(images)
    shift = torch.full((12,), 5.0)
    assert torch.equal(result, apply_op("translate_x", pixels, shift, fill=(1, 2, 3)).float() / 255)


def test_errors_say_what_was_allowed(reference):
    _, images = pixels_and_images(reference)
    with pytest.raises(FastnoisyError, match="did you mean rotate"):
        KorniaOp("rotat", 3)
    with pytest.raises(FastnoisyError, match="lowest, highest"):
        KorniaOp("rotate", (3, -3))
    with pytest.raises(FastnoisyError, match="m must be a number from 0 to 30"):
        KorniaRandAugment(1, 31)
    with pytest.raises(FastnoisyError, match="did you mean hflip"):
        KorniaView("hflp")
    with pytest.raises(FastnoisyError, match=r"uint8 \(B, 3, H, W\)"):
        KorniaView("hflip")(images[:, :1])


@pytest.mark.compiler
def test_compiles(reference):
    _, images = pixels_and_images(reference)
    module = KorniaView("hflip")
    expected = module(images)
    compiled = torch.compile(module)
    assert torch.equal(compiled(images, params=module._params), expected)


@pytest.mark.gpu
def test_on_a_gpu(make, reference):
    _, images = pixels_and_images(reference)
    module = make()
    expected = module(images)
    assert torch.equal(module(images.cuda(), params=module._params).cpu(), expected)
