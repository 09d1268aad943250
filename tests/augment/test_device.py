"""On a GPU nothing is copied from the host, read by it, or of a shape that depends on values: on fake CUDA tensors.

They need no GPU. Every operation that is dispatched is looked at: none may mix devices or make a tensor on the host.
"""

import itertools
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastnoisy.augment import apply_op, op_names, ops, parse_view, step_names
from fastnoisy.augment.registry import REQUIRED
from fastnoisy.augment.steps import get_step
from fastnoisy.keyed_random import fold, key
from fastnoisy.training import setup

ARGUMENTS = {"value": 3.0, "size": 16, "length": 6, "n": 2, "m": 9, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
COUNT, H, W = 8, 32, 40


class OnDevice(TorchDispatchMode):
    """Notes every operation that touches the host."""

    def __init__(self):
        super().__init__()
        self.dispatched, self.problems = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        self.dispatched += 1
        if any(tensor.device.type != "cuda" for tensor in tensors):
            self.problems.append(f"{function}: {[(tensor.device.type, tuple(tensor.shape)) for tensor in tensors]}")
        return result


def moved(module):
    """The module with its buffers on the fake device; a copy of real ones would not be fake."""
    for part in module.modules():
        for name, buffer in part._buffers.items():
            part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")
    return module


def empty(*shape, dtype=torch.int64):
    return torch.empty(shape, dtype=dtype, device="cuda")


def assert_stays(run):
    watch = OnDevice()
    with watch:
        run()
    assert watch.dispatched > 0
    assert watch.problems == []


def build_step(name):
    return get_step(name).build(
        **{
            parameter.name: ARGUMENTS[parameter.name]
            for parameter in get_step(name).parameters
            if parameter.default is REQUIRED or parameter.default is None
        }
    )


def areas():
    return empty(COUNT, 2, dtype=torch.int32), None


def test_the_watch_sees_copies_and_reads():
    """A copy of a number to the device is noted; a read of one raises."""
    with FakeTensorMode(allow_non_fake_inputs=False):
        watch = OnDevice()
        values = empty(3, dtype=torch.float32)
        with watch:
            values + torch.tensor(1.0)
        assert watch.problems
        with pytest.raises(Exception, match="local_scalar_dense"):
            values.max().item()


@pytest.mark.parametrize("name", op_names())
def test_operations(name):
    with FakeTensorMode(allow_non_fake_inputs=False):
        images, values = empty(COUNT, 3, H, W, dtype=torch.uint8), empty(COUNT, dtype=torch.float64)
        for sizes, bilinear, fill in itertools.product(areas(), (False, True), ((0, 0, 0), (1, 2, 3))):
            options = {"bilinear": bilinear, "fill": fill, "centers": empty(COUNT, 2)}
            assert_stays(lambda sizes=sizes, options=options: apply_op(name, images, values, sizes, **options))


@pytest.mark.parametrize("name", step_names())
def test_steps(name):
    step = build_step(name)
    dtype = torch.float32 if get_step(name).stage == "float" else torch.uint8
    with FakeTensorMode(allow_non_fake_inputs=False):
        moved(step)
        for sizes in areas():
            assert_stays(lambda sizes=sizes: step(empty(COUNT, 3, H, W, dtype=dtype), sizes, empty(COUNT)))


def programs():
    found = {}
    for recipe in (
        "cifar10-nrd",
        "cifar100-dividemix",
        "webvision-nrd",
        "clothing1m-alasca",
        "folder-nrd",
        "digits-nrd",
    ):
        settings = setup.resolve(recipe, [])
        for name in ("student", "teacher", "weak", "eval"):
            found[settings.config.views.program(name)] = None
    return list(found)


@pytest.mark.parametrize("text", programs())
def test_programs_of_the_recipes(text):
    view = parse_view(text).build(
        "student", mean=ARGUMENTS["mean"], std=ARGUMENTS["std"], dtype=torch.bfloat16, channels_last=True
    )
    with FakeTensorMode(allow_non_fake_inputs=False):
        moved(view)
        for sizes, epoch in itertools.product(areas(), (key(1, 0), empty())):
            images = empty(COUNT, H, W, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
            assert_stays(lambda sizes=sizes, epoch=epoch, images=images: view(images, sizes, empty(COUNT), epoch))


@pytest.mark.parametrize("name", step_names())
def test_draws_are_integers_from_keys_and_shapes(name):
    """A row of the draws is its sample's alone; values are float64 from tables; nothing else is a float."""
    step, keys = build_step(name), fold(key(3, 1), torch.arange(COUNT))
    sizes = torch.stack([torch.arange(COUNT) + 9, 30 - torch.arange(COUNT)], 1).int()
    for area in (sizes, None):
        draws = step.draw(keys, area, (H, W))
        for index in range(COUNT):
            one = slice(index, index + 1)
            alone = step.draw(keys[one], None if area is None else area[one], (H, W))
            assert len(alone) == len(draws)
            for part, own in zip(draws, alone, strict=True):
                assert (part is None) == (own is None)
                assert part is None or torch.equal(part[one], own)
        for part in draws:
            assert part is None or part.dtype in (torch.int64, torch.bool, torch.float64)
        assert len(step.words(draws)) == (COUNT if draws else 1)


def test_stretching_rounds_as_python_does():
    """Of all spans and levels: `level * (255.0 / span)` in Python, bit for bit."""
    span, levels = torch.arange(1, 256)[:, None], torch.arange(256)[None]
    expected = [[level * (255.0 / number) for level in range(256)] for number in range(1, 256)]
    found = ops._stretched(levels, span)
    assert torch.equal(found.view(torch.int64), torch.tensor(expected, dtype=torch.float64).view(torch.int64))


def test_importing_does_not_load_the_compiler():
    code = "import sys, fastnoisy.augment; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
