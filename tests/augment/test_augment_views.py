"""View programs: parsing and its errors, the steps, and that a sample's view is its own."""

import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chi2_contingency
from torchvision import transforms
from torchvision.transforms import functional

from fastnoisy.augment import op_names, ops, parse_view, step_docs, step_names
from fastnoisy.augment.steps import Cutout, Holes, RandomErasing, RandomResizedCrop
from fastnoisy.errors import FastnoisyError
from fastnoisy.keyed_random import fold, key

STUDENT = "randaugment(n=1, m=3) | random_crop(32, padding=4) | hflip | normalize | cutout(5)"
TEACHER = "augmix | random_crop(32, padding=4) | hflip | normalize"
JITTERED = "torchvision_randaugment | resize_shorter(20) | center_crop(18) | color_jitter | normalize | random_erasing"
AUTHORS = "random_crop(32, padding=4) | hflip | google_augmix(width=2) | autoaugment | normalize"
PHOTOGRAPH = "augmix(depth=1) | random_resized_crop(24) | hflip | normalize"
STATISTICS = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}


def build(text, name="student", **options):
    return parse_view(text).build(name, **STATISTICS, **options)


def run(view, images, sizes=None, indices=None, seed=1):
    indices = torch.arange(len(images)) if indices is None else indices
    return view(images, sizes, indices, key(seed, 0))


class TestParsing:
    @pytest.mark.parametrize(
        "text",
        [
            STUDENT,
            TEACHER,
            PHOTOGRAPH,
            JITTERED,
            "google_augmix(depth=2, all_ops=True) | normalize | random_erasing(p=0.25, scale=(0.02, 0.1), value=1.5)",
            "rotate(10, bilinear=True, fill=(125, 123, 114)) | hue(0.1)",
            "augmix(severity=5, width=2, depth=4)",
            "resize(64) | center_crop(56) | normalize(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))",
            "random_resized_crop(64, scale=(0.3, 1.0), ratio=(1, 1))",
            "rotate(-10.5, bilinear=True) | equalize | posterize(4) | hflip(p=0.25)",
        ],
    )
    def test_canonical_text_round_trips(self, text):
        assert str(parse_view(text)) == text
        assert parse_view(str(parse_view(text))) == parse_view(text)

    def test_equal_programs_are_equal(self):
        assert parse_view("random_crop(size=32)|hflip()|augmix(alpha=1.0)") == parse_view(
            " random_crop(32, 0) | hflip(p=0.5)\n| augmix"
        )
        assert str(parse_view("random_crop(size=32)|hflip()")) == "random_crop(32) | hflip"

    def test_every_operation_is_a_step(self):
        assert set(op_names()) < set(step_names())
        for signature, doc in step_docs().items():
            assert doc.endswith("."), signature
        assert "random_crop(size, padding=0)" in step_docs()

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("", ["''", "for example"]),
            ("hflip |", ["'hflip |'"]),
            ("'hflip'", ["is not a view"]),
            ("__import__('os')", ["unknown view step '__import__'"]),
            ("os.path()", ["unknown view step 'os.path'"]),
            ("randagument(n=1, m=3)", ["did you mean randaugment", "augmix"]),
            ("random_crop(32, pading=4)", ["random_crop(32, pading=4)", "did you mean padding", "size, padding=0"]),
            ("random_crop()", ["size is missing", "random_crop(size, padding=0)"]),
            ("random_crop(32, 4, 5)", ["too many arguments"]),
            ("random_crop(32, size=3)", ["size is given twice"]),
            ("random_crop('32')", ["size must be an integer from 1, got '32'"]),
            ("random_crop(True)", ["size must be an integer"]),
            ("random_crop(2.5)", ["size must be an integer"]),
            ("random_crop(-3)", ["got -3"]),
            ("random_crop(size)", ["'size' is not a literal"]),
            ("random_crop(*[1])", ["is not a view"]),
            ("random_crop(**{})", ["is not a view"]),
            ("randaugment(n=1, m=31)", ["m must be a number from 0 to 30, got 31"]),
            ("rotate(10, bilinear=1)", ["bilinear must be True or False"]),
            ("shear_x(0.1, fill=(1, 2))", ["fill must be three integers from 0 to 255", "(1, 2)"]),
            ("rotate(1, fill=(0, 0, 256))", ["fill must be three integers"]),
            ("equalize(fill=(0, 0, 0))", ["unknown argument", "Allowed: equalize."]),
            ("color_jitter(hue=0.6)", ["hue must be a number from 0 to 0.5, got 0.6"]),
            ("resize_shorter(3)", ["size must be an integer from 4, got 3"]),
            ("random_erasing | normalize", ["after normalize"]),
            ("torchvision_randaugment(m=31)", ["m must be an integer from 0 to 30"]),
            ("equalize(3)", ["too many arguments", "Allowed: equalize."]),
            ("augmix(alpha=0.5)", ["alpha must be 1", "Dirichlet", "0.5"]),
            ("augmix(depth=0)", ["depth must be one of -1, 1, 2"]),
            ("augmix(depth=2.0)", ["got 2.0"]),
            ("random_resized_crop(9, scale=(1.0, 0.5))", ["the smaller first"]),
            ("normalize(mean=0.5)", ["three numbers"]),
            ("normalize | normalize", ["only once"]),
            ("cutout(5) | normalize", ["after normalize"]),
            ("normalize | hflip", ["before normalize"]),
        ],
    )
    def test_errors_quote_the_step_and_what_is_allowed(self, text, parts):
        with pytest.raises(FastnoisyError) as caught:
            parse_view(text)
        for part in parts:
            assert part in str(caught.value)

    def test_a_view_to_train_on_is_normalized(self):
        with pytest.raises(FastnoisyError, match="has no normalize"):
            build("hflip")
        with pytest.raises(FastnoisyError, match="has no std"):
            parse_view("normalize").build("student", mean=(0, 0, 0))
        with pytest.raises(FastnoisyError, match="mean must be three numbers"):
            parse_view("normalize").build("student", mean=(120, 120, 120), std=(1, 1, 1))
        with pytest.raises(FastnoisyError, match="float32"):
            run(build("normalize"), torch.zeros(1, 3, 4, 4))

    def test_output_size(self):
        assert parse_view(STUDENT).output_size((40, 50)) == (32, 32)
        assert parse_view("resize(256) | center_crop(224) | normalize").output_size((40, 50)) == (224, 224)
        assert parse_view("hflip | normalize").output_size((40, 50)) == (40, 50)


PROGRAMS = [STUDENT, TEACHER, PHOTOGRAPH, JITTERED, AUTHORS, "hflip | cutout_abs(6) | normalize"]


@pytest.mark.parametrize("text", PROGRAMS)
class TestEveryProgram:
    def batch(self, reference):
        return reference.random_images(16, 32, 32), reference.random_sizes(16, 32, 32)

    def test_samples_do_not_depend_on_their_batch(self, text, reference):
        view = build(text)
        images, sizes = self.batch(reference)
        indices = torch.arange(100, 116)
        whole = run(view, images, sizes, indices)
        assert whole.dtype == torch.float32
        assert whole.shape == (16, 3, *parse_view(text).output_size((32, 32)))
        parts = [run(view, images[rows], sizes[rows], indices[rows]) for rows in (slice(0, 8), slice(8, 16))]
        assert torch.equal(whole, torch.cat(parts))
        order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
        assert torch.equal(whole[order], run(view, images[order], sizes[order], indices[order]))

    def test_full_sizes_are_no_sizes(self, text, reference):
        images, _ = self.batch(reference)
        full = torch.full((16, 2), 32, dtype=torch.int32)
        assert torch.equal(run(build(text), images, full), run(build(text), images, None))

    def test_key_index_and_name_matter(self, text, reference):
        images, _ = self.batch(reference)
        plain = run(build(text), images)
        assert torch.equal(plain, run(build(text), images))
        assert not torch.equal(plain, run(build(text), images, seed=2))
        assert not torch.equal(plain, run(build(text, name="teacher"), images))
        assert not torch.equal(plain, run(build(text), images, indices=torch.arange(16) + 1))

    def test_key_as_a_tensor(self, text, reference):
        images, _ = self.batch(reference)
        with_tensor = build(text)(images, None, torch.arange(16), torch.tensor(key(1, 0)))
        assert torch.equal(with_tensor, run(build(text), images))

    def test_memory_order(self, text, reference):
        images, _ = self.batch(reference)
        last = run(build(text, channels_last=True), images.contiguous(memory_format=torch.channels_last))
        assert last.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(last, run(build(text), images))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
    def test_dtype(self, text, dtype, reference):
        """The float32 values, rounded once; in float64 they are the very same."""
        images, sizes = self.batch(reference)
        made = run(build(text, dtype=dtype, channels_last=True), images, sizes)
        assert made.dtype == dtype
        assert made.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(made, run(build(text), images, sizes).to(dtype))

    def test_uint8_is_what_normalize_sees(self, text, reference):
        images, _ = self.batch(reference)
        view = build(text)
        pixels = view.uint8(images, None, torch.arange(16), key(1, 0))
        assert pixels.dtype == torch.uint8
        mean, std = (torch.tensor(STATISTICS[name]).view(3, 1, 1) for name in ("mean", "std"))
        expected = (pixels / 255 - mean) / std
        result = run(view, images)
        hole = (result == 0).all(1, keepdim=True)
        assert ((result - expected).abs() < 1e-5).logical_or(hole).all()


class TestSteps:
    def test_more_draws_in_one_step_do_not_shift_another(self, reference):
        """Each step folds in its position: the crops and flips after one operation or two are the same."""
        images = torch.arange(32 * 32).view(1, 1, 32, 32).remainder(251).to(torch.uint8).repeat(16, 3, 1, 1)
        corners = []
        for steps in ("identity", "hflip(p=0)", "augmix(severity=1, width=1, depth=1)"):
            view = build(f"{steps} | random_crop(32, padding=4) | hflip | normalize")
            corners.append((view.uint8(images, None, torch.arange(16), 0) == 0).all(1).sum((1, 2)))
        assert torch.equal(corners[0], corners[1])

    def test_random_crop_is_uniform_over_the_padded_image(self, reference):
        images = torch.arange(1, 82).view(1, 1, 9, 9).expand(5000, 3, 9, 9).to(torch.uint8)
        view = build("random_crop(9, padding=1) | normalize")
        result = view.uint8(images, None, torch.arange(5000), 3)
        centre = result[:, 0, 4, 4].long() - 1
        rows, columns = centre // 9 - 3, centre % 9 - 3
        counts = torch.bincount(3 * rows + columns, minlength=9)
        assert ((counts - 5000 / 9) ** 2 / (5000 / 9)).sum() < 37.3  # 8 degrees of freedom: 1 in 100,000
        assert (result[rows == 0][:, :, 0] == 0).all()

    def test_random_crop_of_areas_of_different_size(self, reference):
        images, sizes = reference.random_images(40, 20, 20, seed=5), reference.random_sizes(40, 20, 20)
        result = build("random_crop(6, padding=2) | normalize").uint8(images, sizes, torch.arange(40), 0)
        for row in range(40):
            height, width = sizes[row].tolist()
            image = functional.pad(images[row, :, :height, :width], 2)
            image = torch.nn.functional.pad(image, (0, 6, 0, 6))
            windows = image.unfold(1, 6, 1).unfold(2, 6, 1)[:, : max(height - 1, 1), : max(width - 1, 1)]
            assert (windows == result[row][:, None, None]).all(-1).all(-1).all(0).any()

    def test_flip_probability(self):
        images = torch.zeros(4000, 3, 1, 2, dtype=torch.uint8)
        images[..., 1] = 255
        for probability in (0.0, 0.25, 0.5, 1.0):
            view = build(f"hflip(p={probability}) | normalize")
            flipped = view.uint8(images, None, torch.arange(4000), 0)[:, 0, 0, 0] == 255
            assert flipped.double().mean().item() == pytest.approx(probability, abs=0.03 * (0 < probability < 1))

    @pytest.mark.parametrize("size", [1, 4, 7, 10])
    def test_center_crop_is_torchvisions(self, reference, size):
        images, sizes = reference.random_images(60, 12, 15), reference.random_sizes(60, 12, 15)
        result = build(f"center_crop({size}) | normalize").uint8(images, sizes, torch.arange(60), 0)
        for row in range(60):
            height, width = sizes[row].tolist()
            assert torch.equal(result[row], functional.center_crop(images[row, :, :height, :width], [size, size]))

    def test_resize_takes_the_valid_area(self, reference):
        images, sizes = reference.random_images(6, 20, 25), reference.random_sizes(6, 20, 25)
        view = build("resize(16) | normalize")
        result = view.uint8(images, sizes, torch.arange(6), 0)
        for row in range(6):
            height, width = sizes[row].tolist()
            alone = view.uint8(images[row : row + 1, :, :height, :width], None, torch.arange(1), 0)
            assert torch.equal(result[row : row + 1], alone)

    def test_random_resized_crop_draws_torchvisions_boxes(self):
        """Mean and spread of height, width, top and left, against `get_params`, in two areas (one that needs
        fallbacks).
        """
        torch.manual_seed(0)
        for height, width in ((48, 64), (20, 90)):
            crop = RandomResizedCrop(8, (0.08, 1.0), (3 / 4, 4 / 3))
            count = 4000
            drawn = crop.draw(fold(0, torch.arange(count)), None, (height, width))
            top, left, tall, wide = (part.double() for part in drawn)
            assert (top >= 0).all()
            assert (left >= 0).all()
            assert (top + tall <= height).all()
            assert (left + wide <= width).all()
            image = torch.zeros(3, height, width)
            peer = transforms.RandomResizedCrop.get_params
            theirs = torch.tensor([peer(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]).double()
            for ours, column in zip((top, left, tall, wide), theirs.T, strict=True):
                error = (ours.var() / count + column.var() / count).sqrt()
                assert (ours.mean() - column.mean()).abs() < 4 * error
                assert ours.std() == pytest.approx(column.std().item(), rel=0.1)

    def test_random_resized_crop_whole_image(self):
        crop = RandomResizedCrop(8, (1.0, 1.0), (1, 1))
        side = torch.tensor([7, 30, 512])
        top, left, tall, wide = crop.draw(fold(0, torch.arange(3)), torch.stack([side, side], 1), (512, 512))
        assert torch.equal(tall, side)
        assert torch.equal(wide, side)
        assert not top.any()
        assert not left.any()

    def test_resize_shorter_equals_torchvision(self, reference):
        """Areas of every shape, long ones included, whose middle is kept: `Resize(size)` and `CenterCrop` on Pillow."""
        H, W, count = 23, 61, 120
        images, sizes = reference.random_images(count, H, W), reference.random_sizes(count, H, W)
        for size, side in ((13, 11), (13, 12), (30, 27), (4, 4)):
            text = f"resize_shorter({size}) | center_crop({side}) | normalize"
            assert parse_view(text).output_size((H, W)) == (side, side)
            assert parse_view(f"resize_shorter({size})").output_size((H, W)) == (2 * size, 2 * size)
            result = build(text).uint8(images, sizes, torch.arange(count), 0)
            whole = build(f"resize_shorter({size}) | normalize").uint8(images, sizes, torch.arange(count), 0)
            assert whole.shape[2:] == (2 * size, 2 * size)
            for row in range(count):
                height, width = sizes[row].tolist()
                image = reference.to_pillow(images[row, :, :height, :width])
                wide, tall = functional.resize(image, size).size
                image = image.resize((wide, height), Image.Resampling.BILINEAR)
                image = image.resize((wide, tall), Image.Resampling.BILINEAR)
                expected = functional.pil_to_tensor(functional.center_crop(image, [side, side]))
                assert torch.equal(result[row], expected), (size, height, width)
                if max(tall, wide) <= 2 * size:
                    assert torch.equal(whole[row, :, :tall, :wide], functional.pil_to_tensor(image))
                    assert whole[row].sum() == whole[row, :, :tall, :wide].sum()

    def test_resize_shorter_of_photograph_size(self, reference):
        images = reference.random_images(2, 375, 500)
        result = build("resize_shorter(256) | center_crop(224) | normalize").uint8(images, None, torch.arange(2), 0)
        for row in range(2):
            image = functional.center_crop(functional.resize(reference.to_pillow(images[row]), 256), [224, 224])
            assert torch.equal(result[row], functional.pil_to_tensor(image))

    @pytest.mark.parametrize(("height", "width"), [(32, 32), (6, 9)])
    def test_random_erasing_draws_torchvisions_boxes(self, height, width):
        """The same shapes and places equally often, and nothing as often where no try fits."""
        torch.manual_seed(0)
        count, image = 20_000, torch.zeros(3, height, width)
        erasing = RandomErasing(1.0, (0.02, 0.33), (0.3, 3.3), 0)
        ours = torch.stack(erasing.draw(fold(0, torch.arange(count)), None, (height, width)), 1)
        peer = transforms.RandomErasing.get_params
        theirs = torch.tensor([peer(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(count)])
        theirs[(theirs[:, 2] == height) & (theirs[:, 3] == width)] = 0  # how it says that none fitted
        for columns in ([2, 3], [0, 2], [1, 3]):
            ids = [part[:, columns[0]] * 64 + part[:, columns[1]] for part in (ours, theirs)]
            counts = torch.stack([torch.bincount(part, minlength=64 * 64) for part in ids])
            counts = counts[:, counts.sum(0) > 20]
            assert chi2_contingency(counts.numpy()).pvalue > 1e-4

    def test_random_erasing_fills_its_box_alone(self, reference):
        images, sizes = reference.random_images(400, 20, 24), reference.random_sizes(400, 20, 24)
        plain = run(build("normalize"), images, sizes)
        result = run(build("normalize | random_erasing(p=0.25, value=7)"), images, sizes)
        erased = (result == 7).all(1)
        assert torch.equal(result.masked_fill(erased[:, None], 0), plain.masked_fill(erased[:, None], 0))
        for row in range(400):
            height, width = sizes[row].tolist()
            inside = erased[row, :height, :width]
            assert inside.sum() == erased[row].sum()
            assert inside.sum() == inside.any(0).sum() * inside.any(1).sum()
        assert 40 < erased.any(2).any(1).sum() < 125
        for p, text in ((0, "random_erasing(p=0)"), (1, "random_erasing(p=1, scale=(0.1, 0.1))")):
            always = run(build(f"normalize | {text}"), images[sizes.amin(1) > 9], sizes[sizes.amin(1) > 9])
            assert (always == 0).all(1).any(2).any(1).double().mean() == p

    def test_cutout_holes_are_the_golden_ones(self, golden):
        for case in golden("cutout")["cases"]:
            cutout = Cutout(case["length"])
            filled, _ = cutout.apply(torch.ones(1, 3, 32, 32), None, Holes(*torch.tensor(case["y_x"])[:, None]))
            hole = filled[0, 0] == 0
            rows, columns = hole.any(1).nonzero(), hole.any(0).nonzero()
            assert [int(rows.min()), int(rows.max())] == case["zero_rows"]
            assert [int(columns.min()), int(columns.max())] == case["zero_cols"]
            assert hole.sum() == len(rows) * len(columns) == case["n_zero_pixels"]

    def test_cutout_fills_with_the_mean(self, reference):
        images = reference.random_images(2000, 8, 8)
        result = run(build("normalize | cutout(5)"), images)
        plain = run(build("normalize"), images)
        hole = (result == 0).all(1)
        assert torch.equal(result.masked_fill(hole[:, None], 1), plain.masked_fill(hole[:, None], 1))
        sizes = hole.sum((1, 2))
        assert set(np.unique(sizes)) == {4, 6, 8, 9, 12, 16}  # 4 x 4, clipped by 0, 1 or 2 on each axis
        assert not torch.signbit(result[hole[:, None].expand_as(result)]).any()

    def test_single_operations(self, reference):
        images = reference.random_images(4, 16, 16)
        for text, name, value in (
            ("rotate(20)", "rotate", 20.0),
            ("posterize(3)", "posterize", 3.0),
            ("equalize", "equalize", 0.0),
        ):
            result = build(f"{text} | normalize").uint8(images, None, torch.arange(4), 0)
            for row in range(4):
                assert np.array_equal(result[row], reference.apply(name, images[row].numpy(), value))


class TestDescription:
    """The words say what the pixels show, since both come from the same draws."""

    def describe(self, text, images, sizes=None, indices=None):
        indices = torch.arange(len(images)) if indices is None else indices
        return parse_view(text).build("student", **STATISTICS).describe(images, sizes, indices, key(1, 0))

    def test_one_text_per_sample_and_step(self, reference):
        images, sizes = reference.random_images(12, 32, 32), reference.random_sizes(12, 32, 32)
        for text in (STUDENT, TEACHER, PHOTOGRAPH, JITTERED, AUTHORS):
            rows = self.describe(text, images, sizes)
            assert [len(row) for row in rows] == [len(parse_view(text).steps)] * 12
            one = slice(5, 6)
            assert self.describe(text, images[one], sizes[one], torch.tensor([5])) == [rows[5]]

    def test_crops_flips_and_holes(self, reference):
        images = reference.random_images(60, 14, 16)
        text = "random_crop(10, padding=2) | hflip | normalize | cutout(4) | random_erasing(value=9)"
        rows, result = self.describe(text, images), run(build(text), images)
        before = build(text).uint8(images, None, torch.arange(60), key(1, 0))
        padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
        for row, (crop, flip, normalize, cutout, erase) in enumerate(rows):
            top, left = (int(number) for number in crop.removeprefix("crop ").split(","))
            window = padded[row, :, top + 2 : top + 12, left + 2 : left + 12]
            assert normalize == ""
            assert flip in ("", "flip")
            assert torch.equal(before[row], window.flip(2) if flip else window)
            box = (result[row] == 9).all(0).nonzero()
            if erase:
                tall, wide, top, left = map(int, re.fullmatch(r"erase (\d+)x(\d+) at (\d+),(\d+)", erase).groups())
                assert box.amin(0).tolist() == [top, left]
                assert box.amax(0).tolist() == [top + tall - 1, left + wide - 1]
                continue
            assert len(box) == 0
            y, x = (int(number) for number in cutout.removeprefix("cutout at ").split(","))
            hole = (result[row] == 0).all(0).nonzero()
            assert hole.amin(0).tolist() == [max(0, y - 2), max(0, x - 2)]
            assert hole.amax(0).tolist() == [min(9, y + 1), min(9, x + 1)]

    def test_resized_crops(self, reference):
        images = reference.random_images(10, 20, 30)
        rows = self.describe("random_resized_crop(8) | normalize", images)
        result = build("random_resized_crop(8) | normalize").uint8(images, None, torch.arange(10), key(1, 0))
        for row, (text, _) in enumerate(rows):
            tall, wide, top, left = map(int, re.fullmatch(r"crop (\d+)x(\d+) at (\d+),(\d+)", text).groups())
            box = images[row : row + 1, :, top : top + tall, left : left + wide]
            alone = build("resize(8) | normalize").uint8(box.contiguous(), None, torch.zeros(1).long(), 0)
            assert torch.equal(result[row : row + 1], alone)

    def test_operations_are_those_that_were_applied(self, reference):
        """Magnitude 15: all values but solarize_add's are printed whole, so the words can be carried out."""
        images = reference.random_images(80, 12, 13)
        rows = self.describe("randaugment(n=2, m=15) | normalize", images)
        result = build("randaugment(n=2, m=15) | normalize").uint8(images, None, torch.arange(80), key(1, 0))
        checked = 0
        for row, (text, _) in enumerate(rows):
            if "cutout" in text:
                continue
            image = images[row : row + 1]
            for operation in text.split(", "):
                name, _, value = operation.partition(" ")
                image = ops.apply_op(name, image, torch.tensor([float(value or 0)], dtype=torch.float64))
            assert torch.equal(result[row : row + 1], image), text
            checked += 1
        assert checked > 60

    def test_mixtures_show_chains_and_weights(self, reference):
        images = reference.random_images(20, 9, 9)
        for text, _ in self.describe("augmix | normalize", images):
            chains, weights = text.split(" | ")
            assert len(chains.split(" / ")) == 3
            assert all(1 <= len(chain.split(", ")) <= 3 for chain in chains.split(" / "))
            assert sum(map(float, weights.split())) == pytest.approx(1, abs=0.021)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("rotate(-10, bilinear=True)", "rotate -10"),
            ("equalize", "equalize"),
            ("shear_x(0.0333333)", "shear_x 0.0333"),
            ("translate_x(0)", "translate_x 0"),
            ("center_crop(5)", "center_crop 5"),
            ("resize(7)", "resize 7"),
            ("resize_shorter(7)", "resize_shorter 7"),
            ("hflip(p=0)", ""),
            ("solarize(1000)", "solarize 1000"),
        ],
    )
    def test_words(self, text, words):
        assert self.describe(f"{text} | normalize", torch.zeros(2, 3, 8, 8, dtype=torch.uint8)) == [[words, ""]] * 2

    def test_box_centre(self):
        (words, _), *_ = self.describe("cutout_abs(4) | normalize", torch.zeros(1, 3, 30, 30, dtype=torch.uint8))
        assert re.fullmatch(r"cutout_abs 4 at \d+,\d+", words)


@pytest.mark.gpu
@pytest.mark.parametrize("text", [STUDENT, TEACHER, PHOTOGRAPH, JITTERED, AUTHORS])
def test_a_gpu_gives_the_same_bits(text, reference):
    images, sizes = reference.random_images(64, 40, 32), reference.random_sizes(64, 40, 32)
    view = build(text)
    expected = view.uint8(images, sizes, torch.arange(64), 0)
    view, images, sizes, indices = view.cuda(), images.cuda(), sizes.cuda(), torch.arange(64).cuda()
    assert torch.equal(view.uint8(images, sizes, indices, 0).cpu(), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mode announces itself as a prototype
        torch.cuda.set_sync_debug_mode("error")
        try:
            view(images, sizes, indices, 0)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def compiled_equals_eager(text, reference, H, W, areas):
    view = build(text)
    torch.compiler.reset()
    compiled = torch.compile(view, fullgraph=True)
    count = 64  # enough for every operation of a policy to occur
    images, sizes = reference.random_images(count, H, W), reference.random_sizes(count, H, W)
    for seed, area in enumerate(areas):
        arguments = (images, sizes if area else None, torch.arange(count), torch.tensor(key(seed, 0)))
        assert torch.equal(compiled(*arguments), view(*arguments))


@pytest.mark.compiler
def test_compiled_view_gives_the_same_bits(reference):
    text = "autocontrast | random_crop(8) | hflip | normalize | cutout(3)"
    compiled_equals_eager(text, reference, 10, 12, [True, True])


@pytest.mark.slow
@pytest.mark.parametrize("text", [STUDENT, PHOTOGRAPH])
@pytest.mark.compiler
def test_compiled_policies_give_the_same_bits(reference, text):
    compiled_equals_eager(text, reference, 32, 40, [True, True, False])


@pytest.mark.compiler
def test_compiled_hue_and_erasing_give_the_same_bits(reference):
    compiled_equals_eager("hue(0.1) | normalize | random_erasing", reference, 9, 11, [True, True])


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.parametrize(
    "text",
    [
        "color_jitter(contrast=0)",
        "autoaugment",
        "google_augmix(width=2, depth=1)",
        "resize_shorter(8) | center_crop(8)",
    ],
)
def test_compiled_steps_give_the_same_bits(reference, text):
    compiled_equals_eager(f"{text} | normalize", reference, 17, 21, [True, True])
