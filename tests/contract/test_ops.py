"""What holds for every operation that is found, whoever wrote it."""

import pytest
import torch

from fastnoisy.augment import apply_op, op_names, rows, step_docs, step_names
from fastnoisy.augment.ops import get_op

B, H, W = 16, 13, 17
VALUES = {"posterize": 4.0, "solarize": 120.0, "solarize_add": 30.0, "rotate": 33.0, "cutout_abs": 5.0}


def batch(name):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (B, 3, H, W), generator=generator, dtype=torch.uint8)
    sizes = torch.stack([torch.randint(1, extent + 1, (B,), generator=generator) for extent in (H, W)], 1).int()
    values = torch.rand(B, generator=generator, dtype=torch.float64) * VALUES.get(name, 1.6)
    centers = torch.randint(0, H << 16, (B, 2), generator=generator)
    return images, values, sizes, centers


def run(name, images, values, sizes, centers):
    return apply_op(name, images, values, sizes, centers=centers, bilinear=get_op(name).family == "affine")


@pytest.mark.parametrize("name", op_names())
class TestOperation:
    def test_keeps_shape_type_and_input(self, name):
        images, *rest = batch(name)
        before = images.clone()
        result = run(name, images, *rest)
        assert result.shape == images.shape
        assert result.dtype == torch.uint8
        assert torch.equal(images, before)

    def test_does_not_depend_on_the_rest_of_the_batch(self, name):
        arguments = batch(name)
        whole = run(name, *arguments)
        halves = [run(name, *(tensor[part] for tensor in arguments)) for part in (slice(0, 8), slice(8, B))]
        assert torch.equal(whole, torch.cat(halves))
        order = torch.randperm(B, generator=torch.Generator().manual_seed(1))
        assert torch.equal(whole[order], run(name, *(tensor[order] for tensor in arguments)))

    def test_sees_the_valid_area_only(self, name):
        images, values, sizes, centers = batch(name)
        noise = torch.where(rows.valid_mask(images, sizes), images, 255 - images)
        result = run(name, images, values, sizes, centers)
        assert torch.equal(result, run(name, noise, values, sizes, centers))
        assert torch.equal(result, rows.blank_outside(result, sizes))
        for row in range(B):
            height, width = sizes[row].tolist()
            one = slice(row, row + 1)
            alone = run(name, images[one, :, :height, :width], values[one], None, centers[one])
            assert torch.equal(result[one, :, :height, :width], alone)

    def test_memory_order_does_not_matter(self, name):
        images, *rest = batch(name)
        other = images.contiguous(memory_format=torch.channels_last)
        assert torch.equal(run(name, images, *rest), run(name, other, *rest))

    def test_computing_all_rows_gives_the_same_bits(self, name, monkeypatch):
        """As on a GPU and under a compiler, where no row is selected."""
        from fastnoisy.augment import ops

        images, values, sizes, centers = batch(name)
        chosen = torch.arange(B) % 2

        def mixed():
            return ops.apply_ops((name, "identity"), images, chosen, values, sizes, centers=centers)

        expected = mixed()
        monkeypatch.setattr(rows, "selects_rows", lambda images: False)
        assert torch.equal(mixed(), expected)

    @pytest.mark.compiler
    @pytest.mark.slow
    def test_compiled_gives_the_same_bits(self, name):
        images, values, sizes, centers = batch(name)
        torch.compiler.reset()
        compiled = torch.compile(lambda *arguments: run(name, *arguments), fullgraph=True)
        for area in (sizes, None):
            assert torch.equal(compiled(images, values, area, centers), run(name, images, values, area, centers))

    def test_documents_itself(self, name):
        assert get_op(name).doc.endswith(".")
        assert name in step_names()
        assert any(signature.partition("(")[0] == name for signature in step_docs())
