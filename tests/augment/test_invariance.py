"""A sample's pixels are its own: the same bits in any batch, order, split into ranks, eager or compiled.

Every operation with per-sample values and every step (so every policy) that is found by its name.
"""

import pytest
import torch

from fastnoisy.augment import apply_op, op_names, rows, step_names
from fastnoisy.augment.ops import apply_ops, get_op
from fastnoisy.augment.policies import Policy
from fastnoisy.augment.steps import REQUIRED, get_step
from fastnoisy.keyed_random import fold, key

COUNT, H, W = 24, 21, 26
ARGUMENTS = {"size": 16, "length": 6, "n": 2, "m": 9, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}


def argument(name, parameter):
    """A value for an argument that has no default."""
    if parameter.name == "value":
        return {"posterize": 3.0, "solarize": 99.5, "rotate": 33.0, "cutout_abs": 7.0}.get(name, 0.3)
    assert parameter.name in ARGUMENTS, f"{name}: give {parameter.name} a value in ARGUMENTS"
    return ARGUMENTS[parameter.name]


def build_step(name, switched=False, overrides=None):
    """The step with its defaults (but `overrides`), or with its switches the other way round (None if it has none)."""
    keywords, overrides = {}, overrides or {}
    for parameter in get_step(name).parameters:
        missing = parameter.default is REQUIRED or parameter.default is None
        default = argument(name, parameter) if missing else parameter.default
        keywords[parameter.name] = overrides.get(parameter.name, default)
        assert not parameter.problem(keywords[parameter.name])
        if switched and parameter.kind == "switch":
            keywords[parameter.name] = not parameter.default
    if switched and all(parameter.kind != "switch" for parameter in get_step(name).parameters):
        return None
    return get_step(name).factory(**keywords)


def op_runner(name, bilinear):
    def run(images, sizes, keys, values, centers):
        return apply_op(name, images, values[name], sizes, bilinear=bilinear, centers=centers)

    return run


def step_runner(name, module):
    floats = get_step(name).stage == "float"

    def run(images, sizes, keys, values, centers):
        images, sizes = module(images.float() / 3 if floats else rows.blank_outside(images, sizes), sizes, keys)
        return images if sizes is None else (images, sizes)

    return run


def runners():
    """Everything there is, by name: a function of (images, sizes, keys, values, centers)."""
    found = {}
    for name in op_names():
        for bilinear in (False, True)[: 1 + (get_op(name).family == "affine")]:
            found[f"op {name}{' bilinear' * bilinear}"] = op_runner(name, bilinear)
    for name in step_names():
        if name not in op_names() or get_op(name).family == "box":
            for switched in (False, True):
                if (module := build_step(name, switched)) is not None:
                    found[f"step {name}{' switched' * switched}"] = step_runner(name, module)
    return found


RUNNERS = runners()
FLOATS = [name for name in step_names() if get_step(name).stage != "uint8"]


def batch(reference, count=COUNT, H=H, W=W):
    """Images, valid sizes, keys, values of each operation and centres of boxes; cutting rows cuts all of them."""
    generator = torch.Generator().manual_seed(5)
    values = {}
    for name in op_names():
        low, high = reference.values.get(name, (0.0, 1.0))
        values[name] = low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)
    centers = torch.randint(0, H << 16, (count, 2), generator=generator)
    keys = fold(key(1, 2), torch.arange(count))
    return reference.random_images(count, H, W), reference.random_sizes(count, H, W), keys, values, centers


def cut(arguments, index):
    """The batch's rows in `index`."""

    def of(part):
        if isinstance(part, dict):
            return {name: value[index] for name, value in part.items()}
        return None if part is None else part[index]

    return tuple(map(of, arguments))


def splits(count):
    """Ways to make `count` samples: lists of batches of rows, over all ranks."""
    order = torch.arange(count)
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    ranks = {world: [order[rank::world] for rank in range(world)] for world in (2, 3)}
    return {
        "batches of 1": list(order.split(1)),
        "batches of 7": list(order.split(7)),
        "shuffled": [shuffled],
        "shuffled batches of 5": list(shuffled.split(5)),
        "two ranks": ranks[2],
        "three ranks, batches of 3": [part for own in ranks[3] for part in own.split(3)],
    }


def tensors(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("name", RUNNERS)
def test_batch_order_and_ranks_do_not_matter(name, reference):
    images, sizes, *rest = batch(reference)
    for area in (sizes, None):
        arguments = (images, area, *rest)
        whole = tensors(RUNNERS[name](*arguments))
        assert whole[0].dtype == (torch.float32 if name.split()[1] in FLOATS else torch.uint8)
        for split, parts in splits(COUNT).items():
            made = [tensors(RUNNERS[name](*cut(arguments, part))) for part in parts]
            order = torch.cat(parts)
            for expected, got in zip(whole, zip(*made, strict=True), strict=True):
                assert torch.equal(expected[order], torch.cat(got)), split


def test_nothing_is_left_out():
    """Every operation and step runs above; each is compiled below, in one of three functions."""
    assert {name.split()[1] for name in RUNNERS if name.startswith("op ")} == set(op_names())
    run_as_steps = {name.split()[1] for name in RUNNERS if name.startswith("step ")}
    assert run_as_steps | set(op_names()) == set(step_names())
    assert set(small_policies()) == {
        "augmix", "autoaugment", "color_jitter", "google_augmix", "randaugment", "torchvision_randaugment",
    }  # fmt: skip
    assert set(small_policies()) <= run_as_steps


def small_policies():
    """The steps that hold a table of operations, with as few of them in a row as they can have: less to compile."""
    few = {"n": 1, "depth": 1, "width": 2}
    return {
        name: step_runner(name, build_step(name, overrides=few))
        for name in step_names()
        if any(isinstance(part, Policy) for part in build_step(name).modules())
    }


def assert_compiled_equals_eager(runs, batches, **options):
    """All of `runs` in one compiled function: one compilation takes 15 s and more."""

    def run_all(*arguments):
        return [tensors(run(*arguments)) for run in runs.values()]

    torch.compiler.reset()
    compiled = torch.compile(run_all, fullgraph=True, **options)
    for arguments in batches:
        for name, expected, got in zip(runs, run_all(*arguments), compiled(*arguments), strict=True):
            assert all(map(torch.equal, expected, got)), name


@pytest.mark.compiler
def test_compiled_operations_give_the_same_bits(reference):
    """Each sample another operation, as in a policy, so that every operation is in the one graph once."""
    names = tuple(op_names())
    images, sizes, _keys, values, centers = batch(reference, 8 * len(names))
    chosen = torch.arange(len(images)) % len(names)
    drawn = torch.stack([values[name] for name in names])[chosen, torch.arange(len(images))]

    def mixed(bilinear):
        def run(images, sizes, chosen, drawn, centers):
            return apply_ops(names, images, chosen, drawn, sizes, bilinear=bilinear, centers=centers)

        return run

    runs = {"nearest": mixed(False), "bilinear": mixed(True)}
    assert_compiled_equals_eager(runs, [(rows.blank_outside(images, sizes), sizes, chosen, drawn, centers)])


@pytest.mark.compiler
@pytest.mark.slow
def test_compiled_steps_give_the_same_bits(reference):
    policies = small_policies()
    runs = {name: run for name, run in RUNNERS.items() if name.startswith("step ") and name.split()[1] not in policies}
    assert_compiled_equals_eager(runs, [batch(reference)])


@pytest.mark.compiler
@pytest.mark.slow
def test_compiled_without_valid_areas_gives_the_same_bits(reference):
    """Where the whole canvas is valid, some take another path."""
    names = ("autocontrast", "contrast", "equalize", "sharpness", "shear_y", "cutout_abs")
    steps = ("random_crop", "hflip", "random_resized_crop", "resize", "resize_shorter", "center_crop", "random_erasing")
    runs = {f"op {name}": RUNNERS[f"op {name}"] for name in names} | {
        f"step {name}": RUNNERS[f"step {name}"] for name in steps
    }
    images, _, *rest = batch(reference)
    assert_compiled_equals_eager(runs, [(images, None, *rest)])


@pytest.mark.compiler
@pytest.mark.slow
def test_compiled_policies_give_the_same_bits(reference):
    assert_compiled_equals_eager(small_policies(), [batch(reference, 96)])


@pytest.mark.compiler
@pytest.mark.slow
def test_compiled_for_any_batch_size_gives_the_same_bits(reference):
    names = ("op contrast", "op shear_x", "step random_crop", "step hflip")
    runs = {name: RUNNERS[name] for name in names}
    assert_compiled_equals_eager(runs, [batch(reference, count) for count in (24, 7)], dynamic=True)
